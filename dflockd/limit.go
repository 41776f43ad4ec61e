package dflockd

import (
	"context"
	"math"
	"time"
)

// Limits are the asks whose callers wait until an instant of their own and have no
// context, so that one timer does for all: with one for each, which is set and
// stopped and selected on, a release cost a tenth more. They are guarded by the
// mutex of the conversation; the zero value has none.
type limits struct {
	first, last *ask
	timer       *time.Timer   // nil before the first of all
	at          time.Duration // when it fires; anything if it is idle
	armed       bool
}

// limitLocked makes the ask one that is waited for until an instant.
func (x *conversation) limitLocked(a *ask, now, until time.Duration) {
	s := &x.limits
	a.until, a.before = until, s.last
	if s.last == nil {
		s.first = a
	} else {
		s.last.after = a
	}
	s.last = a
	if !s.armed || until < s.at {
		x.armLocked(now, until)
	}
}

// armLocked has the timer fire at an instant. It stays set when the ask is
// answered in time, as nearly all are, and then finds nothing, or the next.
func (x *conversation) armLocked(now, at time.Duration) {
	s := &x.limits
	s.armed, s.at = true, at
	if s.timer == nil {
		s.timer = time.AfterFunc(at-now, x.overdue)
	} else {
		s.timer.Reset(at - now)
	}
}

// remove takes an ask out, if it is in.
func (s *limits) remove(a *ask) {
	if a.until == 0 {
		return
	}
	if a.before == nil {
		s.first = a.after
	} else {
		a.before.after = a.after
	}
	if a.after == nil {
		s.last = a.before
	} else {
		a.after.before = a.before
	}
	a.until, a.before, a.after = 0, nil, nil
}

// overdue wakes those whose time is over.
func (x *conversation) overdue() {
	now := x.clock()
	next := time.Duration(math.MaxInt64)
	var late *ask
	x.mu.Lock()
	for a := x.limits.first; a != nil; {
		after := a.after
		if a.until > now {
			next = min(next, a.until)
		} else {
			x.limits.remove(a)
			a.overdue, a.next = true, late
			late = a
		}
		a = after
	}
	x.limits.armed = false
	if x.limits.first != nil {
		x.armLocked(now, next)
	}
	x.mu.Unlock()
	for a := late; a != nil; {
		next := a.next
		a.next = nil
		a.done <- struct{}{}
		a = next
	}
}

// waitLimited waits for the end of a call that has a limit. Without an error the
// answer is in a.
func (x *conversation) waitLimited(a *ask) error {
	<-a.done
	if a.overdue && x.abandon(a) {
		return context.DeadlineExceeded
	}
	return nil
}
