package dflockd

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/stocktest"
	"github.com/distributed-go/distributed/locker"
)

func TestAcquireAndReleaseOverOneConnection(t *testing.T) {
	stockBubble(t, stocktest.Config{}, func(t *testing.T, s *stock) {
		for i := range 100 {
			g := mustAcquire(t, s.b, lock(fmt.Sprint("key", i%7)))
			if g.TTL != 33*time.Second || g.Session == nil || g.Fence != 0 {
				t.Fatalf("grant %+v", g)
			}
			s.expect(t, 1, 1, 0)
			mustRelease(t, s.b, hold(fmt.Sprint("key", i%7), g))
			s.expect(t, 1, 0, 0)
		}
		if n := s.net.dialled(where); n != 1 {
			t.Errorf("%d connections were dialled", n)
		}
	})
}

func TestTryOfAHeldKeyFailsAtOnce(t *testing.T) {
	stockBubble(t, stocktest.Config{}, func(t *testing.T, s *stock) {
		mustAcquire(t, s.b, lock("k"))
		began := time.Now()
		_, err := s.b.Acquire(context.Background(), try("k"))
		wantErr(t, err, locker.ErrLocked)
		if took := time.Since(began); took != 0 {
			t.Errorf("took %v", took)
		}
		s.expect(t, 1, 1, 0)
	})
}

func TestWaitersAreServedInOrder(t *testing.T) {
	stockBubble(t, stocktest.Config{}, func(t *testing.T, s *stock) {
		const n = 20
		first := mustAcquire(t, s.b, lock("k"))
		var mu sync.Mutex
		var order []int
		var wg sync.WaitGroup
		for i := range n {
			wg.Go(func() {
				g := mustAcquire(t, s.b, lock("k"))
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				time.Sleep(time.Millisecond)
				mustRelease(t, s.b, hold("k", g))
			})
			synctest.Wait()
		}
		s.expect(t, n+1, 1, n)
		mustRelease(t, s.b, hold("k", first))
		wg.Wait()
		for i, got := range order {
			if got != i {
				t.Fatalf("order %v", order)
			}
		}
		s.expect(t, n+1, 0, 0)
	})
}

func TestASecondWaiterLeavesOutTheTry(t *testing.T) {
	scriptBubble(t, func(s *script, number int) {
		for r := s.next(); r != ""; r = s.next() {
			if r == "l|k|0" {
				s.say("timeout")
			}
		}
	}, func(t *testing.T, b *Backend, n *network) {
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() { b.Acquire(ctx, lock("k")) })
			synctest.Wait()
		}
		cancel()
		wg.Wait()
		n.expectSeen(t, "1 l|k|0", "2 l|k|86400", "3 l|k|86400")
	})
}

func TestConnectionsOfWaitsAreUsedAgain(t *testing.T) {
	stockBubble(t, stocktest.Config{}, func(t *testing.T, s *stock) {
		for range 50 {
			first := mustAcquire(t, s.b, lock("k"))
			done := make(chan locker.Grant)
			go func() { done <- mustAcquire(t, s.b, lock("k")) }()
			synctest.Wait()
			mustRelease(t, s.b, hold("k", first))
			mustRelease(t, s.b, hold("k", <-done))
		}
		if n := s.net.dialled(where); n != 2 {
			t.Errorf("%d connections were dialled", n)
		}
	})
}

// A hold that waited depends on its own connection, which must never be used
// for another wait while it is held, and never be renewed or released over by
// a handle of an earlier use.
func TestAStaleHandleLeavesTheNextUserAlone(t *testing.T) {
	stockBubble(t, stocktest.Config{}, func(t *testing.T, s *stock) {
		wait := func(key string) locker.Grant {
			t.Helper()
			first := mustAcquire(t, s.b, lock(key))
			done := make(chan locker.Grant)
			go func() { done <- mustAcquire(t, s.b, lock(key)) }()
			synctest.Wait()
			mustRelease(t, s.b, hold(key, first))
			return <-done
		}
		old := hold("k", wait("k"))
		mustRelease(t, s.b, old)
		young := hold("k", wait("k"))
		if old.Session == young.Session {
			t.Error("two uses of a connection share a session")
		}
		wantErr(t, s.b.Release(context.Background(), old), locker.ErrNotHeld)
		wantErr(t, renewOnce(s.b, old, 10*time.Second, 1).Err, locker.ErrLost)
		if r := renewOnce(s.b, young, 10*time.Second, 1); r.Err != nil {
			t.Errorf("renewal of the young hold: %v", r.Err)
		}
		s.expect(t, 2, 1, 0)
		mustRelease(t, s.b, young)
	})
}

func TestRenewalKeepsALeaseAndSaysItsTTL(t *testing.T) {
	stockBubble(t, stocktest.Config{}, func(t *testing.T, s *stock) {
		req := lock("k")
		req.TTL = 1500 * time.Millisecond
		g := mustAcquire(t, s.b, req)
		if g.TTL != 2*time.Second {
			t.Errorf("TTL %v, want it rounded up", g.TTL)
		}
		for range 20 {
			time.Sleep(700 * time.Millisecond)
			if r := renewOnce(s.b, hold("k", g), req.TTL, 1); r.Err != nil || r.Granted != 2*time.Second {
				t.Fatalf("renewal granted %v, %v", r.Granted, r.Err)
			}
		}
		time.Sleep(5 * time.Second)
		wantErr(t, renewOnce(s.b, hold("k", g), req.TTL, 1).Err, locker.ErrLost)
		wantErr(t, s.b.Release(context.Background(), hold("k", g)), locker.ErrNotHeld)
	})
}

// The smallest lease there is: v1.0 answers its renewal with "ok 0".
func TestRenewalOfASecondIsNotALoss(t *testing.T) {
	stockBubble(t, stocktest.Config{}, func(t *testing.T, s *stock) {
		req := lock("k")
		req.TTL = time.Nanosecond
		g := mustAcquire(t, s.b, req)
		if r := renewOnce(s.b, hold("k", g), req.TTL, 1); r.Err != nil || r.Granted != time.Second {
			t.Errorf("renewal granted %v, %v", r.Granted, r.Err)
		}
	})
}

// Upstream's own client loses a lease of 60 s at 23 s, because it is silent.
func TestLongLeasesOutliveTheReadTimeout(t *testing.T) {
	for _, ttl := range []time.Duration{60 * time.Second, time.Hour} {
		stockBubble(t, stocktest.Config{}, func(t *testing.T, s *stock) {
			req := lock("shared")
			req.TTL = ttl
			shared := mustAcquire(t, s.b, req)
			blocker := mustAcquire(t, s.b, lock("own"))
			done := make(chan locker.Grant)
			go func() { req := req; req.Key = "own"; done <- mustAcquire(t, s.b, req) }()
			time.Sleep(30 * time.Second) // longer than the read timeout, waiting
			mustRelease(t, s.b, hold("own", blocker))
			own := <-done
			place, err := s.b.Enqueue(context.Background(), func() locker.Request { r := req; r.Key = "place"; return r }())
			if err != nil || !place.Acquired() {
				t.Fatalf("place %v, %v", place, err)
			}
			time.Sleep(ttl - 31*time.Second) // the leases are not renewed meanwhile
			for _, g := range []locker.Grant{shared, own} {
				if err := g.Session.Err(); err != nil {
					t.Errorf("lease of %v: %v", ttl, err)
				}
			}
			s.expect(t, 3, 3, 0)
			mustRelease(t, s.b, hold("shared", shared))
			mustRelease(t, s.b, hold("own", own))
			if err := place.Cancel(context.Background()); err != nil {
				t.Error(err)
			}
			s.expect(t, 3, 0, 0)
		})
	}
}

func TestIdleConnectionsAreClosedAndTendingEnds(t *testing.T) {
	stockBubble(t, stocktest.Config{}, func(t *testing.T, s *stock) {
		g := mustAcquire(t, s.b, lock("k"))
		done := make(chan locker.Grant)
		go func() { done <- mustAcquire(t, s.b, lock("k")) }()
		synctest.Wait()
		mustRelease(t, s.b, hold("k", g))
		mustRelease(t, s.b, hold("k", <-done))
		time.Sleep(10 * time.Second)
		s.expect(t, 2, 0, 0)
		time.Sleep(7 * time.Second)
		s.expect(t, 0, 0, 0)
		s.b.mu.Lock()
		if s.b.tending || s.b.conns != 0 {
			t.Errorf("tending %v with %d connections", s.b.tending, s.b.conns)
		}
		s.b.mu.Unlock()
		mustAcquire(t, s.b, lock("k"))
		time.Sleep(30 * time.Second)
		s.expect(t, 1, 1, 0) // it is tended again
	})
}

// A lease that ran out without a release must not keep its connection for ever.
func TestAForgottenHoldLetsItsConnectionGo(t *testing.T) {
	stockBubble(t, stocktest.Config{}, func(t *testing.T, s *stock) {
		req := lock("shared")
		req.TTL = 10 * time.Second
		mustAcquire(t, s.b, req)
		req.Key = "own"
		blocker := mustAcquire(t, s.b, lock("own"))
		done := make(chan locker.Grant)
		go func() { done <- mustAcquire(t, s.b, req) }()
		synctest.Wait()
		mustRelease(t, s.b, hold("own", blocker))
		own := <-done
		time.Sleep(60 * time.Second)
		s.expect(t, 0, 0, 0)
		if own.Session.Err() == nil {
			t.Error("the session of a closed connection lasts")
		}
	})
}

func TestAServersDisconnectLosesItsHoldsAtOnce(t *testing.T) {
	stockBubble(t, stocktest.Config{}, func(t *testing.T, s *stock) {
		g := mustAcquire(t, s.b, lock("k"))
		if err := g.Session.Err(); err != nil {
			t.Fatal(err)
		}
		s.srv.Drop()
		synctest.Wait()
		wantErr(t, g.Session.Err(), locker.ErrLost)
		wantErr(t, g.Session.Err(), locker.ErrUnavailable)
		wantErr(t, renewOnce(s.b, hold("k", g), time.Minute, 1).Err, locker.ErrLost)
		wantErr(t, s.b.Release(context.Background(), hold("k", g)), locker.ErrNotHeld)
		mustAcquire(t, s.b, lock("k"))
	})
}

func TestHoldsSurviveTheirConnectionWhereTheServerKeepsThem(t *testing.T) {
	stockBubble(t, stocktest.Config{Keep: true}, func(t *testing.T, s *stock) {
		g := mustAcquire(t, s.b, lock("k"))
		if g.Session != nil {
			t.Error("the hold depends on a session")
		}
		done := make(chan locker.Grant)
		go func() { done <- mustAcquire(t, s.b, lock("k")) }()
		synctest.Wait()
		if r := renewOnce(s.b, hold("k", g), 60*time.Second, 1); r.Err != nil {
			t.Error(r.Err)
		}
		mustRelease(t, s.b, hold("k", g))
		g = <-done
		if idle := len(s.b.servers[0].idle); idle != 1 {
			t.Errorf("%d connections are idle, although nothing depends on any", idle)
		}
		s.srv.Drop()
		synctest.Wait()
		if r := renewOnce(s.b, hold("k", g), 60*time.Second, 1); r.Err != nil {
			t.Error(r.Err)
		}
		time.Sleep(40 * time.Second) // nothing keeps the connection open, nor needs to
		s.expect(t, 0, 1, 0)
		mustRelease(t, s.b, hold("k", g))
		s.expect(t, 1, 0, 0)
	}, WithKeepOnDisconnect())
}

func TestSemaphoresAreRefusedByAServerThatIsTooOld(t *testing.T) {
	stockBubble(t, stocktest.Config{}, func(t *testing.T, s *stock) {
		held := mustAcquire(t, s.b, lock("k"))
		for _, try := range []bool{false, true} {
			req := slot("s", 3)
			req.Try = try
			_, err := s.b.Acquire(context.Background(), req)
			wantErr(t, err, ErrRefused)
		}
		_, err := s.b.Enqueue(context.Background(), slot("s", 3))
		wantErr(t, err, ErrRefused)
		if err := held.Session.Err(); err != nil {
			t.Errorf("asking for a semaphore cost a lock: %v", err)
		}
	})
}

func TestInspectIsUnsupportedByAServerThatIsTooOld(t *testing.T) {
	stockBubble(t, stocktest.Config{}, func(t *testing.T, s *stock) {
		held := mustAcquire(t, s.b, lock("k"))
		_, err := s.b.Inspect(context.Background())
		wantErr(t, err, errUnsupported)
		if err := held.Session.Err(); err != nil {
			t.Errorf("inspecting cost a lock: %v", err)
		}
	})
}
