package lockertest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/distributed-go/distributed/locker"
)

// try: never waits, and never jumps the queue.
func try(e *env) {
	a, b := e.client(), e.client()
	l, err := a.TryAcquire(e.ctx, "k")
	e.ok(err)
	_, err = b.TryAcquire(e.ctx, "k")
	e.is(err, locker.ErrLocked, "a try at a held key")

	waiter := make(chan *locker.Lease)
	go func() {
		l, err := b.Acquire(e.ctx, "k")
		if err != nil {
			e.Error(err)
		}
		waiter <- l
	}()
	e.eventually(func() bool { return e.counts(1, 1) }, "one waits")
	_, err = a.TryAcquire(e.ctx, "k")
	e.is(err, locker.ErrLocked, "a try at a key that is held and waited for")
	e.release(l)
	if l := <-waiter; l != nil {
		_, err = a.TryAcquire(e.ctx, "k")
		e.is(err, locker.ErrLocked, "a try at a key that was handed over")
		e.release(l)
	}
	l, err = a.TryAcquire(e.ctx, "k")
	e.ok(err)
	e.release(l)
}

// fifo: waiters of several clients are served in the order in which they came.
func fifo(e *env) {
	const waiters = 12
	holder := e.acquire(e.client(), "k")
	clients := []*locker.Client{e.client(), e.client(), e.client()}
	var mu sync.Mutex
	var order []int
	var wg sync.WaitGroup
	for i := range waiters {
		wg.Go(func() {
			l, err := clients[i%len(clients)].Acquire(e.ctx, "k")
			if err != nil {
				e.Error(err)
				return
			}
			mu.Lock()
			order = append(order, i)
			mu.Unlock()
			if err := l.Release(e.ctx); err != nil {
				e.Error(err)
			}
		})
		e.eventually(func() bool { return e.counts(1, i+1) }, fmt.Sprintf("%d wait", i+1))
	}
	e.release(holder)
	wg.Wait()
	if !slices.IsSorted(order) || len(order) != waiters {
		e.Errorf("served in the order %v", order)
	}
}

// waitOver: a wait that ends says so, matches what ended it, and leaves no
// place in the queue behind.
func waitOver(e *env) {
	l := e.acquire(e.client(), "k")
	c := e.client()
	ctx, cancel := context.WithTimeout(e.ctx, e.TTL/10)
	defer cancel()
	_, err := c.Acquire(ctx, "k")
	e.is(err, context.DeadlineExceeded, "a wait whose context ended")
	e.is(err, locker.ErrLocked, "a wait whose context ended")
	e.eventually(func() bool { return e.counts(1, 0) }, "its place is gone")

	patient := e.client(locker.WithWait(e.TTL / 10))
	_, err = patient.Acquire(e.ctx, "k")
	e.is(err, locker.ErrLocked, "a wait that WithWait ended")
	if errors.Is(err, context.DeadlineExceeded) {
		e.Errorf("a wait that WithWait ended blames the context: %v", err)
	}
	e.eventually(func() bool { return e.counts(1, 0) }, "its place is gone, too")
	e.ok(l.Check())
	e.release(l)
}

// twoPhase: enqueue, tell somebody, wait.
func twoPhase(e *env) {
	a, b := e.client(), e.client()
	free, err := a.Enqueue(e.ctx, "k")
	if !e.Queue {
		e.is(err, errors.ErrUnsupported, "enqueue")
		return
	}
	e.ok(err)
	if !free.Acquired() {
		e.Error("the key was free, and the ticket does not say so")
	}
	first, err := free.Wait(e.ctx)
	e.ok(err)
	_, err = free.Wait(e.ctx)
	e.is(err, locker.ErrNotHeld, "a second Wait")

	place, err := b.Enqueue(e.ctx, "k")
	e.ok(err)
	if place.Acquired() {
		e.Error("the key is held, and the ticket says that it was free")
	}
	e.eventually(func() bool { return e.counts(1, 1) }, "the ticket has its place")
	later := make(chan *locker.Lease)
	go func() {
		l, err := a.Acquire(e.ctx, "k")
		if err != nil {
			e.Error(err)
		}
		later <- l
	}()
	e.eventually(func() bool { return e.counts(1, 2) }, "another waits behind the ticket")
	e.release(first)
	second, err := place.Wait(e.ctx)
	e.ok(err)
	e.ok(second.Check())
	select {
	case <-later:
		e.Fatal("two hold the key")
	default:
	}
	e.release(second)
	if l := <-later; l != nil {
		e.release(l)
	}
}

// twoPhaseCancel: a ticket given up leaves neither a place nor a lease.
func twoPhaseCancel(e *env) {
	a, b := e.client(), e.client()
	free, err := a.Enqueue(e.ctx, "k")
	if !e.Queue {
		e.is(err, errors.ErrUnsupported, "enqueue")
		return
	}
	e.ok(err)
	place, err := b.Enqueue(e.ctx, "k")
	e.ok(err)
	e.eventually(func() bool { return e.counts(1, 1) }, "one holds and one waits")
	e.ok(place.Cancel(e.ctx))
	e.eventually(func() bool { return e.counts(1, 0) }, "the place is gone")
	e.ok(free.Cancel(e.ctx))
	e.ok(free.Cancel(e.ctx))
	e.eventually(func() bool { return e.counts(0, 0) }, "the uncollected lease is gone")

	// A ticket whose turn came unnoticed gives back what it got.
	l := e.acquire(a, "k")
	place, err = b.Enqueue(e.ctx, "k")
	e.ok(err)
	e.release(l)
	e.eventually(func() bool { return e.counts(1, 0) }, "the turn came")
	e.ok(place.Cancel(e.ctx))
	e.eventually(func() bool { return e.counts(0, 0) }, "what the turn brought is gone")
	_, err = place.Wait(e.ctx)
	e.is(err, locker.ErrNotHeld, "Wait after Cancel")
}

// twoPhaseExpires: a turn that nobody collects passes with its TTL. The place
// says so, and a Ticket queues again.
func twoPhaseExpires(e *env) {
	b := e.backend()
	q, ok := b.(locker.Queuer)
	if !e.Queue {
		if ok {
			e.Error("the backend is a Queuer, and the harness says that it is not")
		}
		return
	}
	place, err := q.Enqueue(e.ctx, e.lock("k"))
	e.ok(err)
	ticket, err := e.client().Enqueue(e.ctx, "k")
	e.ok(err)
	c := e.client()
	third := e.acquire(c, "k") // after both turns have passed
	_, err = place.Wait(e.ctx)
	e.is(err, locker.ErrPlaceExpired, "Wait for a turn that has passed")
	got := make(chan *locker.Lease)
	go func() {
		l, err := ticket.Wait(e.ctx)
		if err != nil {
			e.Error(err)
		}
		got <- l
	}()
	e.eventually(func() bool { return e.counts(1, 1) }, "the ticket queues again")
	time.Sleep(e.TTL / 10)
	e.ok(third.Check())
	e.release(third)
	if l := <-got; l != nil {
		e.release(l)
	}
}
