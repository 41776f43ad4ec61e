package server_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/server"
)

// TestSlowReaders: a session that does not read is read from until 256 KiB of
// answers wait for it, then closed, and harms nobody.
func TestSlowReaders(t *testing.T) {
	inVirtualTime(t, server.Config{}, func(t *testing.T, s *server.Server) {
		p, other := connect(s), connect(s)
		id := p.hello(t)
		other.hello(t)
		sent := 0
		began := time.Now()
		for p.send(wire(fmt.Sprintf("%d l|%d|0 60", sent+1, sent))) == nil {
			sent++
			synctest.Wait()
		}
		if took := time.Since(began); took < 5*time.Second || took > 6*time.Second {
			t.Errorf("closed after %v, want 5s to 5.5s", took)
		}
		const line = len("1000 ok  60000ms\n") + 32
		if answers := sent * line; answers < 256<<10-line || answers > 300<<10 {
			t.Errorf("%d requests were read, for %d bytes of answers", sent, answers)
		}
		other.ask(t, "1 l|other|0")
		other.token(t, 1)
		p = connect(s)
		p.hello(t, "resume="+id)
		p.ask(t, fmt.Sprint(sent+1, " sync|_|_"))
		p.next(t, fmt.Sprint(sent+1))
		if n := len(s.Stats().Locks); n != 1 {
			t.Errorf("%d locks are held by nobody who knows of them", n-1)
		}
	})
}

// TestSteadyReaders: a backlog stops the reading only until it shrinks.
func TestSteadyReaders(t *testing.T) {
	inVirtualTime(t, server.Config{}, func(t *testing.T, s *server.Server) {
		p := connect(s)
		p.hello(t)
		const n = 60_000 // of answers of 9 bytes and more: twice the backlog
		go func() {
			for i := range n {
				p.send(wire(fmt.Sprint(i+1, " ping|_|_")))
			}
		}()
		var got bytes.Buffer
		for part, last := make([]byte, 16<<10), fmt.Appendf(nil, "\n%d ok\n", n); !bytes.HasSuffix(got.Bytes(), last); {
			time.Sleep(time.Second)
			p.nc.SetReadDeadline(time.Now().Add(time.Minute))
			k, err := p.nc.Read(part)
			if err != nil {
				t.Fatalf("after %d bytes: %v", got.Len(), err)
			}
			got.Write(part[:k])
		}
		if lines := strings.Count(got.String(), "\n"); lines != n {
			t.Errorf("%d answers to %d requests", lines, n)
		}
	})
}

// TestSteadyReadersOverTCP has the kernel take a part of what is to be written
// again and again: no line is lost, doubled or torn.
func TestSteadyReadersOverTCP(t *testing.T) {
	s := start(t, server.Config{})
	defer s.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := newPeer(dial(t, l.Addr().String()))
	nc, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	nc.(*net.TCPConn).SetWriteBuffer(8 << 10)
	go s.ServeConn(nc)
	p.hello(t)
	const n = 300_000
	go func() {
		var all strings.Builder
		for i := range n {
			fmt.Fprintf(&all, "%d ping\n_\n_\n", i+1)
		}
		p.nc.Write([]byte(all.String()))
	}()
	for i := range n {
		if i%(n/10) == 1000 {
			time.Sleep(30 * time.Millisecond) // the more waits to be read the better
		}
		if line, want := p.get(t), fmt.Sprint(i+1, " ok"); line != want {
			t.Fatalf("got %q, want %q", line, want)
		}
	}
}

// TestForeignLinesDoNotBlock: what others do for a session that does not read is
// done at once.
func TestForeignLinesDoNotBlock(t *testing.T) {
	inVirtualTime(t, server.Config{}, func(t *testing.T, s *server.Server) {
		slow, other := connect(s), connect(s)
		slow.hello(t)
		other.hello(t)
		const n = 100
		var tokens []string
		for i := range n {
			other.ask(t, fmt.Sprintf("%d l|%d|0", i+1, i))
			tokens = append(tokens, other.token(t, i+1))
			slow.ask(t, fmt.Sprintf("%d l|%d|-", i+1, i))
		}
		began := time.Now()
		for i, token := range tokens {
			other.expect(t, fmt.Sprintf("%d r|%d|%s", n+i+1, i, token), fmt.Sprint(n+i+1, " ok"))
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("it took %v", took)
		}
		for i := range n {
			slow.token(t, i+1)
		}
	})
}

// TestManyWaitersOnOneSession are served in their order.
func TestManyWaitersOnOneSession(t *testing.T) {
	overBoth(t, server.Config{}, func(t *testing.T, s *server.Server, connect func() *peer) { manyWaiters(t, s, connect(), 10_000) })
}

func manyWaiters(t *testing.T, s *server.Server, p *peer, n int) {
	began := time.Now()
	p.hello(t)
	var all strings.Builder
	for i := range n {
		all.WriteString(wire(fmt.Sprintf("%d l|k|- 600", i+1)))
	}
	go p.send(all.String())
	token := p.token(t, 1)
	eventually(t, "all wait", func() bool { l := s.Stats().Locks; return len(l) == 1 && l[0].Waiters == n-1 })
	for i := 1; i < n; i++ {
		p.ask(t, fmt.Sprintf("%d r|k|%s", n+i, token))
		next := p.token(t, i+1)
		p.next(t, fmt.Sprint(n+i, " ok"))
		if next <= token {
			t.Fatalf("fence %s after %s", next[:16], token[:16])
		}
		token = next
	}
	p.expect(t, fmt.Sprintf("%d r|k|%s", 2*n, token), fmt.Sprint(2*n, " ok"))
	empty(t, s)
	t.Logf("%d served in %v", n, time.Since(began))
}

// TestHalfOfManyWaitersGiveUp in any order, and leave that of the others alone.
func TestHalfOfManyWaitersGiveUp(t *testing.T) {
	const n = 10_000
	overBoth(t, server.Config{}, func(t *testing.T, s *server.Server, connect func() *peer) {
		began := time.Now()
		p := connect()
		p.hello(t)
		var all strings.Builder
		for i := range n {
			all.WriteString(wire(fmt.Sprintf("%d l|k|- 600", i+1)))
		}
		random := rand.New(rand.NewPCG(1, 2))
		order, gone := random.Perm(n-1), make([]bool, n+1)
		for i, x := range order[:n/2] {
			gone[x+2] = true
			all.WriteString(wire(fmt.Sprintf("%d cancel|_|%d", n+i+1, x+2)))
		}
		go p.send(all.String())
		token := p.token(t, 1)
		for i, x := range order[:n/2] {
			p.next(t, fmt.Sprint(x+2, " canceled"))
			p.next(t, fmt.Sprint(n+i+1, " ok"))
		}
		id := n + n/2
		for i := 2; i <= n; i++ {
			if gone[i] {
				continue
			}
			id++
			p.ask(t, fmt.Sprintf("%d r|k|%s", id, token))
			token = p.token(t, i)
			p.next(t, fmt.Sprint(id, " ok"))
		}
		p.expect(t, fmt.Sprintf("%d r|k|%s", id+1, token), fmt.Sprint(id+1, " ok"))
		empty(t, s)
		t.Logf("%d served and %d cancelled in %v", n-n/2, n/2, time.Since(began))
	})
}

// TestShutdownOfSessions refuses who waits and who comes, and ends when nothing
// is held.
func TestShutdownOfSessions(t *testing.T) {
	overBoth(t, server.Config{}, func(t *testing.T, s *server.Server, connect func() *peer) {
		p, idle := connect(), connect()
		p.hello(t)
		idle.hello(t)
		p.ask(t, "1 l|k|0", "2 l|k|-", "3 e|k|")
		token := p.token(t, 1)
		p.next(t, "3 queued")
		done := make(chan error, 1)
		go func() { done <- s.Shutdown(context.Background()) }()
		p.next(t, "2 error_draining")
		p.expect(t, "4 l|other|0", "4 error_draining")
		p.expect(t, "5 beat|_|_", "5 ok")
		p.expect(t, "6 n|k|"+token, "6 ok 33000ms")
		p.ask(t, "7 r|k|"+token, "8 ping|_|_")
		p.next(t, "7 ok")
		p.next(t, "8 ok")
		p.closed(t)
		idle.closed(t)
		if err := <-done; err != nil {
			t.Errorf("Shutdown = %v", err)
		}
	})
}

func TestCloseEndsSessions(t *testing.T) {
	overBoth(t, server.Config{}, func(t *testing.T, s *server.Server, connect func() *peer) {
		p, stuck := connect(), connect()
		p.hello(t)
		stuck.hello(t)
		p.ask(t, "1 l|k|0", "2 l|k|-", "3 stats|_|_")
		p.token(t, 1)
		stuck.ask(t, "1 l|other|0", "2 l|other|-") // nobody reads
		s.Close()
		if line, err := io.ReadAll(p.r); err == nil && bytes.Contains(line, []byte("2 ok")) {
			t.Errorf("got %q", line)
		}
	})
}

// TestSessionsGetReports, and hear of grants while reports are made.
func TestSessionsGetReports(t *testing.T) {
	overBoth(t, server.Config{}, func(t *testing.T, s *server.Server, connect func() *peer) {
		p := connect()
		p.hello(t)
		const n = 100 // more than may wait at once
		go func() {
			for i := range n {
				p.send(wire(fmt.Sprint(i+1, " stats|_|_")))
			}
			p.send(wire("1000 ping|_|_"))
		}()
		seen := map[string]bool{}
		for range n + 1 {
			id, rest, _ := strings.Cut(p.get(t), " ")
			if seen[id] || id != "1000" && !strings.HasPrefix(rest, `ok {"connections":`) {
				t.Fatalf("got %s %s", id, rest)
			}
			seen[id] = true
		}
	})
}

// TestSessionAllocates counts what a pair of l and r allocates in the server;
// the client here allocates nothing.
func TestSessionAllocates(t *testing.T) {
	_, connect := overTCP(t, server.Config{})
	p := newFramedPair(t, connect())
	for range 100 {
		p.once(t) // the buffers grow
	}
	if n := testing.AllocsPerRun(1000, func() { p.once(t) }); n > 1 {
		t.Errorf("a pair allocates %v times, want 1", n)
	}
}

// A framedPair is a pair in session mode.
type framedPair struct {
	*peer
	id      uint64
	request codec.Request
	answer  codec.Answer
	answers *codec.AnswerReader
	out     []byte
}

func newFramedPair(t testing.TB, p *peer) *framedPair {
	p.hello(t)
	f := &framedPair{peer: p, answers: codec.NewAnswerReader(p.nc), request: codec.Request{Key: []byte("key")}}
	f.answers.Frames()
	return f
}

func (f *framedPair) once(t testing.TB) {
	f.say(t, codec.Lock)
	f.request.Token = f.answer.Token
	f.say(t, codec.Release)
}

func (f *framedPair) say(t testing.TB, c codec.Command) {
	f.id++
	f.request.ID, f.request.Command = f.id, c
	f.out = codec.AppendRequest(f.out[:0], &f.request)
	if _, err := f.nc.Write(f.out); err != nil {
		t.Fatal(err)
	}
	if err := f.answers.Read(&f.answer); err != nil || f.answer.ID != f.id || f.answer.Status != codec.OK {
		t.Fatal(f.answer, err)
	}
}

// TestSessionAnswersLeaveTogether counts the writes for batches of requests that
// each fit the server's buffer.
func TestSessionAnswersLeaveTogether(t *testing.T) {
	inVirtualTime(t, server.Config{}, func(t *testing.T, s *server.Server) {
		ours, theirs := net.Pipe()
		counted := &countingConn{Conn: theirs}
		go s.ServeConn(counted)
		p := newPeer(ours)
		p.hello(t)
		before := counted.writes.Load()
		const batches, size = 20, 50
		for b := range batches {
			var batch strings.Builder
			for i := range size {
				batch.WriteString(wire(fmt.Sprint(b*size+i+1, " ping|_|_")))
			}
			p.send(batch.String())
			for i := range size {
				p.next(t, fmt.Sprint(b*size+i+1, " ok"))
			}
		}
		if n := counted.writes.Load() - before; n != batches {
			t.Errorf("%d writes for %d batches", n, batches)
		}
	})
}

func BenchmarkSessionLockRelease(b *testing.B) {
	_, connect := overTCP(b, server.Config{})
	p := newFramedPair(b, connect())
	b.ReportAllocs()
	for b.Loop() {
		p.once(b)
	}
}
