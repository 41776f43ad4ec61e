package locker_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
)

// lastBeat is when a keeping fake beat last before an instant.
func lastBeat(at time.Duration) time.Duration { return at.Truncate(time.Second) }

// TestKept: beats extend a hold, and the Client sends nothing.
func TestKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newKeeping()
		c := newClient(t, b)
		l := acquire(t, c, "k")
		ctx, cancel := l.Context(t.Context())
		defer cancel()
		for range 100 {
			time.Sleep(ttl/2 + 1)
			assert.Sure(t, l.Check())
			assert.Exactly(t, "left", l.Left(), believed(ttl)-(b.now()-lastBeat(b.now())))
			assert.Exactly(t, "deadline", time.Until(l.Deadline()), l.Left())
		}
		assert.Sure(t, ctx.Err())
		assert.Exactly(t, "renewals", len(b.of("renew")), 0)
		assert.Exactly(t, "Held", l.Held(), b.now())
		assert.Sure(t, l.Release(t.Context()))
		<-ctx.Done()
		assert.Matches(t, context.Cause(ctx), locker.ErrNotHeld)
		assert.Matches(t, l.Check(), locker.ErrNotHeld)
		assert.Exactly(t, "releases", len(b.of("release")), 1)
		assert.Exactly(t, "holders", b.holders(), 0)
	})
}

// TestKeptWithoutBeats: work stops a margin before, the lease is lost at its
// deadline, and the backend is told so, or it would keep the hold alive for ever.
func TestKeptWithoutBeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newKeeping()
		losses := new(record[locker.LostInfo])
		released := new(record[locker.ReleasedInfo])
		c := newClient(t, b, locker.WithTrace(&locker.Trace{Lost: losses.add, Released: released.add}))
		l := acquire(t, c, "k")
		time.Sleep(20*time.Second + time.Second/2)
		b.silence(true)
		ctx, cancel := l.Context(t.Context())
		defer cancel()
		<-ctx.Done()
		end := 20*time.Second + believed(ttl)
		assert.Exactly(t, "stopped at", b.now(), end-ttl/6)
		assert.Matches(t, context.Cause(ctx), locker.ErrLost)
		assert.Sure(t, l.Check())
		<-l.Lost()
		assert.Exactly(t, "lost at", b.now(), end)
		assert.Matches(t, l.Check(), locker.ErrLost)
		assert.Matches(t, l.Release(t.Context()), locker.ErrLost)
		synctest.Wait()
		assert.Exactly(t, "alive", b.alive(), 0)
		assert.Exactly(t, "releases", len(b.of("release")), 1)
		assert.Exactly(t, "losses", len(losses.all()), 1)
		assert.Exactly(t, "traced", fmt.Sprint(released.all()), fmt.Sprint([]locker.ReleasedInfo{{Key: "k", Held: end}}))
	})
}

// TestKeptBeatsAgain after the stop instant: there is new work, and contexts
// that ended stay ended.
func TestKeptBeatsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newKeeping()
		l := acquire(t, newClient(t, b), "k")
		b.silence(true)
		before, cancel := l.Context(t.Context())
		defer cancel()
		<-before.Done()
		between, cancel := l.Context(t.Context())
		defer cancel()
		assert.Matches(t, context.Cause(between), locker.ErrLost)
		b.silence(false)
		time.Sleep(time.Second)
		synctest.Wait()
		after, cancel := l.Context(t.Context())
		defer cancel()
		assert.Sure(t, after.Err())
		assert.Matches(t, before.Err(), context.Canceled)
		time.Sleep(time.Minute)
		assert.Sure(t, after.Err())
		assert.Sure(t, l.Check())
		b.silence(true)
		<-after.Done()
		assert.Matches(t, context.Cause(after), locker.ErrLost)
		assert.Sure(t, l.Check())
	})
}

// TestKeptIsLost when the backend says so, at once and with its cause.
func TestKeptIsLost(t *testing.T) {
	for _, cause := range []error{fmt.Errorf("%w: %w", locker.ErrLost, errCut), errCut} {
		synctest.Test(t, func(t *testing.T) {
			b := newKeeping()
			l := acquire(t, newClient(t, b), "k")
			time.Sleep(time.Second)
			b.lose(l.Token(), cause)
			assert.Exactly(t, "Lost is closed", closed(l.Lost()), true)
			assert.Matches(t, l.Check(), locker.ErrLost, errCut)
			assert.Matches(t, l.Release(t.Context()), locker.ErrLost, errCut)
			time.Sleep(time.Minute)
			assert.Exactly(t, "releases", len(b.of("release")), 0)
		})
	}
}

// TestKeptIsGoneBeforeItIsBound: nobody believed in it, so it is an outage.
func TestKeptIsGoneBeforeItIsBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &goneAtFirst{keeping: newKeeping()}
		c := newClient(t, b)
		_, err := c.TryAcquire(t.Context(), "k")
		assert.Matches(t, err, locker.ErrUnavailable)
		assert.MatchesNot(t, err, locker.ErrLost)
		b.times = 0
		l := acquire(t, c, "k")
		assert.Exactly(t, "acquisitions", len(b.of("acquire")), 3)
		assert.Sure(t, l.Check())
		assert.Sure(t, l.Release(t.Context()))
	})
}

// A goneAtFirst loses the first hold before anybody hears of it.
type goneAtFirst struct {
	*keeping
	times int
}

func (b *goneAtFirst) Acquire(ctx context.Context, req locker.Request) (locker.Grant, error) {
	g, err := b.keeping.Acquire(ctx, req)
	if b.times++; err == nil && b.times == 1 {
		b.lose(g.Token, fmt.Errorf("%w: %w", locker.ErrLost, errCut))
	}
	return g, err
}

// TestKeptStaysLost once somebody was told: a beat that was answered late does
// not bring it back. One that nobody asked about is moved on.
func TestKeptStaysLost(t *testing.T) {
	for what, ask := range map[string]func(*locker.Lease) error{
		"Check":    (*locker.Lease).Check,
		"Left":     func(l *locker.Lease) error { l.Left(); return l.Err() },
		"Deadline": func(l *locker.Lease) error { l.Deadline(); return l.Err() },
		"Context": func(l *locker.Lease) error {
			ctx, cancel := l.Context(context.Background())
			defer cancel()
			return context.Cause(ctx)
		},
		"Release": func(l *locker.Lease) error { return l.Release(context.Background()) },
		"nothing": nil,
	} {
		t.Run(what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newKeeping()
				clock := newPausedClock()
				l := acquire(t, newClient(t, b, locker.WithClock(clock.now)), "k")
				synctest.Wait() // the keeper sleeps
				clock.pause(believed(ttl))
				if ask != nil {
					assert.Matches(t, ask(l), locker.ErrLost)
				}
				b.beat()
				if ask == nil {
					assert.Sure(t, l.Check())
					time.Sleep(time.Minute)
					assert.Sure(t, l.Check())
					return
				}
				assert.Matches(t, l.Check(), locker.ErrLost)
				synctest.Wait()
				assert.Exactly(t, "alive", b.alive(), 0)
			})
		})
	}
}

// TestKeptOverASuspend: a lease ends by what the clock says, within the period of
// the watchdog.
func TestKeptOverASuspend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newKeeping()
		clock := newPausedClock()
		l := acquire(t, newClient(t, b, locker.WithClock(clock.now)), "k")
		time.Sleep(time.Minute + time.Second/2)
		b.silence(true)
		clock.pause(time.Hour)
		began := time.Now()
		<-l.Lost()
		if late := time.Since(began); late > time.Second/4 {
			t.Errorf("Lost closed %v after the machine woke", late)
		}
		synctest.Wait()
		assert.Exactly(t, "alive", b.alive(), 0)
	})
}

// TestKeptMaxHold ends however well it is kept.
func TestKeptMaxHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newKeeping()
		l := acquire(t, newClient(t, b, locker.WithMaxHold(time.Minute)), "k")
		<-l.Lost()
		assert.Exactly(t, "lost at", b.now(), time.Minute)
		assert.Matches(t, l.Err(), locker.ErrMaxHold)
		synctest.Wait()
		assert.Exactly(t, "alive", b.alive(), 0)
		assert.Exactly(t, "holders", b.holders(), 0)
	})
}

// TestKeptAtClose is given back.
func TestKeptAtClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newKeeping()
		c := newClient(t, b)
		var leases []*locker.Lease
		for i := range 300 {
			leases = append(leases, acquire(t, c, fmt.Sprint("k", i)))
			time.Sleep(50 * time.Millisecond)
		}
		assert.Sure(t, c.Close())
		assert.Exactly(t, "alive", b.alive(), 0)
		assert.Exactly(t, "holders", b.holders(), 0)
		assert.Exactly(t, "releases", len(b.of("release")), 300)
		for _, l := range leases {
			assert.Matches(t, l.Check(), locker.ErrLost, locker.ErrClosed)
		}
	})
}

// TestKeptAfterALongWait counts from what the backend says, so it is confirmed
// only where that is old, and from the confirmation then.
func TestKeptAfterALongWait(t *testing.T) {
	for _, c := range []struct {
		waited    time.Duration
		silent    bool
		confirmed bool
		left      time.Duration
	}{
		{900 * time.Millisecond, true, false, believed(ttl) - 900*time.Millisecond},
		{5900 * time.Millisecond, true, true, believed(ttl)},
		{5900 * time.Millisecond, false, false, believed(ttl) - 900*time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newKeeping()
			b.silence(c.silent)
			b.acquire = func(ctx context.Context, req locker.Request) (locker.Grant, error) {
				time.Sleep(c.waited)
				return b.serve(ctx, req)
			}
			infos := new(record[locker.AcquiredInfo])
			l := acquire(t, newClient(t, b, locker.WithTrace(&locker.Trace{Acquired: infos.add})), "k")
			assert.Exactly(t, "confirmed", infos.all()[0].Confirmed, c.confirmed)
			assert.Exactly(t, "left", l.Left(), c.left)
			b.silence(false)
			time.Sleep(time.Minute)
			assert.Sure(t, l.Check())
			assert.Sure(t, l.Release(t.Context()))
		})
	}
}

// TestKeptIsReleasedByAContextThatEnded, with one call.
func TestKeptIsReleasedByAContextThatEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newKeeping()
		l := acquire(t, newClient(t, b), "k")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		assert.Matches(t, l.Release(ctx), context.Canceled)
		assert.Exactly(t, "alive", b.alive(), 0)
		assert.Sure(t, l.Release(ctx))
		time.Sleep(time.Minute)
		assert.Exactly(t, "releases", len(b.of("release")), 1)
	})
}

// TestManyKeptAreLost at one instant in an outage: the backend hears of each,
// however long it lets wait for an answer.
func TestManyKeptAreLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 5000
		b := newKeeping()
		c := newClient(t, &slowly{b})
		for i := range n {
			acquire(t, c, fmt.Sprint("k", i))
		}
		b.silence(true)
		time.Sleep(ttl + 3*time.Second)
		assert.Exactly(t, "alive", b.alive(), 0)
		assert.Exactly(t, "releases", len(b.of("release")), n)
	})
}

// slowly releases without an answer.
type slowly struct{ *keeping }

func (b *slowly) Release(ctx context.Context, h locker.Hold) error {
	_ = b.keeping.Release(ctx, h) // its answer is lost on the way
	<-ctx.Done()
	return fmt.Errorf("%w: %w", locker.ErrUnavailable, ctx.Err())
}

// TestKeptLoseAndRelease at the same time: one of the two.
func TestKeptLoseAndRelease(t *testing.T) {
	for range 300 {
		synctest.Test(t, func(t *testing.T) {
			b := newKeeping()
			losses := new(record[locker.LostInfo])
			l := acquire(t, newClient(t, b, locker.WithTrace(&locker.Trace{Lost: losses.add})), "k")
			var wg sync.WaitGroup
			wg.Go(func() { b.lose(l.Token(), errCut) })
			var err error
			wg.Go(func() { err = l.Release(t.Context()) })
			wg.Wait()
			if lost := l.Err(); lost != nil {
				assert.Exactly(t, "losses", len(losses.all()), 1)
				assert.Matches(t, err, locker.ErrLost)
			} else {
				assert.Exactly(t, "losses", len(losses.all()), 0)
			}
			assert.Exactly(t, "holders", b.holders(), 0)
			assert.Exactly(t, "alive", b.alive(), 0)
		})
	}
}

// TestLeasesThatRememberNoKey: what a lease of Client.Acquire says of its key it
// knows from its backend.
func TestLeasesThatRememberNoKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newKeeping()
		c := newClient(t, b)
		one, other := acquire(t, c, "one"), acquire(t, c, "other")
		assert.Exactly(t, "key", one.Key(), "one")
		assert.Exactly(t, "key of another", other.Key(), "other")
		assert.Exactly(t, "printed", fmt.Sprint(one), `lease of "one" on `+b.String())
		assert.Sure(t, one.Release(t.Context()))
		var e *locker.Error
		if err := one.Check(); !errors.As(err, &e) || e.Key != "one" {
			t.Errorf("checked after the release: %v", err)
		}
		b.lose(other.Token(), locker.ErrRevoked)
		if err := other.Err(); !errors.As(err, &e) || e.Key != "other" {
			t.Errorf("lost: %v", err)
		}
	})
}

// TestCheckOfNoLease: what nobody acquired is not held.
func TestCheckOfNoLease(t *testing.T) {
	var none *locker.Lease
	assert.Matches(t, none.Check(), locker.ErrNotHeld)
	assert.Matches(t, new(locker.Lease).Check(), locker.ErrNotHeld)
}

// TestHeardSaysHowLateAGrantIs: more than half of the TTL after the request it is
// confirmed, whatever the clock says by then.
func TestHeardSaysHowLateAGrantIs(t *testing.T) {
	const now = time.Minute
	for late, want := range map[time.Duration]int64{time.Second: 0, 6 * time.Second: 1} {
		g := &granter{heard: now + late}
		c := newClient(t, g, locker.WithTTL(ttl), locker.WithClock(func() time.Duration { return now }))
		l := acquire(t, c, "k")
		assert.Exactly(t, "confirmations", g.renewals.Load(), want)
		assert.Sure(t, l.Release(t.Context()))
	}
}
