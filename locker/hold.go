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
	jitterFraction = 0.1

	// never is an instant that does not come.
	never = time.Duration(math.MaxInt64)
)

// deadlineOf is the instant until which a holder may believe in a lease that
// was asked for at stamp.
func deadlineOf(stamp, ttl time.Duration) time.Duration {
	return stamp + ttl - ttl/driftDivisor - quantum
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

// A hold is what a client knows of one lease in time. It is a pure state
// machine: its methods take the instant and touch nothing but the hold, so
// that the rules can be tested, searched and simulated without a clock.
// Instants are readings of the Client's clock.
type hold struct {
	ttl      time.Duration // what is asked for in each renewal
	margin   time.Duration // from the stop instant to the deadline
	deadline time.Duration // belief ends here
	limit    time.Duration // the longest hold ends here; never if unlimited
	renewAt  time.Duration // the next renewal starts here; never while one runs or none is needed
	stopped  bool          // the stop instant of this deadline was announced
}

// newHold starts a hold that was asked for at stamp. Jitter is in [0, 1).
func newHold(stamp, ttl, margin, maxHold time.Duration, ratio, jitter float64) hold {
	h := hold{ttl: ttl, margin: min(margin, ttl/2), limit: never}
	if margin == 0 {
		h.margin = ttl / stopDivisor
	}
	if maxHold > 0 {
		h.limit = stamp + maxHold
	}
	h.renewed(stamp, ttl, ratio, jitter)
	return h
}

// renewed extends the hold by a renewal that was sent at stamp and granted. A
// deadline never moves back: the answer of an older renewal may come last.
func (h *hold) renewed(stamp, granted time.Duration, ratio, jitter float64) {
	if d := min(deadlineOf(stamp, granted), h.limit); d > h.deadline {
		h.deadline = d
		h.stopped = false
	}
	h.renewAt = never
	if h.deadline < h.limit {
		after := ratio * float64(granted) * (1 - jitterFraction*jitter)
		h.renewAt = stamp + time.Duration(after)
	}
}

// renewing notes that a renewal is on its way.
func (h *hold) renewing() { h.renewAt = never }

// retry plans the next attempt after one, begun at stamp, that had no answer by
// now: at once if it used up its time, else after a moment, so that a server
// that refuses connections is not hammered.
func (h *hold) retry(stamp, now time.Duration) {
	h.renewAt = max(now, min(stamp+h.attempt(), now+min(h.ttl/24, time.Second)))
}

// attempt is how long one attempt to renew may take.
func (h *hold) attempt() time.Duration { return h.ttl / attemptDivisor }

// stop is the instant at which work should end.
func (h *hold) stop() time.Duration { return h.deadline - h.margin }

// due says what the hold needs now, the most urgent first.
func (h *hold) due(now time.Duration) due {
	switch {
	case now >= h.deadline:
		return dueEnd
	case !h.stopped && now >= h.stop():
		return dueStop
	case now >= h.renewAt:
		return dueRenewal
	}
	return dueNothing
}

// next is the instant at which due will say something else.
func (h *hold) next() time.Duration {
	n := min(h.renewAt, h.deadline)
	if !h.stopped {
		n = min(n, h.stop())
	}
	return n
}

// limited says whether the hold ends, or ended, because of its limit rather
// than for want of a renewal.
func (h *hold) limited() bool { return h.deadline >= h.limit }
