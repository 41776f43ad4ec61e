package proxy

import (
	"net"
	"sync"
	"testing"
	"time"
)

// A Proxy forwards the connections that it accepts to one server. It is safe for
// concurrent use.
type Proxy struct {
	target   string
	listener net.Listener
	closing  chan struct{} // closed by Close
	running  sync.WaitGroup

	mu      sync.Mutex
	links   map[*link]bool // guarded by mu, as all below
	plan    *plan          // nil for none
	delay   time.Duration
	refuse  time.Time // connections that come before are refused
	bytes   [2]int64
	carried int
	refused int
}

// Start starts a proxy for the server at an address, on a free port of this
// machine. It is closed when the test ends, if not before.
func Start(t testing.TB, target string) *Proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{target: target, listener: ln, closing: make(chan struct{}), links: make(map[*link]bool)}
	p.running.Go(p.accept)
	t.Cleanup(p.Close)
	return p
}

// Addr returns the address to connect to.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Close ends all connections and waits for everything that the proxy started.
// It is idempotent.
func (p *Proxy) Close() {
	p.mu.Lock()
	select {
	case <-p.closing:
	default:
		close(p.closing)
		p.listener.Close()
	}
	for l := range p.links {
		l.close()
	}
	p.mu.Unlock()
	p.running.Wait()
}

// Counts is what a proxy has carried so far.
type Counts struct {
	// Up and Down are the bytes that were forwarded.
	Up, Down int64
	// Connections were accepted and forwarded, Refused were not.
	Connections, Refused int
}

// Counts returns what was carried so far.
func (p *Proxy) Counts() Counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	return Counts{Up: p.bytes[Up], Down: p.bytes[Down], Connections: p.carried, Refused: p.refused}
}

// SetDelay holds everything up for so long, in each direction. What comes while
// something is held up already may take twice as long.
func (p *Proxy) SetDelay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Arm arms cuts, in the place of what was armed before. The bytes of each are
// counted from the cut before it. The channel is closed when all were carried
// out.
func (p *Proxy) Arm(cuts ...Cut) <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.plan = newPlan(cuts)
	return p.plan.done
}

// Disarm takes back what Arm armed and returns the cuts that were carried out.
func (p *Proxy) Disarm() []Hit {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.plan == nil {
		return nil
	}
	hits := p.plan.hits
	p.plan = nil
	return hits
}

// Cut breaks every connection at once, and refuses new ones for so long.
func (p *Proxy) Cut(how How, refuse time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = time.Now().Add(refuse)
	for l := range p.links {
		l.cut(how)
	}
}

// Deafen makes every connection that there is go dead: it stays open and carries
// nothing any more. New ones are not affected.
func (p *Proxy) Deafen() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.deaf = true
	}
}

func (p *Proxy) accept() {
	for {
		conn, err := p.listener.Accept()
		if err != nil {
			return // by Close
		}
		client := conn.(*net.TCPConn)
		if p.turnsAway() {
			reset(client)
			continue
		}
		p.running.Go(func() { p.carry(client) })
	}
}

func (p *Proxy) turnsAway() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Now().Before(p.refuse) {
		p.refused++
		return true
	}
	p.carried++
	return false
}

// carry forwards one connection until it has ended. A server that cannot be
// reached resets it.
func (p *Proxy) carry(client *net.TCPConn) {
	conn, err := net.Dial("tcp", p.target)
	if err != nil {
		reset(client)
		return
	}
	l := newLink(p, client, conn.(*net.TCPConn))
	if !p.add(l) {
		l.close()
		return
	}
	defer p.remove(l)
	var pipes sync.WaitGroup
	pipes.Go(func() { l.pipe(Up) })
	pipes.Go(func() { l.pipe(Down) })
	pipes.Wait()
	l.close()
}

// add is false if the proxy was closed meanwhile.
func (p *Proxy) add(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.closing:
		return false
	default:
		p.links[l] = true
		return true
	}
}

func (p *Proxy) remove(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

// take says how much of what came in over a link is to be forwarded, and which
// cut is to follow it, if any. Nothing else goes over that link any more then.
func (p *Proxy) take(l *link, d Direction, b []byte) ([]byte, *due) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.deaf {
		return nil, nil
	}
	n, next := len(b), (*due)(nil)
	if p.plan != nil {
		n, next = p.plan.take(d, len(b))
	}
	p.bytes[d] += int64(n)
	l.line[d] = follow(l.line[d], b[:n])
	l.deaf = next != nil
	return b[:n], next
}

// carryOut carries out a cut that take returned.
func (p *Proxy) carryOut(l *link, c *due) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refuse = time.Now().Add(c.cut.Refuse)
	l.cut(c.cut.How)
	c.plan.hit(c.cut, l.line[c.cut.Direction])
}

// held returns how long bytes are held up.
func (p *Proxy) held() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.delay
}
