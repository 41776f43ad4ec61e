package locker_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
)

// A paused clock stands for a process that was stopped: it jumps, and no timer
// has noticed yet.
type pausedClock struct {
	start time.Time
	jump  atomic.Int64
}

func newPausedClock() *pausedClock { return &pausedClock{start: time.Now()} }

func (c *pausedClock) now() time.Duration {
	return time.Since(c.start) + time.Duration(c.jump.Load())
}

func (c *pausedClock) pause(d time.Duration) { c.jump.Add(int64(d)) }

// TestCheckAfterAPause: it is right at once, before anything else has woken.
func TestCheckAfterAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		clock := newPausedClock()
		book := newLogbook()
		l := acquire(t, newClient(t, f, locker.WithClock(clock.now), locker.WithLogger(newLogger(book))), "k")
		synctest.Wait() // the keeper sleeps
		clock.pause(believed(ttl) - 1)
		assert.Sure(t, l.Check())
		clock.pause(1)
		assert.Exactly(t, "deadline", time.Until(l.Deadline()), 0)
		assert.Matches(t, l.Check(), locker.ErrLost)
		assert.Matches(t, l.Err(), locker.ErrLost)
		assert.Exactly(t, "Lost is closed", closed(l.Lost()), true)
		assert.Exactly(t, "log lines", book.with("lease lost"), 1)
		assert.Matches(t, l.Release(t.Context()), locker.ErrLost)
		assert.Exactly(t, "calls", f.count(), 1) // only that to Acquire
		time.Sleep(time.Minute)
		assert.Matches(t, l.Check(), locker.ErrLost)
		assert.Exactly(t, "log lines", book.with(""), 1)
	})
}

// TestReleaseAfterAPause: nothing is sent after the deadline.
func TestReleaseAfterAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		clock := newPausedClock()
		l := acquire(t, newClient(t, f, locker.WithClock(clock.now)), "k")
		synctest.Wait() // the keeper sleeps
		clock.pause(ttl)
		assert.Matches(t, l.Release(t.Context()), locker.ErrLost)
		assert.Matches(t, l.Release(t.Context()), locker.ErrLost)
		assert.Matches(t, l.Check(), locker.ErrLost)
		assert.Exactly(t, "calls", f.count(), 1)
	})
}

// TestGrantAnsweredDuringAPause: what arrives after its lease is confirmed or
// given back, never believed.
func TestGrantAnsweredDuringAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		clock := newPausedClock()
		f.acquire = func(ctx context.Context, req locker.Request) (locker.Grant, error) {
			g, err := f.serve(ctx, req)
			if len(f.of("acquire")) == 1 {
				time.Sleep(time.Second)
				clock.pause(time.Hour)
				f.free(locker.Hold{Kind: req.Kind, Key: req.Key, Token: g.Token}) // the server was not paused
			}
			return g, err
		}
		l := acquire(t, newClient(t, f, locker.WithClock(clock.now)), "k")
		synctest.Wait() // the keeper sleeps
		assert.Exactly(t, "acquisitions", len(f.of("acquire")), 2)
		assert.Sure(t, l.Check())
		assert.Sure(t, l.Release(t.Context()))
	})
}

// TestContextIsCancelledAtTheStopInstant, a sixth of the TTL before the
// deadline or as the option says, while the lease is still held.
func TestContextIsCancelledAtTheStopInstant(t *testing.T) {
	for _, c := range []struct{ margin, want time.Duration }{{0, ttl / 6}, {time.Second, time.Second}, {5 * time.Second, 5 * time.Second}} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			f.renew = frozenRenew
			l := acquire(t, newClient(t, f, locker.WithStopMargin(c.margin)), "k")
			type key struct{}
			ctx, cancel := l.Context(context.WithValue(t.Context(), key{}, 1))
			defer cancel()
			assert.Exactly(t, "value", ctx.Value(key{}), any(1))
			<-ctx.Done()
			assert.Exactly(t, "stopped at", f.now(), believed(ttl)-c.want)
			assert.Matches(t, ctx.Err(), context.Canceled)
			assert.Matches(t, context.Cause(ctx), locker.ErrLost)
			assert.Sure(t, l.Check())
			assert.Exactly(t, "Lost is closed", closed(l.Lost()), false)
			late, cancelLate := l.Context(t.Context())
			defer cancelLate()
			assert.Matches(t, context.Cause(late), locker.ErrLost)
			<-l.Lost()
			assert.Exactly(t, "lost at", f.now(), believed(ttl))
		})
	}
}

// TestRenewalAfterTheStopInstant: the lease is kept, contexts that ended stay
// ended, new ones live, and the next stop instant ends those.
func TestRenewalAfterTheStopInstant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.renew = func(_ context.Context, rs []locker.Renewal) {
			if f.now() > believed(ttl)-ttl/6 && f.now() < 30*time.Second {
				f.extend(rs)
				return
			}
			for i := range rs {
				rs[i].Err = locker.ErrUnavailable
			}
		}
		l := acquire(t, newClient(t, f), "k")
		before, cancel := l.Context(t.Context())
		defer cancel()
		<-before.Done()
		between, cancel := l.Context(t.Context())
		defer cancel()
		assert.Matches(t, context.Cause(between), locker.ErrLost)
		time.Sleep(ttl / 6)
		assert.Sure(t, l.Check())
		after, cancel := l.Context(t.Context())
		defer cancel()
		assert.Sure(t, after.Err())
		assert.Matches(t, before.Err(), context.Canceled)
		time.Sleep(10 * time.Second)
		assert.Sure(t, after.Err())
		<-after.Done()
		assert.Matches(t, context.Cause(after), locker.ErrLost)
		assert.Sure(t, l.Check())
		<-l.Lost()
		assert.Matches(t, l.Check(), locker.ErrLost)
	})
}

// TestContextEndsWithTheLease, and with its parent, and with its function.
func TestContextEndsWithTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := newClient(t, f)
		l := acquire(t, c, "k")
		parent, cancelParent := context.WithCancel(t.Context())
		a, cancelA := l.Context(parent)
		b, cancelB := l.Context(t.Context())
		d, cancelD := l.Context(t.Context())
		defer cancelA()
		defer cancelD()
		cancelB()
		assert.Matches(t, context.Cause(b), context.Canceled)
		assert.MatchesNot(t, context.Cause(b), locker.ErrLost, locker.ErrNotHeld)
		assert.Sure(t, a.Err())
		cancelParent()
		assert.Matches(t, context.Cause(a), context.Canceled)
		assert.Sure(t, d.Err())
		assert.Sure(t, l.Release(t.Context()))
		<-d.Done()
		assert.Matches(t, context.Cause(d), locker.ErrNotHeld)
		assert.MatchesNot(t, context.Cause(d), locker.ErrLost)
		late, cancelLate := l.Context(t.Context())
		defer cancelLate()
		assert.Matches(t, context.Cause(late), locker.ErrNotHeld)

		l = acquire(t, c, "k")
		e, cancelE := l.Context(t.Context())
		defer cancelE()
		f.set(func() {
			f.renew = func(_ context.Context, rs []locker.Renewal) { rs[0].Err = locker.ErrLost }
		})
		<-e.Done()
		assert.Matches(t, context.Cause(e), locker.ErrLost)
		late, cancelLate = l.Context(t.Context())
		defer cancelLate()
		assert.Matches(t, context.Cause(late), locker.ErrLost)
	})
}

// TestMaxHold: the context stops a margin before, the lease is lost, and the
// key is released at once and not when its TTL is over.
func TestMaxHold(t *testing.T) {
	for _, limit := range []time.Duration{time.Second, ttl, 25 * time.Second, time.Hour} {
		t.Run(limit.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				released := new(record[locker.ReleasedInfo])
				book := newLogbook()
				c := newClient(t, f, locker.WithMaxHold(limit), locker.WithTrace(&locker.Trace{Released: released.add}), locker.WithLogger(newLogger(book)))
				l := acquire(t, c, "k")
				ctx, cancel := l.Context(t.Context())
				defer cancel()
				<-ctx.Done()
				assert.Exactly(t, "stopped at", f.now(), max(0, min(limit, believed(ttl)+limit)-ttl/6))
				assert.Matches(t, context.Cause(ctx), locker.ErrLost, locker.ErrMaxHold)
				assert.Sure(t, l.Check())
				<-l.Lost()
				assert.Exactly(t, "lost at", f.now(), limit)
				assert.Matches(t, l.Check(), locker.ErrLost, locker.ErrMaxHold)
				assert.Matches(t, l.Err(), locker.ErrLost, locker.ErrMaxHold)
				synctest.Wait()
				assert.Exactly(t, "holders", f.holders(), 0)
				assert.Exactly(t, "releases", len(f.of("release")), 1)
				assert.Exactly(t, "traced", fmt.Sprint(released.all()), fmt.Sprint([]locker.ReleasedInfo{{Key: "k", Held: limit}}))
				assert.Matches(t, l.Release(t.Context()), locker.ErrLost, locker.ErrMaxHold)
				assert.Exactly(t, "releases", len(f.of("release")), 1)
				assert.Exactly(t, "log lines", book.with(""), 0) // the context listens
			})
		})
	}
}

// TestMaxHoldInAnOutage: the release goes on until it is answered.
func TestMaxHoldInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.release = func(ctx context.Context, h locker.Hold) error {
			if f.now() < 15*time.Second {
				return locker.ErrUnavailable
			}
			return f.free(h)
		}
		l := acquire(t, newClient(t, f, locker.WithMaxHold(9*time.Second)), "k")
		<-l.Lost()
		time.Sleep(8 * time.Second)
		assert.Exactly(t, "holders", f.holders(), 0)
		if last := f.of("release"); last[len(last)-1].at < 15*time.Second {
			t.Errorf("released last at %v, in the outage", last[len(last)-1].at)
		}
	})
}

// TestMaxHoldAgainstAMissingRenewal: a lease that ends before its limit for
// want of a renewal says so.
func TestMaxHoldAgainstAMissingRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.renew = frozenRenew
		l := acquire(t, newClient(t, f, locker.WithMaxHold(time.Minute)), "k")
		<-l.Lost()
		assert.Exactly(t, "lost at", f.now(), believed(ttl))
		assert.Matches(t, l.Err(), locker.ErrLost)
		assert.MatchesNot(t, l.Err(), locker.ErrMaxHold)
		assert.Exactly(t, "releases", len(f.of("release")), 0)
	})
}

// TestCheckIsSafeForConcurrentUse together with everything else that a lease
// has.
func TestCheckIsSafeForConcurrentUse(t *testing.T) {
	f := newFake()
	c := newClient(t, f, locker.WithMaxHold(4*time.Millisecond))
	for range 20 {
		l := acquire(t, c, "k")
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for l.Check() == nil {
					l.Deadline()
					l.Err()
					l.TTL()
					l.Lost()
					ctx, cancel := l.Context(t.Context())
					_ = ctx.Err()
					cancel()
					l.Token()
					l.Fence()
				}
			})
		}
		time.Sleep(5 * time.Millisecond) // real time: let them meet
		if err := l.Release(t.Context()); err != nil {
			assert.Matches(t, err, locker.ErrLost) // its longest hold may be over
		}
		wg.Wait()
	}
}

// TestContextAfterAPause: work that would begin after the stop instant does not
// get a context that lets it.
func TestContextAfterAPause(t *testing.T) {
	for _, pause := range []time.Duration{believed(ttl) - ttl/6, believed(ttl) - 1, believed(ttl), time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake()
			clock := newPausedClock()
			l := acquire(t, newClient(t, f, locker.WithClock(clock.now)), "k")
			synctest.Wait() // the keeper sleeps
			clock.pause(pause)
			ctx, cancel := l.Context(t.Context())
			defer cancel()
			assert.Matches(t, ctx.Err(), context.Canceled)
			assert.Matches(t, context.Cause(ctx), locker.ErrLost)
		})
	}
}

// TestRenewalAnsweredDuringAPause: the lease was over by its deadline before
// the answer was read, so it stays over, even if the server held it all along.
func TestRenewalAnsweredDuringAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		clock := newPausedClock()
		f.renew = func(_ context.Context, rs []locker.Renewal) {
			f.extend(rs)
			clock.pause(believed(ttl) - clock.now()) // the deadline is now
		}
		l := acquire(t, newClient(t, f, locker.WithClock(clock.now)), "k")
		synctest.Wait() // the keeper sleeps
		time.Sleep(ttl / 3)
		synctest.Wait()
		assert.Matches(t, l.Check(), locker.ErrLost)
		assert.Exactly(t, "Lost is closed", closed(l.Lost()), true)
	})
}
