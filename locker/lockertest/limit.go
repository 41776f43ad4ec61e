package lockertest

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distributed-go/distributed/locker"
)

// acquirer prepares acquisitions of a semaphore.
func (e *env) acquirer(c *locker.Client, key string, limit, weight int) *locker.Acquirer {
	e.Helper()
	a, err := c.Acquirer(locker.Request{Kind: locker.Counting, Key: key, Limit: limit, Weight: weight})
	e.ok(err)
	return a
}

// unsupported checks that the backend refuses what it cannot do. A server too
// old to know semaphores answers like one that did not understand, so a plain
// error is accepted there; a lease is not.
func (e *env) unsupported(err error, what string) {
	e.Helper()
	if err == nil {
		e.Fatalf("%s was granted by a backend whose harness says that it cannot", what)
	}
	if errors.Is(err, locker.ErrLocked) {
		e.Fatalf("%s: %v: that is no refusal", what, err)
	}
}

// limit: never more holders than the limit, and as many as it allows.
func limit(e *env) {
	const n, goroutines, rounds = 3, 9, 6
	if !e.Semaphores {
		_, err := e.acquirer(e.client(), "s", n, 1).Acquire(e.ctx)
		e.unsupported(err, "a semaphore")
		return
	}
	clients := []*locker.Client{e.client(), e.client(), e.client()}
	var inside, most atomic.Int32
	var wg sync.WaitGroup
	for i := range goroutines {
		a := e.acquirer(clients[i%len(clients)], "s", n, 1)
		wg.Go(func() {
			for range rounds {
				l, err := a.Acquire(e.ctx)
				if err != nil {
					e.Error(err)
					return
				}
				now := inside.Add(1)
				for seen := most.Load(); now > seen && !most.CompareAndSwap(seen, now); seen = most.Load() {
				}
				time.Sleep(2 * time.Millisecond) // so that holders meet
				inside.Add(-1)
				if _, fenced := l.Fence(); fenced {
					e.Error("holders that share a key have a fence")
				}
				if err := l.Release(e.ctx); err != nil {
					e.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if most.Load() != n {
		e.Errorf("%d were inside at once, want %d", most.Load(), n)
	}
}

// limitMismatch: users of a key must agree on its limit.
func limitMismatch(e *env) {
	a, b := e.client(), e.client()
	l, err := e.acquirer(a, "s", 2, 1).Acquire(e.ctx)
	if !e.Semaphores {
		e.unsupported(err, "a semaphore")
		return
	}
	e.ok(err)
	_, err = e.acquirer(b, "s", 3, 1).Acquire(e.ctx)
	e.is(err, locker.ErrLimitMismatch, "Acquire with another limit")
	_, err = e.acquirer(b, "s", 3, 1).Try(e.ctx)
	e.is(err, locker.ErrLimitMismatch, "Try with another limit")
	e.release(l)
}

// weights: all or nothing, and a heavy request is not starved by light ones
// that come after it.
func weights(e *env) {
	c := e.client()
	two, err := e.acquirer(c, "s", 3, 2).Acquire(e.ctx)
	if !e.Weights {
		e.is(err, errors.ErrUnsupported, "a weight of 2")
		return
	}
	e.ok(err)
	one, err := e.acquirer(c, "s", 3, 1).Try(e.ctx)
	e.ok(err)
	heavy := make(chan *locker.Lease)
	go func() {
		l, err := e.acquirer(c, "s", 3, 3).Acquire(e.ctx)
		if err != nil {
			e.Error(err)
		}
		heavy <- l
	}()
	e.eventually(func() bool { return e.counts(2, 1) }, "the heavy one waits")
	e.release(two)
	_, err = e.acquirer(c, "s", 3, 1).Try(e.ctx)
	e.is(err, locker.ErrLocked, "a light try behind a heavy waiter")
	e.release(one)
	l := <-heavy
	if l == nil {
		return
	}
	if _, fenced := l.Fence(); e.Fences && !fenced {
		e.Error("a holder of the whole limit has no fence")
	}
	e.release(l)
}
