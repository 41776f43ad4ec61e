package dflockd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/leaktest"
	"github.com/distributed-go/distributed/internal/stocktest"
	"github.com/distributed-go/distributed/locker"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// A duplex is one end of a connection in memory, over a net.Pipe for each
// direction, so that it can be closed by halves as TCP can.
type duplex struct {
	net.Conn // what is read
	out      net.Conn
}

func newDuplex() (a, b net.Conn) {
	a1, b1 := net.Pipe()
	a2, b2 := net.Pipe()
	return duplex{a1, a2}, duplex{b2, b1}
}

func (d duplex) Write(b []byte) (int, error) { return d.out.Write(b) }
func (d duplex) CloseWrite() error           { return d.out.Close() }
func (d duplex) Close() error                { return errors.Join(d.Conn.Close(), d.out.Close()) }

// A network is what a backend dials into during a test, in memory.
type network struct {
	wg    sync.WaitGroup // those who serve
	mu    sync.Mutex
	dials map[string]int
	serve map[string]func(net.Conn) // by address; nobody is there: refused
	pipe  func() (a, b net.Conn)
	log   []string // what scripts have read: number of the connection, request
}

func (n *network) note(number int, request string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.log = append(n.log, fmt.Sprint(number, " ", request))
}

// seen returns what scripts have read, once all is quiet.
func (n *network) seen() []string {
	synctest.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.log)
}

func (n *network) expectSeen(t *testing.T, want ...string) {
	t.Helper()
	if got := n.seen(); !slices.Equal(got, want) {
		t.Errorf("servers read\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

func newNetwork() *network {
	return &network{dials: make(map[string]int), serve: make(map[string]func(net.Conn)), pipe: newDuplex}
}

// errUnsupported saves an import in most files.
var errUnsupported = errors.ErrUnsupported

// errRefused is what dialling gets where nobody listens.
var errRefused = errors.New("connection refused")

func (n *network) dial(_ context.Context, addr string) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dials[addr]++
	f := n.serve[addr]
	if f == nil {
		return nil, errRefused
	}
	a, b := n.pipe()
	n.wg.Go(func() { f(b) })
	return a, nil
}

// listen lets f serve the connections to an address; nil lets nobody.
func (n *network) listen(addr string, f func(net.Conn)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.serve[addr] = f
}

func (n *network) dialled(addr string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dials[addr]
}

// where is the address that tests with one server use.
const where = "127.0.0.1:6388"

// stockBubble runs a test in virtual time, with a backend of a stock server.
func stockBubble(t *testing.T, cfg stocktest.Config, f func(*testing.T, *stock), opts ...Option) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n, srv := newNetwork(), stocktest.New(cfg)
		defer n.wg.Wait()
		defer srv.Close()
		n.listen(where, srv.ServeConn)
		b := newBackend(t, []string{where}, append([]Option{WithDialer(n.dial)}, opts...)...)
		defer b.Close()
		f(t, &stock{b, srv, n})
	})
}

// A stock is a backend with a stock server.
type stock struct {
	b   *Backend
	srv *stocktest.Server
	net *network
}

// expect checks what the server knows, once all is quiet.
func (s *stock) expect(t *testing.T, conns, held, waiting int) {
	t.Helper()
	synctest.Wait()
	if c, h, w := s.srv.Counts(); c != conns || h != held || w != waiting {
		t.Errorf("server has %d connections, %d held, %d waiting; want %d, %d, %d", c, h, w, conns, held, waiting)
	}
}

func newBackend(t testing.TB, servers []string, opts ...Option) *Backend {
	t.Helper()
	b, err := New(servers, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// lock is the request that most tests make.
func lock(key string) locker.Request {
	return locker.Request{Kind: locker.Exclusive, Key: key, Limit: 1, Weight: 1}
}

func try(key string) locker.Request {
	r := lock(key)
	r.Try = true
	return r
}

func slot(key string, limit int) locker.Request {
	return locker.Request{Kind: locker.Counting, Key: key, Limit: limit, Weight: 1}
}

func hold(key string, g locker.Grant) locker.Hold {
	return locker.Hold{Kind: locker.Exclusive, Key: key, Token: g.Token, Session: g.Session, Kept: g.Kept}
}

func mustAcquire(t testing.TB, b *Backend, req locker.Request) locker.Grant {
	t.Helper()
	g, err := b.Acquire(context.Background(), req)
	if err != nil {
		t.Fatalf("acquire %q: %v", req.Key, err)
	}
	return g
}

func mustRelease(t testing.TB, b *Backend, h locker.Hold) {
	t.Helper()
	if err := b.Release(context.Background(), h); err != nil {
		t.Fatalf("release %q: %v", h.Key, err)
	}
}

func renewOnce(b *Backend, h locker.Hold, ttl time.Duration, attempt int) locker.Renewal {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r := []locker.Renewal{{Hold: h, TTL: ttl, Attempt: attempt}}
	b.Renew(ctx, r)
	return r[0]
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error %v, want one that matches %q", err, want)
	}
}

// A script is a server that does as it is told: requests are awaited, and
// answered by hand.
type script struct {
	t      *testing.T
	nc     net.Conn
	r      *bufio.Reader
	net    *network
	number int
}

func newScript(t *testing.T, n *network, nc net.Conn, number int) *script {
	return &script{t, nc, bufio.NewReader(nc), n, number}
}

// scriptBubble runs a test in virtual time against a server whose connections
// are served by f, called with their number.
func scriptBubble(t *testing.T, f func(s *script, number int), test func(*testing.T, *Backend, *network), opts ...Option) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		var number atomic.Int64
		n.listen(where, func(nc net.Conn) {
			number := int(number.Add(1))
			defer nc.Close()
			f(newScript(t, n, nc, number), number)
		})
		b := newBackend(t, []string{where}, append([]Option{WithDialer(n.dial)}, opts...)...)
		test(t, b, n)
		b.Close()
		n.wg.Wait()
	})
}

// next reads a request as "command|key|argument"; it is empty at the end of
// the connection.
func (s *script) next() string {
	var lines []string
	for range 3 {
		l, err := s.r.ReadString('\n')
		if err != nil {
			return ""
		}
		lines = append(lines, strings.TrimSuffix(l, "\n"))
	}
	request := strings.Join(lines, "|")
	s.net.note(s.number, request)
	return request
}

// skip reads requests until the end of the connection.
func (s *script) skip() {
	for s.next() != "" {
	}
}

// expect fails the test if the next request is another.
func (s *script) expect(request string) bool {
	if got := s.next(); got != request {
		s.t.Errorf("server read %q, want %q", got, request)
		return false
	}
	return true
}

func (s *script) say(line string) { fmt.Fprint(s.nc, line, "\n") }

// token returns a token with the number in it.
func token(n int) string { return fmt.Sprintf("%016x%016x", n, 0xabc) }

// granted is the answer that grants token(n).
func granted(n int) string { return "ok " + token(n) + " 33" }
