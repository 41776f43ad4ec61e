package dflockd

import (
	"io"
	"net"
	"sync"
	"testing"
)

// A holdback is a proxy on loopback that can hold back what the server says.
type holdback struct {
	freezer freezer
	l       net.Listener
	server  string
	wg      sync.WaitGroup
	done    chan struct{}

	mu    sync.Mutex
	conns []net.Conn // guarded by mu
}

func newHoldback(t *testing.T, server string) *holdback {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &holdback{l: l, server: server, done: make(chan struct{})}
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		l.Close()
		close(p.done)
		p.cut()
		p.wg.Wait()
	})
	return p
}

func (p *holdback) addr() string { return p.l.Addr().String() }

func (p *holdback) accept() {
	for {
		near, err := p.l.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", p.server)
		if err != nil {
			near.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, near, far)
		p.mu.Unlock()
		p.wg.Go(func() { p.pass(far, near, nil) })
		p.wg.Go(func() { p.pass(near, far, &p.freezer) })
	}
}

// pass copies until one side ends, and then ends the other.
func (p *holdback) pass(to, from net.Conn, f *freezer) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 4096)
	for {
		n, err := from.Read(buf)
		if f != nil {
			f.wait(p.done)
		}
		if err != nil {
			if err == io.EOF {
				to.(*net.TCPConn).CloseWrite()
			}
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
	}
}

// cut closes all connections.
func (p *holdback) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		c.Close()
	}
	p.conns = nil
}
