package lockertest

import (
	"errors"
	"time"

	"github.com/distributed-go/distributed/locker"
)

// handOver: a hold that took several fences goes on from one holder to the next,
// each with its own, lives on as one, and leaves the key to a larger one.
func handOver(e *env) {
	c, other := e.client(), e.client()
	r := e.lock("k")
	r.Fences = 3
	a, err := c.Acquirer(r)
	e.ok(err)
	l, err := a.Acquire(e.ctx)
	if !e.HandOver && errors.Is(err, errors.ErrUnsupported) {
		return
	}
	e.ok(err)
	last, _ := l.Fence()
	for range 2 {
		time.Sleep(e.TTL * 3 / 4) // the two must outlive the first TTL
		next, err := l.HandOver()
		e.ok(err)
		if f, ok := next.Fence(); ok != e.Fences || ok && f != last+1 {
			e.Fatalf("fence %d, %v after %d", f, ok, last)
		}
		e.is(l.Check(), locker.ErrNotHeld, "Check of a lease that was handed over")
		e.ok(l.Release(e.ctx))
		e.ok(next.Renew(e.ctx))
		e.ok(next.Check())
		_, err = other.TryAcquire(e.ctx, "k")
		e.is(err, locker.ErrLocked, "a try at a key that was handed over within a process")
		l = next
		last, _ = l.Fence()
	}
	if e.Fences {
		_, err = l.HandOver()
		e.is(err, locker.ErrNoFence, "the third time of two")
	}
	e.ok(l.Check())
	e.release(l)
	l = e.acquire(other, "k")
	if f, ok := l.Fence(); ok && f <= last {
		e.Errorf("fence %d after %d, which was given away within a process", f, last)
	}
	e.release(l)
}

// force: who holds the key loses it and hears why, the next gets it and a larger
// fence, and a key that nobody holds is left alone.
func force(e *env) {
	c := e.client()
	_, able := c.Backend().(locker.Forcer)
	n, err := c.Force(e.ctx, locker.Exclusive, "k")
	if !e.Force && errors.Is(err, errors.ErrUnsupported) {
		return
	}
	e.ok(err)
	if !able || n != 0 {
		e.Fatalf("Forcer: %v; ended %d leases of a key that nobody holds", able, n)
	}
	holder := e.client()
	l := e.acquire(holder, "k")
	f, _ := l.Fence()
	lost := l.Lost()
	next := make(chan *locker.Lease)
	go func() {
		l, err := c.Acquire(e.ctx, "k")
		if err != nil {
			e.Error(err)
		}
		next <- l
	}()
	e.eventually(func() bool { return e.counts(1, 1) }, "one holds and one waits")
	n, err = c.Force(e.ctx, locker.Exclusive, "k")
	e.ok(err)
	if n != 1 {
		e.Errorf("ended %d leases, want 1", n)
	}
	e.closes(lost, "Lost after a force")
	e.is(l.Check(), locker.ErrLost, "Check after a force")
	if e.Force {
		e.is(l.Err(), locker.ErrRevoked, "Err after a force")
	}
	e.is(l.Release(e.ctx), locker.ErrLost, "Release after a force")
	l = <-next
	if l == nil {
		return
	}
	if g, ok := l.Fence(); ok && g <= f {
		e.Errorf("fence %d after %d, whose holder was revoked", g, f)
	}
	e.ok(l.Check())
	e.release(l)
}

// forceMany: all who share a semaphore lose it.
func forceMany(e *env) {
	c := e.client()
	if !e.Force || !e.Semaphores {
		return // force has tested what there is
	}
	a := e.acquirer(c, "s", 3, 1)
	var leases []*locker.Lease
	for range 3 {
		l, err := a.Acquire(e.ctx)
		e.ok(err)
		leases = append(leases, l)
	}
	lock := e.acquire(c, "s")
	n, err := e.client().Force(e.ctx, locker.Counting, "s")
	e.ok(err)
	if n != len(leases) {
		e.Errorf("ended %d leases, want %d", n, len(leases))
	}
	for _, l := range leases {
		e.closes(l.Lost(), "Lost after a force")
		e.is(l.Err(), locker.ErrRevoked, "Err after a force")
	}
	e.ok(lock.Check())
	e.release(lock)
}

// heldError: a try that fails says who holds the key, and for how long.
func heldError(e *env) {
	l := e.acquire(e.client(), "k")
	time.Sleep(e.TTL / 4)
	_, err := e.client().TryAcquire(e.ctx, "k")
	e.is(err, locker.ErrLocked, "a try at a held key")
	var h *locker.HeldError
	if errors.As(err, &h) {
		if h.For < e.TTL/5 || h.For > l.Held()+time.Second {
			e.Errorf("held for %v, says %v; the holder thinks %v", h.For, h, l.Held())
		}
	} else if e.Holders {
		e.Errorf("%v does not say who holds the key", err)
	}
	e.release(l)
}

// releaseInAFreeze: with a server that is silent a release without a deadline
// ends with the lease at the latest.
func releaseInAFreeze(e *env) {
	l := e.acquire(e.client(), "k")
	e.Freeze()
	defer e.Thaw()
	began := time.Now()
	err := l.Release(e.ctx)
	e.is(err, locker.ErrUnavailable, "a release that was not answered")
	if took := time.Since(began); took > e.TTL+e.TTL/2 {
		e.Errorf("it took %v; the TTL is %v", took, e.TTL)
	}
	e.is(l.Check(), locker.ErrNotHeld, "Check after it")
}
