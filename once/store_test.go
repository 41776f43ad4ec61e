package once_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/once"
)

// TestWithoutValues: a backend that keeps none says so, and what to do.
func TestWithoutValues(t *testing.T) {
	bubble(t, func(w *world) {
		c := w.stockProcess()
		o := once.New(c, "k", once.WithVolatile())
		_, doneErr := o.Done(w.ctx)
		_, _, groupErr := once.NewGroup[int](c, "g").Do(w.ctx, "k", func(context.Context) (int, error) { return 1, nil })
		_, valueErr := once.NewValue(c, "v", func(context.Context) (int, error) { return 1, nil }).Get(w.ctx)
		for _, c := range []struct {
			err    error
			option string
		}{{o.Do(w.ctx, succeed), "once.WithMarker"}, {doneErr, "once.WithMarker"}, {o.Reset(w.ctx), "once.WithMarker"}, {valueErr, "once.WithMarker"}, {groupErr, "once.WithResults"}} {
			assert.Matches(t, c.err, errors.ErrUnsupported)
			if s := c.err.Error(); !strings.Contains(s, c.option) || !strings.Contains(s, "memory://") {
				t.Errorf("the error does not say %s, or of what: %s", c.option, s)
			}
		}
	})
}

// TestMarker: a Once with a Store needs a lock only.
func TestMarker(t *testing.T) {
	bubble(t, func(w *world) {
		rows := newTable()
		var runs atomic.Int64
		var wg sync.WaitGroup
		for range 5 {
			o := once.New(w.stockProcess(), "k", once.WithMarker(rows), once.WithFingerprint("f"))
			for range 5 {
				wg.Go(func() {
					assert.Sure(t, o.Do(w.ctx, func(context.Context) error {
						time.Sleep(time.Minute)
						if runs.Add(1) == 1 {
							return nil
						}
						return errors.New("ran again")
					}))
				})
			}
		}
		wg.Wait()
		assert.Exactly(t, "runs", runs.Load(), 1)

		o := once.New(w.stockProcess(), "k", once.WithMarker(rows))
		m, err := o.Mark(w.ctx)
		assert.Sure(t, err)
		assert.Exactly(t, "fence", m.Fence, rows.rows["once/k"].fence)
		assert.Exactly(t, "fingerprint", m.Fingerprint, "f")
		assert.Sure(t, o.Reset(w.ctx))
		_, err = o.Mark(w.ctx)
		assert.Matches(t, err, once.ErrNotDone)
		if fence := rows.rows["once/k"].fence; fence <= m.Fence {
			t.Errorf("the row's fence is %d after a reset, and was %d", fence, m.Fence)
		}
	})
}

// TestMarkerExpires by the clock of who looks.
func TestMarkerExpires(t *testing.T) {
	bubble(t, func(w *world) {
		rows := newTable()
		runs := 0
		run := func(context.Context) error { runs++; return nil }
		for range 3 {
			for range 2 {
				assert.Sure(t, once.New(w.stockProcess(), "k", once.WithMarker(rows), once.WithExpiry(time.Hour)).Do(w.ctx, run))
			}
			time.Sleep(time.Hour)
		}
		assert.Exactly(t, "runs", runs, 3)
	})
}

// TestLateMark: a runner that lost its lease and does not know it is refused by the
// row.
func TestLateMark(t *testing.T) {
	bubble(t, func(w *world) {
		rows := newTable()
		c, spy := w.spied()
		o := once.New(c, "k", once.WithMarker(rows))
		rows.before = func() { // when the lease was looked at
			_, err := w.process().Force(w.ctx, locker.Exclusive, "once/k")
			assert.Sure(t, err)
			assert.Sure(t, once.New(w.process(), "k", once.WithMarker(rows)).Do(w.ctx, succeed))
		}
		err := o.Do(w.ctx, succeed)
		assert.Exactly(t, "puts", spy.of("put"), 0)
		assert.Matches(t, err, locker.ErrLost, once.ErrStale)
		m, err := o.Mark(w.ctx)
		assert.Sure(t, err)
		assert.Exactly(t, "fence of the mark", m.Fence, rows.rows["once/k"].fence)
	})
}

// TestStaleMark: the row refuses what its own fence is larger than.
func TestStaleMark(t *testing.T) {
	bubble(t, func(w *world) {
		rows := newTable()
		rows.rows["once/k"] = row{fence: 1 << 63}
		err := once.New(w.process(), "k", once.WithMarker(rows)).Do(w.ctx, succeed)
		assert.Matches(t, err, once.ErrStale, locker.ErrLost)
		assert.MatchesNot(t, err, once.ErrInDoubt)
	})
}

// TestFailingStore: what cannot be read stops before the run; what may have been
// saved is looked at, and else in doubt.
func TestFailingStore(t *testing.T) {
	bubble(t, func(w *world) {
		boom := errors.New("boom")
		rows := newTable()
		o := once.New(w.process(), "k", once.WithMarker(rows))
		rows.load = boom
		assert.Matches(t, o.Do(w.ctx, func(context.Context) error { t.Error("ran"); return nil }), boom)
		rows.load = nil
		assert.Matches(t, o.Do(w.ctx, func(context.Context) error {
			rows.mu.Lock()
			defer rows.mu.Unlock()
			rows.load, rows.fail = boom, boom
			return nil
		}), once.ErrInDoubt, boom)
		rows.load = nil
		assert.Sure(t, o.Do(w.ctx, func(context.Context) error { t.Error("ran"); return nil }))
		assert.Sure(t, o.Reset(w.ctx))
		rows.fail = boom
		assert.Sure(t, o.Do(w.ctx, succeed)) // it was saved
		assert.Sure(t, o.Reset(w.ctx))
		rows.fail = locker.ErrUnavailable
		assert.Sure(t, o.Do(w.ctx, succeed))
	})
}

// TestResults: those who wait for a flight elsewhere find its result, and those who
// come later run their own.
func TestResults(t *testing.T) {
	bubble(t, func(w *world) {
		rows := newTable()
		var runs atomic.Int64
		for round := range int64(3) {
			var wg sync.WaitGroup
			for range 4 {
				g := once.NewGroup[int64](w.stockProcess(), "g", once.WithResults(rows))
				for range 3 {
					wg.Go(func() {
						v, _, err := g.Do(w.ctx, "k", func(context.Context) (int64, error) {
							time.Sleep(time.Second)
							return runs.Add(1), nil
						})
						assert.Sure(t, err)
						assert.Exactly(t, "result", v, round+1)
					})
				}
			}
			wg.Wait()
		}
		fresh := once.NewGroup[int64](w.stockProcess(), "g", once.WithResults(rows), once.WithFresh(time.Minute))
		next := func(context.Context) (int64, error) { return runs.Add(1), nil }
		v, shared, err := fresh.Do(w.ctx, "k", next)
		assert.Sure(t, err)
		assert.Exactly(t, "fresh", v, 3)
		assert.Exactly(t, "shared", shared, true)
		time.Sleep(time.Minute)
		v, shared, err = fresh.Do(w.ctx, "k", next)
		assert.Sure(t, err)
		assert.Exactly(t, "anew", v, 4)
		assert.Exactly(t, "shared", shared, false)
	})
}

// TestResultsThatCannotBeSaved are errors beside the result: nobody would ever
// notice otherwise.
func TestResultsThatCannotBeSaved(t *testing.T) {
	bubble(t, func(w *world) {
		boom := errors.New("boom")
		rows := newTable()
		g := once.NewGroup[int](w.stockProcess(), "g", once.WithResults(rows))
		one := func(context.Context) (int, error) { return 1, nil }
		rows.fail = boom
		v, _, err := g.Do(w.ctx, "k", one)
		assert.Matches(t, err, boom)
		assert.Exactly(t, "result", v, 1)
		rows.fail = locker.ErrUnavailable
		_, _, err = g.Do(w.ctx, "k", one)
		assert.Sure(t, err)
		rows.rows["group/g/k"] = row{fence: 1 << 63}
		_, _, err = g.Do(w.ctx, "k", one)
		assert.Matches(t, err, locker.ErrLost, once.ErrStale)
		rows.load = boom
		_, _, err = g.Do(w.ctx, "k", one)
		assert.Matches(t, err, boom)
		synctest.Wait()
	})
}
