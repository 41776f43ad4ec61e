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

// TestEnqueueWithoutAQueuer is refused at once.
func TestEnqueueWithoutAQueuer(t *testing.T) {
	f := newFake()
	_, err := newClient(t, f).Enqueue(t.Context(), "k")
	assert.Matches(t, err, errors.ErrUnsupported)
	assert.Exactly(t, "calls", f.count(), 0)
}

// TestTicket: enqueue, tell somebody, wait.
func TestTicket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueuer()
		c := newClient(t, q)
		first := enqueue(t, c, "k")
		assert.Exactly(t, "Acquired of a free key", first.Acquired(), true)
		second := enqueue(t, c, "k")
		assert.Exactly(t, "Acquired of a held key", second.Acquired(), false)
		time.Sleep(2 * time.Second)
		stamp := time.Now()
		l, err := first.Wait(t.Context())
		assert.Sure(t, err)
		assert.Exactly(t, "deadline", l.Deadline().Sub(stamp), believed(ttl))
		assert.Exactly(t, "confirmations", len(q.of("renew")), 0)
		_, err = first.Wait(t.Context())
		assert.Matches(t, err, locker.ErrNotHeld)
		assert.Sure(t, first.Cancel(t.Context())) // does nothing any more
		assert.Sure(t, l.Check())
		time.AfterFunc(time.Minute, func() { l.Release(context.Background()) })
		m, err := second.Wait(t.Context())
		assert.Sure(t, err)
		assert.Exactly(t, "waited", q.now(), 62*time.Second)
		assert.Exactly(t, "left", time.Until(m.Deadline()), believed(ttl))
		assert.Sure(t, m.Release(t.Context()))
		assert.Exactly(t, "holders", q.holders(), 0)
		assert.Exactly(t, "waiters", q.waiting(), 0)
	})
}

// TestForgottenTicket blocks nobody for longer than its TTL.
func TestForgottenTicket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueuer()
		c := newClient(t, q)
		enqueue(t, c, "k")
		enqueue(t, c, "k")
		l := acquire(t, c, "k")
		assert.Exactly(t, "waited", q.now(), 2*ttl)
		assert.Exactly(t, "renewals but for one confirmation", len(q.of("renew")), 1)
		assert.Sure(t, l.Release(t.Context()))
	})
}

// TestTicketWhoseTurnPassed queues again at the end.
func TestTicketWhoseTurnPassed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueuer()
		c := newClient(t, q)
		ticket := enqueue(t, c, "k")
		time.Sleep(ttl + time.Second)
		other := acquire(t, c, "k")
		time.AfterFunc(5*time.Second, func() { other.Release(context.Background()) })
		l, err := ticket.Wait(t.Context())
		assert.Sure(t, err)
		assert.Sure(t, l.Check())
		assert.Exactly(t, "waits", len(q.of("wait")), 1)
		assert.Exactly(t, "acquisitions", len(q.of("acquire")), 2)
		assert.Exactly(t, "at", q.now(), 16*time.Second)
		assert.Sure(t, l.Release(t.Context()))
		assert.Exactly(t, "holders", q.holders(), 0)
	})
}

// TestTicketWhosePlaceBroke queues again, and rides out the outage before.
func TestTicketWhosePlaceBroke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueuer()
		q.waits = func(ctx context.Context, p *fakePlace) (locker.Grant, error) {
			time.Sleep(time.Second)
			assert.Sure(t, p.Cancel(ctx)) // as a server does when a connection closes
			return locker.Grant{}, fmt.Errorf("%w: connection reset", locker.ErrUnavailable)
		}
		q.acquire = func(ctx context.Context, req locker.Request) (locker.Grant, error) {
			if q.now() < 10*time.Second {
				return unavailable(ctx, req)
			}
			return q.serve(ctx, req)
		}
		acquired := new(record[locker.AcquiredInfo])
		ticket := enqueue(t, newClient(t, q, locker.WithTrace(&locker.Trace{Acquired: acquired.add})), "k")
		l, err := ticket.Wait(t.Context())
		assert.Sure(t, err)
		assert.Exactly(t, "waits", len(q.of("wait")), 1)
		if w := acquired.all()[0].Waited; w < 10*time.Second {
			t.Errorf("the trace says that the wait took %v", w)
		}
		assert.Sure(t, l.Release(t.Context()))
		assert.Exactly(t, "holders", q.holders(), 0)
	})
}

// TestTicketCancel: before, during and after a wait, twice, and when the turn
// has come unnoticed.
func TestTicketCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueuer()
		c := newClient(t, q)
		free, place := enqueue(t, c, "k"), enqueue(t, c, "k")
		assert.Sure(t, place.Cancel(t.Context()))
		assert.Exactly(t, "waiters", q.waiting(), 0)
		assert.Exactly(t, "holders", q.holders(), 1)
		assert.Sure(t, free.Cancel(t.Context()))
		assert.Sure(t, free.Cancel(t.Context()))
		assert.Exactly(t, "holders", q.holders(), 0)
		assert.Exactly(t, "cancels", len(q.of("cancel")), 2)
		_, err := free.Wait(t.Context())
		assert.Matches(t, err, locker.ErrNotHeld)

		l := acquire(t, c, "k")
		place = enqueue(t, c, "k")
		assert.Sure(t, l.Release(t.Context()))
		assert.Exactly(t, "holders", q.holders(), 1) // the turn has come
		assert.Sure(t, place.Cancel(t.Context()))
		assert.Exactly(t, "holders", q.holders(), 0)

		l = acquire(t, c, "k")
		place = enqueue(t, c, "k")
		waited := make(chan error, 1)
		go func() {
			_, err := place.Wait(context.Background())
			waited <- err
		}()
		synctest.Wait()
		assert.Exactly(t, "waiters", q.waiting(), 1)
		assert.Sure(t, place.Cancel(t.Context()))
		assert.Matches(t, <-waited, context.Canceled)
		assert.Exactly(t, "waiters", q.waiting(), 0)
		assert.Sure(t, l.Release(t.Context()))
		assert.Exactly(t, "holders", q.holders(), 0)
	})
}

// TestTicketCancelOfAFrozenBackend is bounded by the context, and goes on for a
// second; a cancelled context still cancels the place.
func TestTicketCancelOfAFrozenBackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueuer()
		c := newClient(t, q)
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		if err := enqueue(t, c, "k").Cancel(cancelled); err != nil { // the answer may have been there already
			assert.Matches(t, err, context.Canceled)
		}
		synctest.Wait()
		assert.Exactly(t, "holders", q.holders(), 0)

		q.cancels = func(ctx context.Context, _ *fakePlace) error {
			<-ctx.Done()
			return ctx.Err()
		}
		began := time.Now()
		assert.Matches(t, enqueue(t, c, "k").Cancel(ctx2(t, 100*time.Millisecond)), context.DeadlineExceeded)
		assert.Exactly(t, "took", time.Since(began), 100*time.Millisecond)
		assert.Matches(t, enqueue(t, c, "k").Cancel(context.Background()), context.DeadlineExceeded)
		assert.Exactly(t, "took", time.Since(began), 1100*time.Millisecond)
	})
}

// TestTicketWaitEnds with its context or WithWait, and leaves nothing.
func TestTicketWaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueuer()
		c := newClient(t, q)
		l := acquire(t, c, "k")
		_, err := enqueue(t, c, "k").Wait(ctx2(t, time.Second))
		assert.Matches(t, err, context.DeadlineExceeded, locker.ErrLocked)
		assert.Exactly(t, "waiters", q.waiting(), 0)

		ticket, err := c.Enqueue(t.Context(), "k", locker.WithWait(time.Second))
		assert.Sure(t, err)
		time.Sleep(2 * time.Second) // the wait has not begun
		_, err = ticket.Wait(t.Context())
		assert.Matches(t, err, locker.ErrLocked)
		assert.MatchesNot(t, err, context.DeadlineExceeded)
		assert.Exactly(t, "at", q.now(), 4*time.Second)
		assert.Exactly(t, "waiters", q.waiting(), 0)
		assert.Sure(t, l.Release(t.Context()))
	})
}

// TestTicketCollectsLate: a turn that came during the wait is confirmed if the
// wait was long; an answer that arrives too late is given back.
func TestTicketCollectsLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueuer()
		q.waits = func(ctx context.Context, p *fakePlace) (locker.Grant, error) {
			defer time.Sleep(6 * time.Second)
			return p.collect(ctx)
		}
		l, err := enqueue(t, newClient(t, q), "k").Wait(t.Context())
		assert.Sure(t, err)
		assert.Exactly(t, "confirmations", len(q.of("renew")), 1)
		assert.Exactly(t, "left", time.Until(l.Deadline()), believed(ttl))
		assert.Sure(t, l.Release(t.Context()))

		q.mu.Lock()
		q.renew = func(_ context.Context, rs []locker.Renewal) { rs[0].Err = errCut }
		q.mu.Unlock()
		_, err = enqueue(t, newClient(t, q), "k").Wait(t.Context())
		assert.Matches(t, err, errCut)
		synctest.Wait()
		assert.Exactly(t, "holders", q.holders(), 0)
	})
}

// TestEnqueueRidesOutAnOutage, as Acquire does.
func TestEnqueueRidesOutAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueuer()
		q.enqueue = func(_ context.Context, req locker.Request) (locker.Place, error) {
			if q.now() < 5*time.Second {
				return nil, locker.ErrUnavailable
			}
			return q.place(req), nil
		}
		c := newClient(t, q)
		_, err := c.Enqueue(ctx2(t, time.Second), "k")
		assert.Matches(t, err, context.DeadlineExceeded, locker.ErrUnavailable)
		ticket := enqueue(t, c, "k")
		assert.Exactly(t, "Acquired", ticket.Acquired(), true)
		assert.Sure(t, ticket.Cancel(t.Context()))
		q.enqueue = func(context.Context, locker.Request) (locker.Place, error) { return nil, locker.ErrAuth }
		_, err = c.Enqueue(t.Context(), "k")
		assert.Matches(t, err, locker.ErrAuth)
	})
}

// TestTicketAndClose: a wait ends with ErrClosed.
func TestTicketAndClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueuer()
		c := newClient(t, q)
		acquire(t, c, "k")
		ticket, unused := enqueue(t, c, "k"), enqueue(t, c, "k")
		waited := make(chan error, 1)
		go func() {
			_, err := ticket.Wait(context.Background())
			waited <- err
		}()
		synctest.Wait()
		assert.Sure(t, c.Close())
		err := <-waited
		assert.Matches(t, err, locker.ErrClosed)
		_, err = unused.Wait(t.Context())
		assert.Matches(t, err, locker.ErrClosed)
		_, err = c.Enqueue(t.Context(), "k")
		assert.Matches(t, err, locker.ErrClosed)
		assert.Exactly(t, "time", q.now(), 0)
	})
}

// TestTicketIsSafeForConcurrentUse: one of many gets the lease, or nobody.
func TestTicketIsSafeForConcurrentUse(t *testing.T) {
	for range 200 {
		synctest.Test(t, func(t *testing.T) {
			q := newQueuer()
			ticket := enqueue(t, newClient(t, q), "k")
			leases := new(record[*locker.Lease])
			var wg sync.WaitGroup
			for i := range 6 {
				wg.Go(func() {
					if i == 0 {
						assert.Sure(t, ticket.Cancel(context.Background()))
						return
					}
					if l, err := ticket.Wait(context.Background()); err == nil {
						leases.add(l)
					}
				})
			}
			wg.Wait()
			synctest.Wait() // what was given back in the background
			n := len(leases.all())
			if n > 1 {
				t.Errorf("%d leases of one ticket", n)
			}
			assert.Exactly(t, "holders", q.holders(), n)
		})
	}
}

// TestTicketWaitWithADoneContext gives the place up, and does not wait for that.
func TestTicketWaitWithADoneContext(t *testing.T) {
	for _, slow := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			q := newQueuer()
			if slow {
				q.cancels = func(ctx context.Context, _ *fakePlace) error {
					<-ctx.Done()
					return ctx.Err()
				}
			}
			ticket := enqueue(t, newClient(t, q), "k")
			cancelled, cancel := context.WithCancel(t.Context())
			cancel()
			_, err := ticket.Wait(cancelled)
			assert.Matches(t, err, context.Canceled)
			assert.Exactly(t, "took", q.now(), 0)
			synctest.Wait()
			assert.Exactly(t, "waits", len(q.of("wait")), 0)
			assert.Exactly(t, "cancels", len(q.of("cancel")), 1)
			if !slow {
				assert.Exactly(t, "holders", q.holders(), 0)
			}
		})
	}
}
