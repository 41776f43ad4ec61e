package dflockd

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/stocktest"
	"github.com/distributed-go/distributed/locker"
)

func mustEnqueue(t *testing.T, b *Backend, req locker.Request, acquired bool) locker.Place {
	t.Helper()
	p, err := b.Enqueue(context.Background(), req)
	if err != nil {
		t.Fatal(err)
	}
	if p.Acquired() != acquired {
		t.Fatalf("acquired %v", p.Acquired())
	}
	return p
}

func mustWait(t *testing.T, p locker.Place) locker.Grant {
	t.Helper()
	g, err := p.Wait(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestAPlaceThatWasFreeIsCollected(t *testing.T) {
	stockBubble(t, stocktest.Config{}, func(t *testing.T, s *stock) {
		req := lock("k")
		req.TTL = 10 * time.Second
		p := mustEnqueue(t, s.b, req, true)
		time.Sleep(8 * time.Second)
		g := mustWait(t, p)
		if g.TTL != 10*time.Second || g.Session == nil {
			t.Errorf("grant %+v", g)
		}
		time.Sleep(8 * time.Second) // Wait has started the lease anew
		if r := renewOnce(s.b, hold("k", g), 10*time.Second, 1); r.Err != nil {
			t.Error(r.Err)
		}
		_, err := p.Wait(context.Background())
		wantErr(t, err, locker.ErrNotHeld)
		if err := p.Cancel(context.Background()); err != nil {
			t.Error(err)
		}
		s.expect(t, 1, 1, 0)
		mustRelease(t, s.b, hold("k", g))
		s.expect(t, 1, 0, 0)
	})
}

func TestAPlaceInTheQueueKeepsItsOrder(t *testing.T) {
	stockBubble(t, stocktest.Config{}, func(t *testing.T, s *stock) {
		first := mustAcquire(t, s.b, lock("k"))
		place := mustEnqueue(t, s.b, lock("k"), false)
		later := make(chan locker.Grant)
		go func() { later <- mustAcquire(t, s.b, lock("k")) }()
		synctest.Wait()
		s.expect(t, 3, 1, 2)
		mustRelease(t, s.b, hold("k", first))
		s.expect(t, 3, 1, 1)
		g := mustWait(t, place)
		mustRelease(t, s.b, hold("k", g))
		mustRelease(t, s.b, hold("k", <-later))
		s.expect(t, 3, 0, 0)
	})
}

func TestAPlaceIsKeptThroughALongSilence(t *testing.T) {
	stockBubble(t, stocktest.Config{}, func(t *testing.T, s *stock) {
		req := lock("k")
		req.TTL = time.Hour
		first := mustAcquire(t, s.b, req)
		p := mustEnqueue(t, s.b, req, false)
		time.Sleep(10 * time.Minute)
		s.expect(t, 2, 1, 1)
		mustRelease(t, s.b, hold("k", first))
		time.Sleep(10 * time.Minute)
		s.expect(t, 1, 1, 0) // the shared connection was idle
		mustRelease(t, s.b, hold("k", mustWait(t, p)))
	})
}

func TestCancellingAPlace(t *testing.T) {
	for name, turn := range map[string]bool{"queued": false, "its turn has come": true} {
		t.Run(name, func(t *testing.T) {
			stockBubble(t, stocktest.Config{}, func(t *testing.T, s *stock) {
				first := mustAcquire(t, s.b, lock("k"))
				p := mustEnqueue(t, s.b, lock("k"), false)
				if turn {
					mustRelease(t, s.b, hold("k", first))
				}
				for range 2 {
					if err := p.Cancel(context.Background()); err != nil {
						t.Error(err)
					}
				}
				held := 1
				if turn {
					held = 0
				}
				s.expect(t, 2, held, 0)
				_, err := p.Wait(context.Background())
				wantErr(t, err, locker.ErrNotHeld)
				// The connection is clean, and used again.
				again := mustEnqueue(t, s.b, lock("other"), true)
				if err := again.Cancel(context.Background()); err != nil {
					t.Error(err)
				}
				s.expect(t, 2, held, 0)
			})
		})
	}
}

func TestCancellingAWaitForAPlaceLeavesTheQueue(t *testing.T) {
	stockBubble(t, stocktest.Config{}, func(t *testing.T, s *stock) {
		mustAcquire(t, s.b, lock("k"))
		p := mustEnqueue(t, s.b, lock("k"), false)
		ctx, cancel := context.WithTimeout(context.Background(), 1500*time.Millisecond)
		defer cancel()
		_, err := p.Wait(ctx)
		wantErr(t, err, context.DeadlineExceeded)
		time.Sleep(time.Second)
		s.expect(t, 1, 1, 0)
	})
}

func TestWaitWithAContextThatHasEndedGivesThePlaceUp(t *testing.T) {
	stockBubble(t, stocktest.Config{}, func(t *testing.T, s *stock) {
		p := mustEnqueue(t, s.b, lock("k"), true)
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_, err := p.Wait(ctx)
		wantErr(t, err, context.Canceled)
		s.expect(t, 0, 0, 0)
	})
}

func TestAPlaceWhoseLeaseRanOut(t *testing.T) {
	stockBubble(t, stocktest.Config{}, func(t *testing.T, s *stock) {
		req := lock("k")
		req.TTL = time.Second
		p := mustEnqueue(t, s.b, req, true)
		time.Sleep(5 * time.Second)
		_, err := p.Wait(context.Background())
		wantErr(t, err, locker.ErrPlaceExpired)
		s.expect(t, 1, 0, 0)
		p = mustEnqueue(t, s.b, req, true)
		time.Sleep(5 * time.Second)
		if err := p.Cancel(context.Background()); err != nil {
			t.Error(err)
		}
	})
}

func TestAnswersToWaiting(t *testing.T) {
	for answer, want := range map[string]error{
		"error":                locker.ErrPlaceExpired,
		"error_lease_expired":  locker.ErrPlaceExpired,
		"error_not_enqueued":   locker.ErrPlaceExpired,
		"timeout":              locker.ErrPlaceExpired,
		"error_draining":       locker.ErrDraining,
		"queued":               locker.ErrUnavailable,
		"ok":                   locker.ErrUnavailable,
		"acquired " + token(1): locker.ErrUnavailable,
	} {
		scriptBubble(t, func(s *script, _ int) {
			s.expect("se|k|3 20")
			s.say("queued")
			s.expect("sw|k|86400")
			s.say(answer)
			s.skip()
		}, func(t *testing.T, b *Backend, _ *network) {
			req := slot("k", 3)
			req.TTL = 20 * time.Second
			_, err := mustEnqueue(t, b, req, false).Wait(context.Background())
			wantErr(t, err, want)
		})
	}
}

func TestAnswersToEnqueueing(t *testing.T) {
	for answer, want := range map[string]error{
		"error":                  ErrRefused,
		"error_already_enqueued": ErrRefused,
		"error_max_waiters":      locker.ErrTooManyWaiters,
		"error_max_locks":        locker.ErrTooManyKeys,
		"error_limit_mismatch":   locker.ErrLimitMismatch,
		"error_draining":         locker.ErrDraining,
		"timeout":                locker.ErrUnavailable,
		granted(1):               locker.ErrUnavailable,
		"acquired":               locker.ErrUnavailable,
	} {
		scriptBubble(t, func(s *script, _ int) {
			for s.next() != "" {
				s.say(answer)
			}
		}, func(t *testing.T, b *Backend, _ *network) {
			_, err := b.Enqueue(context.Background(), slot("k", 3))
			wantErr(t, err, want)
		})
	}
}

// Enqueue was cancelled, and the answer comes later: a place goes with the
// connection, a lease is given back by token.
func TestAnEnqueueThatIsAnsweredTooLate(t *testing.T) {
	for _, answer := range []string{"queued", "acquired " + token(5) + " 33"} {
		scriptBubble(t, func(s *script, number int) {
			if s.next() == "e|k|" {
				s.next() // the end
				time.Sleep(time.Second)
				s.say(answer)
				return
			}
			s.say("ok")
			s.skip()
		}, func(t *testing.T, b *Backend, n *network) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			_, err := b.Enqueue(ctx, lock("k"))
			wantErr(t, err, context.DeadlineExceeded)
			time.Sleep(3 * time.Second)
			if answer == "queued" {
				n.expectSeen(t, "1 e|k|")
			} else {
				n.expectSeen(t, "1 e|k|", "2 r|k|"+token(5))
			}
		})
	}
}

func TestAPlaceEndsWithItsConnection(t *testing.T) {
	stockBubble(t, stocktest.Config{}, func(t *testing.T, s *stock) {
		p := mustEnqueue(t, s.b, lock("k"), true)
		q := mustEnqueue(t, s.b, lock("k"), false)
		s.srv.Drop()
		synctest.Wait()
		_, err := p.Wait(context.Background())
		wantErr(t, err, locker.ErrUnavailable)
		wantErr(t, q.Cancel(context.Background()), locker.ErrUnavailable)
		s.expect(t, 0, 0, 0)
	})
}

func TestACancelThatIsNotAnsweredGoesOnInTheBackground(t *testing.T) {
	scriptBubble(t, func(s *script, number int) {
		for r := s.next(); r != ""; r = s.next() {
			switch {
			case r[0] == 'e':
				s.say("acquired " + token(5) + " 33")
			case number > 1:
				s.say("ok")
			}
		}
	}, func(t *testing.T, b *Backend, n *network) {
		p := mustEnqueue(t, b, lock("k"), true)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		wantErr(t, p.Cancel(ctx), context.DeadlineExceeded)
		n.expectSeen(t, "1 e|k|", "1 r|k|"+token(5), "2 r|k|"+token(5))
	})
}
