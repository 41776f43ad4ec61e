package mutex_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/memory"
	"github.com/distributed-go/distributed/mutex"
)

// enqueue takes a place or ends the test.
func enqueue(t testing.TB, mu *mutex.Mutex) *mutex.Ticket {
	t.Helper()
	ticket, err := mu.Enqueue(context.Background())
	assert.Sure(t, err)
	return ticket
}

// TestTicket: enqueue, tell somebody, wait, unlock.
func TestTicket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.NewServer()
		a, b := mutex.New(newClient(t, s), "k"), mutex.New(newClient(t, s), "k")
		first, second := enqueue(t, a), enqueue(t, b)
		assert.Exactly(t, "Acquired", first.Acquired(), true)
		assert.Exactly(t, "Acquired", second.Acquired(), false)
		if a.Lease() != nil {
			t.Error("locked before Wait")
		}
		assert.Sure(t, first.Wait(t.Context()))
		assert.Sure(t, a.Lease().Check())
		assert.Exactly(t, "TryLock", a.TryLock(), false)
		time.AfterFunc(time.Minute, a.Unlock)
		assert.Sure(t, second.Wait(t.Context()))
		assert.Sure(t, b.Lease().Check())
		assert.Sure(t, second.Cancel(t.Context())) // does nothing any more
		assert.Sure(t, b.Lease().Check())
		b.Unlock()
		free(t, s)
	})
}

// TestTicketWaitEnds with its context or WithWait, for either turn, and its
// place is gone.
func TestTicketWaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.NewServer()
		mu, other := mutex.New(newClient(t, s), "k", locker.WithWait(2*time.Second)), mutex.New(newClient(t, s), "k")
		for _, holder := range []*mutex.Mutex{mu, other} {
			holder.Lock()
			ticket := enqueue(t, mu)
			began := time.Now()
			assert.Matches(t, ticket.Wait(within(t, time.Second)), context.DeadlineExceeded, locker.ErrLocked)
			assert.Exactly(t, "took", time.Since(began), time.Second)
			ticket = enqueue(t, mu)
			err := ticket.Wait(t.Context())
			assert.Matches(t, err, locker.ErrLocked)
			assert.MatchesNot(t, err, context.DeadlineExceeded)
			assert.Exactly(t, "took", time.Since(began), 3*time.Second)
			synctest.Wait()
			_, waiters := holders(t, s)
			assert.Exactly(t, "waiters", waiters, 0)
			holder.Unlock()
			free(t, s)
		}
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		ticket := enqueue(t, mu)
		assert.Matches(t, ticket.Wait(cancelled), context.Canceled)
		synctest.Wait()
		free(t, s)
	})
}

// A slowCancel never answers when a place is given up.
type slowCancel struct{ *memory.Backend }

func (b *slowCancel) Enqueue(ctx context.Context, req locker.Request) (locker.Place, error) {
	p, err := b.Backend.Enqueue(ctx, req)
	return slowPlace{p}, err
}

type slowPlace struct{ locker.Place }

func (p slowPlace) Cancel(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// TestTicketPassed: a turn that nobody collected in time is queued for again.
func TestTicketPassed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.NewServer()
		mu, other := mutex.New(newClient(t, s), "k"), mutex.New(newClient(t, s), "k")
		ticket := enqueue(t, mu)
		time.Sleep(2 * ttl)
		other.Lock()
		time.AfterFunc(time.Second, other.Unlock)
		began := time.Now()
		assert.Sure(t, ticket.Wait(t.Context()))
		assert.Exactly(t, "took", time.Since(began), time.Second)
		mu.Unlock()
		free(t, s)
	})
}

// TestEnqueueUnsupported is said at once.
func TestEnqueueUnsupported(t *testing.T) {
	c := locker.New(plain{memory.New()})
	defer c.Close()
	_, err := mutex.New(c, "k").Enqueue(t.Context())
	assert.Matches(t, err, errors.ErrUnsupported)
}

// plain hides what a backend can do beyond locker.Backend.
type plain struct{ locker.Backend }

// TestTicketTwice: a second Wait does not wait.
func TestTicketTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.NewServer()
		mu := mutex.New(newClient(t, s), "k")
		ticket := enqueue(t, mu)
		assert.Sure(t, ticket.Wait(t.Context()))
		assert.Matches(t, ticket.Wait(t.Context()), locker.ErrNotHeld)
		assert.Sure(t, mu.Lease().Check())
		mu.Unlock()
		assert.Matches(t, ticket.Wait(t.Context()), locker.ErrNotHeld)
		assert.Exactly(t, "TryLock", mu.TryLock(), true)
		mu.Unlock()
		free(t, s)
	})
}

// TestTicketCancelled: before a wait, and during one, for the turn in this
// process or for that of the key.
func TestTicketCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.NewServer()
		mu, other := mutex.New(newClient(t, s), "k"), mutex.New(newClient(t, s), "k")
		ticket := enqueue(t, mu)
		assert.Sure(t, ticket.Cancel(t.Context()))
		assert.Sure(t, ticket.Cancel(t.Context()))
		free(t, s)
		assert.Matches(t, ticket.Wait(t.Context()), locker.ErrNotHeld)
		assert.Exactly(t, "TryLock", mu.TryLock(), true)
		mu.Unlock()

		for _, holder := range []*mutex.Mutex{mu, other} {
			holder.Lock()
			ticket = enqueue(t, mu)
			waited := make(chan error, 1)
			go func() { waited <- ticket.Wait(context.Background()) }()
			synctest.Wait()
			began := time.Now()
			assert.Sure(t, ticket.Cancel(t.Context()))
			assert.Matches(t, <-waited, context.Canceled)
			assert.Exactly(t, "took", time.Since(began), 0)
			synctest.Wait()
			_, waiters := holders(t, s)
			assert.Exactly(t, "waiters", waiters, 0)
			holder.Unlock()
			free(t, s)
		}
	})
}

// TestTicketWaitEndsInAnOutage: giving up the place does not keep it.
func TestTicketWaitEndsInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &slowCancel{Backend: memory.New()}
		c := locker.New(b, locker.WithTTL(ttl))
		defer c.Close()
		mu := mutex.New(c, "k")
		mu.Lock()
		ticket := enqueue(t, mu)
		began := time.Now()
		assert.Matches(t, ticket.Wait(within(t, time.Second)), context.DeadlineExceeded)
		assert.Exactly(t, "took", time.Since(began), time.Second)
		mu.Unlock()
	})
}

// TestTurnThatDoesNotCome: a holder that lost its lease and does not unlock
// keeps the others of its process out, and what they are granted meanwhile is
// given back when they stop waiting.
func TestTurnThatDoesNotCome(t *testing.T) {
	for name, wait := range map[string]func(context.Context, *mutex.Mutex) error{
		"LockContext": func(ctx context.Context, mu *mutex.Mutex) error { return mu.LockContext(ctx) },
		"TryLock":     func(ctx context.Context, mu *mutex.Mutex) error { return mu.TryLockContext(ctx) },
		"Do": func(ctx context.Context, mu *mutex.Mutex) error {
			return mu.Do(ctx, func(context.Context) error { return nil })
		},
		"Ticket": func(ctx context.Context, mu *mutex.Mutex) error {
			ticket, err := mu.Enqueue(ctx)
			if err != nil {
				return err
			}
			return ticket.Wait(ctx)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := memory.NewServer()
				b := s.Backend()
				c := locker.New(b, locker.WithTTL(ttl))
				defer c.Close()
				mu := mutex.New(c, "k")
				assert.Sure(t, enqueue(t, mu).Wait(t.Context()))
				b.Disconnect()
				<-mu.Lost()
				began := time.Now()
				assert.Matches(t, wait(within(t, time.Second), mu), locker.ErrLocked)
				if took := time.Since(began); took > time.Second {
					t.Errorf("waited for %v", took)
				}
				synctest.Wait()
				free(t, s)
				mu.Unlock()
				mu.Lock()
				assert.Sure(t, mu.Lease().Check())
				mu.Unlock()
			})
		})
	}
}
