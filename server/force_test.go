package server_test

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/server"
)

// A journal keeps what a server logs.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

func (j *journal) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(j, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// says returns whether one line has all of the words.
func (j *journal) says(words ...string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
next:
	for line := range strings.Lines(j.text.String()) {
		for _, w := range words {
			if !strings.Contains(line, w) {
				continue next
			}
		}
		return true
	}
	return false
}

// TestForceTakesAKeyAway does so over either protocol, from either.
func TestForceTakesAKeyAway(t *testing.T) {
	log := new(journal)
	overBoth(t, server.Config{Logger: log.logger()}, func(t *testing.T, s *server.Server, connect func() *peer) {
		a, b, op, boss := connect(), connect(), connect(), connect()
		a.hello(t)
		op.ask(t, "hello|_|1 ops/1/dlock")
		op.next(t, "ok 1")
		a.ask(t, "1 l|k|0 60")
		first := a.token(t, 1)
		b.ask(t, "l|k|600 60")
		eventually(t, "it waits", func() bool { return s.Stats().Locks[0].Waiters == 1 })
		a.ask(t, "2 l|k|- 60")
		eventually(t, "both wait", func() bool { return s.Stats().Locks[0].Waiters == 2 })

		op.expect(t, "1 force|k|lock", "1 ok 1")
		if got := a.next(t, "0 lost k"); got != first+" revoked" {
			t.Fatalf("lost %q", got)
		}
		second := b.granted(t, "60")
		boss.expect(t, "force|k|lock", "ok 1")
		third := a.token(t, 2)
		if first >= second || second >= third { // a fence is the first half
			t.Errorf("fences %.16s, %.16s, %.16s", first, second, third)
		}
		b.expect(t, "n|k|"+second+" 60", "error")
		a.expect(t, "3 r|k|"+first, "3 error")
		boss.expect(t, "force|k|semaphore", "ok 0")
		boss.expect(t, "force|k|both", "error")

		for range 3 {
			b.grant(t, "sl|s|0 4")
		}
		op.expect(t, "2 force|s|semaphore", "2 ok 3")
		for _, line := range [][]string{
			{"level=WARN", "kind=lock", "key=k", "holds=1", "by=ops/1/dlock", "remote="},
			{"level=WARN", "kind=lock", "key=k", "holds=1", `by=""`},
			{"level=WARN", "kind=semaphore", "key=k", "holds=0", `by=""`},
			{"level=WARN", "kind=semaphore", "key=s", "holds=3", "by=ops/1/dlock"},
		} {
			eventually(t, "it is logged", func() bool { return log.says(line...) })
		}
	})
}

// TestForceOfWhatWasNotCollected ends the grant to a ticket.
func TestForceOfWhatWasNotCollected(t *testing.T) {
	overBoth(t, server.Config{}, func(t *testing.T, _ *server.Server, connect func() *peer) {
		a, b := connect(), connect()
		a.grant(t, "e|k|")
		b.hello(t)
		b.ask(t, "1 e|j|")
		b.token(t, 1)
		b.expect(t, "2 force|k|lock", "2 ok 1")
		b.expect(t, "3 force|j|lock", "3 ok 1")
		a.expect(t, "w|k|0", "error_lease_expired")
		b.expect(t, "4 w|j|0 1", "4 error_lease_expired")
	})
}

// TestForceNeedsTheSecret of a server that has one.
func TestForceNeedsTheSecret(t *testing.T) {
	overBoth(t, server.Config{AuthToken: "hunter2"}, func(t *testing.T, s *server.Server, connect func() *peer) {
		a, b := connect(), connect()
		a.expect(t, "auth|_|hunter2", "ok")
		a.grant(t, "l|k|0")
		b.expect(t, "force|k|lock", "error_auth")
		b.closed(t)
		if n := len(s.Stats().Locks); n != 1 {
			t.Errorf("%d are held", n)
		}
	})
}

func TestReportsSayWhoHolds(t *testing.T) {
	inVirtualTime(t, server.Config{}, func(t *testing.T, s *server.Server) {
		p, q := connect(s), connect(s)
		q.expect(t, "ping|_|_", "ok")
		p.ask(t, "hello|_|1 web-3/4711/worker")
		p.next(t, "ok 1")
		p.ask(t, "1 l|k|0 60", "2 sl|s|0 40 3 60")
		p.token(t, 1)
		p.token(t, 2)
		time.Sleep(1500 * time.Millisecond)
		for range 20 {
			q.grant(t, "sl|s|0 40")
		}
		time.Sleep(250 * time.Millisecond)
		r := s.Stats()
		if l := r.Locks[0]; l.Owner != "web-3/4711/worker" || l.HeldS != 1.75 {
			t.Errorf("%+v", l)
		}
		owners := r.Semaphores[0].Owners
		if len(owners) != codec.MaxOwners || owners[0] != (codec.OwnerStats{Name: "web-3/4711/worker", Weight: 3, HeldS: 1.75}) || owners[1] != (codec.OwnerStats{Weight: 1, HeldS: 0.25}) {
			t.Errorf("%+v", owners)
		}
		// A session has a number of its own among those of the connections.
		q.grant(t, "l|j|0")
		r = s.Stats()
		if r.Locks[0].OwnerConnID == r.Locks[1].OwnerConnID {
			t.Errorf("%+v", r.Locks)
		}
		if text, err := json.Marshal(r); err != nil || !strings.Contains(string(text), `"owner":"web-3/4711/worker","held_s":1.75`) {
			t.Errorf("%s, %v", text, err)
		}
	})
}

// TestDebugTellsOfSessions too: of leases that ran out and places given up.
func TestDebugTellsOfSessions(t *testing.T) {
	log := new(journal)
	inVirtualTime(t, server.Config{Debug: true, Logger: log.logger()}, func(t *testing.T, s *server.Server) {
		p, other := connect(s), connect(s)
		p.ask(t, "hello|_|1 web-3/4711/worker")
		p.next(t, "ok 1")
		other.ask(t, "l|held|0 100")
		other.granted(t, "100")
		p.ask(t, "1 l|k|0 5", "2 l|held|- 7")
		p.token(t, 1)
		p.next(t, "0 lost k")
		p.next(t, "2 error_lease_expired")
		time.Sleep(time.Second)
		if !log.says("lease expired", "key=k", "name=web-3/4711/worker") || !log.says("given up", "key=held", "name=web-3/4711/worker") {
			t.Errorf("the log is %s", &log.text)
		}
	})
}
