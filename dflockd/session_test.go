package dflockd

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/locker"
)

func TestSessionGrantsAreKept(t *testing.T) {
	sessionBubble(t, func(s *sessions) {
		b := s.backend(WithName("me"))
		g := mustAcquire(t, b, brief("k"))
		if g.Kept == nil || g.Session != nil || g.Fence == 0 || g.TTL != 2*time.Second {
			t.Fatalf("granted %+v", g)
		}
		l := s.bind(g)
		time.Sleep(time.Minute)
		s.expect(1, 0)
		if age := b.clock() - g.Kept.Since(); age > time.Second {
			t.Errorf("it counts from %v ago", age)
		}
		_, err := b.Acquire(context.Background(), try("k"))
		wantErr(t, err, locker.ErrLocked)
		held := new(locker.HeldError)
		if !errors.As(err, &held) || held.Holder != "me" || held.For != time.Minute {
			t.Errorf("a try says %v", err)
		}
		mustRelease(t, b, hold("k", g))
		s.expect(0, 0)
		wantErr(t, b.Release(context.Background(), hold("k", g)), locker.ErrNotHeld)
		wantErr(t, g.Kept.Bind(l), locker.ErrNotHeld)
		if told := l.told(); len(told) != 0 {
			t.Errorf("released, and told %v", told)
		}
		if n := s.net.dialled(where); n != 1 {
			t.Errorf("%d connections", n)
		}
	})
}

func TestSessionCarriesWeightsLimitsAndFences(t *testing.T) {
	sessionBubble(t, func(s *sessions) {
		b := s.backend()
		req := locker.Request{Kind: locker.Counting, Key: "rw", Limit: 1 << 30, Weight: 1 << 30, TTL: 1500 * time.Millisecond, Fences: 100}
		g := mustAcquire(t, b, req)
		if g.TTL != req.TTL {
			t.Errorf("granted for %v", g.TTL)
		}
		req.Weight, req.Try, req.Fences = 1, true, 0
		_, err := b.Acquire(context.Background(), req)
		wantErr(t, err, locker.ErrLocked)
		h := hold("rw", g)
		h.Kind = locker.Counting
		mustRelease(t, b, h)
		next := mustAcquire(t, b, req)
		if next.Fence < g.Fence+100 {
			t.Errorf("fence %d after %d with 100", next.Fence, g.Fence)
		}
		req.Limit = 7
		_, err = b.Acquire(context.Background(), req)
		wantErr(t, err, locker.ErrLimitMismatch)
	})
}

// The base protocol refuses at once what it cannot do.
func TestTheBaseProtocolKnowsOneFenceForAGrant(t *testing.T) {
	sessionBubble(t, func(s *sessions) {
		req := lock("k")
		req.Fences = 2
		b := s.backend(WithBaseProtocol())
		_, err := b.Acquire(context.Background(), req)
		wantErr(t, err, errUnsupported)
		_, err = b.Enqueue(context.Background(), req)
		wantErr(t, err, errUnsupported)
		g := mustAcquire(t, b, lock("k"))
		if g.Kept != nil || g.Session == nil {
			t.Errorf("granted %+v", g)
		}
	})
}

func TestSessionTickets(t *testing.T) {
	sessionBubble(t, func(s *sessions) {
		b := s.backend()
		ctx := context.Background()
		first := mustEnqueue(t, b, brief("k"), true)
		second, third := mustEnqueue(t, b, brief("k"), false), mustEnqueue(t, b, brief("k"), false)
		g := mustWait(t, first)
		_, err := first.Wait(ctx)
		wantErr(t, err, locker.ErrNotHeld)
		if err := second.Cancel(ctx); err != nil {
			t.Error(err)
		}
		s.expect(1, 1)
		mustRelease(t, b, hold("k", g))
		late := mustEnqueue(t, b, brief("k"), false)
		mustRelease(t, b, hold("k", mustWait(t, third)))
		time.Sleep(3 * time.Second) // its turn came, and its lease ran out
		_, err = late.Wait(ctx)
		wantErr(t, err, locker.ErrPlaceExpired)
		over, cancel := context.WithCancel(ctx)
		cancel()
		_, err = mustEnqueue(t, b, brief("k"), true).Wait(over)
		wantErr(t, err, context.Canceled)
		s.expect(0, 0)
		if n := s.net.dialled(where); n != 1 {
			t.Errorf("%d connections", n)
		}
	})
}

func TestSessionRenewsByToken(t *testing.T) {
	sessionBubble(t, func(s *sessions) {
		b := s.backend()
		g := mustAcquire(t, b, brief("k"))
		time.Sleep(100 * time.Millisecond)
		before := b.clock()
		if r := renewOnce(b, hold("k", g), time.Second, 1); r.Err != nil || r.Granted != time.Second {
			t.Errorf("renewed for %v, %v", r.Granted, r.Err)
		}
		if since := g.Kept.Since(); since < before {
			t.Errorf("it counts from %v, and was renewed at %v", since, before)
		}
		wantErr(t, renewOnce(b, hold("k", g), 0, 1).Err, locker.ErrInvalid)
		mustRelease(t, b, hold("k", g))
		wantErr(t, renewOnce(b, hold("k", g), time.Second, 1).Err, locker.ErrLost)
	})
}

func TestForceTellsTheHolder(t *testing.T) {
	for _, base := range []bool{true, false} {
		sessionBubble(t, func(s *sessions) {
			b, op := s.backend(), s.backend()
			if base {
				op = s.backend(WithBaseProtocol())
			}
			l := s.bind(mustAcquire(t, b, brief("k")))
			n, err := op.Force(context.Background(), locker.Exclusive, "k")
			if n != 1 || err != nil {
				t.Errorf("forced %d, %v", n, err)
			}
			s.wantLost(l, locker.ErrRevoked)
			if n, err := op.Force(context.Background(), locker.Exclusive, "k"); n != 0 || err != nil {
				t.Errorf("forced %d, %v", n, err)
			}
			s.expect(0, 0)
		})
	}
}

// A loss before anybody was bound is told to who wants to be.
func TestBindAfterTheLoss(t *testing.T) {
	sessionBubble(t, func(s *sessions) {
		b := s.backend()
		g := mustAcquire(t, b, brief("k"))
		if _, err := b.Force(context.Background(), locker.Exclusive, "k"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		l := new(loser)
		wantErr(t, g.Kept.Bind(l), locker.ErrRevoked)
		if len(l.told()) != 0 {
			t.Error("told twice")
		}
		wantErr(t, renewOnce(b, hold("k", g), time.Second, 1).Err, locker.ErrLost)
	})
}

// Ten thousand wait on one connection, and all get their turn in order.
func TestTenThousandWaitersOnOneConnection(t *testing.T) {
	sessionBubble(t, func(s *sessions) {
		s.srv.Close()
		s.cfg.MaxWaiters = 0
		s.start()
		const waiters = 10_000
		b := s.backend()
		first := mustAcquire(t, b, lock("k"))
		var wg sync.WaitGroup
		last := first.Fence
		for range waiters {
			wg.Go(func() {
				g := mustAcquire(t, b, lock("k"))
				if g.Fence <= last { // guarded by the lock
					t.Errorf("fence %d after %d", g.Fence, last)
				}
				last = g.Fence
				mustRelease(t, b, hold("k", g))
			})
		}
		s.expect(1, waiters)
		time.Sleep(time.Minute) // only beats
		mustRelease(t, b, hold("k", first))
		wg.Wait()
		s.expect(0, 0)
		if n := s.net.dialled(where); n != 1 {
			t.Errorf("%d connections", n)
		}
	})
}

// What waits is taken back at once, also while the answer is on its way.
func TestCancellingInASession(t *testing.T) {
	sessionBubble(t, func(s *sessions) {
		b, other := s.backend(), s.backend()
		for i := range 300 {
			g := mustAcquire(t, other, lock("k"))
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			go func() {
				g, err := b.Acquire(ctx, lock("k"))
				if err == nil {
					mustRelease(t, b, hold("k", g))
				}
				ended <- err
			}()
			if i%3 > 0 {
				synctest.Wait()
			}
			go other.Release(context.Background(), hold("k", g)) //nolint:errcheck // it is raced with
			if i%3 > 1 {
				cancel()
			} else {
				go cancel()
			}
			if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			cancel()
		}
		s.expect(0, 0)
	})
}

func TestSessionInspect(t *testing.T) {
	sessionBubble(t, func(s *sessions) {
		b := s.backend(WithName("me"))
		mustAcquire(t, b, brief("k"))
		for _, weight := range []int{2, 1} {
			mustAcquire(t, b, locker.Request{Kind: locker.Counting, Key: "shared", Limit: 5, Weight: weight})
		}
		const held = 1500 * time.Millisecond
		time.Sleep(held)
		r, err := b.Inspect(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Keys) != 2 || r.Keys[0].Name != "me" || r.Keys[0].HeldFor != held || r.Connections != 1 {
			t.Fatalf("report %+v", r)
		}
		shares := []locker.ShareReport{{Name: "me", Weight: 2, HeldFor: held}, {Name: "me", Weight: 1, HeldFor: held}}
		if k := r.Keys[1]; k.Name != "me" || k.HeldFor != held || !slices.Equal(k.Shares, shares) {
			t.Errorf("of a shared key: %+v", k)
		}
	})
}

func TestInspectValues(t *testing.T) {
	sessionBubble(t, func(s *sessions) {
		b := s.backend()
		for _, key := range []string{"held", "idle"} {
			g := mustAcquire(t, b, brief(key))
			if _, err := b.Put(context.Background(), hold(key, g), []byte("data"), 0); err != nil {
				t.Fatal(err)
			}
			if key == "idle" {
				mustRelease(t, b, hold(key, g))
			}
		}
		mustAcquire(t, b, brief("without"))
		const age = 1500 * time.Millisecond
		time.Sleep(age)
		r, err := b.Inspect(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range r.Keys {
			switch want := (locker.ValueReport{Bytes: 4, Age: age}); {
			case k.Key == "without" && k.Value != nil:
				t.Errorf("a lock without a value has %+v", *k.Value)
			case k.Key != "without" && (k.Value == nil || *k.Value != want):
				t.Errorf("%s: %+v, want %+v", k.Key, k.Value, want)
			}
		}
		if len(r.Keys) != 3 {
			t.Errorf("report %+v", r)
		}
	})
}

// A wait ends when its context does, and then says who was in the way.
func TestAWaitThatIsOverSaysWhoHolds(t *testing.T) {
	sessionBubble(t, func(s *sessions) {
		mustAcquire(t, s.backend(WithName("holder")), lock("k"))
		b := s.backend()
		for _, wait := range []time.Duration{100 * time.Millisecond, 10 * time.Second, time.Hour} {
			ctx, cancel := context.WithTimeout(context.Background(), wait)
			began := time.Now()
			_, err := b.Acquire(ctx, lock("k"))
			if took := time.Since(began); took != wait {
				t.Errorf("a wait of %v took %v", wait, took)
			}
			held := new(locker.HeldError)
			if !errors.As(err, &held) || held.Holder != "holder" {
				t.Errorf("a wait of %v says %v", wait, err)
			}
			cancel()
			p := mustEnqueue(t, b, lock("k"), false)
			ctx, cancel = context.WithTimeout(context.Background(), wait)
			_, err = p.Wait(ctx)
			wantErr(t, err, locker.ErrLocked)
			cancel()
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Millisecond) // too short to tell
		defer cancel()
		_, err := b.Acquire(ctx, lock("k"))
		wantErr(t, err, context.DeadlineExceeded)
		s.expect(1, 0)
	})
}
