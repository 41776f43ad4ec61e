package locker

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"math/rand/v2"
	"time"
)

// A class is of leases that are renewed together. A batch may take a sixth of
// its shortest TTL. It must not hold up a lease that is much shorter than its
// own, so classes are quarters of a binary order of magnitude, nor for long one
// whose server answers, so leases that wait for a second attempt are apart.
type class int

// again is what the class of a lease grows by with the first attempt.
const again class = 64 * 4

// classOf returns the class of a lease that is granted for more than nothing,
// after so many attempts to renew it.
func classOf(granted time.Duration, attempts uint8) class {
	magnitude := bits.Len64(uint64(granted))
	quarter := uint64(granted) << (64 - magnitude) << 1 >> 62
	c := class(magnitude-1)<<2 | class(quarter)
	if attempts > 0 {
		c += again
	}
	return c
}

// A renewer renews the leases of one class, a batch at a time.
type renewer struct {
	due  []*upkeep // to go with the next batch
	busy bool      // a goroutine works for this class
}

// A renewal is a batch under way.
type renewal struct{ done chan struct{} }

// enqueueLocked puts a lease into its class's next batch, and starts the
// class's goroutine if it is not at work.
func (k *keeper) enqueueLocked(u *upkeep) {
	c := classOf(u.lease.granted, u.attempts)
	r := k.renewers[c]
	if r == nil {
		r = new(renewer)
		k.renewers[c] = r
	}
	r.due = append(r.due, u)
	if !r.busy {
		r.busy = k.client.background(func() { k.renew(c) })
	}
}

// renew renews the leases of a class until none is due.
func (k *keeper) renew(c class) {
	for b, ok := k.batch(c); ok; b, ok = k.batch(c) {
		k.send(b)
	}
}

// A batch is one call of Backend.Renew.
type batch struct {
	upkeeps  []*upkeep
	renewals []Renewal
	stamp    time.Duration
	timeout  time.Duration // of the shortest lease's attempt
	renewal  *renewal
}

func (k *keeper) newBatch() batch {
	return batch{stamp: k.clock(), timeout: never, renewal: &renewal{done: make(chan struct{})}}
}

// batch takes what is due in a class, or puts its goroutine to rest.
func (k *keeper) batch(c class) (batch, bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := k.renewers[c]
	b := k.newBatch()
	for _, u := range r.due {
		b.addLocked(u)
	}
	r.due = nil
	r.busy = len(b.upkeeps) > 0
	return b, r.busy
}

// addLocked puts a renewal into the batch, unless the lease is not held any more
// or being renewed by Lease.Renew.
func (b *batch) addLocked(u *upkeep) {
	l := u.lease
	if l.state != held || u.renewal != nil {
		return
	}
	u.attempts = max(u.attempts, u.attempts+1)
	u.renewal = b.renewal
	b.upkeeps = append(b.upkeeps, u)
	b.renewals = append(b.renewals, Renewal{Hold: l.handle(), TTL: u.ttl, Attempt: int(u.attempts)})
	b.timeout = min(b.timeout, l.attempt())
}

// send renews a batch and applies the outcome.
func (k *keeper) send(b batch) {
	ctx, cancel := context.WithTimeout(k.client.life, b.timeout)
	k.client.backend.Renew(ctx, b.renewals)
	if ctx.Err() != nil {
		b.unanswered()
	}
	cancel()
	noticeSleep()

	var after aftermath
	defer after.run()
	k.mu.Lock()
	defer k.mu.Unlock()
	defer close(b.renewal.done)
	now := k.clock()
	for i, u := range b.upkeeps {
		k.applyLocked(u, &b.renewals[i], b.stamp, now, &after)
	}
	k.wakeLocked(k.agenda.next())
}

// unanswered marks the renewals of which the backend said nothing when their
// time was over, so that they are not taken for answers.
func (b *batch) unanswered() {
	for i := range b.renewals {
		if r := &b.renewals[i]; r.Err == nil && r.Granted == 0 {
			r.Err = fmt.Errorf("%w: no answer within %v", ErrUnavailable, b.timeout)
		}
	}
}

// applyLocked applies the outcome of one renewal.
func (k *keeper) applyLocked(u *upkeep, r *Renewal, stamp, now time.Duration, after *aftermath) {
	l := u.lease // it may have been handed over meanwhile
	u.renewal = nil
	if f := l.acquirer.settings.trace.Renewed; f != nil {
		info := RenewedInfo{Key: l.Key(), Attempt: r.Attempt, Took: now - stamp, Err: r.Err}
		after.add(func() { f(info) })
	}
	if u.returns {
		g := giveBack{lease: l, until: l.deadline}
		after.add(func() { k.client.returner.add(g) })
	}
	if l.state != held {
		return
	}
	switch {
	case now >= l.deadline:
		// Nobody has noticed yet that belief ended, after a pause, say, but
		// somebody may have asked for the deadline: it does not move again.
		k.loseLocked(l, nil, after)
		return
	case r.Err == nil && r.Granted <= 0:
		k.loseLocked(l, fmt.Errorf("%w: renewed for %v", ErrLost, r.Granted), after)
		return
	case errors.Is(r.Err, ErrLost):
		k.loseLocked(l, r.Err, after)
		return
	}
	k.agenda.remove(l)
	if r.Err == nil {
		u.renewed(&l.hold, stamp, grantedTTL(r.TTL, r.Granted), l.terms(), rand.Float64())
	} else {
		u.retry(&l.hold, stamp, now)
	}
	k.agenda.put(l)
}
