package memory

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/locker"
)

// endings are the two ways in which a session ends, and what its calls return
// then.
var endings = map[string]struct {
	end  func(*Backend)
	want error
}{
	"close":      {func(b *Backend) { b.Close() }, locker.ErrClosed},
	"disconnect": {(*Backend).Disconnect, locker.ErrUnavailable},
}

func eachEnding(t *testing.T, f func(w *world, end func(*Backend), want error)) {
	for name, e := range endings {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) { f(w, e.end, e.want) })
		})
	}
}

func TestEndOfASessionReleasesItsHolds(t *testing.T) {
	eachEnding(t, func(w *world, end func(*Backend), want error) {
		a, b := w.client(), w.client()
		g := w.get(a, lock("k"))
		w.get(a, slots("s", 2, 2))
		next := w.waiting(w.ctx, b, lock("k"))
		other := w.get(b, lock("other"))
		end(a)
		w.is(w.now(next, "the next").err, nil, "the next")
		w.is(g.Session.Err(), locker.ErrLost, "the session")
		w.is(g.Session.Err(), want, "the session")
		w.counts(2, 0) // b's own
		w.is(other.Session.Err(), nil, "the other session")
		_, err := w.renew(b, lock("k"), g, ttl)
		w.is(err, locker.ErrLost, "renewal of what was released")
	})
}

// TestLossIsKnownBeforeTheNextHolds looks at the server while the holder is
// being told.
func TestLossIsKnownBeforeTheNextHolds(t *testing.T) {
	eachEnding(t, func(w *world, end func(*Backend), _ error) {
		a, b := w.client(), w.client()
		told := false
		c := locker.New(a, locker.WithLogger(slog.New(slog.DiscardHandler)), locker.WithTrace(&locker.Trace{
			Lost: func(locker.LostInfo) {
				told = true
				w.counts(1, 1)
			},
		}))
		defer c.Close()
		_, err := c.Acquire(w.ctx, "k")
		w.is(err, nil, "acquire")
		next := w.waiting(w.ctx, b, lock("k"))
		end(a)
		w.is(w.now(next, "the next").err, nil, "the next")
		if !told {
			w.Error("the holder was not told")
		}
	})
}

func TestEndOfASessionEndsItsWaits(t *testing.T) {
	eachEnding(t, func(w *world, end func(*Backend), want error) {
		a, b := w.client(), w.client()
		g := w.get(b, lock("k"))
		w.get(a, lock("mine"))
		waits := []<-chan outcome{
			w.waiting(w.ctx, a, lock("k")),
			w.waiting(w.ctx, a, lock("k")),
			w.waiting(w.ctx, a, lock("mine")), // for itself
		}
		places := []locker.Place{w.enqueue(a, lock("k"), false), w.enqueue(a, lock("free"), true)}
		in := w.calling(func() (locker.Grant, error) { return w.enqueue(a, lock("k"), false).Wait(w.ctx) })
		end(a)
		for _, out := range append(waits, in) {
			o := w.now(out, "a wait")
			w.is(o.err, want, "a wait")
			if o.grant.Session != nil {
				w.Errorf("a wait ended with %+v", o.grant)
			}
		}
		for _, p := range places {
			_, err := p.Wait(w.ctx)
			w.is(err, want, "a place")
			w.is(p.Cancel(w.ctx), nil, "cancel of a place")
		}
		w.counts(1, 0)
		w.release(b, lock("k"), g)
	})
}

func TestNothingWorksAfterClose(t *testing.T) {
	bubble(t, func(w *world) {
		a := w.client()
		g := w.get(a, lock("k"))
		for range 2 {
			w.is(a.Close(), nil, "close")
		}
		_, err := a.Acquire(w.ctx, lock("k"))
		w.is(err, locker.ErrClosed, "acquire")
		_, err = a.Enqueue(w.ctx, lock("k"))
		w.is(err, locker.ErrClosed, "enqueue")
		_, err = a.Inspect(w.ctx)
		w.is(err, locker.ErrClosed, "inspect")
		_, err = w.renew(a, lock("k"), g, ttl)
		w.is(err, locker.ErrClosed, "renew")
		w.is(a.Release(w.ctx, hold(lock("k"), g)), locker.ErrClosed, "release")
		a.Disconnect() // does nothing
		_, err = a.Acquire(w.ctx, lock("k"))
		w.is(err, locker.ErrClosed, "acquire after disconnect")
	})
}

func TestBackendWorksAfterDisconnect(t *testing.T) {
	bubble(t, func(w *world) {
		a := w.client()
		before := w.get(a, lock("k"))
		a.Disconnect()
		after := w.get(a, lock("k"))
		if after.Session == before.Session || after.Session.Err() != nil || after.Fence <= before.Fence {
			t.Errorf("after the disconnect %+v, before %+v", after, before)
		}
		w.is(a.Release(w.ctx, hold(lock("k"), before)), locker.ErrNotHeld, "release of what was lost")
		w.counts(1, 0)
		w.release(a, lock("k"), after)
	})
}

// TestServerLivesOn: a server whose backends are all closed can be used again,
// and lets nothing run meanwhile.
func TestServerLivesOn(t *testing.T) {
	bubble(t, func(w *world) {
		a := w.client()
		w.release(a, slots("s", 2, 1), w.get(a, slots("s", 2, 1)))
		g := w.get(a, lock("k"))
		a.Close()
		if w.alarmSet {
			t.Error("the alarm is set, and nobody is there")
		}
		time.Sleep(time.Hour)
		b := w.client()
		if next := w.get(b, lock("k")); next.Fence <= g.Fence {
			t.Errorf("fence %d after %d", next.Fence, g.Fence)
		}
		w.get(b, slots("s", 3, 1)) // the other limit was forgotten long ago
		time.Sleep(ttl)
		synctest.Wait()
		w.counts(0, 0) // and leases run out again
	})
}

// TestEndsInRealTime closes and disconnects while others acquire, cancel and
// enqueue, with goroutines that really run beside each other.
func TestEndsInRealTime(t *testing.T) {
	t.Parallel()
	const goroutines, rounds = 8, 150
	s := NewServer()
	var wg sync.WaitGroup
	for i := range goroutines {
		wg.Go(func() {
			for round := range rounds {
				b := s.Backend()
				var calls sync.WaitGroup
				for j := range 3 {
					calls.Go(func() { useOnce(t, b, (i+j+round)%4) })
				}
				switch (i + round) % 3 {
				case 0:
					b.Disconnect()
				case 1:
					b.Close()
				}
				calls.Wait()
				b.Close()
			}
		})
	}
	wg.Wait()
	s.mu.Lock()
	defer s.mu.Unlock()
	if h, n := s.table.Held(), s.table.Waiting(); h+n+s.backends != 0 || s.alarmSet {
		t.Errorf("%d held, %d waiting, %d open, alarm set: %t", h, n, s.backends, s.alarmSet)
	}
}

// useOnce makes one call that may fail only because the session ended.
func useOnce(t *testing.T, b *Backend, how int) {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	var err error
	switch how {
	case 0, 1:
		var g locker.Grant
		if g, err = b.Acquire(ctx, lock("k")); err == nil && how == 0 {
			err = b.Release(ctx, hold(lock("k"), g))
		}
	case 2:
		var p locker.Place
		if p, err = b.Enqueue(ctx, slots("s", 3, 2)); err == nil {
			_, err = p.Wait(ctx)
		}
	case 3:
		_, err = b.Acquire(ctx, try(slots("s", 3, 1)))
	}
	for _, fine := range []error{
		nil, context.DeadlineExceeded, locker.ErrLocked, locker.ErrClosed, locker.ErrUnavailable, locker.ErrNotHeld,
	} {
		if errors.Is(err, fine) {
			return
		}
	}
	t.Error(err)
}
