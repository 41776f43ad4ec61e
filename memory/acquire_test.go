package memory

import (
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/table"
	"github.com/distributed-go/distributed/locker"
)

func TestGrantSaysWhatWasGranted(t *testing.T) {
	bubble(t, func(w *world) {
		b := w.client()
		g := w.get(b, lasting(lock("k"), 1500*time.Millisecond+1))
		if g.TTL != 1500*time.Millisecond+1 {
			t.Errorf("TTL %v", g.TTL)
		}
		if g.Fence == 0 || g.Fence != binary.BigEndian.Uint64(g.Token[:8]) {
			t.Errorf("fence %d in a token of %s", g.Fence, g.Token.Hex())
		}
		if g.Session == nil || g.Session.Err() != nil || g.Session.Ref() != any(b.session) {
			t.Errorf("session %v", g.Session)
		}
		if g := w.get(b, lasting(lock("default"), 0)); g.TTL != DefaultTTL || DefaultTTL != 33*second {
			t.Errorf("TTL %v where none was asked for", g.TTL)
		}
	})
}

func TestFencesGrowOverServersAndClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var last uint64
		for range 3 { // as a process that is started again
			s := NewServer()
			a, b := s.Backend(), s.Backend()
			for i := range 10 {
				c := []*Backend{a, b}[i%2]
				r := lock(fmt.Sprint("k", i%3))
				g, err := c.Acquire(t.Context(), r)
				if err != nil {
					t.Fatal(err)
				}
				if g.Fence <= last {
					t.Fatalf("fence %d after %d", g.Fence, last)
				}
				last = g.Fence
				if err := c.Release(t.Context(), hold(r, g)); err != nil {
					t.Fatal(err)
				}
			}
			a.Close()
			b.Close()
			time.Sleep(time.Millisecond)
		}
	})
}

func TestLeaseEndsExactlyAtItsTTL(t *testing.T) {
	bubble(t, func(w *world) {
		a, b := w.client(), w.client()
		stamp := time.Now()
		r := lasting(lock("k"), 1234567*time.Nanosecond)
		g := w.get(a, r)
		o := <-w.waiting(w.ctx, b, lock("k"))
		w.is(o.err, nil, "the next")
		if d := o.at.Sub(stamp); d != 1234567 {
			t.Errorf("handed over after %v", d)
		}
		_, err := w.renew(a, r, g, ttl)
		w.is(err, locker.ErrLost, "renewal of an ended lease")
		w.is(a.Release(w.ctx, hold(r, g)), locker.ErrNotHeld, "release of an ended lease")
		time.Sleep(ttl) // nobody waits for this one to end
		synctest.Wait()
		w.counts(0, 0)
	})
}

// TestLeaseEndsInRealTime sees to it that the alarm rings outside of bubbles
// too, also when it was set for something later before.
func TestLeaseEndsInRealTime(t *testing.T) {
	t.Parallel()
	s := NewServer()
	a, b := s.Backend(), s.Backend()
	defer a.Close()
	defer b.Close()
	for i, ttl := range []time.Duration{time.Hour, 20 * time.Millisecond, 10 * time.Millisecond} {
		r := lasting(lock(fmt.Sprint("k", i)), ttl)
		if _, err := a.Acquire(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"k2", "k1"} {
		if _, err := b.Acquire(t.Context(), lock(key)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Acquire(t.Context(), try(lock("k0"))); !errors.Is(err, locker.ErrLocked) {
		t.Fatalf("a lease of an hour: %v", err)
	}
}

func TestTTLOfAWaiterRunsFromItsReturn(t *testing.T) {
	bubble(t, func(w *world) {
		a, b := w.client(), w.client()
		first := w.get(a, lock("k"))
		next := w.waiting(w.ctx, b, lock("k"))
		time.Sleep(9 * second)
		w.release(a, lock("k"), first)
		o := w.now(next, "the next")
		time.Sleep(ttl - 1)
		w.counts(1, 0)
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		w.counts(0, 0)
		w.is(b.Release(w.ctx, hold(lock("k"), o.grant)), locker.ErrNotHeld, "release")
	})
}

func TestClientsAreServedInOrder(t *testing.T) {
	bubble(t, func(w *world) {
		const waiters = 20
		holder := w.client()
		g := w.get(holder, lock("k"))
		served := make(chan int, waiters)
		for i := range waiters {
			b := w.client()
			go func() {
				g, err := b.Acquire(w.ctx, lock("k"))
				if err != nil {
					t.Error(err)
				}
				served <- i
				time.Sleep(second)
				if err := b.Release(w.ctx, hold(lock("k"), g)); err != nil {
					t.Error(err)
				}
			}()
			synctest.Wait()
		}
		w.counts(1, waiters)
		w.release(holder, lock("k"), g)
		time.Sleep(waiters * second)
		synctest.Wait()
		close(served)
		var order []int
		for i := range served {
			order = append(order, i)
		}
		if len(order) != waiters || !slices.IsSorted(order) {
			t.Errorf("served in the order %v", order)
		}
	})
}

func TestTryNeitherWaitsNorJumpsTheQueue(t *testing.T) {
	bubble(t, func(w *world) {
		b := w.client()
		g := w.get(b, try(slots("s", 3, 2)))
		_, err := b.Acquire(w.ctx, try(slots("s", 3, 2)))
		w.is(err, locker.ErrLocked, "a try that does not fit")
		heavy := w.waiting(w.ctx, w.client(), slots("s", 3, 3))
		_, err = b.Acquire(w.ctx, try(slots("s", 3, 1)))
		w.is(err, locker.ErrLocked, "a try that fits, behind one that waits")
		w.release(b, slots("s", 3, 2), g)
		w.is(w.now(heavy, "the one that waited").err, nil, "the one that waited")
	})
}

func TestHeavyRequestIsNotStarved(t *testing.T) {
	bubble(t, func(w *world) {
		b := w.client()
		one, two := w.get(b, slots("s", 3, 1)), w.get(b, slots("s", 3, 2))
		heavy := w.waiting(w.ctx, b, slots("s", 3, 3))
		light := w.waiting(w.ctx, b, slots("s", 3, 1))
		w.release(b, slots("s", 3, 2), two)
		w.still(heavy, "heavy, with one slot taken")
		w.still(light, "light, behind the heavy one")
		w.release(b, slots("s", 3, 1), one)
		o := w.now(heavy, "heavy")
		w.still(light, "light, beside the heavy one")
		w.release(b, slots("s", 3, 3), o.grant)
		w.is(w.now(light, "light").err, nil, "light")
	})
}

func TestServersAreApart(t *testing.T) {
	bubble(t, func(w *world) {
		alone := New()
		defer alone.Close()
		a, b := w.client(), w.client()
		w.get(a, lock("k"))
		w.get(alone, lock("k"))
		_, err := b.Acquire(w.ctx, try(lock("k")))
		w.is(err, locker.ErrLocked, "two clients of one server")
		w.get(b, slots("k", 1, 1)) // and kinds are apart too
	})
}

func TestRefusals(t *testing.T) {
	bubble(t, func(w *world) {
		b := w.client()
		g := w.get(b, slots("s", 2, 2))
		for what, c := range map[string]struct {
			req  locker.Request
			want error
		}{
			"another limit":   {slots("s", 3, 1), locker.ErrLimitMismatch},
			"weight 0":        {slots("s", 2, 0), locker.ErrInvalid},
			"weight -1":       {slots("s", 2, -1), locker.ErrInvalid},
			"weight > limit":  {slots("s", 2, 3), locker.ErrInvalid},
			"limit 0":         {slots("other", 0, 1), locker.ErrInvalid},
			"a heavy lock":    {locker.Request{Key: "k", Limit: 2, Weight: 2}, locker.ErrInvalid},
			"a negative TTL":  {lasting(lock("k"), -1), locker.ErrInvalid},
			"a try that fits": {try(slots("s", 2, 1)), locker.ErrLocked},
		} {
			_, err := b.Acquire(w.ctx, c.req)
			w.is(err, c.want, what)
			if c.req.Try {
				continue
			}
			p, err := b.Enqueue(w.ctx, c.req)
			w.is(err, c.want, "enqueue: "+what)
			if p != nil {
				t.Errorf("enqueue: %s: a place and an error", what)
			}
		}
		w.counts(1, 0)
		w.release(b, slots("s", 2, 2), g)
	})
}

func TestCaps(t *testing.T) {
	bubble(t, func(w *world) {
		b := w.client()
		g := w.get(b, lock("a"))
		w.get(b, slots("a", 1, 1))
		_, err := b.Acquire(w.ctx, lock("b"))
		w.is(err, locker.ErrTooManyKeys, "a third key")
		next := w.waiting(w.ctx, b, lock("a"))
		_, err = b.Acquire(w.ctx, lock("a"))
		w.is(err, locker.ErrTooManyWaiters, "a second waiter")
		_, err = b.Enqueue(w.ctx, lock("a"))
		w.is(err, locker.ErrTooManyWaiters, "a second waiter")
		w.release(b, lock("a"), g)
		w.release(b, lock("a"), w.now(next, "next").grant)
		w.get(b, lock("b")) // in place of the idle one
	}, WithMaxKeys(2), WithMaxWaiters(1))
}

func TestLimitIsForgottenAfterAnIdleMinute(t *testing.T) {
	bubble(t, func(w *world) {
		b := w.client()
		w.release(b, slots("s", 2, 1), w.get(b, slots("s", 2, 1)))
		time.Sleep(time.Minute - 1)
		_, err := b.Acquire(w.ctx, slots("s", 3, 1))
		w.is(err, locker.ErrLimitMismatch, "just before")
		time.Sleep(time.Nanosecond)
		w.get(b, slots("s", 3, 1))
	})
}

func TestRenewal(t *testing.T) {
	bubble(t, func(w *world) {
		a, b := w.client(), w.client()
		k, s := lock("k"), slots("s", 3, 2)
		gk, gs := w.get(a, k), w.get(a, s)
		time.Sleep(9 * second)
		renewals := []locker.Renewal{
			{Hold: hold(k, gk), TTL: 20 * second, Attempt: 1, Err: errors.New("from before")},
			{Hold: hold(lock("unknown"), gk), TTL: ttl, Err: errors.New("from before"), Granted: 1},
			{Hold: hold(s, gs), TTL: 2 * second, Attempt: 1},
			{Hold: hold(k, gk), TTL: -1, Attempt: 1},
		}
		a.Renew(w.ctx, renewals)
		if r := renewals[0]; r.Err != nil || r.Granted != 20*second {
			t.Errorf("longer: %v, %v", r.Granted, r.Err)
		}
		if r := renewals[1]; !errors.Is(r.Err, locker.ErrLost) || !errors.Is(r.Err, locker.ErrNotHeld) || r.Granted != 0 {
			t.Errorf("unknown: %v, %v", r.Granted, r.Err)
		}
		if r := renewals[2]; r.Err != nil || r.Granted != 2*second {
			t.Errorf("shorter: %v, %v", r.Granted, r.Err)
		}
		if r := renewals[3]; !errors.Is(r.Err, locker.ErrInvalid) || errors.Is(r.Err, locker.ErrLost) || r.Granted != 0 {
			t.Errorf("negative: %v, %v", r.Granted, r.Err)
		}
		next := w.waiting(w.ctx, b, slots("s", 3, 3))
		stamp := time.Now()
		if o := <-next; o.at.Sub(stamp) != 2*second {
			t.Errorf("the shortened lease ended after %v", o.at.Sub(stamp))
		}
		granted, err := w.renew(b, k, gk, 0) // by token, whoever asks
		if err != nil || granted != DefaultTTL {
			t.Errorf("no TTL: %v, %v", granted, err)
		}
	})
}

func TestReleaseGoesByToken(t *testing.T) {
	bubble(t, func(w *world) {
		a, b := w.client(), w.client()
		g := w.get(a, lock("k"))
		wrong := g
		wrong.Token[15] ^= 1
		w.is(a.Release(w.ctx, hold(lock("k"), wrong)), locker.ErrNotHeld, "another token")
		w.is(a.Release(w.ctx, hold(lock("k2"), g)), locker.ErrNotHeld, "another key")
		w.is(a.Release(w.ctx, hold(slots("k", 1, 1), g)), locker.ErrNotHeld, "another kind")
		w.counts(1, 0)
		w.release(b, lock("k"), g) // whoever has the token
		w.is(a.Release(w.ctx, hold(lock("k"), g)), locker.ErrNotHeld, "again")
	})
}

func TestHoldingCostsNoGoroutine(t *testing.T) {
	bubble(t, func(w *world) {
		b := w.client()
		before := runtime.NumGoroutine()
		for i := range 1000 {
			w.get(b, lock(fmt.Sprint("k", i)))
		}
		if n := runtime.NumGoroutine(); n > before { // fewer if an earlier test's has ended
			t.Errorf("%d goroutines before, %d after", before, n)
		}
	})
}

func TestAllErrorsOfTheTableAreKnown(t *testing.T) {
	for _, err := range []error{
		table.ErrLocked, table.ErrLimitMismatch, table.ErrTooManyKeys, table.ErrTooManyWaiters,
		table.ErrWeight, table.ErrTTL, table.ErrNotHeld, table.ErrExpired,
	} {
		if lockerError(err) == nil {
			t.Errorf("%v becomes no error at all", err)
		}
	}
	if err := lockerError(nil); err != nil {
		t.Errorf("no error becomes %v", err)
	}
}

// TestTokensCannotBeForeseen: servers made at one instant give equal fences.
func TestTokensCannotBeForeseen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const servers, grants = 4, 50
		fences, tokens := make(map[uint64]bool), make(map[locker.Token]bool)
		for range servers {
			b := New()
			for i := range grants {
				g, err := b.Acquire(t.Context(), lock(fmt.Sprint("k", i)))
				if err != nil {
					t.Fatal(err)
				}
				fences[g.Fence], tokens[g.Token] = true, true
			}
			b.Close()
		}
		if len(fences) != grants || len(tokens) != servers*grants {
			t.Errorf("%d fences and %d tokens in %d grants of %d servers", len(fences), len(tokens), servers*grants, servers)
		}
	})
}
