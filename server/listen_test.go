package server_test

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/server"
)

// A scriptedListener returns what a test puts in, and then blocks.
type scriptedListener struct {
	accepts chan any // net.Conn or error
	closed  chan struct{}
}

func newScriptedListener(accepts ...any) *scriptedListener {
	l := &scriptedListener{accepts: make(chan any, len(accepts)), closed: make(chan struct{})}
	for _, a := range accepts {
		l.accepts <- a
	}
	return l
}

func (l *scriptedListener) Accept() (net.Conn, error) {
	select {
	case a := <-l.accepts:
		if err, ok := a.(error); ok {
			return nil, err
		}
		return a.(net.Conn), nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *scriptedListener) Close() error {
	select {
	case <-l.closed:
	default:
		close(l.closed)
	}
	return nil
}

func (l *scriptedListener) Addr() net.Addr { return &net.TCPAddr{} }

// outOfFiles is what Accept returns when there are no file descriptors left.
var outOfFiles = &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}

func TestServeRidesOutAWantOfFiles(t *testing.T) {
	inVirtualTime(t, server.Config{}, func(t *testing.T, s *server.Server) {
		ours, theirs := net.Pipe()
		script := make([]any, 12)
		for i := range script {
			script[i] = outOfFiles
		}
		l := newScriptedListener(append(script, theirs)...)
		served := make(chan error, 1)
		went := connect(s) // a connection from before goes on
		went.grant(t, "l|k|0")
		began := time.Now()
		go func() { served <- s.Serve(l) }()
		newPeer(ours).expect(t, "ping|_|_", "ok")
		// 5, 10, 20 ... 640 ms, and then a second each.
		if took := time.Since(began); took < 5*time.Second || took > 6*time.Second {
			t.Errorf("served after %v, want 5 s and a bit", took)
		}
		went.expect(t, "ping|_|_", "ok")
		l.accepts <- outOfFiles
		synctest.Wait()
		began = time.Now()
		s.Close() // does not wait for the pause
		if err := <-served; err != server.ErrServerClosed || time.Since(began) != 0 {
			t.Errorf("Serve = %v after %v", err, time.Since(began))
		}
	})
}

func TestServeReturnsWhatItCannotRideOut(t *testing.T) {
	s := start(t, server.Config{})
	defer s.Close()
	boom := errors.New("boom")
	l := newScriptedListener(boom)
	if err := s.Serve(l); !errors.Is(err, boom) {
		t.Errorf("Serve = %v, want %v", err, boom)
	}
	select {
	case <-l.closed:
	default:
		t.Error("the listener is still open")
	}
	connect(s).grant(t, "l|k|0") // the server itself goes on
}

func TestSeveralListenersShareTheLocks(t *testing.T) {
	s := start(t, server.Config{})
	a, b := newPeer(dial(t, listenAndServe(t, s))), newPeer(dial(t, listenAndServe(t, s)))
	defer a.nc.Close()
	defer b.nc.Close()
	token := a.grant(t, "l|k|0")
	b.expect(t, "l|k|0", "timeout")
	b.expect(t, "r|k|"+token, "ok")
}

func TestUnixSockets(t *testing.T) {
	s := start(t, server.Config{})
	l, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	defer s.Close()
	nc, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	p, q := newPeer(nc), connect(s)
	token := q.grant(t, "l|k|0")
	p.ask(t, "l|k|10")
	p.silent(t)
	q.expect(t, "r|k|"+token, "ok")
	p.granted(t, "33")
	nc.Close()
	eventually(t, "the lock is released", func() bool { return len(s.Stats().Locks) == 0 })
}

func TestConnectionsOverTheCapAreClosed(t *testing.T) {
	s, connect := overTCP(t, server.Config{MaxConnections: 2})
	a, b := connect(), connect()
	a.expect(t, "ping|_|_", "ok")
	b.expect(t, "ping|_|_", "ok")
	for range 3 {
		if line, err := connect().line(patience); err == nil {
			t.Errorf("the third got %q", line)
		}
	}
	b.nc.Close()
	eventually(t, "the second is gone", func() bool { return s.Stats().Connections == 1 })
	connect().expect(t, "ping|_|_", "ok")
}

// TestClosingDoesNotResetWhatWasSaid: a client that is still sending must be
// able to read why it is closed.
func TestClosingDoesNotResetWhatWasSaid(t *testing.T) {
	_, connect := overTCP(t, server.Config{})
	for range 20 {
		p := connect()
		go p.nc.Write(make([]byte, 100_000)) // a line without end
		answer, err := io.ReadAll(p.r)
		if string(answer) != "error\n" || err != nil {
			t.Fatalf("got %q, %v", answer, err)
		}
	}
}

func TestALineWithoutEndIsNotReadForLong(t *testing.T) {
	_, connect := overTCP(t, server.Config{})
	p := connect()
	sent := 0
	for block := make([]byte, 1<<20); sent < 1<<30; {
		p.nc.SetWriteDeadline(time.Now().Add(patience))
		n, err := p.nc.Write(block)
		sent += n
		if err != nil {
			break
		}
	}
	if sent >= 1<<30 {
		t.Error("the server read a gigabyte without a line in it")
	}
}
