package stocktest

import (
	"bufio"
	"fmt"
	"net"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// A peer is a client that a person could be: it types lines and reads them.
type peer struct {
	t  *testing.T
	nc net.Conn
	r  *bufio.Reader
}

// connect gives a server another client, inside a synctest bubble.
func connect(t *testing.T, s *Server) *peer {
	ours, theirs := net.Pipe()
	go s.ServeConn(theirs)
	t.Cleanup(func() { ours.Close() })
	return &peer{t, ours, bufio.NewReader(ours)}
}

// ask sends "command|key|argument".
func (p *peer) ask(request string) {
	p.t.Helper()
	if _, err := fmt.Fprint(p.nc, strings.ReplaceAll(request, "|", "\n"), "\n"); err != nil {
		p.t.Fatalf("%s: %v", request, err)
	}
}

// expect reads a line that matches and returns the token in it.
func (p *peer) expect(pattern string) string {
	p.t.Helper()
	line, err := p.r.ReadString('\n')
	if err != nil {
		p.t.Fatalf("want %s: %v", pattern, err)
	}
	m := regexp.MustCompile("^" + strings.ReplaceAll(pattern, "TOKEN", "([0-9a-f]{32})") + "\n$").FindStringSubmatch(line)
	if m == nil {
		p.t.Fatalf("got %q, want %s", line, pattern)
	}
	return m[len(m)-1]
}

func (p *peer) expectClosed() {
	p.t.Helper()
	if b, err := p.r.ReadByte(); err == nil {
		p.t.Fatalf("got %q, want the end", b)
	}
}

// bubble runs a test with a server in virtual time.
func bubble(t *testing.T, cfg Config, f func(t *testing.T, s *Server)) {
	synctest.Test(t, func(t *testing.T) {
		s := New(cfg)
		defer s.Close()
		f(t, s)
	})
}

func TestLockReleaseAndOrder(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, s *Server) {
		a, b, c := connect(t, s), connect(t, s), connect(t, s)
		a.ask("l|k|5")
		token := a.expect("ok TOKEN 33")
		b.ask("l|k|0")
		b.expect("timeout")
		b.ask("l|k|5 7")
		synctest.Wait()
		c.ask("l|k|5")
		synctest.Wait()
		if _, held, waiting := s.Counts(); held != 1 || waiting != 2 {
			t.Errorf("%d held, %d waiting; want 1 and 2", held, waiting)
		}
		a.ask("r|k|" + token)
		a.expect("ok")
		token = b.expect("ok TOKEN 7")
		b.ask("r|k|" + strings.Repeat("f", 32))
		b.expect("error")
		b.ask("r|k|" + token)
		b.expect("ok")
		c.expect("ok TOKEN 33")
	})
}

func TestRenewAnswersASecondLess(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, s *Server) {
		a := connect(t, s)
		a.ask("l|k|0 1")
		token := a.expect("ok TOKEN 1")
		a.ask("n|k|" + token + " 1")
		a.expect("ok 0")
		a.ask("n|k|" + token)
		a.expect("ok 32")
		a.ask("n|k|wrong")
		a.expect("error")
	})
}

func TestExpiryComesWithASweep(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, s *Server) {
		a, b := connect(t, s), connect(t, s)
		a.ask("l|k|0 1")
		token := a.expect("ok TOKEN 1")
		b.ask("l|k|5")
		began := time.Now()
		b.expect("ok TOKEN 33")
		if took := time.Since(began); took < time.Second || took > 2*time.Second {
			t.Errorf("handed over after %v", took)
		}
		a.ask("n|k|" + token)
		a.expect("error")
	})
}

func TestWaitTimesOut(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, s *Server) {
		a, b := connect(t, s), connect(t, s)
		a.ask("l|k|0")
		a.expect("ok TOKEN 33")
		b.ask("l|k|3")
		began := time.Now()
		b.expect("timeout")
		if took := time.Since(began); took != 3*time.Second {
			t.Errorf("timed out after %v", took)
		}
	})
}

func TestTwoPhases(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, s *Server) {
		a, b := connect(t, s), connect(t, s)
		a.ask("e|k|")
		token := a.expect("acquired TOKEN 33")
		a.ask("e|k|")
		a.expect("error")
		b.ask("e|k|9")
		b.expect("queued")
		a.ask("w|k|1")
		a.expect("ok " + token + " 33")
		a.ask("w|k|1")
		a.expect("error")
		a.ask("r|k|" + token)
		a.expect("ok")
		b.ask("w|k|0")
		b.expect("ok TOKEN 9")
	})
}

func TestWaitZeroLeavesTheQueue(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, s *Server) {
		a, b := connect(t, s), connect(t, s)
		a.ask("l|k|0")
		a.expect("ok TOKEN 33")
		b.ask("e|k|")
		b.expect("queued")
		b.ask("w|k|0")
		b.expect("timeout")
		if _, _, waiting := s.Counts(); waiting != 0 {
			t.Errorf("%d waiting", waiting)
		}
	})
}

func TestMalformedAndUnknownRequestsClose(t *testing.T) {
	for _, request := range []string{
		"ping|_|_", "stats|_|_", "auth|_|secret", "sl|k|0 1", "|k|0", "l||0", "l|k|", "l|k|-1", "l|k|x", "l|k|0.5",
		"l|k|0 0", "l|k|0 1 2", "l|k|9223372037", "w|k|", "r|k|", "n|k|", "e|k|x", "l|" + strings.Repeat("k", 257) + "|0",
	} {
		bubble(t, Config{}, func(t *testing.T, s *Server) {
			p := connect(t, s)
			go p.nc.Write([]byte(strings.ReplaceAll(request, "|", "\n") + "\n")) // a pipe blocks where the rest is not read
			p.expect("error")
			p.expectClosed()
		})
	}
}

func TestSilenceIsClosedWithAnUnaskedError(t *testing.T) {
	bubble(t, Config{}, func(t *testing.T, s *Server) {
		a := connect(t, s)
		a.ask("l|k|0 120")
		a.expect("ok TOKEN 120")
		began := time.Now()
		a.expect("error")
		if took := time.Since(began); took != 23*time.Second {
			t.Errorf("closed after %v", took)
		}
		a.expectClosed()
		b := connect(t, s)
		b.ask("l|k|0")
		b.expect("ok TOKEN 33")
	})
}

func TestDisconnectReleasesUnlessKept(t *testing.T) {
	for _, keep := range []bool{false, true} {
		bubble(t, Config{Keep: keep}, func(t *testing.T, s *Server) {
			a, b := connect(t, s), connect(t, s)
			a.ask("l|k|0 10")
			a.expect("ok TOKEN 10")
			a.nc.Close()
			synctest.Wait()
			b.ask("l|k|0")
			if keep {
				b.expect("timeout")
			} else {
				b.expect("ok TOKEN 33")
			}
		})
	}
}

func TestADeadWaiterIsNoticedWhenItsTurnComes(t *testing.T) {
	s, addr := Start(t, Config{})
	dial := func() *peer {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { nc.Close() })
		return &peer{t, nc, bufio.NewReader(nc)}
	}
	a, b, c := dial(), dial(), dial()
	a.ask("l|k|0")
	token := a.expect("ok TOKEN 33")
	b.ask("e|k|")
	b.expect("queued")
	b.ask("w|k|60")
	c.ask("e|k|")
	c.expect("queued")
	b.nc.Close()
	a.ask("r|k|" + token)
	a.expect("ok")
	c.ask("w|k|60")
	c.expect("ok TOKEN 33")
	s.Drop()
	a.expectClosed()
}
