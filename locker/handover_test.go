package locker_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
)

// A world is a fake that renews or keeps, as a Client sees it, and as a test
// does.
type world struct {
	locker.Backend
	*fake
	lose func(t locker.Token, cause error)
}

// worlds are one that the Client renews, with and without a session, and one
// that keeps holds alive itself.
func worlds() map[string]func() world {
	return map[string]func() world{
		"renewed": func() world {
			f := newFake()
			return world{Backend: f, fake: f}
		},
		"of a session": func() world {
			f := newFake()
			f.session = locker.NewSession(nil)
			return world{f, f, f.session.Lose}
		},
		"kept": func() world {
			b := newKeeping()
			return world{b, b.fake, b.lose}
		},
	}
}

// inWorlds runs a test in a bubble for each.
func inWorlds(t *testing.T, f func(t *testing.T, w world)) {
	t.Helper()
	for name, w := range worlds() {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { f(t, w()) })
		})
	}
}

// fenced acquires a lease that can be handed over.
func fenced(t testing.TB, c *locker.Client, fences int) *locker.Lease {
	t.Helper()
	a, err := c.Acquirer(locker.Request{Kind: locker.Exclusive, Key: "k", Limit: 1, Weight: 1, Fences: fences})
	assert.Sure(t, err)
	l, err := a.Acquire(t.Context())
	assert.Sure(t, err)
	return l
}

func fence(l *locker.Lease) uint64 {
	f, _ := l.Fence()
	return f
}

// TestHandOver: the old lease is released, the new one is the same hold with the
// next fence, is kept alive, and nothing is sent.
func TestHandOver(t *testing.T) {
	inWorlds(t, func(t *testing.T, w world) {
		l := fenced(t, newClient(t, w.Backend), 4)
		first := fence(l)
		for i := range uint64(3) {
			time.Sleep(time.Second + time.Millisecond)
			work, cancel := l.Context(t.Context())
			lost, left, calls := l.Lost(), l.Left(), w.count()
			next, err := l.HandOver()
			assert.Sure(t, err)
			assert.Exactly(t, "fence", fence(next), first+i+1)
			assert.Exactly(t, "token", next.Token().Hex(), l.Token().Hex())
			assert.Exactly(t, "key", next.Key(), "k")
			assert.Exactly(t, "left", next.Left(), left)
			assert.Exactly(t, "Held", next.Held(), w.now())
			assert.Exactly(t, "TTL", next.TTL(), ttl)
			<-work.Done()
			cancel()
			assert.Matches(t, context.Cause(work), locker.ErrNotHeld)
			assert.Matches(t, l.Check(), locker.ErrNotHeld)
			assert.Exactly(t, "Lost is closed", closed(lost), false)
			assert.Sure(t, l.Err())
			assert.Sure(t, l.Release(t.Context()))
			_, err = l.HandOver()
			assert.Matches(t, err, locker.ErrNotHeld)
			assert.Matches(t, l.Renew(t.Context()), locker.ErrNotHeld)
			assert.Exactly(t, "calls", w.count(), calls)
			l = next
		}
		_, err := l.HandOver()
		assert.Matches(t, err, locker.ErrNoFence)
		time.Sleep(10 * time.Minute)
		assert.Sure(t, l.Check())
		assert.Sure(t, l.Release(t.Context()))
		assert.Exactly(t, "holders", w.holders(), 0)
		assert.Exactly(t, "releases", len(w.of("release")), 1)
	})
}

// TestHandOverEndsAtTheDeadline of the hold, which nobody renews.
func TestHandOverEndsAtTheDeadline(t *testing.T) {
	inWorlds(t, func(t *testing.T, w world) {
		l := fenced(t, newClient(t, w.Backend, locker.WithMaxHold(ttl/2)), 10)
		time.Sleep(time.Second)
		l, err := l.HandOver()
		assert.Sure(t, err)
		work, cancel := l.Context(t.Context())
		defer cancel()
		<-work.Done()
		assert.Exactly(t, "stopped at", w.now(), ttl/2-ttl/6)
		l, err = l.HandOver() // between stop and deadline
		assert.Sure(t, err)
		late, cancel := l.Context(t.Context())
		defer cancel()
		assert.Matches(t, context.Cause(late), locker.ErrMaxHold)
		<-l.Lost()
		assert.Exactly(t, "lost at", w.now(), ttl/2)
		_, err = l.HandOver()
		assert.Matches(t, err, locker.ErrLost, locker.ErrMaxHold)
		synctest.Wait()
		assert.Exactly(t, "holders", w.holders(), 0)
	})
}

// TestHandOverAfterAPause hands nothing over whose deadline has passed.
func TestHandOverAfterAPause(t *testing.T) {
	inWorlds(t, func(t *testing.T, w world) {
		clock := newPausedClock()
		l := fenced(t, newClient(t, w.Backend, locker.WithClock(clock.now)), 10)
		synctest.Wait() // the keeper sleeps
		clock.pause(believed(ttl))
		_, err := l.HandOver()
		assert.Matches(t, err, locker.ErrLost)
		assert.Matches(t, l.Check(), locker.ErrLost)
	})
}

// TestHandOverOfALostLease, and a loss after it, which the heir hears of.
func TestHandOverOfALostLease(t *testing.T) {
	inWorlds(t, func(t *testing.T, w world) {
		if w.lose == nil {
			return // it loses leases by refusals only: see TestHandOverDuringARenewal
		}
		c := newClient(t, w.Backend)
		old := fenced(t, c, 10)
		l, err := old.HandOver()
		assert.Sure(t, err)
		w.lose(l.Token(), locker.ErrRevoked)
		assert.Exactly(t, "Lost is closed", closed(l.Lost()), true)
		assert.Matches(t, l.Check(), locker.ErrLost, locker.ErrRevoked)
		assert.Sure(t, old.Err())
		_, err = l.HandOver()
		assert.Matches(t, err, locker.ErrLost, locker.ErrRevoked)
		w.lose(l.Token(), locker.ErrRevoked) // who is not there
	})
}

// TestHandOverDuringARenewal: the answer is the heir's.
func TestHandOverDuringARenewal(t *testing.T) {
	for name, refuse := range map[string]error{"granted": nil, "refused": locker.ErrLost, "unanswered": locker.ErrUnavailable} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				f.renew = func(_ context.Context, rs []locker.Renewal) {
					time.Sleep(time.Second)
					f.extend(rs)
					if refuse != nil {
						rs[0].Granted, rs[0].Err = 0, refuse
					}
				}
				l := fenced(t, newClient(t, f), 10)
				for len(f.of("renew")) == 0 {
					time.Sleep(time.Millisecond)
				}
				before := l.Deadline()
				l, err := l.HandOver()
				assert.Sure(t, err)
				time.Sleep(time.Second)
				synctest.Wait()
				switch name {
				case "granted":
					if !l.Deadline().After(before) {
						t.Error("the renewal did not move the heir on")
					}
					f.set(func() { f.renew = nil })
					time.Sleep(time.Minute)
					assert.Sure(t, l.Check())
				case "refused":
					assert.Matches(t, l.Err(), locker.ErrLost)
				case "unanswered":
					assert.Exactly(t, "deadline moved", l.Deadline().Sub(before), 0)
					f.set(func() { f.renew = nil })
					time.Sleep(time.Minute)
					assert.Sure(t, l.Check())
				}
			})
		})
	}
}

// TestReleaseOfTheHeir waits for the renewal that began before.
func TestReleaseOfTheHeir(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.renew = func(_ context.Context, rs []locker.Renewal) {
			time.Sleep(time.Second)
			f.extend(rs)
		}
		l := fenced(t, newClient(t, f), 10)
		for len(f.of("renew")) == 0 {
			time.Sleep(time.Millisecond)
		}
		l, err := l.HandOver()
		assert.Sure(t, err)
		assert.Sure(t, l.Release(t.Context()))
		assert.Exactly(t, "released after", f.of("release")[0].at-f.of("renew")[0].at, time.Second)
		assert.Exactly(t, "holders", f.holders(), 0)
	})
}

// TestHandOverWithoutAFence: there is nothing to count.
func TestHandOverWithoutAFence(t *testing.T) {
	f := newFake()
	f.acquire = func(ctx context.Context, req locker.Request) (locker.Grant, error) {
		g, err := f.serve(ctx, req)
		g.Fence = 0
		return g, err
	}
	l := acquire(t, newClient(t, f), "k")
	for range 10 {
		var err error
		l, err = l.HandOver()
		assert.Sure(t, err)
		assert.Exactly(t, "fence", fence(l), 0)
	}
	assert.Sure(t, l.Release(t.Context()))
}

// TestHandOverWhileEverythingEnds: whoever has the lease last is told.
func TestHandOverWhileEverythingEnds(t *testing.T) {
	for name, w := range worlds() {
		t.Run(name, func(t *testing.T) {
			for i := range 300 {
				synctest.Test(t, func(t *testing.T) {
					w := w()
					losses := new(record[locker.LostInfo])
					c := locker.New(w.Backend, locker.WithTTL(ttl), locker.WithTrace(&locker.Trace{Lost: losses.add}))
					last := fenced(t, c, locker.MaxFences)
					token := last.Token()
					var wg sync.WaitGroup
					wg.Go(func() {
						for {
							next, err := last.HandOver()
							if err != nil {
								assert.Matches(t, err, locker.ErrLost)
								return
							}
							last = next
						}
					})
					if w.lose != nil && i%2 == 0 {
						wg.Go(func() { w.lose(token, locker.ErrRevoked) })
					} else {
						wg.Go(func() { assert.Sure(t, c.Close()) })
					}
					wg.Wait()
					assert.Matches(t, last.Err(), locker.ErrLost)
					assert.Exactly(t, "losses", len(losses.all()), 1)
					assert.Sure(t, c.Close())
				})
			}
		})
	}
}

// TestBadFences: what can never be granted is refused before it is sent.
func TestBadFences(t *testing.T) {
	c := newClient(t, newFake())
	for _, r := range []locker.Request{
		{Kind: locker.Exclusive, Limit: 1, Weight: 1, Fences: -1},
		{Kind: locker.Exclusive, Limit: 1, Weight: 1, Fences: locker.MaxFences + 1},
		{Kind: locker.Counting, Limit: 3, Weight: 2, Fences: 2},
	} {
		r.Key = "k"
		_, err := c.Acquirer(r)
		assert.Matches(t, err, locker.ErrInvalid)
	}
	for _, r := range []locker.Request{
		{Kind: locker.Exclusive, Limit: 1, Weight: 1, Fences: locker.MaxFences},
		{Kind: locker.Counting, Limit: 3, Weight: 3, Fences: 2},
		{Kind: locker.Counting, Limit: 3, Weight: 2, Fences: 1},
	} {
		r.Key = "k"
		_, err := c.Acquirer(r)
		assert.Sure(t, err)
	}
}
