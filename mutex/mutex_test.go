package mutex_test

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/memory"
	"github.com/distributed-go/distributed/mutex"
)

// TestMutexReplacesSyncMutex: the same calls, under the same rules.
func TestMutexReplacesSyncMutex(t *testing.T) {
	s := memory.NewServer()
	var mu sync.Locker = mutex.New(newClient(t, s), "k")
	mu.Lock()
	h, _ := holders(t, s)
	assert.Exactly(t, "holders", h, 1)
	mu.Unlock()
	free(t, s)
	cond := sync.NewCond(mu)
	mu.Lock()
	go func() {
		mu.Lock()
		defer mu.Unlock()
		cond.Signal()
	}()
	cond.Wait()
	mu.Unlock()
	free(t, s)
}

// TestOneMutexOfManyGoroutines, and a few Mutexes of a few processes: a plain
// counter ends exact. The race detector watches it too.
func TestOneMutexOfManyGoroutines(t *testing.T) {
	const clients, goroutines, rounds = 3, 100, 5
	s := memory.NewServer()
	counter := 0
	var wg sync.WaitGroup
	for range clients {
		mu := mutex.New(newClient(t, s), "k")
		for i := range goroutines {
			wg.Go(func() {
				for range rounds {
					switch i % 3 {
					case 0:
						mu.Lock()
						counter++
						mu.Unlock()
					case 1:
						if err := mu.LockContext(context.Background()); err != nil {
							t.Error(err)
							return
						}
						counter++
						if err := mu.UnlockContext(context.Background()); err != nil {
							t.Error(err)
						}
					default:
						if err := mu.Do(context.Background(), func(context.Context) error { counter++; return nil }); err != nil {
							t.Error(err)
						}
					}
				}
			})
		}
	}
	wg.Wait()
	assert.Exactly(t, "counter", counter, clients*goroutines*rounds)
	free(t, s)
}

// TestMisuse panics, as with sync.Mutex, and on nothing else.
func TestMisuse(t *testing.T) {
	s := memory.NewServer()
	mu := mutex.New(newClient(t, s), "k")
	assert.Matches(t, panics(t, "Unlock of a new Mutex", mu.Unlock), locker.ErrNotHeld)
	assert.Matches(t, mu.UnlockContext(t.Context()), locker.ErrNotHeld)
	assert.MatchesNot(t, mu.UnlockContext(t.Context()), locker.ErrLost)
	mu.Lock()
	assert.Sure(t, mu.Lease().Check())
	mu.Unlock()
	assert.Matches(t, panics(t, "Unlock twice", mu.Unlock), locker.ErrNotHeld)
	mu.Lock()
	unlocked := make(chan struct{})
	go func() { // any goroutine may
		defer close(unlocked)
		mu.Unlock()
	}()
	<-unlocked
	assert.Matches(t, panics(t, "Unlock after another goroutine's", mu.Unlock), locker.ErrNotHeld)
	mu.Lock() // still usable
	assert.Sure(t, mu.Lease().Release(t.Context()))
	mu.Unlock() // of a lease that was released behind its back: m is locked all the same
	assert.Matches(t, panics(t, "Unlock twice", mu.Unlock), locker.ErrNotHeld)
	free(t, s)
}

// TestBadArguments are returned, or thrown, by the first use.
func TestBadArguments(t *testing.T) {
	s := memory.NewServer()
	c := newClient(t, s)
	for _, mu := range []*mutex.Mutex{mutex.New(c, ""), mutex.New(c, "a b"), mutex.New(c, "k", locker.WithTTL(-1))} {
		ctx := t.Context()
		assert.Matches(t, panics(t, "Lock", mu.Lock), locker.ErrInvalid)
		assert.Matches(t, panics(t, "TryLock", func() { mu.TryLock() }), locker.ErrInvalid)
		assert.Matches(t, panics(t, "Unlock", mu.Unlock), locker.ErrInvalid)
		assert.Matches(t, mu.LockContext(ctx), locker.ErrInvalid)
		assert.Matches(t, mu.TryLockContext(ctx), locker.ErrInvalid)
		assert.Matches(t, mu.UnlockContext(ctx), locker.ErrInvalid)
		assert.Matches(t, mu.Do(ctx, func(context.Context) error { t.Error("f runs"); return nil }), locker.ErrInvalid)
		_, err := mu.Enqueue(ctx)
		assert.Matches(t, err, locker.ErrInvalid)
	}
	free(t, s)
}

// TestTry: at once, and telling why not.
func TestTry(t *testing.T) {
	s := memory.NewServer()
	a, b := mutex.New(newClient(t, s), "k"), mutex.New(newClient(t, s), "k")
	assert.Exactly(t, "TryLock of a free key", a.TryLock(), true)
	assert.Exactly(t, "TryLock of one's own", a.TryLock(), false)
	assert.Matches(t, a.TryLockContext(t.Context()), locker.ErrLocked)
	assert.Exactly(t, "TryLock of another's", b.TryLock(), false)
	assert.Matches(t, b.TryLockContext(t.Context()), locker.ErrLocked)
	a.Unlock()
	assert.Sure(t, b.TryLockContext(t.Context()))
	b.Unlock()

	s.Fail(errors.New("down"))
	assert.Exactly(t, "TryLock in an outage", a.TryLock(), false)
	assert.Matches(t, a.TryLockContext(t.Context()), locker.ErrUnavailable)
	assert.MatchesNot(t, a.TryLockContext(t.Context()), locker.ErrLocked)
	s.Fail(nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	assert.Matches(t, a.TryLockContext(ctx), context.Canceled)
	assert.Exactly(t, "TryLock after all that", a.TryLock(), true)
	a.Unlock()
	free(t, s)
}

// TestLeaseAndLost are those of the holder, and nil without one.
func TestLeaseAndLost(t *testing.T) {
	s := memory.NewServer()
	mu := mutex.New(newClient(t, s), "k")
	if mu.Lease() != nil || mu.Lost() != nil {
		t.Error("a Mutex that is not locked has a lease")
	}
	mu.Lock()
	l := mu.Lease()
	assert.Exactly(t, "key", l.Key(), "k")
	assert.Sure(t, l.Check())
	assert.Exactly(t, "Lost", mu.Lost(), l.Lost())
	mu.Unlock()
	if mu.Lease() != nil || mu.Lost() != nil {
		t.Error("a Mutex that was unlocked has a lease")
	}
	assert.Matches(t, l.Check(), locker.ErrNotHeld)
}

// TestLockRidesOutAnOutage: it never returns without the lock.
func TestLockRidesOutAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.NewServer()
		mu := mutex.New(newClient(t, s, locker.WithWait(time.Second)), "k")
		s.Fail(errors.New("down"))
		time.AfterFunc(time.Hour, func() { s.Fail(nil) })
		began := time.Now()
		mu.Lock()
		if took := time.Since(began); took < time.Hour || took > time.Hour+2*time.Second {
			t.Errorf("locked after %v", took)
		}
		assert.Sure(t, mu.Lease().Check())
		mu.Unlock()
		free(t, s)
	})
}

// TestLockPanicsOnAClosedClient, and lets others have their turn.
func TestLockPanicsOnAClosedClient(t *testing.T) {
	s := memory.NewServer()
	c := newClient(t, s)
	mu := mutex.New(c, "k")
	assert.Sure(t, c.Close())
	for range 2 {
		assert.Matches(t, panics(t, "Lock", mu.Lock), locker.ErrClosed)
		assert.Matches(t, mu.LockContext(t.Context()), locker.ErrClosed)
		assert.Exactly(t, "TryLock", mu.TryLock(), false)
	}
}

// TestContextsBoundTheWait: for other processes, for other goroutines, and with
// both at once, and say what it was.
func TestContextsBoundTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.NewServer()
		a, b := mutex.New(newClient(t, s), "k"), mutex.New(newClient(t, s), "k", locker.WithWait(2*time.Second))
		why := errors.New("why")
		a.Lock()
		for _, mu := range []*mutex.Mutex{a, b} { // for its own turn, for the other process
			began := time.Now()
			assert.Matches(t, mu.LockContext(within(t, time.Second)), context.DeadlineExceeded, locker.ErrLocked)
			assert.Exactly(t, "took", time.Since(began), time.Second)
			ctx, cancel := context.WithCancelCause(t.Context())
			cancel(why)
			assert.Matches(t, mu.LockContext(ctx), context.Canceled, why)
			assert.Exactly(t, "took", time.Since(began), time.Second)
		}
		began := time.Now()
		err := b.LockContext(t.Context())
		assert.Matches(t, err, locker.ErrLocked)
		assert.MatchesNot(t, err, context.DeadlineExceeded)
		assert.Exactly(t, "took", time.Since(began), 2*time.Second)
		a.Unlock()

		b.Lock()
		began = time.Now()
		assert.Matches(t, b.LockContext(t.Context()), locker.ErrLocked) // WithWait bounds the wait for one's turn, too
		assert.Exactly(t, "took", time.Since(began), 2*time.Second)
		_, waiters := holders(t, s)
		assert.Exactly(t, "waiters", waiters, 0)
		b.Unlock()

		// One wait for both turns: the first of this process takes a second.
		other := mutex.New(newClient(t, s), "k")
		other.Lock()
		b2 := b
		go func() {
			_ = b2.LockContext(within(t, time.Second)) // in vain, but it has the turn for a second
		}()
		synctest.Wait()
		began = time.Now()
		assert.Matches(t, b.LockContext(t.Context()), locker.ErrLocked)
		assert.Exactly(t, "took", time.Since(began), 2*time.Second)
		other.Unlock()
		free(t, s)
	})
}

// TestContextBoundsNotTheHold: the wait only.
func TestContextBoundsNotTheHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.NewServer()
		mu := mutex.New(newClient(t, s), "k")
		ctx, cancel := context.WithCancel(t.Context())
		assert.Sure(t, mu.LockContext(ctx))
		cancel()
		time.Sleep(time.Minute)
		assert.Sure(t, mu.Lease().Check())
		mu.Unlock()
	})
}

// TestLossFreesNobodyElse: other goroutines of the handle wait for the holder's
// Unlock, which does not panic, and says what happened.
func TestLossFreesNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.NewServer()
		b := s.Backend()
		c := locker.New(b, locker.WithTTL(ttl))
		defer c.Close()
		mu := mutex.New(c, "k")
		mu.Lock()
		lost := mu.Lost()
		b.Disconnect()
		<-lost
		assert.Matches(t, mu.Lease().Check(), locker.ErrLost)
		locked := make(chan struct{})
		go func() {
			mu.Lock()
			close(locked)
		}()
		time.Sleep(time.Hour)
		select {
		case <-locked:
			t.Fatal("a loss unlocked the Mutex")
		default:
		}
		assert.Exactly(t, "TryLock", mu.TryLock(), false)
		mu.Unlock()
		<-locked
		assert.Sure(t, mu.Lease().Check())
		assert.Sure(t, mu.UnlockContext(t.Context()))

		mu.Lock()
		b.Disconnect()
		err := mu.UnlockContext(t.Context())
		assert.Matches(t, err, locker.ErrLost)
		assert.Matches(t, panics(t, "Unlock after an Unlock after a loss", mu.Unlock), locker.ErrNotHeld)
		free(t, s)
	})
}

// TestUnlockInAnOutage blocks for a second at most, does not panic, lets other
// goroutines have their turn, and goes on in the background.
func TestUnlockInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.NewServer()
		mu := mutex.New(newClient(t, s), "k")
		mu.Lock()
		s.Freeze()
		began := time.Now()
		mu.Unlock()
		assert.Exactly(t, "took", time.Since(began), time.Second)
		assert.Matches(t, panics(t, "Unlock twice", mu.Unlock), locker.ErrNotHeld)
		time.Sleep(5 * time.Second)
		s.Thaw()
		time.Sleep(2 * time.Second)
		free(t, s)

		mu.Lock()
		s.Fail(errors.New("down"))
		began = time.Now()
		mu.Unlock()
		assert.Exactly(t, "took", time.Since(began), 0)
		s.Fail(nil)
		time.Sleep(2 * time.Second)
		free(t, s)
	})
}

// TestUnlockContext says how it went, and unlocks in every case.
func TestUnlockContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.NewServer()
		mu := mutex.New(newClient(t, s), "k")
		mu.Lock()
		s.Freeze()
		assert.Matches(t, mu.UnlockContext(within(t, time.Second)), locker.ErrUnavailable)
		assert.Matches(t, mu.UnlockContext(t.Context()), locker.ErrNotHeld)
		s.Thaw()
		time.Sleep(2 * time.Second)
		free(t, s)

		mu.Lock()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		assert.Matches(t, mu.UnlockContext(ctx), context.Canceled)
		synctest.Wait()
		free(t, s)
	})
}

// TestUnlockIsBoundEachTime: what bounds it is used again, after Unlocks that
// took no time, some, and all of it, one by one and at once.
func TestUnlockIsBoundEachTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.NewServer()
		mu := mutex.New(newClient(t, s, locker.WithTTL(time.Minute)), "k")
		for _, frozen := range []time.Duration{0, time.Second / 2, time.Second / 2, 3 * time.Second, 0, 3 * time.Second, time.Second / 2} {
			mu.Lock()
			s.Freeze()
			time.AfterFunc(frozen, s.Thaw)
			began := time.Now()
			mu.Unlock()
			assert.Exactly(t, "took", time.Since(began), min(frozen, time.Second))
			time.Sleep(5 * time.Second)
			free(t, s)
		}
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				mu.Lock()
				mu.Unlock() //lint:ignore SA2001 there is nothing to guard
			})
		}
		wg.Wait()
		free(t, s)
	})
}

// TestUnlockAllocatesNothing of its own.
func TestUnlockAllocatesNothing(t *testing.T) {
	s := memory.NewServer()
	c := newClient(t, s)
	mu := mutex.New(c, "k")
	bare := testing.AllocsPerRun(200, func() {
		l, err := c.Acquire(context.Background(), "k")
		if err == nil {
			err = l.Release(context.Background())
		}
		assert.Sure(t, err)
	})
	pair := testing.AllocsPerRun(200, func() {
		mu.Lock()
		mu.Unlock() //lint:ignore SA2001 there is nothing to guard
	})
	if pair > bare {
		t.Errorf("Lock and Unlock make %v allocations, and Acquire and Release %v", pair, bare)
	}
}

// TestCloseWhileLocked: the lease is lost with ErrClosed, and Unlock does not
// panic.
func TestCloseWhileLocked(t *testing.T) {
	s := memory.NewServer()
	c := newClient(t, s)
	mu := mutex.New(c, "k")
	mu.Lock()
	assert.Sure(t, c.Close())
	assert.Matches(t, mu.Lease().Check(), locker.ErrLost, locker.ErrClosed)
	<-mu.Lost()
	mu.Unlock()
	free(t, s)
}

// TestVetNoticesCopies: a copied Mutex locks nothing.
func TestVetNoticesCopies(t *testing.T) {
	out, err := exec.Command("go", "vet", "-copylocks", "./testdata/copies").CombinedOutput()
	if err == nil {
		t.Error("go vet is content")
	}
	for _, want := range []string{"assignment copies lock value", "passes lock by value", "range var m copies lock"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("go vet does not say %q:\n%s", want, out)
		}
	}
}

// TestNeverMade: what New did not make says so, and does not hang.
func TestNeverMade(t *testing.T) {
	assert.Matches(t, panics(t, "New(nil)", func() { mutex.New(nil, "k") }))
	var mu mutex.Mutex
	ctx := t.Context()
	for what, f := range map[string]func(){
		"Lock":           mu.Lock,
		"Unlock":         mu.Unlock,
		"TryLock":        func() { mu.TryLock() },
		"LockContext":    func() { _ = mu.LockContext(ctx) },
		"TryLockContext": func() { _ = mu.TryLockContext(ctx) },
		"UnlockContext":  func() { _ = mu.UnlockContext(ctx) },
		"Do":             func() { _ = mu.Do(ctx, func(context.Context) error { return nil }) },
		"Enqueue":        func() { _, _ = mu.Enqueue(ctx) },
	} {
		if err := panics(t, what, f); err == nil || !strings.Contains(err.Error(), "zero Mutex") {
			t.Errorf("%s of a zero Mutex panics with %v", what, err)
		}
	}
}
