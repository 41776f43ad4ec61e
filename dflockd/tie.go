package dflockd

import (
	"sync/atomic"
	"time"

	"github.com/distributed-go/distributed/locker"
)

// A tie is what binds holds to the connection that they were granted on, and
// what the Ref of their locker.Session refers to. The shared connection has
// one for its whole life. A connection for waits has a new one for each use,
// so that a hold of an earlier use never touches a later one.
//
// It knows how many holds there are and until when, but none of them: 10,000
// leases must not cost 10,000 entries here.
type tie struct {
	c *conn

	// count is raised by grants and lowered by releases that the server
	// confirmed, which it does once for each token. Leases that run out
	// instead leave it too high; until bounds that.
	count atomic.Int64
	// until is the tick at which the last of the leases has surely run out.
	until atomic.Int64

	over atomic.Bool // the use has ended; the holds, if any, depend on nothing any more
}

// granted notes a lease, or its renewal, that the server answered just now.
// Its clock started before, so that the lease runs out before until.
func (t *tie) extended(ttl time.Duration) {
	b := t.c.srv.b
	until := b.ticks.Load() + b.cfg.ticks(min(ttl, 1<<62)) + 1
	for {
		old := t.until.Load()
		if until <= old || t.until.CompareAndSwap(old, until) {
			return
		}
	}
}

func (t *tie) granted(ttl time.Duration) {
	t.extended(ttl)
	t.count.Add(1)
}

// holds says whether anything may depend on the tie.
func (t *tie) holds() bool {
	return t.count.Load() > 0 && t.c.srv.b.ticks.Load() <= t.until.Load()
}

// finish ends the use; it returns true to the one caller who ended it.
func (t *tie) finish() bool { return t.over.CompareAndSwap(false, true) }

// tieOf returns the tie that a hold depends on, and nil if there is none or
// its use has ended.
func tieOf(s *locker.Session) *tie {
	if s == nil {
		return nil
	}
	t, ok := s.Ref().(*tie)
	if !ok || t.over.Load() {
		return nil
	}
	return t
}
