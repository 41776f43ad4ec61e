package server_test

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/server"
)

// patience bounds a wait for something that should come at once, so that a
// test fails and does not hang.
const patience = 20 * time.Second

// start returns a server with the config, which says nothing.
func start(t testing.TB, cfg server.Config) *server.Server {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s, err := server.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// listenAndServe serves on a free port until the test ends.
func listenAndServe(t testing.TB, s *server.Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-served; err != server.ErrServerClosed {
			t.Errorf("Serve = %v, want ErrServerClosed", err)
		}
	})
	return l.Addr().String()
}

// overTCP returns a server and a way to connect to it.
func overTCP(t testing.TB, cfg server.Config) (*server.Server, func() *peer) {
	t.Helper()
	s := start(t, cfg)
	addr := listenAndServe(t, s)
	return s, func() *peer {
		p := newPeer(dial(t, addr))
		t.Cleanup(func() { p.nc.Close() })
		return p
	}
}

func dial(t testing.TB, addr string) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return nc
}

// inVirtualTime runs a test in a bubble, where time passes when all wait, with
// a server that is closed at its end.
func inVirtualTime(t *testing.T, cfg server.Config, test func(t *testing.T, s *server.Server)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := start(t, cfg)
		defer time.Sleep(time.Minute) // a bubble must not end before its goroutines
		defer s.Close()
		test(t, s)
	})
}

// pipe returns a client's end of a connection that the server serves.
func pipe(s *server.Server) net.Conn {
	ours, theirs := net.Pipe()
	go s.ServeConn(theirs)
	return ours
}

// A peer is a client that says what a test makes it say.
type peer struct {
	nc net.Conn
	r  *bufio.Reader
}

func newPeer(nc net.Conn) *peer { return &peer{nc: nc, r: bufio.NewReader(nc)} }

// connect returns a peer over a pipe.
func connect(s *server.Server) *peer { return newPeer(pipe(s)) }

func (p *peer) send(s string) error {
	p.nc.SetWriteDeadline(time.Now().Add(patience))
	_, err := io.WriteString(p.nc, s)
	return err
}

// line returns the next line without its end.
func (p *peer) line(within time.Duration) (string, error) {
	p.nc.SetReadDeadline(time.Now().Add(within))
	s, err := p.r.ReadString('\n')
	if err != nil && s != "" {
		err = fmt.Errorf("after %q: %w", s, err)
	}
	return strings.TrimSuffix(s, "\n"), err
}

// ask sends requests, written as CMD|KEY|ARG, and does not wait for answers.
func (p *peer) ask(t testing.TB, requests ...string) {
	t.Helper()
	if err := p.send(wire(requests...)); err != nil {
		t.Fatalf("sending %q: %v", requests, err)
	}
}

func wire(requests ...string) string {
	return strings.ReplaceAll(strings.Join(requests, "\n")+"\n", "|", "\n")
}

// get returns the next answer, which must come before long.
func (p *peer) get(t testing.TB) string {
	t.Helper()
	line, err := p.line(24 * time.Hour) // in virtual time; real tests have -timeout
	if err != nil {
		t.Fatalf("no answer: %q, %v", line, err)
	}
	return line
}

// do sends a request and returns its answer.
func (p *peer) do(t testing.TB, request string) string {
	t.Helper()
	p.ask(t, request)
	return p.get(t)
}

// expect fails unless the request gets that answer.
func (p *peer) expect(t testing.TB, request, answer string) {
	t.Helper()
	if got := p.do(t, request); got != answer {
		t.Fatalf("%s was answered %q, want %q", request, got, answer)
	}
}

// granted fails unless the next answer is a grant for that many seconds, and
// returns its token.
func (p *peer) granted(t testing.TB, ttl string) string {
	t.Helper()
	words := strings.Fields(p.get(t))
	if len(words) != 3 || words[0] != "ok" && words[0] != "acquired" || len(words[1]) != 32 || words[2] != ttl {
		t.Fatalf("answer is %q, want a grant for %s s", words, ttl)
	}
	return words[1]
}

// grant sends a request that must be granted, for 33 s, and returns its token.
func (p *peer) grant(t testing.TB, request string) string {
	t.Helper()
	p.ask(t, request)
	return p.granted(t, "33")
}

// silent fails if anything arrives for a while.
func (p *peer) silent(t testing.TB) {
	t.Helper()
	if line, err := p.line(quiet); err == nil {
		t.Fatalf("got %q, want silence", line)
	}
}

// closed fails unless the connection ends without another line.
func (p *peer) closed(t testing.TB) {
	t.Helper()
	if line, err := p.line(24 * time.Hour); err != io.EOF {
		t.Fatalf("got %q, %v; want the end", line, err)
	}
}

// empty fails unless nothing is held and nobody waits.
func empty(t testing.TB, s *server.Server) {
	t.Helper()
	r := s.Stats()
	if len(r.Locks) > 0 || len(r.Semaphores) > 0 {
		t.Fatalf("left are %v and %v", r.Locks, r.Semaphores)
	}
}

// eventually polls, in real time, because what it waits for gives no signal.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not in %v: %s", patience, what)
		}
	}
}
