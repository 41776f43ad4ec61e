package locker

import (
	"context"
	"time"
)

// MaxFences is the most that Request.Fences may ask for.
const MaxFences = 1 << 20

// HandOver passes the hold on to somebody else in this process, without a word
// to the backend. The lease ends as if it had been released; the one returned is
// the same hold, with the next of the fences that Request.Fences asked for, and
// lasts from where the other would have: its TTL does not start anew, and
// WithMaxHold and Held count from the first of the line. Traces hear of the last
// of the line only.
//
// The error matches ErrNoFence when the fences are used up, and the lease is held
// on then: release it. A lease without a fence can be handed over as often as one
// likes. The error matches ErrLost or ErrNotHeld if there is no hold to pass on.
func (l *Lease) HandOver() (*Lease, error) {
	now := l.keeper().wary() // who is handed the lease has not looked, and trusts that somebody has
	heir := &Lease{acquirer: l.acquirer, tie: l.tie, token: l.token}
	if l.fence != 0 {
		heir.fence, heir.spare = l.fence+1, l.spare-1
	}
	stop, err := l.passOn(now, heir)
	if err != nil {
		return nil, err
	}
	if stop != nil {
		stop(l.error("check", ErrNotHeld))
	}
	return heir, nil
}

// passOn makes the heir the holder. It returns what ends the work under the
// lease, or nil if there is none.
func (l *Lease) passOn(now time.Duration, heir *Lease) (stop context.CancelCauseFunc, err error) {
	k := l.keeper()
	var after aftermath
	defer after.run()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.expireAtLocked(l, now, &after)
	if l.state != held {
		return nil, l.whyNotLocked()
	}
	if l.fence != 0 && l.spare == 0 {
		return nil, l.error("hand over", ErrNoFence)
	}
	if err := l.tie.Bind((*loser)(heir)); err != nil {
		k.loseLocked(l, err, &after)
		return nil, l.errLocked()
	}
	heir.hold = l.hold
	k.agenda.replace(l, heir)
	l.state = released
	if n := l.notice; n != nil && n.renewing > 0 {
		n.heir = heir
		heir.noticeLocked().renewing = n.renewing
	}
	return l.takeStopLocked(), nil
}
