package dflockd

import (
	"testing"
	"time"

	"github.com/distributed-go/distributed/internal/session"
)

// A connection that is cut soon after it was made, again and again, costs no
// lease, however short: the pauses stay below what is left of it.
func TestCutAgainAndAgain(t *testing.T) {
	for _, ttl := range []time.Duration{300 * time.Millisecond, time.Second, 10 * time.Second} {
		sessionBubble(t, func(s *sessions) {
			b := s.backend()
			req := lock("k")
			req.TTL = ttl
			g := mustAcquire(t, b, req)
			told := s.bind(g)
			x := b.servers[0].talk.Load()
			over := func() bool { return session.Deadline(g.Kept.Since(), ttl) <= b.clock() }
			cuts := 0
			for ; cuts < 20 && !over(); cuts++ {
				x.cutForTest()
				for !x.upForTest() && !over() {
					time.Sleep(time.Millisecond)
				}
				time.Sleep(ttl / 20)
			}
			if over() {
				t.Errorf("TTL %v: over at cut %d", ttl, cuts)
			}
			if lost := told.told(); len(lost) > 0 {
				t.Errorf("TTL %v: lost: %v", ttl, lost)
			}
			mustRelease(t, b, hold("k", g))
		})
	}
}

// upForTest says whether requests are sent at once.
func (x *conversation) upForTest() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.client.Up()
}

// Pauses grow up to half of the time from beat to beat, and are not all the
// same: clients that were cut off together are not to come back together.
func TestPauses(t *testing.T) {
	for _, c := range []struct{ ttl, most time.Duration }{
		{300 * time.Millisecond, 50 * time.Millisecond},
		{time.Second, time.Second / 6},
		{time.Minute, time.Second},
	} {
		sessionBubble(t, func(s *sessions) {
			b := s.backend()
			req := lock("k")
			req.TTL = c.ttl
			g := mustAcquire(t, b, req)
			x, pauses := b.servers[0].talk.Load(), newPauses()
			seen := make(map[time.Duration]bool)
			var longest time.Duration
			for range 40 {
				pause := x.pause(pauses)
				seen[pause], longest = true, max(longest, pause)
			}
			if longest > c.most || longest < c.most/2 || len(seen) < 20 {
				t.Errorf("TTL %v: %d different pauses up to %v, want them up to %v", c.ttl, len(seen), longest, c.most)
			}
			mustRelease(t, b, hold("k", g))
		})
	}
}
