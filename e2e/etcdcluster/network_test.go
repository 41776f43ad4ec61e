//go:build linux

package etcdcluster

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Who is no member, to a network.
const (
	clients = -1
	// slowClients are those with gates of their own, in TestSlowAnswers.
	slowClients = -2
	// peers are all members, who are told apart when they connect.
	peers = -3
)

// A cutting is what becomes of what goes from one to another.
type cutting uint8

const (
	carried cutting = iota
	// held is as a network that drops packets: what was sent comes when it is
	// carried again.
	held
	// broken is as one that resets: connections end, and new ones are refused.
	broken
)

// A network carries everything between the members, and between them and their
// clients. Each member has two gates: one in front of the port of its peers, one
// in front of that of its clients. It is safe for concurrent use.
type network struct {
	running sync.WaitGroup
	closing chan struct{}

	mu      sync.Mutex
	pids    [members]int       // guarded by mu, as all below
	cuts    map[[2]int]cutting // by who connected and to whom; both directions
	changed chan struct{}      // closed, and made anew, when cuts change
	links   map[*link]bool
	gates   []net.Listener
}

// A link is one connection that is carried.
type link struct {
	route    [2]int
	from, to net.Conn
}

func newNetwork(t testing.TB) *network {
	n := &network{closing: make(chan struct{}), cuts: make(map[[2]int]cutting), changed: make(chan struct{}), links: make(map[*link]bool)}
	t.Cleanup(n.close)
	return n
}

func (n *network) close() {
	close(n.closing)
	n.mu.Lock()
	for _, ln := range n.gates {
		ln.Close()
	}
	for l := range n.links {
		l.from.Close()
		l.to.Close()
	}
	n.mu.Unlock()
	n.running.Wait()
}

// gate opens one in front of a member, for somebody. Back is how much later than
// it was said everything comes back through it.
func (n *network) gate(at, target string, from, member int, back time.Duration) error {
	ln, err := net.Listen("tcp", at)
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.gates = append(n.gates, ln)
	n.mu.Unlock()
	n.running.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return // by close
			}
			n.running.Go(func() { n.carry(conn, target, [2]int{from, member}, back) })
		}
	})
	return nil
}

// is says which process a member is from now on.
func (n *network) is(member, pid int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.pids[member] = pid
}

// cut changes what becomes of what two say to each other.
func (n *network) cut(a, b int, how cutting) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, route := range [][2]int{{a, b}, {b, a}} {
		n.cuts[route] = how
		for l := range n.links {
			if how == broken && l.route == route {
				reset(l.from)
				reset(l.to)
			}
		}
	}
	close(n.changed)
	n.changed = make(chan struct{})
}

func reset(c net.Conn) {
	_ = c.(*net.TCPConn).SetLinger(0) // it is gone already otherwise
	c.Close()
}

// state is what becomes of a route, and a channel that is closed when that may
// have changed.
func (n *network) state(route [2]int) (cutting, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cuts[route], n.changed
}

// carry carries one connection until it has ended.
func (n *network) carry(from net.Conn, target string, route [2]int, back time.Duration) {
	if route[0] == peers {
		who, ok := n.who(from.RemoteAddr())
		if !ok {
			reset(from) // it is gone
			return
		}
		route[0] = who
	}
	if !n.passes(route) {
		reset(from)
		return
	}
	to, err := net.Dial("tcp", target)
	if err != nil {
		reset(from)
		return
	}
	l := &link{route: route, from: from, to: to}
	n.mu.Lock()
	n.links[l] = true
	select {
	case <-n.closing:
		from.Close()
		to.Close()
	default:
	}
	n.mu.Unlock()
	var pipes sync.WaitGroup
	pipes.Go(func() { n.pipe(route, from, to, 0) })
	pipes.Go(func() { n.pipe(route, to, from, back) })
	pipes.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.links, l)
}

// passes waits while a route is held, and is false if it is broken.
func (n *network) passes(route [2]int) bool {
	for {
		how, changed := n.state(route)
		if how != held {
			return how == carried
		}
		select {
		case <-changed:
		case <-n.closing:
			return false
		}
	}
}

// A chunk is what was read at once.
type chunk struct {
	bytes []byte
	due   time.Time
}

// pipe forwards one direction, each byte so much later, and ends both ends with
// either.
func (n *network) pipe(route [2]int, from, to net.Conn, later time.Duration) {
	chunks := make(chan chunk, 256)
	n.running.Go(func() {
		defer close(chunks)
		for buf := make([]byte, 32<<10); ; {
			k, err := from.Read(buf)
			if k > 0 {
				chunks <- chunk{append([]byte(nil), buf[:k]...), time.Now().Add(later)}
			}
			if err != nil {
				return
			}
		}
	})
	for c := range chunks {
		if later > 0 {
			n.await(c.due)
		}
		if !n.passes(route) {
			break
		}
		if _, err := to.Write(c.bytes); err != nil {
			break
		}
	}
	n.passes(route) // an end is heard of no sooner than what came before it
	to.Close()
	from.Close()
	for range chunks { //nolint:revive // the reader must not be kept from its end
	}
}

func (n *network) await(due time.Time) {
	select {
	case <-time.After(time.Until(due)):
	case <-n.closing:
	}
}

// who says which member has the other end of a connection from an address: by the
// number of its socket, and by who has that open. It is false if nobody has.
func (n *network) who(addr net.Addr) (member int, ok bool) {
	inode, err := inodeOf(addr.(*net.TCPAddr))
	if err != nil {
		return 0, false
	}
	n.mu.Lock()
	pids := n.pids
	n.mu.Unlock()
	for member, pid := range pids {
		open, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
		if err != nil || pid == 0 {
			continue
		}
		for _, fd := range open {
			if name, err := os.Readlink(fd); err == nil && name == "socket:["+inode+"]" {
				return member, true
			}
		}
	}
	return 0, false
}

// inodeOf is the number of the socket with an address at this end.
func inodeOf(addr *net.TCPAddr) (string, error) {
	b, err := os.ReadFile("/proc/self/net/tcp")
	if err != nil {
		return "", err
	}
	ip := addr.IP.To4()
	local := fmt.Sprintf("%02X%02X%02X%02X:%04X", ip[3], ip[2], ip[1], ip[0], addr.Port)
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 9 && f[1] == local {
			return f[9], nil
		}
	}
	return "", os.ErrNotExist
}
