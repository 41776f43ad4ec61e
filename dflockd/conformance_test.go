package dflockd

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/distributed-go/distributed/internal/stocktest"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/locker/lockertest"
	lockserver "github.com/distributed-go/distributed/server"
)

// bare are options for those of the suite's backends that no Client gives a
// clock: they speak the base protocol, and stand for a holder that does nothing
// for its hold.
var bare = []Option{WithFences(), WithKeepOnDisconnect()}

// TestSession runs the suite of all backends against this project's server, in
// session mode. Like the next it does so in virtual time, over connections in
// memory: in real time a busy machine stopped the process for longer than a
// lease of three seconds allows, and the losses that followed were right. Real
// sockets have tests of their own, here and in e2e.
func TestSession(t *testing.T) {
	lockertest.Run(t, lockertest.Harness{
		Start: func(t *testing.T) lockertest.Env {
			env := wire(t, ours(t, lockserver.Config{KeepOnDisconnect: true}).ServeConn, bare...)
			env.Disconnect = nil
			return env
		},
		Bubble: true,
		TTL:    time.Second,
		Fences: true, Semaphores: true, Weights: true, Queue: true, Keeps: true, Values: true,
	})
}

// TestSessionOverTCP is the same in real time, with a lease that bears a busy
// machine.
func TestSessionOverTCP(t *testing.T) {
	lockertest.Run(t, lockertest.Harness{
		Start: func(t *testing.T) lockertest.Env {
			proxy := newHoldback(t, startServer(t, lockserver.Config{KeepOnDisconnect: true}))
			return lockertest.Env{
				Backend: func() locker.Backend { return newBackend(t, []string{proxy.addr()}, bare...) },
				Freeze:  proxy.freezer.freeze, Thaw: proxy.freezer.thaw,
			}
		},
		TTL:    3 * time.Second,
		Fences: true, Semaphores: true, Weights: true, Queue: true, Keeps: true, Values: true,
	})
}

// ours returns this project's server.
func ours(t *testing.T, cfg lockserver.Config) *lockserver.Server {
	cfg.Logger = slog.New(slog.DiscardHandler)
	s, err := lockserver.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// TestServer runs the suite on the base protocol of this project's server.
func TestServer(t *testing.T) {
	lockertest.Run(t, lockertest.Harness{
		Start: func(t *testing.T) lockertest.Env {
			return wire(t, ours(t, lockserver.Config{}).ServeConn, WithFences(), WithBaseProtocol())
		},
		Bubble: true,
		TTL:    time.Second,
		Fences: true, Semaphores: true, Queue: true,
	})
}

// TestStockServer runs it against a server with the manners of dflockd v1.0.
func TestStockServer(t *testing.T) {
	lockertest.Run(t, lockertest.Harness{
		Start: func(t *testing.T) lockertest.Env {
			s := stocktest.New(stocktest.Config{})
			t.Cleanup(s.Close)
			env := wire(t, s.ServeConn)
			env.Residue = func() (holders, waiters int) {
				_, holders, waiters = s.Counts()
				return holders, waiters
			}
			return env
		},
		Bubble: true,
		TTL:    time.Second,
		Queue:  true,
	})
}

// wire lets backends reach a server through lines of their own.
func wire(t *testing.T, serve func(net.Conn), opts ...Option) lockertest.Env {
	f := &freezer{}
	lines := make(map[locker.Backend]*line)
	return lockertest.Env{
		Backend: func() locker.Backend {
			ln := &line{freezer: f, serve: serve}
			b := newBackend(t, []string{where}, append(opts, WithDialer(ln.dial))...)
			lines[b] = ln
			return b
		},
		Disconnect: func(b locker.Backend) { lines[b].cut() },
		Freeze:     f.freeze,
		Thaw:       f.thaw,
	}
}

// A freezer holds back what the server says.
type freezer struct {
	mu     sync.Mutex
	frozen chan struct{} // closed by thaw; nil while nothing is held back; guarded by mu
}

func (f *freezer) freeze() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.frozen = make(chan struct{})
}

func (f *freezer) thaw() {
	f.mu.Lock()
	defer f.mu.Unlock()
	close(f.frozen)
	f.frozen = nil
}

// wait waits until nothing is held back, or gone is closed.
func (f *freezer) wait(gone <-chan struct{}) {
	f.mu.Lock()
	frozen := f.frozen
	f.mu.Unlock()
	if frozen == nil {
		return
	}
	select {
	case <-frozen:
	case <-gone:
	}
}

// A line is the connections of one backend.
type line struct {
	freezer *freezer
	serve   func(net.Conn)

	mu    sync.Mutex
	conns []net.Conn // guarded by mu
}

func (l *line) dial(context.Context, string) (net.Conn, error) {
	ours, theirs := newDuplex()
	go l.serve(theirs)
	c := &heldConn{duplex: ours.(duplex), freezer: l.freezer, gone: make(chan struct{})}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, c)
	return c, nil
}

// cut closes all connections, as a network that fails does.
func (l *line) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		c.Close()
	}
	l.conns = nil
}

// A heldConn is a connection whose server can be frozen.
type heldConn struct {
	duplex
	freezer *freezer
	gone    chan struct{}
	once    sync.Once
}

func (c *heldConn) Read(b []byte) (int, error) {
	n, err := c.duplex.Read(b)
	c.freezer.wait(c.gone)
	return n, err
}

func (c *heldConn) Close() error {
	c.once.Do(func() { close(c.gone) })
	return c.duplex.Close()
}
