package locker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// A giveBack is a hold to be released in the background until an instant.
type giveBack struct {
	lease *Lease
	until time.Duration
	err   error // what the last attempt failed with; nil before the first
}

// A returner gives holds back in the background, each again and again until
// that is answered, its lease has run out, or the Client is closed. A few
// goroutines work for all of them, and only while there is something to do: in
// an outage, a hundred thousand leases with a goroutine each would cost more
// than they did while they were held, and storm the server when it is back.
type returner struct {
	client *Client

	mu      sync.Mutex
	fresh   []giveBack // not tried yet, which go first: their server may be another one; guarded by mu
	again   []giveBack // guarded by mu
	workers int        // guarded by mu
}

// add gives a hold back. It returns at once, unless the Client is closing; then
// what is left of its afterlife bounds it.
func (r *returner) add(g giveBack) {
	r.mu.Lock()
	r.fresh = append(r.fresh, g)
	start := r.workers < releasers
	if start {
		r.workers++
	}
	r.mu.Unlock()
	if start && !r.client.background(r.work) {
		r.work()
	}
}

// work gives back what there is, with a pause after each failure.
func (r *returner) work() {
	pauses := newPauses()
	for g, ok := r.next(); ok; g, ok = r.next() {
		if r.try(&g) {
			pauses.Reset()
			continue
		}
		r.pause(pauses)
		r.mu.Lock()
		r.again = append(r.again, g)
		r.mu.Unlock()
	}
}

// next takes what is to be tried next, or the worker off duty.
func (r *returner) next() (g giveBack, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, q := range []*[]giveBack{&r.fresh, &r.again} {
		if len(*q) > 0 {
			g, (*q)[0] = (*q)[0], giveBack{}
			*q = (*q)[1:]
			return g, true
		}
	}
	r.workers--
	return g, false
}

// try sends one release. It returns false if another should follow. "Not held"
// is an answer too: that of an earlier attempt may have been lost.
func (r *returner) try(g *giveBack) (done bool) {
	if g.lease.upkeep() == nil {
		r.tell(g.lease)
		return true
	}
	left := g.until - g.lease.keeper().clock()
	if left <= 0 || r.client.afterlife.Err() != nil {
		if g.err == nil {
			g.err = ErrUnavailable
		}
		g.lease.released(fmt.Errorf("not confirmed in time: %w", g.err))
		return true
	}
	ctx, cancel := context.WithTimeout(r.client.afterlife, min(releaseTimeout, left))
	defer cancel()
	err := r.client.backend.Release(ctx, g.lease.handle())
	switch {
	case err == nil || errors.Is(err, ErrNotHeld):
		g.lease.released(nil)
	case ctx.Err() == nil && !mayPass(err):
		g.lease.released(err)
	default:
		g.err = err
		return false
	}
	return true
}

// tell sends the one release of a hold that the backend keeps. For its answer
// there is time only if nothing else is to be released.
func (r *returner) tell(l *Lease) {
	r.mu.Lock()
	patience := releaseTimeout
	if len(r.fresh) > 0 {
		patience = 0
	}
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(r.client.afterlife, patience)
	defer cancel()
	err := r.client.backend.Release(ctx, l.handle())
	if errors.Is(err, ErrNotHeld) {
		err = nil
	}
	l.released(err)
}

// pause waits before the next attempt, unless the Client's afterlife ends.
func (r *returner) pause(pauses backoff.BackOff) {
	t := time.NewTimer(pauses.NextBackOff())
	defer t.Stop()
	select {
	case <-t.C:
	case <-r.client.afterlife.Done():
	}
}
