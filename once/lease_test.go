package once_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/once"
)

// underLease returns the lease that a function runs under, which must be held, and
// that of the key.
func underLease(ctx context.Context, t *testing.T, key string) *locker.Lease {
	t.Helper()
	type derived struct{}
	inner, cancel := context.WithCancel(context.WithValue(ctx, derived{}, true))
	defer cancel()
	l := once.LeaseOf(inner)
	if l == nil {
		t.Fatal("no lease where a function runs")
	}
	assert.Sure(t, l.Check())
	assert.Exactly(t, "key", l.Key(), key)
	fence, ok := l.Fence()
	assert.Exactly(t, "a fence", ok && fence > 0, true)
	assert.Exactly(t, "time is left", l.Left() > 0 && l.Left() <= ttl, true)
	return l
}

// over checks that a lease which functions ran under has been released.
func over(t *testing.T, l *locker.Lease) {
	t.Helper()
	assert.Matches(t, l.Check(), locker.ErrNotHeld)
}

// TestLeaseOfOnce is the lease that the mark is written under.
func TestLeaseOfOnce(t *testing.T) {
	bubble(t, func(w *world) {
		o := once.New(w.process(), "k", once.WithVolatile())
		var kept context.Context
		assert.Sure(t, o.Do(w.ctx, func(ctx context.Context) error {
			underLease(ctx, t, "once/k")
			assert.Exactly(t, "one outside", once.LeaseOf(w.ctx) == nil, true)
			kept = ctx
			return nil
		}))
		l := once.LeaseOf(kept)
		over(t, l)
		m, err := o.Mark(w.ctx)
		assert.Sure(t, err)
		fence, _ := l.Fence()
		assert.Exactly(t, "fence of the mark", m.Fence, fence)
	})
}

// TestLeaseOfEachRun: who runs after a failure has a lease of its own, with a larger
// fence, and is no longer under that of the first.
func TestLeaseOfEachRun(t *testing.T) {
	bubble(t, func(w *world) {
		boom := errors.New("boom")
		var fences []uint64
		for _, result := range []error{boom, nil} {
			err := once.New(w.process(), "k", once.WithVolatile()).Do(w.ctx, func(ctx context.Context) error {
				fence, _ := underLease(ctx, t, "once/k").Fence()
				fences = append(fences, fence)
				return result
			})
			assert.Exactly(t, "error", err, result)
		}
		assert.Exactly(t, "runs", len(fences), 2)
		assert.Exactly(t, "fences grow", fences[0] < fences[1], true)
	})
}

// TestLeaseOfNested is that of the inner function.
func TestLeaseOfNested(t *testing.T) {
	bubble(t, func(w *world) {
		c := w.process()
		outer := once.New(c, "outer", once.WithVolatile())
		g := once.NewGroup[int](c, "g")
		assert.Sure(t, outer.Do(w.ctx, func(ctx context.Context) error {
			l := underLease(ctx, t, "once/outer")
			_, _, err := g.Do(ctx, "inner", func(ctx context.Context) (int, error) {
				underLease(ctx, t, "group/g/inner")
				return 0, nil
			})
			assert.Exactly(t, "the outer one's again", once.LeaseOf(ctx) == l, true)
			return err
		}))
	})
}

func TestLeaseOfValue(t *testing.T) {
	bubble(t, func(w *world) {
		var l *locker.Lease
		v := once.NewValue(w.process(), "k", func(ctx context.Context) (uint64, error) {
			l = underLease(ctx, t, "once/k")
			fence, _ := l.Fence()
			return fence, nil
		}, once.WithVolatile())
		got, err := v.Get(w.ctx)
		assert.Sure(t, err)
		over(t, l)
		m, err := v.Mark(w.ctx)
		assert.Sure(t, err)
		assert.Exactly(t, "fence", got, m.Fence)
	})
}

// TestLeaseOfGroup: one runs under a lease, and who joins it, here and elsewhere, has
// none, before and after.
func TestLeaseOfGroup(t *testing.T) {
	bubble(t, func(w *world) {
		var l *locker.Lease
		groups := []*once.Group[int64]{once.NewGroup[int64](w.process(), "g"), once.NewGroup[int64](w.process(), "g")}
		leader := ask(w.ctx, groups[0], func(ctx context.Context) (int64, error) {
			l = underLease(ctx, t, "group/g/k")
			time.Sleep(time.Minute)
			assert.Sure(t, l.Check()) // it is kept alive meanwhile
			return 1, nil
		})
		var joined []*caller
		for i := range 6 {
			joined = append(joined, ask(w.ctx, groups[i%2], never(t)))
		}
		for _, c := range append(joined, leader) {
			assert.Sure(t, c.wait().err)
			assert.Exactly(t, "value", c.v, 1)
		}
		assert.Exactly(t, "a lease of who joined", once.LeaseOf(w.ctx) == nil, true)
		synctest.Wait()
		over(t, l)
	})
}

// TestLeaseOfGroupIsOfTheFlight: each flight has its own, also when their callers have
// one context, and when that of the caller who began it ends.
func TestLeaseOfGroupIsOfTheFlight(t *testing.T) {
	bubble(t, func(w *world) {
		g := once.NewGroup[int64](w.process(), "g")
		var mu sync.Mutex
		leases := make(map[*locker.Lease]bool)
		run := func(ctx context.Context) (int64, error) {
			l := underLease(ctx, t, "group/g/k")
			time.Sleep(time.Second)
			assert.Exactly(t, "the same one later", once.LeaseOf(ctx) == l && l.Check() == nil, true)
			mu.Lock()
			defer mu.Unlock()
			leases[l] = true
			return 1, nil
		}
		ctx, cancel := context.WithCancel(w.ctx)
		first := ask(ctx, g, run)
		second := ask(w.ctx, g, never(t))
		cancel()
		assert.Matches(t, first.wait().err, context.Canceled)
		assert.Sure(t, second.wait().err)
		assert.Sure(t, ask(w.ctx, g, run).wait().err)
		assert.Exactly(t, "leases", len(leases), 2)
	})
}

// TestLeaseOfLostRun is lost: a function that goes on may ask.
func TestLeaseOfLostRun(t *testing.T) {
	bubble(t, func(w *world) {
		c, spy := w.spied()
		spy.freeze()
		err := once.New(c, "k", once.WithVolatile()).Do(w.ctx, func(ctx context.Context) error {
			<-ctx.Done()
			l := once.LeaseOf(ctx)
			assert.Sure(t, l.Check()) // it ends a sixth of the lease later
			time.Sleep(ttl)
			assert.Matches(t, l.Check(), locker.ErrLost)
			return nil
		})
		assert.Matches(t, err, locker.ErrLost)
	})
}

// TestLeaseReleasedByTheFunction: what it returns is not marked, nor had by others.
func TestLeaseReleasedByTheFunction(t *testing.T) {
	bubble(t, func(w *world) {
		release := func(ctx context.Context) error {
			assert.Sure(t, once.LeaseOf(ctx).Release(w.ctx)) // the release ends ctx
			<-ctx.Done()
			assert.Matches(t, context.Cause(ctx), locker.ErrNotHeld)
			return nil
		}
		c := w.process()
		o := once.New(c, "k", once.WithVolatile())
		assert.Matches(t, o.Do(w.ctx, release), locker.ErrNotHeld)
		done, err := o.Done(w.ctx)
		assert.Sure(t, err)
		assert.Exactly(t, "done", done, false)

		g := once.NewGroup[int](c, "g", once.WithFresh(time.Hour))
		_, _, err = g.Do(w.ctx, "k", func(ctx context.Context) (int, error) { return 1, release(ctx) })
		assert.Matches(t, err, locker.ErrNotHeld)
		v, _, err := once.NewGroup[int](w.process(), "g", once.WithFresh(time.Hour)).Do(w.ctx, "k", func(context.Context) (int, error) { return 2, nil })
		assert.Sure(t, err)
		assert.Exactly(t, "value", v, 2)
	})
}
