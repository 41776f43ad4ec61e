package dflockd_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/distributed-go/distributed/dflockd"
	"github.com/distributed-go/distributed/internal/stocktest"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/locker/lockertest"
	"github.com/distributed-go/distributed/server"
)

// ttl is the lease of the suite in real time. A second would do on an idle
// machine; on one that other tests keep busy a renewal may be late by more.
const ttl = 3 * time.Second

// TestServer runs the suite of all backends against this project's server.
func TestServer(t *testing.T) {
	lockertest.Run(t, lockertest.Harness{
		Start: func(t *testing.T) lockertest.Env {
			s, err := server.New(server.Config{})
			if err != nil {
				t.Fatal(err)
			}
			return listen(t, s.Serve, s.Close, dflockd.WithFences())
		},
		TTL:    ttl,
		Fences: true, Semaphores: true, Queue: true,
	})
}

// TestStockServer runs it against a server with the manners of dflockd v1.0.
func TestStockServer(t *testing.T) {
	lockertest.Run(t, lockertest.Harness{
		Start: func(t *testing.T) lockertest.Env {
			s := stocktest.New(stocktest.Config{})
			serve := func(l net.Listener) error { s.Serve(l); return nil }
			end := func() error { s.Close(); return nil }
			env := listen(t, serve, end)
			env.Residue = func() (holders, waiters int) {
				_, holders, waiters = s.Counts()
				return holders, waiters
			}
			return env
		},
		TTL:   ttl,
		Queue: true,
	})
}

// listen lets backends reach a server through lines of their own.
func listen(t *testing.T, serve func(net.Listener) error, end func() error, opts ...dflockd.Option) lockertest.Env {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = serve(l) // it ends with the case
	}()
	t.Cleanup(func() {
		if err := end(); err != nil {
			t.Error(err)
		}
		<-served
	})
	f := &freezer{}
	lines := make(map[locker.Backend]*line)
	var mu sync.Mutex
	return lockertest.Env{
		Backend: func() locker.Backend {
			ln := &line{freezer: f}
			b, err := dflockd.New([]string{l.Addr().String()}, append(opts, dflockd.WithDialer(ln.dial))...)
			if err != nil {
				panic(err) // not t.Fatal: this may be another goroutine
			}
			mu.Lock()
			defer mu.Unlock()
			lines[b] = ln
			return b
		},
		Disconnect: func(b locker.Backend) {
			mu.Lock()
			defer mu.Unlock()
			lines[b].cut()
		},
		Freeze: f.freeze,
		Thaw:   f.thaw,
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

	mu    sync.Mutex
	conns []net.Conn // guarded by mu
}

func (l *line) dial(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, c)
	return &heldConn{TCPConn: c.(*net.TCPConn), freezer: l.freezer, gone: make(chan struct{})}, nil
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
	*net.TCPConn
	freezer *freezer
	gone    chan struct{}
	once    sync.Once
}

func (c *heldConn) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	c.freezer.wait(c.gone)
	return n, err
}

func (c *heldConn) Close() error {
	c.once.Do(func() { close(c.gone) })
	return c.TCPConn.Close()
}
