package lockertest

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/distributed-go/distributed/locker"
)

// exclusion: goroutines of several clients increment a counter that only the
// lock guards.
func exclusion(e *env) {
	const clients, goroutines, rounds = 4, 4, 20
	var inside, most atomic.Int32
	counter := 0 // unguarded on purpose: the race detector watches it too
	var wg sync.WaitGroup
	for range clients {
		c := e.client()
		for range goroutines {
			wg.Go(func() {
				for range rounds {
					l, err := c.Acquire(e.ctx, "counter")
					if err != nil {
						e.Error(err)
						return
					}
					most.Store(max(most.Load(), inside.Add(1)))
					counter++
					inside.Add(-1)
					if err := l.Release(e.ctx); err != nil {
						e.Error(err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
	if want := clients * goroutines * rounds; counter != want || most.Load() != 1 {
		e.Errorf("counter is %d, want %d; %d were inside at once, want 1", counter, want, most.Load())
	}
}

// sharedClient: two goroutines of one client exclude each other like two
// processes. On etcd's own session both would hold.
func sharedClient(e *env) {
	c := e.client()
	first := e.acquire(c, "k")
	_, err := c.TryAcquire(e.ctx, "k")
	e.is(err, locker.ErrLocked, "second hold of one client")
	done := make(chan *locker.Lease)
	go func() {
		l, err := c.Acquire(e.ctx, "k")
		if err != nil {
			e.Error(err)
		}
		done <- l
	}()
	e.eventually(func() bool { return e.counts(1, 1) }, "the second waits")
	e.release(first)
	second := <-done
	if second == nil {
		return
	}
	if second.Token() == first.Token() {
		e.Error("two holds have one token")
	}
	e.release(second)
}

// kindsApart: locks and semaphores of one name do not exclude each other.
func kindsApart(e *env) {
	c := e.client()
	l := e.acquire(c, "name")
	defer e.release(l)
	s, err := e.acquirer(c, "name", 1, 1).Try(e.ctx)
	if !e.Semaphores {
		e.unsupported(err, "a semaphore")
		return
	}
	e.ok(err)
	e.release(s)
}

// manyHolds: one client holds many keys at once, and keeps them.
func manyHolds(e *env) {
	const n = 500
	c := e.client()
	leases := make([]*locker.Lease, n)
	var wg sync.WaitGroup
	for i := range leases {
		wg.Go(func() {
			l, err := c.Acquire(e.ctx, "many-"+time.Duration(i).String())
			if err != nil {
				e.Error(err)
				return
			}
			leases[i] = l
		})
	}
	wg.Wait()
	if e.Failed() {
		return
	}
	if !e.counts(n, 0) {
		h, w := e.count()
		e.Fatalf("%d holders and %d waiters, want %d and 0", h, w, n)
	}
	time.Sleep(e.TTL + e.TTL/2) // they must outlive it
	for _, l := range leases {
		e.ok(l.Check())
		wg.Go(func() {
			if err := l.Release(e.ctx); err != nil {
				e.Error(err)
			}
		})
	}
	wg.Wait()
}
