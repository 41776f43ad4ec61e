package locker_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
)

// TestOnePutAnswersAllWhoJoin: from several Clients, and nobody of them gets a
// lease.
func TestOnePutAnswersAllWhoJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		l, v, err := newClient(t, s).Join(t.Context(), "k", 0)
		assert.Sure(t, err)
		if l == nil || v != nil {
			t.Fatalf("the first got %v and %v instead of a lease", l, v)
		}
		answers := make(chan string, 100)
		for range 10 {
			c := newClient(t, s)
			for range 10 {
				go func() {
					l, v, err := c.Join(t.Context(), "k", 0)
					if err == nil && l == nil {
						answers <- fmt.Sprintf("%s %d", v.Data, v.Fence)
						return
					}
					answers <- fmt.Sprint(l, err)
				}()
			}
		}
		synctest.Wait()
		fence, err := l.Put(t.Context(), []byte("result"), time.Minute)
		assert.Sure(t, err)
		before, _ := l.Fence()
		assert.Exactly(t, "fence of the put is larger", fence > before, true)
		for range 100 {
			assert.Exactly(t, "answer", <-answers, fmt.Sprint("result ", fence))
		}
		assert.Sure(t, l.Release(t.Context()))
		assert.Exactly(t, "holders", s.holders(), 0)
	})
}

// TestJoinOfWhatIsThere: only a value that is fresh enough is the answer.
func TestJoinOfWhatIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		c := newClient(t, s)
		l := acquire(t, c, "k")
		_, err := l.Put(t.Context(), []byte("old"), 0)
		assert.Sure(t, err)
		assert.Sure(t, l.Release(t.Context()))
		time.Sleep(time.Minute)
		for _, fresh := range []time.Duration{0, time.Minute} {
			l, v, err := c.Join(t.Context(), "k", fresh)
			assert.Sure(t, err)
			assert.Exactly(t, "a value", v != nil, false)
			assert.Sure(t, l.Check())
			assert.Sure(t, l.Release(t.Context()))
		}
		for _, fresh := range []time.Duration{time.Minute + 1, locker.AnyAge} {
			l, v, err := c.Join(t.Context(), "k", fresh)
			assert.Sure(t, err)
			assert.Exactly(t, "a lease", l != nil, false)
			assert.Exactly(t, "age", v.Age, time.Minute)
		}
		v, err := c.Get(t.Context(), "k")
		assert.Sure(t, err)
		assert.Exactly(t, "value", string(v.Data), "old")
		_, err = c.Get(t.Context(), "other")
		assert.Matches(t, err, locker.ErrNoValue)
		l = acquire(t, c, "k")
		assert.Sure(t, l.RemoveValue(t.Context()))
		_, err = c.Get(t.Context(), "k")
		assert.Matches(t, err, locker.ErrNoValue)
	})
}

// TestJoinPassesTheLeadToOne when the holder releases without a value.
func TestJoinPassesTheLeadToOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		c := newClient(t, s)
		first := acquire(t, c, "k")
		leads := make(chan *locker.Lease, 5)
		for range 5 {
			go func() {
				if l, _, err := c.Join(t.Context(), "k", 0); err == nil && l != nil {
					leads <- l
				}
			}()
		}
		synctest.Wait()
		assert.Sure(t, first.Release(t.Context()))
		synctest.Wait()
		assert.Exactly(t, "leads", len(leads), 1)
		l := <-leads
		_, err := l.Put(t.Context(), nil, 0)
		assert.Sure(t, err)
		assert.Sure(t, l.Release(t.Context()))
		synctest.Wait()
		assert.Exactly(t, "leads", len(leads), 0)
	})
}

// TestJoinRidesOutAnOutage, and confirms a lease that it waited long for.
func TestJoinRidesOutAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		c := newClient(t, s)
		first := acquire(t, c, "k")
		s.join = func(ctx context.Context, req locker.Request, fresh time.Duration) (locker.Grant, *locker.Value, error) {
			if s.now() < 30*time.Second {
				_, err := unavailable(ctx, req)
				return locker.Grant{}, nil, err
			}
			return s.queueUp(ctx, req, fresh)
		}
		time.AfterFunc(time.Minute, func() { first.Release(context.Background()) })
		l, v, err := c.Join(t.Context(), "k", 0)
		assert.Sure(t, err)
		assert.Exactly(t, "a value", v != nil, false)
		assert.Exactly(t, "at", s.now(), time.Minute)
		assert.Exactly(t, "left", l.Left(), believed(ttl))
		last := s.of("renew")
		assert.Exactly(t, "confirmed", last[len(last)-1].token, l.Token())
	})
}

// TestJoinGivesUp: errors name the cause, and nothing is left behind.
func TestJoinGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		c := newClient(t, s)
		first := acquire(t, c, "k")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, _, err := c.Join(ctx, "k", 0)
		assert.Matches(t, err, context.DeadlineExceeded, locker.ErrLocked)
		_, _, err = c.Join(t.Context(), "k", 0, locker.WithWait(time.Second))
		assert.Matches(t, err, locker.ErrLocked)
		assert.MatchesNot(t, err, context.DeadlineExceeded)
		_, _, err = c.Join(t.Context(), "k", -1)
		assert.Matches(t, err, locker.ErrInvalid)
		_, _, err = c.Join(t.Context(), "", 0)
		assert.Matches(t, err, locker.ErrInvalid)
		assert.Sure(t, first.Release(t.Context()))
		assert.Exactly(t, "holders", s.holders(), 0)

		s.set(func() {
			s.join = func(ctx context.Context, req locker.Request, _ time.Duration) (locker.Grant, *locker.Value, error) {
				_, err := unavailable(ctx, req)
				return locker.Grant{}, nil, err
			}
		})
		_, _, err = c.Join(t.Context(), "k", 0, locker.WithWait(time.Second))
		assert.Matches(t, err, locker.ErrUnavailable)
		assert.MatchesNot(t, err, locker.ErrLocked)
		assert.Sure(t, c.Close())
		_, _, err = c.Join(t.Context(), "k", 0)
		assert.Matches(t, err, locker.ErrClosed)
		_, err = c.Get(t.Context(), "k")
		assert.Matches(t, err, locker.ErrClosed)
	})
}

// TestJoinGivesBackALateGrant: a context that ends while the grant is confirmed
// leaves no holder.
func TestJoinGivesBackALateGrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		s.join = func(ctx context.Context, req locker.Request, fresh time.Duration) (locker.Grant, *locker.Value, error) {
			g, v, err := s.queueUp(ctx, req, fresh)
			time.Sleep(6 * time.Second)
			return g, v, err
		}
		s.renew = frozenRenew
		ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
		defer cancel()
		_, _, err := newClient(t, s).Join(ctx, "k", 0)
		assert.Matches(t, err, context.DeadlineExceeded)
		synctest.Wait()
		assert.Exactly(t, "holders", s.holders(), 0)
	})
}

// TestPutOfALostLease: it is refused without a word to the backend.
func TestPutOfALostLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		s.renew = frozenRenew
		l := acquire(t, newClient(t, s), "k")
		<-l.Lost()
		_, err := l.Put(t.Context(), []byte("late"), 0)
		assert.Matches(t, err, locker.ErrLost)
		assert.Matches(t, l.RemoveValue(t.Context()), locker.ErrLost)
		assert.Exactly(t, "calls", len(s.of("put"))+len(s.of("remove")), 0)

		clock := newPausedClock()
		l = acquire(t, newClient(t, s, locker.WithClock(clock.now)), "k")
		clock.pause(ttl)
		_, err = l.Put(t.Context(), []byte("late"), 0)
		assert.Matches(t, err, locker.ErrLost)
		assert.Exactly(t, "calls", len(s.of("put")), 0)
	})
}

// TestRefusedPutLosesTheLease: the backend knew before anybody here.
func TestRefusedPutLosesTheLease(t *testing.T) {
	for _, op := range []string{"put", "remove"} {
		synctest.Test(t, func(t *testing.T) {
			s := newShelf()
			l := acquire(t, newClient(t, s), "k")
			work, cancel := l.Context(t.Context())
			defer cancel()
			assert.Sure(t, s.free(locker.Hold{Key: "k", Token: l.Token()}))
			assert.Sure(t, l.Check())
			err := l.RemoveValue
			if op == "put" {
				err = func(ctx context.Context) error { _, err := l.Put(ctx, nil, 0); return err }
			}
			assert.Matches(t, err(t.Context()), locker.ErrLost, locker.ErrNotHeld)
			assert.Matches(t, l.Check(), locker.ErrLost)
			<-work.Done()
			assert.Matches(t, context.Cause(work), locker.ErrLost)
			assert.Exactly(t, "values", len(s.values), 0)
		})
	}
}

// TestPutErrors: of a lease that was released, too large, a backend that does not
// answer.
func TestPutErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		c := newClient(t, s)
		l := acquire(t, c, "k")
		_, err := l.Put(t.Context(), make([]byte, 65), 0)
		assert.Matches(t, err, locker.ErrTooLarge)
		var size *locker.SizeError
		assert.Exactly(t, "a SizeError", errors.As(err, &size) && *size == locker.SizeError{Size: 65, Max: 64}, true)
		_, err = l.Put(t.Context(), nil, -1)
		assert.Matches(t, err, locker.ErrInvalid)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = l.Put(ctx, nil, 0)
		assert.Matches(t, err, context.Canceled)
		assert.Sure(t, l.Check())

		s.set(func() {
			s.put = func(ctx context.Context, _ locker.Hold, _ []byte, _ time.Duration) (uint64, error) {
				<-ctx.Done()
				return 0, ctx.Err()
			}
		})
		began := s.now()
		_, err = l.Put(t.Context(), nil, 0)
		assert.Matches(t, err, locker.ErrUnavailable)
		assert.Exactly(t, "waited", s.now()-began, believed(ttl))
		assert.Sure(t, l.Check()) // renewals were answered
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = l.Put(ctx, nil, 0)
		assert.Matches(t, err, context.DeadlineExceeded)

		assert.Sure(t, l.Release(t.Context()))
		_, err = l.Put(t.Context(), nil, 0)
		assert.Matches(t, err, locker.ErrNotHeld)
		assert.MatchesNot(t, err, locker.ErrLost)
	})
}

// TestPutWhileReleased: who released the lease meanwhile has not lost it.
func TestPutWhileReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		l := acquire(t, newClient(t, s), "k")
		s.set(func() {
			s.put = func(ctx context.Context, h locker.Hold, data []byte, keep time.Duration) (uint64, error) {
				assert.Sure(t, l.Release(ctx))
				return s.store(h, data, keep)
			}
		})
		_, err := l.Put(t.Context(), nil, 0)
		assert.Matches(t, err, locker.ErrNotHeld)
		assert.MatchesNot(t, err, locker.ErrLost)
	})
}

// TestNoValues: a backend without them says so, at once, and so does a semaphore.
func TestNoValues(t *testing.T) {
	c := newClient(t, newFake())
	_, _, err := c.Join(t.Context(), "k", 0)
	assert.Matches(t, err, errors.ErrUnsupported)
	_, err = c.Get(t.Context(), "k")
	assert.Matches(t, err, errors.ErrUnsupported)
	_, err = c.Shelf(t.Context(), "k")
	assert.Matches(t, err, errors.ErrUnsupported)
	l := acquire(t, c, "k")
	_, err = l.Put(t.Context(), nil, 0)
	assert.Matches(t, err, errors.ErrUnsupported)
	assert.Sure(t, l.Check())

	a, err := newClient(t, newShelf()).Acquirer(locker.Request{Kind: locker.Counting, Key: "k", Limit: 1, Weight: 1})
	assert.Sure(t, err)
	_, _, err = a.Join(t.Context(), 0)
	assert.Matches(t, err, locker.ErrInvalid)
	l, err = a.Acquire(t.Context())
	assert.Sure(t, err)
	_, err = l.Put(t.Context(), nil, 0)
	assert.Matches(t, err, locker.ErrInvalid)
}

// TestShelf: it is asked again until it answers.
func TestShelf(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		s.say = func() (locker.Shelf, error) {
			if s.now() < 10*time.Second {
				return locker.Shelf{}, locker.ErrUnavailable
			}
			return locker.Shelf{Durable: true, MaxSize: 1}, nil
		}
		c := newClient(t, s)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.Shelf(ctx, "k")
		assert.Matches(t, err, context.DeadlineExceeded, locker.ErrUnavailable)
		got, err := c.Shelf(t.Context(), "k")
		assert.Sure(t, err)
		assert.Exactly(t, "shelf", got, locker.Shelf{Durable: true, MaxSize: 1})
		_, err = c.Shelf(t.Context(), "")
		assert.Matches(t, err, locker.ErrInvalid)
		s.set(func() { s.say = func() (locker.Shelf, error) { return locker.Shelf{}, errors.ErrUnsupported } })
		_, err = c.Shelf(t.Context(), "k")
		assert.Matches(t, err, errors.ErrUnsupported)
		if !strings.Contains(err.Error(), `shelf "k" on fake://`) {
			t.Errorf("the error does not say what failed: %v", err)
		}
	})
}

// TestShelfInAnOutage: when the time is over nobody is in the way of a question, so
// it is the backend that did not answer.
func TestShelfInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		s := newShelf()
		s.say = func() (locker.Shelf, error) {
			<-hang
			return locker.Shelf{}, context.DeadlineExceeded // as of a backend that says nothing else
		}
		for _, opts := range [][]locker.Option{{locker.WithWait(time.Second)}, nil} {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			stop := time.AfterFunc(3*time.Second, func() { hang <- struct{}{} })
			_, err := newClient(t, s, opts...).Shelf(ctx, "k")
			assert.Matches(t, err, locker.ErrUnavailable)
			assert.MatchesNot(t, err, locker.ErrLocked)
			if opts == nil {
				assert.Matches(t, err, context.DeadlineExceeded)
			}
			stop.Stop()
			cancel()
		}
	})
}

// TestTraceOfValues: each Put, and each value that somebody got, is told once, and
// nothing else.
func TestTraceOfValues(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newShelf()
		stored, found := new(record[locker.StoredInfo]), new(record[locker.FoundInfo])
		trace := locker.WithTrace(&locker.Trace{Stored: stored.add, Found: found.add})
		c := newClient(t, s, trace)
		l, _, err := c.Join(t.Context(), "k", 0)
		assert.Sure(t, err)
		_, err = c.Get(t.Context(), "k")
		assert.Matches(t, err, locker.ErrNoValue)
		assert.Exactly(t, "told of a lease and of nothing", len(stored.all())+len(found.all()), 0)

		joined := make(chan error, 1)
		go func() {
			_, _, err := newClient(t, s, trace).Join(t.Context(), "k", 0)
			joined <- err
		}()
		synctest.Wait()
		time.Sleep(time.Second)
		s.set(func() {
			s.put = func(_ context.Context, h locker.Hold, data []byte, keep time.Duration) (uint64, error) {
				time.Sleep(time.Second)
				return s.store(h, data, keep)
			}
		})
		fence, err := l.Put(t.Context(), []byte("data"), 0)
		assert.Sure(t, err)
		assert.Sure(t, <-joined)
		time.Sleep(time.Second)
		_, err = c.Get(t.Context(), "k")
		assert.Sure(t, err)
		_, _, err = c.Join(t.Context(), "k", locker.AnyAge)
		assert.Sure(t, err)
		_, err = l.Put(t.Context(), make([]byte, 65), 0)
		assert.Matches(t, err, locker.ErrTooLarge)

		puts := stored.all()
		assert.Exactly(t, "puts", fmt.Sprint(puts[:1]), fmt.Sprint([]locker.StoredInfo{{Key: "k", Size: 4, Fence: fence, Took: time.Second}}))
		assert.Exactly(t, "puts", len(puts), 2)
		assert.Exactly(t, "size of what was refused", puts[1].Size, 65)
		assert.Exactly(t, "fence of what was refused", puts[1].Fence, 0)
		assert.Matches(t, puts[1].Err, locker.ErrTooLarge)
		late := locker.FoundInfo{Key: "k", Size: 4, Fence: fence, Age: time.Second}
		assert.Exactly(t, "values", fmt.Sprint(found.all()),
			fmt.Sprint([]locker.FoundInfo{{Key: "k", Size: 4, Fence: fence, Waited: 2 * time.Second}, late, late}))
	})
}

// A swift is a shelf that is told what need not survive it.
type swift struct {
	*shelf
	volatile int
}

func (s *swift) PutVolatile(ctx context.Context, h locker.Hold, data []byte, keep time.Duration) (uint64, error) {
	s.volatile++
	return s.Put(ctx, h, data, keep)
}

// TestPutVolatile is Put where the backend knows no difference, and in all else.
func TestPutVolatile(t *testing.T) {
	s := newShelf()
	fast := &swift{shelf: newShelf()}
	for want, b := range []locker.Backend{s, fast} {
		stored := new(record[locker.StoredInfo])
		l := acquire(t, newClient(t, b, locker.WithTrace(&locker.Trace{Stored: stored.add})), "k")
		fence, err := l.PutVolatile(t.Context(), []byte("v"), time.Minute)
		assert.Sure(t, err)
		assert.Exactly(t, "told", stored.all()[0].Fence, fence)
		_, err = l.Put(t.Context(), []byte("v"), time.Minute)
		assert.Sure(t, err)
		assert.Exactly(t, "volatile puts", fast.volatile, want)
		_, err = l.PutVolatile(t.Context(), nil, -1)
		assert.Matches(t, err, locker.ErrInvalid)
		assert.Sure(t, l.Release(t.Context()))
		_, err = l.PutVolatile(t.Context(), nil, 0)
		assert.Matches(t, err, locker.ErrNotHeld)
	}
}
