package server_test

import (
	"crypto/tls"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/distributed-go/distributed/server"
)

// anID is the ID of a session that does not exist.
const anID = "0123456789abcdef0123456789abcdef"

// hello begins a session, with more words than version and name if there are
// any, and returns its ID.
func (p *peer) hello(t testing.TB, more ...string) string {
	t.Helper()
	p.ask(t, strings.Join(append([]string{"hello|_|1 test"}, more...), " "))
	words := strings.Fields(p.get(t))
	if len(words) < 3 || words[0] != "ok" || words[1] != "1" || len(words[2]) != 32 {
		t.Fatalf("hello was answered %q", words)
	}
	return words[2]
}

// next fails unless the next line begins with these words, and returns the rest.
func (p *peer) next(t testing.TB, words string) string {
	t.Helper()
	line := p.get(t)
	rest, ok := strings.CutPrefix(line, words)
	if !ok || rest != "" && rest[0] != ' ' {
		t.Fatalf("got %q, want %s", line, words)
	}
	return strings.TrimPrefix(rest, " ")
}

// token fails unless the next line grants the request of that ID, and returns
// the token.
func (p *peer) token(t testing.TB, id int) string {
	t.Helper()
	words := strings.Fields(p.next(t, fmt.Sprint(id)))
	if len(words) != 3 || words[0] != "ok" && words[0] != "acquired" || len(words[1]) != 32 || !strings.HasSuffix(words[2], "ms") {
		t.Fatalf("%d was answered %q, want a grant", id, words)
	}
	return words[1]
}

// overBoth runs a test over pipes in virtual time, and over TCP.
func overBoth(t *testing.T, cfg server.Config, test func(t *testing.T, s *server.Server, connect func() *peer)) {
	t.Helper()
	t.Run("pipe", func(t *testing.T) {
		inVirtualTime(t, cfg, func(t *testing.T, s *server.Server) {
			test(t, s, func() *peer { return connect(s) })
		})
	})
	t.Run("tcp", func(t *testing.T) {
		s, connect := overTCP(t, cfg)
		test(t, s, connect)
	})
}

func TestHello(t *testing.T) {
	overBoth(t, server.Config{}, func(t *testing.T, _ *server.Server, connect func() *peer) {
		p := connect()
		p.expect(t, "hello|_|1 me resume="+anID, "error_session")
		id := p.hello(t)
		p.expect(t, "1 ping|_|_", "1 ok")
		p.expect(t, "2 hello|_|1 test", "2 error")
		p.expect(t, "3 auth|_|x", "3 error")
		p.expect(t, "4 zz|k|0", "4 error")
		p.expect(t, "5 put|k|"+strings.Repeat("v", 80_000), "5 error")
		p.expect(t, "6 beat|_|_", "6 ok")
		p.expect(t, "7 bye|_|_", "7 ok")
		p.closed(t)
		connect().expect(t, "hello|_|1 me resume="+id, "error_session")
	})
}

func TestHelloComesFirst(t *testing.T) {
	overBoth(t, server.Config{}, func(t *testing.T, _ *server.Server, connect func() *peer) {
		for _, first := range []string{"ping|_|_", "l|k|0 1", "zz|_|_", "hello|_|0 me", "hello|_|1", "hello|_|1 me resume=x"} {
			p := connect()
			if got := p.do(t, first); strings.HasPrefix(got, "ok 1 ") {
				t.Fatalf("%s was answered %q", first, got)
			}
			p.expect(t, "hello|_|1 me", "error")
			p.expect(t, "ping|_|_", "ok")
		}
	})
}

func TestHelloAfterAuth(t *testing.T) {
	overBoth(t, server.Config{AuthToken: "hunter2"}, func(t *testing.T, _ *server.Server, connect func() *peer) {
		p := connect()
		go p.send(wire("auth|_|hunter2", "hello|_|1 me", "1 l|k|0")) // at once
		p.next(t, "ok")
		p.next(t, "ok 1")
		p.token(t, 1)
		p = connect()
		p.expect(t, "hello|_|1 me", "error_auth")
		p.closed(t)
	})
}

// TestFramesThatCannotBeAnswered end the connection, and not the session.
func TestFramesThatCannotBeAnswered(t *testing.T) {
	for name, frame := range map[string]string{
		"no ID": wire("ping|_|_"), "hello": wire("hello|_|1 me"), "ID 0": wire("0 ping|_|_"), "leading zero": wire("02 ping|_|_"),
		"old ID": wire("1 ping|_|_"), "too long": "2 " + strings.Repeat("x", 300), "nothing": "\n\n\n",
	} {
		t.Run(name, func(t *testing.T) {
			overBoth(t, server.Config{}, func(t *testing.T, _ *server.Server, connect func() *peer) {
				p := connect()
				id := p.hello(t)
				p.ask(t, "1 l|k|0 30")
				token := p.token(t, 1)
				p.send(frame)
				p.next(t, "0 error")
				p.closed(t)
				p = connect()
				if again := p.hello(t, "resume="+id); again != id {
					t.Fatalf("%s became %s", id, again)
				}
				p.expect(t, "2 n|k|"+token+" 30", "2 ok 30000ms")
			})
		})
	}
}

func TestPipelinedFrames(t *testing.T) {
	overBoth(t, server.Config{}, func(t *testing.T, s *server.Server, connect func() *peer) {
		p := connect()
		p.hello(t)
		const n = 2000
		go func() {
			for i := range n {
				if p.send(wire(fmt.Sprintf("%d l|%d|0", i+1, i))) != nil {
					return
				}
			}
			p.send(wire(fmt.Sprintf("%d stats|_|_", n+1)))
		}()
		for i := range n {
			p.token(t, i+1)
		}
		if report := p.next(t, fmt.Sprint(n+1, " ok")); !strings.Contains(report, `"key":"1999"`) {
			t.Errorf("the report is %.100q", report)
		}
	})
}

// TestOneQueue has two sessions and two connections of the base protocol wait
// for one key: they get it in the order in which they asked.
func TestOneQueue(t *testing.T) {
	overBoth(t, server.Config{}, func(t *testing.T, s *server.Server, connect func() *peer) {
		a, b, c, d := connect(), connect(), connect(), connect()
		a.hello(t)
		c.hello(t)
		held := b.grant(t, "l|k|0")
		for i, ask := range []func(){
			func() { a.ask(t, "1 l|k|- 30") }, func() { d.ask(t, "l|k|100") }, func() { c.ask(t, "1 l|k|100 30") }, func() { a.ask(t, "2 l|k|- 30") },
		} {
			ask()
			eventually(t, "it waits", func() bool { return s.Stats().Locks[0].Waiters == i+1 })
		}
		b.expect(t, "r|k|"+held, "ok")
		held = a.token(t, 1)
		a.expect(t, "3 r|k|"+held, "3 ok")
		held = d.granted(t, "33")
		d.expect(t, "r|k|"+held, "ok")
		held = c.token(t, 1)
		c.expect(t, "2 r|k|"+held, "2 ok")
		held = a.token(t, 2)
		b.expect(t, "r|k|"+held, "ok") // by somebody else
		if a.next(t, "0 lost k") != held+" released" {
			t.Error("what was lost is another")
		}
		empty(t, s)
	})
}

func TestTickets(t *testing.T) {
	overBoth(t, server.Config{}, func(t *testing.T, s *server.Server, connect func() *peer) {
		p := connect()
		p.hello(t)
		p.ask(t, "1 e|k|20")
		held := p.token(t, 1)
		p.ask(t, "2 w|k|0 1")
		if again := p.token(t, 2); again != held {
			t.Errorf("%s became %s", held, again)
		}
		p.expect(t, "3 e|k|20", "3 queued 1")
		p.expect(t, "4 e|k|20", "4 queued 2")
		p.ask(t, "5 w|k|0 3")
		p.next(t, "5 timeout test")
		p.ask(t, "6 w|k|- 4", "7 r|k|"+held)
		held = p.token(t, 6)
		p.next(t, "7 ok")
		p.ask(t, "8 se|pool|2 2")
		p.token(t, 8)
		p.expect(t, "9 w|k|0 17", "9 error_not_enqueued")
		p.expect(t, "10 r|k|"+held, "10 ok")
	})
}

func TestCancel(t *testing.T) {
	overBoth(t, server.Config{}, func(t *testing.T, s *server.Server, connect func() *peer) {
		p := connect()
		p.hello(t)
		p.ask(t, "1 l|k|0")
		held := p.token(t, 1)
		p.ask(t, "2 l|k|-", "3 l|k|-", "4 e|k|", "5 cancel|_|2", "6 cancel|_|4", "7 cancel|_|1", "8 cancel|_|99")
		for _, want := range []string{"4 queued 3", "2 canceled", "5 ok", "6 ok", "7 ok", "8 ok"} {
			p.next(t, want)
		}
		p.expect(t, "9 w|k|0 4", "9 error_not_enqueued")
		p.ask(t, "10 r|k|"+held)
		held = p.token(t, 3)
		p.next(t, "10 ok")
		p.expect(t, "11 r|k|"+held, "11 ok")
		empty(t, s)
	})
}

func TestBeatsKeepLeases(t *testing.T) {
	inVirtualTime(t, server.Config{}, func(t *testing.T, s *server.Server) {
		p, other := connect(s), connect(s)
		p.hello(t)
		p.ask(t, "1 l|k|0 3", "2 sl|pool|0 5 2 3")
		held := p.token(t, 1)
		p.token(t, 2)
		for id := 3; id < 12; id++ { // for three times the TTL
			time.Sleep(time.Second)
			p.expect(t, fmt.Sprint(id, " beat|_|_"), fmt.Sprint(id, " ok"))
			other.expect(t, "l|k|0", "timeout")
		}
		began := time.Now()
		p.next(t, "0 lost")
		p.next(t, "0 lost")
		if took := time.Since(began); took < 3*time.Second || took > 3*time.Second+time.Millisecond {
			t.Errorf("without beats they were lost after %v", took)
		}
		p.expect(t, "20 r|k|"+held, "20 error")
		other.grant(t, "l|k|0")
	})
}

// TestResume cuts a connection with requests on their way in both directions,
// and sends again what was not answered: nothing is lost, nothing doubled.
func TestResume(t *testing.T) {
	overBoth(t, server.Config{}, func(t *testing.T, s *server.Server, connect func() *peer) {
		p, other := connect(), connect()
		taken := other.grant(t, "l|taken|0")
		id := p.hello(t)
		p.ask(t, "1 l|held|0 60")
		held := p.token(t, 1)
		p.ask(t, "2 l|unread|0 60", "3 l|taken|- 60", "4 l|unwanted|0 60", "5 l|stolen|0 60")
		eventually(t, "all are there", func() bool { return len(s.Stats().Locks) == 5 })
		p.nc.Close()
		p = connect()
		if again := p.hello(t, "resume="+id); again != id {
			t.Fatalf("%s became %s", id, again)
		}
		p.ask(t, "7 n|held|"+held+" 60", "2 l|unread|0 60", "3 l|taken|- 60", "6 l|new|0 60", "8 sync|_|_")
		p.next(t, "7 ok 60000ms")
		p.token(t, 2)
		p.token(t, 6)
		p.next(t, "8 ok")
		other.expect(t, "r|taken|"+taken, "ok")
		p.token(t, 3)
		if n := len(s.Stats().Locks); n != 4 {
			t.Errorf("%d keys are held, want held, unread, taken and new", n)
		}
		other.grant(t, "l|unwanted|0")
		p.ask(t, "3 l|taken|- 60")
		p.next(t, "0 error") // an old ID is good once
		p.closed(t)
	})
}

func TestDisplaced(t *testing.T) {
	overBoth(t, server.Config{}, func(t *testing.T, _ *server.Server, connect func() *peer) {
		a, b := connect(), connect()
		id := a.hello(t)
		a.ask(t, "1 l|k|0 60")
		token := a.token(t, 1)
		b.hello(t, "resume="+id)
		a.next(t, "0 displaced")
		a.closed(t)
		b.expect(t, "2 n|k|"+token+" 60", "2 ok 60000ms")
		b.expect(t, "3 sync|_|_", "3 ok")
	})
}

func TestReleaseOnClose(t *testing.T) {
	overBoth(t, server.Config{KeepOnDisconnect: true}, func(t *testing.T, _ *server.Server, connect func() *peer) {
		a, b := connect(), connect()
		id := a.hello(t, "release-on-close")
		a.ask(t, "1 l|k|0 60")
		a.token(t, 1)
		b.ask(t, "l|k|50")
		a.nc.Close()
		b.granted(t, "33")
		b.expect(t, "hello|_|1 me resume="+id, "error")
	})
}

// TestSilence: a session that says nothing is not closed by the read timeout,
// and is after 30 s; what it holds stays.
func TestSilence(t *testing.T) {
	inVirtualTime(t, server.Config{}, func(t *testing.T, s *server.Server) {
		p := connect(s)
		id := p.hello(t)
		p.ask(t, "1 l|k|0 600")
		token := p.token(t, 1)
		began := time.Now()
		p.closed(t)
		if took := time.Since(began); took != 30*time.Second {
			t.Errorf("closed after %v, want 30s", took)
		}
		p = connect(s)
		p.hello(t, "resume="+id)
		p.expect(t, "2 n|k|"+token+" 600", "2 ok 600000ms")
	})
}

func TestSessionsOverTLS(t *testing.T) {
	cfg, client := withTLS(t)
	s := start(t, cfg)
	addr := listenAndServe(t, s)
	nc, err := tls.Dial("tcp", addr, client)
	if err != nil {
		t.Fatal(err)
	}
	p := newPeer(nc)
	p.hello(t)
	p.ask(t, "1 l|k|0", "2 l|k|-")
	p.ask(t, "3 r|k|"+p.token(t, 1))
	p.token(t, 2)
	p.next(t, "3 ok")
	p.nc.Close()
}

// TestASessionIsOneGoroutine while there is nothing to write.
func TestASessionIsOneGoroutine(t *testing.T) {
	const sessions = 200
	_, connect := overTCP(t, server.Config{})
	before := runtime.NumGoroutine()
	for i := range sessions {
		p := connect()
		p.hello(t)
		p.ask(t, fmt.Sprintf("1 l|%d|0", i), fmt.Sprintf("2 l|%d|-", i))
		p.token(t, 1)
	}
	eventually(t, "each has one", func() bool { return runtime.NumGoroutine()-before <= sessions })
}

// TestGoneSessionsAreForgotten: a minute after they had anything.
func TestGoneSessionsAreForgotten(t *testing.T) {
	inVirtualTime(t, server.Config{}, func(t *testing.T, s *server.Server) {
		p := connect(s)
		id := p.hello(t)
		p.nc.Close()
		time.Sleep(59 * time.Second)
		p = connect(s)
		p.hello(t, "resume="+id)
		p.nc.Close()
		time.Sleep(61 * time.Second)
		connect(s).expect(t, "hello|_|1 me resume="+id, "error_session")
	})
}
