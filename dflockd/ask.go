package dflockd

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/internal/session"
	"github.com/distributed-go/distributed/locker"
)

// An ask is a call of session mode, and somebody who waits for its end. Asks
// are used again, as the calls of the base protocol are: a fresh one with its
// channel for each request costs 0.75 µs.
type ask struct {
	call session.Call  // its Tag is the ask
	done chan struct{} // capacity 1; one signal for each ask whose caller has stayed

	// Guarded by the mutex of the conversation until the call is done, and
	// then the caller's.
	own    bool   // not to be used again by others: a place refers to it
	left   bool   // nobody waits for the end
	number uint64 // of the link that it was sent over; 0 if there was none
	moved  bool   // it was answered over another link
	err    error  // why it was taken back without its caller
	next   *ask   // among those to be woken

	until         time.Duration // when its caller gives it up, one of limits; 0 if it is none
	before, after *ask          // of limits
	overdue       bool          // its caller was woken then
	stamp         time.Duration // an instant before it was asked, or 0
}

// newAsk returns an ask for the request.
func (b *Backend) newAsk(command codec.Command, kind locker.Kind, key string) *ask {
	a := b.blankAsk()
	a.call.Ask(command, kind == locker.Counting, key)
	return a
}

// blankAsk returns an ask for a request that is still to be set, all of it. They
// are the backend's and not the program's, because a channel made in a synctest
// bubble must not leave it.
func (b *Backend) blankAsk() *ask {
	a, ok := b.asks.Get().(*ask)
	if !ok {
		a = &ask{done: make(chan struct{}, 1)}
		a.call.Tag = a
	}
	return a
}

// wants makes the ask one for a lease.
func (a *ask) wants(req *locker.Request, g *grant) {
	r := &a.call.Request
	r.NoTimeout, r.TTL = !req.Try, req.TTL
	if r.Semaphore {
		r.Limit, r.Weight = req.Limit, req.Weight
	}
	if req.Fences > 1 {
		r.Fences = req.Fences
	}
	a.stamp = req.Stamp
	if g != nil {
		a.call.Hold = &g.Hold
	}
}

// bound tells the server when the wait of ctx ends, or rather a fiftieth of it
// before, and 20 ms at most: so that who held the key can be said when it ends.
func (a *ask) bound(ctx context.Context) {
	deadline, ok := ctx.Deadline()
	if !ok || !a.call.Request.NoTimeout {
		return
	}
	wait := time.Until(deadline)
	if early := min(wait/50, 20*time.Millisecond); early >= time.Millisecond {
		a.call.Request.NoTimeout, a.call.Request.Timeout = false, wait-early
	}
}

// awaited concludes a wait that the server ended: it is not over before ctx is.
func awaited(ctx context.Context, err error) error {
	<-ctx.Done()
	if held := new(locker.HeldError); errors.As(err, &held) {
		return err
	}
	return context.Cause(ctx)
}

// recycle puts back an ask that nobody else refers to.
func (b *Backend) recycle(a *ask) {
	if a.own {
		return
	}
	c := &a.call
	c.Hold, c.Ticket, c.JSON, c.Holder, c.Value = nil, nil, nil, "", nil
	c.Request.Value = nil
	a.left, a.overdue, a.moved, a.number, a.err, a.next, a.stamp = false, false, false, 0, nil, nil, 0
	b.asks.Put(a)
}

// retractable says whether a caller who leaves takes the ask back. What ends or
// confirms a hold goes on.
func (a *ask) retractable() bool {
	switch a.call.Request.Command {
	case codec.Lock, codec.Wait, codec.Enqueue, codec.Join:
		return true
	}
	return false
}

// lasts returns for how long the ask is worth keeping while there is no
// connection: the server keeps places and leases for as long as their TTL.
// Whoever wanted an answer at once does not want to wait for one.
func (a *ask) lasts() time.Duration {
	ttl := a.call.Request.TTL
	switch a.call.Request.Command {
	case codec.Release:
		ttl = a.call.Hold.TTL()
	case codec.Lock, codec.Join:
		if r := &a.call.Request; !r.NoTimeout && r.Timeout == 0 {
			return 0
		}
	case codec.Stats, codec.Force:
		return 0
	case codec.Bye:
		return math.MaxInt64 // who says it has a limit of its own
	}
	if ttl <= 0 {
		return defaultTTL
	}
	return ttl
}

// defaultTTL is the lease that servers grant to who asks for none, unless they
// were told otherwise.
const defaultTTL = 33 * time.Second

// do makes a call and waits for its end, and then the answer is in a. The error
// says that there is none, and that a is not the caller's any more.
func (x *conversation) do(ctx context.Context, a *ask) error {
	now, err := x.ready(ctx, a.stamp)
	if err != nil {
		x.srv.b.recycle(a)
		return err
	}
	x.sentLocked(a)
	x.client.Do(now, &a.call)
	x.leave(now)
	return x.wait(ctx, a)
}

// put is do for what does not depend on whether there is a link just now.
func (x *conversation) put(ctx context.Context, a *ask) error {
	now := x.clock()
	x.mu.Lock()
	x.sentLocked(a)
	x.client.Do(now, &a.call)
	x.leave(now)
	return x.wait(ctx, a)
}

// sentLocked notes over which link a call is about to be sent.
func (x *conversation) sentLocked(a *ask) {
	if x.client.Up() {
		a.number = x.link.number
	}
}

// wait waits for the end of a call, or of ctx: then the call is taken back.
func (x *conversation) wait(ctx context.Context, a *ask) error {
	done := ctx.Done()
	if done == nil {
		<-a.done
		return nil
	}
	select {
	case <-a.done:
		return nil
	case <-done:
	}
	answers := x.answers(ctx, a)
	if !x.abandon(a) {
		<-a.done
		return nil
	}
	if !answers {
		return fmt.Errorf("%w: no answer from %v: %w", locker.ErrUnavailable, x.srv.addr, context.Cause(ctx))
	}
	return context.Cause(ctx)
}

// lateAnswer is how long after the end of a wait its answer is waited for, which
// the server was to give before. It is for busy machines.
const lateAnswer = 100 * time.Millisecond

// answers says whether the server is there, as far as one can tell at the end of
// ctx: a wait must not look as if somebody held the key when nobody answers. Who
// was told how long to wait should have said by now that the wait is over; of
// another, that there is a link must do.
func (x *conversation) answers(ctx context.Context, a *ask) bool {
	if a.call.Request.Timeout > 0 && errors.Is(ctx.Err(), context.DeadlineExceeded) {
		t := time.NewTimer(lateAnswer)
		defer t.Stop()
		select {
		case <-a.done:
			a.done <- struct{}{} // for wait
			return true
		case <-t.C:
			return false
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.client.Up()
}

// abandon leaves a call to itself. It returns false if the call has ended.
func (x *conversation) abandon(a *ask) bool {
	now := x.clock()
	x.mu.Lock()
	if a.call.Done() {
		x.mu.Unlock()
		return false
	}
	a.left = true
	if a.retractable() {
		x.client.Cancel(now, &a.call)
	}
	x.leave(now)
	return true
}
