package memory

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/locker"
)

func TestContextEndedBeforeAsksForNothing(t *testing.T) {
	bubble(t, func(w *world) {
		b := w.client()
		why := errors.New("changed my mind")
		ctx, cancel := context.WithCancelCause(w.ctx)
		cancel(why)
		fails := func(err error, what string) {
			t.Helper()
			w.is(err, context.Canceled, what)
			w.is(err, why, what)
		}
		_, err := b.Acquire(ctx, lock("k"))
		fails(err, "acquire")
		_, err = b.Acquire(ctx, try(lock("k")))
		fails(err, "try")
		_, err = b.Enqueue(ctx, lock("k"))
		fails(err, "enqueue")
		_, err = b.Inspect(ctx)
		fails(err, "inspect")
		g := w.get(b, lock("k"))
		fails(b.Release(ctx, hold(lock("k"), g)), "release")
		r := []locker.Renewal{{Hold: hold(lock("k"), g), TTL: ttl}}
		b.Renew(ctx, r)
		fails(r[0].Err, "renew")
		w.counts(1, 0)
	})
}

func TestCancelledWaitLeavesTheQueue(t *testing.T) {
	bubble(t, func(w *world) {
		a, b := w.client(), w.client()
		g := w.get(a, lock("k"))
		ctx, cancel := context.WithTimeout(w.ctx, 3*second)
		defer cancel()
		stamp := time.Now()
		gone, next := w.waiting(ctx, b, lock("k")), w.waiting(w.ctx, b, lock("k"))
		o := <-gone
		w.is(o.err, context.DeadlineExceeded, "the wait")
		if errors.Is(o.err, locker.ErrUnavailable) {
			t.Errorf("a wait that the caller ended blames the server: %v", o.err)
		}
		if d := o.at.Sub(stamp); d != 3*second {
			t.Errorf("returned after %v", d)
		}
		w.counts(1, 1)
		w.release(a, lock("k"), g)
		w.is(w.now(next, "the one behind").err, nil, "the one behind")
	})
}

func TestCancelledHeadLetsLighterOnesThrough(t *testing.T) {
	bubble(t, func(w *world) {
		b := w.client()
		w.get(b, slots("s", 3, 2))
		ctx, cancel := context.WithCancel(w.ctx)
		heavy := w.waiting(ctx, b, slots("s", 3, 3))
		light := w.waiting(w.ctx, b, slots("s", 3, 1))
		cancel()
		w.is(w.now(heavy, "heavy").err, context.Canceled, "heavy")
		w.is(w.now(light, "light").err, nil, "light")
	})
}

// TestErrorWinsOverAGrant: the turn came, and the context ended, before the
// waiter had a look.
func TestErrorWinsOverAGrant(t *testing.T) {
	bubble(t, func(w *world) {
		a, b := w.client(), w.client()
		g := w.get(a, lock("k"))
		ctx, cancel := context.WithCancel(w.ctx)
		p, err := b.Enqueue(ctx, lock("k"))
		w.is(err, nil, "enqueue")
		next := w.waiting(w.ctx, a, lock("k"))
		w.release(a, lock("k"), g)
		cancel()
		w.still(next, "behind the one whose turn came")
		_, err = p.Wait(ctx)
		w.is(err, context.Canceled, "wait")
		w.is(w.now(next, "the next").err, nil, "the next")
	})
}

// TestGrantAndCancelAtOneInstant lets the context of a waiter end at the very
// instant at which the lease before it runs out. Either may win; if the waiter
// was told that it holds, it does, and if not, nobody does.
func TestGrantAndCancelAtOneInstant(t *testing.T) {
	t.Parallel()
	won := 0
	for range 500 {
		bubble(t, func(w *world) {
			a, b := w.client(), w.client()
			ctx, cancel := context.WithTimeout(w.ctx, second)
			defer cancel()
			w.get(a, lasting(lock("k"), second))
			o := <-w.waiting(ctx, b, lock("k"))
			synctest.Wait()
			if o.err != nil {
				w.is(o.err, context.DeadlineExceeded, "the wait")
				w.counts(0, 0)
				return
			}
			won++
			w.counts(1, 0)
			w.release(b, lock("k"), o.grant)
		})
	}
	t.Logf("the grant won %d times of 500", won)
}

// TestCancelsInRealTime cancels at random around the grant, with goroutines
// that really run beside each other.
func TestCancelsInRealTime(t *testing.T) {
	t.Parallel()
	const goroutines, rounds = 8, 1000
	s := NewServer()
	clients := []*Backend{s.Backend(), s.Backend()}
	inside := 0 // the race detector sees whether two are
	var wg sync.WaitGroup
	for i := range goroutines {
		b := clients[i%2]
		random := rand.New(rand.NewPCG(uint64(i), 5)) //nolint:gosec // a test
		wg.Go(func() {
			for range rounds {
				ctx, cancel := context.WithCancel(t.Context())
				spin := random.IntN(20)
				go func() {
					for range spin {
						runtime.Gosched()
					}
					cancel()
				}()
				g, err := b.Acquire(ctx, lock("k"))
				if err == nil {
					inside++
					err = b.Release(t.Context(), hold(lock("k"), g))
				}
				if err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d of %d were granted", inside, goroutines*rounds)
	s.mu.Lock()
	held, waiting := s.table.Held(), s.table.Waiting()
	s.mu.Unlock()
	if held+waiting != 0 {
		t.Errorf("%d held and %d waiting are left", held, waiting)
	}
	for _, b := range clients {
		b.Close()
	}
}
