package memory

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/locker"
)

// calls are all that can be asked of a backend that holds k.
func calls(ctx context.Context, b *Backend, g locker.Grant) map[string]func() error {
	return map[string]func() error{
		"acquire": func() error { _, err := b.Acquire(ctx, lock("new")); return err },
		"try":     func() error { _, err := b.Acquire(ctx, try(lock("new"))); return err },
		"enqueue": func() error { _, err := b.Enqueue(ctx, lock("new")); return err },
		"inspect": func() error { _, err := b.Inspect(ctx); return err },
		"release": func() error { return b.Release(ctx, hold(lock("k"), g)) },
		"renew": func() error {
			r := []locker.Renewal{{Hold: hold(lock("k"), g), TTL: ttl}}
			b.Renew(ctx, r)
			return r[0].Err
		},
	}
}

var allCalls = []string{"acquire", "try", "enqueue", "inspect", "release", "renew"}

func TestFrozenServerAnswersNothing(t *testing.T) {
	bubble(t, func(w *world) {
		b := w.client()
		g := w.get(b, lasting(lock("k"), time.Hour))
		w.Freeze()
		w.Freeze() // once is enough
		for _, what := range allCalls {
			ctx, cancel := context.WithTimeout(w.ctx, 3*second)
			stamp := time.Now()
			err := calls(ctx, b, g)[what]()
			cancel()
			w.is(err, locker.ErrUnavailable, what)
			w.is(err, context.DeadlineExceeded, what)
			if d := time.Since(stamp); d != 3*second {
				t.Errorf("%s: returned after %v", what, d)
			}
		}
		w.Thaw()
		w.Thaw()
		w.counts(1, 0)
		w.release(b, lock("k"), g)
	})
}

func TestThawLetsCallsGoOn(t *testing.T) {
	for _, what := range allCalls {
		bubble(t, func(w *world) {
			b := w.client()
			g := w.get(b, lasting(lock("k"), time.Hour))
			w.Freeze()
			out := w.calling(func() (locker.Grant, error) { return g, calls(w.ctx, b, g)[what]() })
			time.Sleep(time.Minute)
			w.still(out, what)
			w.Thaw()
			w.is(w.now(out, what).err, nil, what)
		})
	}
}

func TestEndOfASessionEndsFrozenCalls(t *testing.T) {
	for _, what := range allCalls {
		eachEnding(t, func(w *world, end func(*Backend), want error) {
			b := w.client()
			g := w.get(b, lock("k"))
			w.Freeze()
			out := w.calling(func() (locker.Grant, error) { return g, calls(w.ctx, b, g)[what]() })
			w.still(out, what)
			end(b)
			w.is(w.now(out, what).err, want, what)
		})
	}
}

func TestNothingRunsOutWhileFrozen(t *testing.T) {
	bubble(t, func(w *world) {
		a, b := w.client(), w.client()
		g := w.get(a, lock("k"))
		next := w.waiting(w.ctx, b, lock("k"))
		place := w.enqueue(a, lock("k"), false)
		w.Freeze()
		if w.alarmSet {
			t.Error("the alarm is set")
		}
		time.Sleep(10 * ttl)
		w.is(place.Cancel(w.ctx), nil, "cancel") // even if somebody works on the table
		w.still(next, "the next, with a frozen server")
		w.counts(1, 1)
		renewal := w.calling(func() (locker.Grant, error) {
			_, err := w.renew(a, lock("k"), g, ttl)
			return g, err
		})
		w.Thaw()
		w.is(w.now(next, "the next").err, nil, "the next")
		w.is(w.now(renewal, "renewal").err, locker.ErrLost, "a renewal that was frozen for longer than its lease")
		time.Sleep(ttl - 1)
		w.counts(1, 0) // the TTL of the next began after the freeze
	})
}

func TestThawLooksAtWhatIsDue(t *testing.T) {
	bubble(t, func(w *world) {
		a, b := w.client(), w.client()
		w.get(a, lock("k"))
		next := w.waiting(w.ctx, b, lock("k"))
		w.Freeze()
		time.Sleep(ttl)
		w.Thaw()
		w.is(w.now(next, "the next").err, nil, "the next")
	})
}

// TestTurnsDoNotComeWhileFrozen: whoever was granted a lease while the server
// was frozen hears of it afterwards, and queues again if it has run out.
func TestTurnsDoNotComeWhileFrozen(t *testing.T) {
	for _, d := range []time.Duration{second, 2 * ttl} {
		bubble(t, func(w *world) {
			a, b := w.client(), w.client()
			p := w.enqueue(a, lock("k"), true)
			next := w.waiting(w.ctx, b, lock("k"))
			w.Freeze()
			w.is(p.Cancel(w.ctx), nil, "cancel")
			w.still(next, "the next")
			w.Freeze() // as it is already
			time.Sleep(d)
			w.Thaw()
			o := w.now(next, "the next")
			w.is(o.err, nil, "the next")
			w.counts(1, 0)
			time.Sleep(ttl - 1)
			w.release(b, lock("k"), o.grant)
		})
	}
}

func TestFreezeStopsTheClockWhenItBegins(t *testing.T) {
	bubble(t, func(w *world) {
		b := w.client()
		first, next := w.enqueue(b, lock("k"), true), w.enqueue(b, lock("k"), false)
		time.Sleep(ttl / 2) // without any call
		w.Freeze()
		w.is(first.Cancel(w.ctx), nil, "cancel")
		time.Sleep(ttl - 1)
		w.Thaw()
		_, err := next.Wait(w.ctx)
		w.is(err, nil, "a lease granted by a frozen server, just before it runs out")
	})
}

func TestWaitCanBeCancelledWhileFrozen(t *testing.T) {
	bubble(t, func(w *world) {
		a, b := w.client(), w.client()
		g := w.get(a, lasting(lock("k"), time.Hour))
		ctx, cancel := context.WithTimeout(w.ctx, second)
		defer cancel()
		wait := w.waiting(ctx, b, lock("k"))
		w.Freeze()
		o := <-wait
		w.is(o.err, context.DeadlineExceeded, "the wait")
		w.counts(1, 0)
		w.Thaw()
		w.release(a, lock("k"), g)
	})
}

func TestFailingServer(t *testing.T) {
	bubble(t, func(w *world) {
		why := errors.New("no route to host")
		a, b := w.client(), w.client()
		g := w.get(a, lasting(lock("k"), time.Hour))
		wait := w.waiting(w.ctx, b, lock("k"))
		w.Fail(why)
		for what, call := range calls(w.ctx, a, g) {
			err := call()
			w.is(err, locker.ErrUnavailable, what)
			w.is(err, why, what)
			if errors.Is(err, locker.ErrLost) {
				t.Errorf("%s: %v: nothing is known to be lost", what, err)
			}
		}
		w.still(wait, "a wait under way")
		w.counts(1, 1)
		w.Fail(nil)
		w.release(a, lock("k"), g)
		w.is(w.now(wait, "the wait").err, nil, "the wait")
	})
}

func TestTurnThatComesWhileFailingIsGivenBack(t *testing.T) {
	bubble(t, func(w *world) {
		a, b := w.client(), w.client()
		w.get(a, lock("k"))
		wait := w.waiting(w.ctx, b, lock("k"))
		w.Fail(errors.New("no route to host"))
		w.is((<-wait).err, locker.ErrUnavailable, "the wait")
		synctest.Wait()
		w.counts(0, 0)
		w.Fail(nil)
	})
}

// TestClientSurvives puts a Client on a backend whose server goes away and
// comes back, in virtual time.
func TestClientSurvives(t *testing.T) {
	bubble(t, func(w *world) {
		c := locker.New(w.client(), locker.WithTTL(ttl), locker.WithLogger(slog.New(slog.DiscardHandler)))
		defer c.Close()
		l, err := c.Acquire(w.ctx, "k")
		w.is(err, nil, "acquire")
		time.Sleep(time.Hour)
		w.is(l.Check(), nil, "after an hour")

		w.Fail(errors.New("no route to host"))
		waiter := make(chan error, 1)
		go func() {
			l, err := c.Acquire(w.ctx, "other")
			if err == nil {
				err = l.Release(w.ctx)
			}
			waiter <- err
		}()
		time.Sleep(ttl / 3)
		w.is(l.Check(), nil, "in an outage shorter than the lease")
		w.Fail(nil)
		w.is(<-waiter, nil, "an acquisition begun in the outage")
		time.Sleep(2 * ttl)
		w.is(l.Check(), nil, "after the outage")

		w.Freeze()
		stamp := time.Now()
		<-l.Lost()
		if d := time.Since(stamp); d > ttl || d < ttl/2 {
			t.Errorf("lost %v after the server froze", d)
		}
		w.Thaw()

		l, err = c.Acquire(w.ctx, "k")
		w.is(err, nil, "acquire again")
		lost := l.Lost()
		stamp = time.Now()
		c.Backend().(*Backend).Disconnect()
		<-lost
		if d := time.Since(stamp); d != 0 {
			t.Errorf("lost %v after the connection broke", d)
		}
		w.is(l.Err(), locker.ErrUnavailable, "the cause")
	})
}
