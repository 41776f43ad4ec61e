package locker

import (
	"math"
	"time"
)

const (
	// driftDivisor takes 1 % off a lease for clocks that run at different
	// rates: twenty times what the kernel's clock discipline may slew.
	driftDivisor = 100

	// quantum is taken off a lease too, for the resolution of clocks.
	quantum = 2 * time.Millisecond

	// defaultRenewRatio of the TTL passes before a lease is renewed first.
	defaultRenewRatio = 1.0 / 3

	// attemptDivisor of the TTL is how long one attempt to renew may take.
	// With a first attempt at a third this leaves room for four before the
	// deadline.
	attemptDivisor = 6

	// stopDivisor of the TTL is the default margin between the stop instant
	// and the deadline.
	stopDivisor = 6

	// jitterFraction of the time to the first renewal is taken off at random,
	// never added: a late renewal is the only kind that hurts.
	jitterFraction = 0.07

	// beatFraction of the time to the first renewal is the grid that renewals
	// start on, so that those of many leases go in one call. A lease may come
	// forward by that much more.
	beatFraction = 0.03

	// never is an instant that does not come, endless the last one that does.
	never   = time.Duration(math.MaxInt64)
	endless = never - 1
)

// deadlineOf is the instant until which a holder may believe in a lease that
// was asked for at stamp.
func deadlineOf(stamp, ttl time.Duration) time.Duration {
	return later(stamp, ttl-ttl/driftDivisor-quantum)
}

// later is the instant d after t, or endless where the sum does not fit: a
// lease for as long as a duration can say must not have ended before it began.
func later(t, d time.Duration) time.Duration {
	if d > endless-t {
		return endless
	}
	return t + d
}

// grantedTTL is the lease that both sides agree on: never more than was asked
// for (0 asks for the backend's default), never more than was answered.
func grantedTTL(asked, answered time.Duration) time.Duration {
	if asked > 0 && asked < answered {
		return asked
	}
	return answered
}

// A due is what a hold needs at an instant.
type due uint8

const (
	dueNothing due = iota
	dueRenewal
	dueStop // cancel the contexts
	dueEnd  // the deadline has passed
)

// Terms are what options say of every hold of an acquirer. They are kept apart
// from the holds, of which there may be a hundred thousand.
type terms struct {
	margin  time.Duration // from the stop instant to the deadline; 0 for the default
	maxHold time.Duration // from the first stamp to the last deadline; 0 if unlimited
	ratio   float64       // of the lease passes before it is renewed first
}

// A hold is what a client knows of one lease in time. It is a pure state
// machine: its methods take the instant and touch nothing but the hold, so
// that the rules can be tested, searched and simulated without a clock.
// Instants are readings of the Client's clock. What only those have that the
// Client renews is in upkeep, because a program may have a million holds.
type hold struct {
	since    time.Duration // the stamp that the hold began with
	granted  time.Duration // the lease that was answered last
	deadline time.Duration // belief ends here
	state    leaseState
	stopped  bool // the stop instant of this deadline was announced
}

// newHold starts a hold that was asked for at stamp, and granted.
func newHold(stamp, granted time.Duration, t *terms) hold {
	h := hold{since: stamp}
	h.extend(stamp, granted, t)
	return h
}

// extend makes the hold count from stamp. If it is granted less than before the
// deadline moves back, as the server's own did: to keep the old one would be to
// believe in what the next holder may have already.
func (h *hold) extend(stamp, granted time.Duration, t *terms) {
	h.granted = granted
	h.deadline = min(deadlineOf(stamp, granted), h.limit(t))
	h.stopped = false
}

// grows says whether a lease that counts from since moves the deadline on.
func (h *hold) grows(since time.Duration, t *terms) bool {
	return min(deadlineOf(since, h.granted), h.limit(t)) > h.deadline
}

// attempt is how long one attempt to renew may take.
func (h *hold) attempt() time.Duration { return h.granted / attemptDivisor }

// margin is the time from the stop instant to the deadline.
func (h *hold) margin(t *terms) time.Duration {
	if t.margin == 0 {
		return h.granted / stopDivisor
	}
	return min(t.margin, h.granted/2)
}

// stopAt is the instant at which work should end; never once that was announced.
func (h *hold) stopAt(t *terms) time.Duration {
	if h.stopped {
		return never
	}
	return h.deadline - h.margin(t)
}

// limit is the instant at which the longest hold is over; never if unlimited.
func (h *hold) limit(t *terms) time.Duration {
	if t.maxHold == 0 {
		return never
	}
	return later(h.since, t.maxHold)
}

// limited says whether the hold ends, or ended, because of its limit rather
// than for want of a renewal.
func (h *hold) limited(t *terms) bool { return h.deadline >= h.limit(t) }

// over says whether the stop instant has come.
func (h *hold) over(now time.Duration, t *terms) bool { return h.stopped || now >= h.stopAt(t) }

// due says what the hold needs now, the most urgent first, where the next
// renewal starts at renewAt.
func (h *hold) due(now, renewAt time.Duration, t *terms) due {
	switch {
	case now >= h.deadline:
		return dueEnd
	case now >= h.stopAt(t):
		return dueStop
	case now >= renewAt:
		return dueRenewal
	}
	return dueNothing
}

// next is the instant at which due will say something else.
func (h *hold) next(renewAt time.Duration, t *terms) time.Duration {
	return min(renewAt, h.stopAt(t), h.deadline)
}
