package locker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// A Ticket is a place in the queue for a key, to be waited for later: enqueue,
// tell somebody, wait. A turn that comes before Wait is not renewed, so that a
// ticket that is forgotten blocks nobody for longer than its TTL. It is safe
// for concurrent use. Wait for it or cancel it, once.
type Ticket struct {
	acquirer *Acquirer
	place    Place

	mu     sync.Mutex
	used   bool               // Wait or Cancel was called; guarded by mu
	giveUp context.CancelFunc // ends the Wait under way; guarded by mu
}

// errTicketUsed says that a ticket was waited for, or cancelled, before.
var errTicketUsed = fmt.Errorf("%w: the ticket was used before", ErrNotHeld)

// Enqueue takes a place in the queue, or the lease if it is free. Like Acquire
// it rides out outages until ctx ends. The error matches errors.ErrUnsupported
// if the backend has no places.
func (a *Acquirer) Enqueue(ctx context.Context) (*Ticket, error) {
	q, ok := a.settings.client.backend.(Queuer)
	if !ok {
		return nil, a.Error("enqueue", errors.ErrUnsupported)
	}
	ctx, cancel := a.Bound(ctx)
	defer cancel()
	p := a.patience("enqueue", outage)
	err := a.usable(ctx)
	for err == nil {
		var place Place
		if place, err = q.Enqueue(ctx, a.req); err == nil {
			return &Ticket{acquirer: a, place: place}, nil
		}
		err = p.bear(ctx, err)
	}
	return nil, a.fail(p.op, p.began, err)
}

// Acquired says whether Enqueue got the lease at once. Wait collects it then
// too.
func (t *Ticket) Acquired() bool { return t.place.Acquired() }

// Wait waits for the turn, as Acquire does, and returns the lease. If the place
// was lost, because its turn passed uncollected or because the connection that
// it depended on closed, Wait queues again at the end. When it returns an error
// the place is gone. A second Wait, and one after Cancel, returns an error that
// matches ErrNotHeld.
func (t *Ticket) Wait(ctx context.Context) (*Lease, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if !t.use(cancel) {
		return nil, t.acquirer.Error("wait", errTicketUsed)
	}
	a := t.acquirer
	ctx, stop := a.Bound(ctx)
	defer stop()
	p := a.patience("wait", outage)
	err := a.usable(ctx)
	if err != nil { // it ended before it began
		t.cancelling(func(error) {})
	}
	for collect := t.collect; err == nil; collect = a.again {
		var l *Lease
		if l, err = collect(ctx, p.began); err == nil {
			return l, nil
		}
		err = p.bear(ctx, err)
	}
	return nil, a.fail(p.op, p.began, err)
}

// collect waits for the place.
func (t *Ticket) collect(ctx context.Context, began time.Duration) (*Lease, error) {
	a := t.acquirer
	stamp := a.settings.clock()
	g, err := t.place.Wait(ctx)
	switch {
	case err == nil:
		return a.settle(ctx, g, stamp, began)
	case errors.Is(err, ErrPlaceExpired):
		return a.again(ctx, began)
	}
	return nil, err
}

// again queues at the end, after a place was lost.
func (a *Acquirer) again(ctx context.Context, began time.Duration) (*Lease, error) {
	return a.once(ctx, a.req, a.settings.clock(), began)
}

// Cancel gives up the place, or the lease that it became, and ends a Wait under
// way. It is idempotent and does nothing once Wait has returned. Ctx bounds how
// long the caller waits for the answer, not the cancelling.
func (t *Ticket) Cancel(ctx context.Context) error {
	if !t.use(nil) {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.giveUp != nil {
			t.giveUp()
		}
		return nil
	}
	done := make(chan error, 1)
	t.cancelling(func(err error) { done <- err })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return t.acquirer.Error("cancel", ended(ctx))
	}
}

// cancelling gives the place up in the background, and tells f how that went.
func (t *Ticket) cancelling(f func(error)) {
	run := func() { f(t.cancel()) }
	if !t.acquirer.settings.client.background(run) {
		run() // the Client is closing
	}
}

// cancel gives the place up within a second.
func (t *Ticket) cancel() error {
	ctx, cancel := context.WithTimeout(t.acquirer.settings.client.afterlife, releaseTimeout)
	defer cancel()
	if err := t.place.Cancel(ctx); err != nil {
		return t.acquirer.Error("cancel", err)
	}
	return nil
}

// use marks the ticket as used; it returns false if it was before.
func (t *Ticket) use(giveUp context.CancelFunc) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.used {
		return false
	}
	t.used, t.giveUp = true, giveUp
	return true
}
