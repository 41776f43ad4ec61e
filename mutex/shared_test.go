package mutex_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/memory"
	"github.com/distributed-go/distributed/mutex"
)

// sharing runs a test of goroutines that share one Mutex, in virtual time.
func sharing(t *testing.T, f func(t *testing.T, s *memory.Server, m *mutex.Mutex)) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.NewServer()
		c := locker.New(s.Backend(), locker.WithTTL(10*time.Second))
		defer c.Close()
		f(t, s, mutex.New(c, "k"))
	})
}

// TestTicketBeforeLock: a Lock that came after a ticket does not keep that from
// its turn.
func TestTicketBeforeLock(t *testing.T) {
	sharing(t, func(t *testing.T, _ *memory.Server, m *mutex.Mutex) {
		ticket, err := m.Enqueue(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		locked := make(chan struct{})
		go func() {
			m.Lock()
			close(locked)
		}()
		synctest.Wait()
		began := time.Now()
		if err := ticket.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("the ticket that was first waited for %v", took)
		}
		select {
		case <-locked:
			t.Fatal("two hold the mutex")
		default:
		}
		m.Unlock()
		<-locked
		m.Unlock()
	})
}

// TestTicketUsedTwice, also by who holds the mutex by its first use.
func TestTicketUsedTwice(t *testing.T) {
	sharing(t, func(t *testing.T, _ *memory.Server, m *mutex.Mutex) {
		ticket, err := m.Enqueue(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := ticket.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := ticket.Wait(t.Context()); !errors.Is(err, locker.ErrNotHeld) {
			t.Errorf("a second Wait: %v", err)
		}
		m.Unlock()
	})
}

// TestCancelEndsAWait of a ticket behind another goroutine of the same mutex.
func TestCancelEndsAWait(t *testing.T) {
	sharing(t, func(t *testing.T, _ *memory.Server, m *mutex.Mutex) {
		m.Lock()
		ticket, err := m.Enqueue(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		waited := make(chan error, 1)
		go func() { waited <- ticket.Wait(t.Context()) }()
		synctest.Wait()
		if err := ticket.Cancel(t.Context()); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		select {
		case err := <-waited:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("the wait ended with %v", err)
			}
		default:
			t.Error("Cancel did not end the wait")
		}
		m.Unlock()
	})
}

// TestLossKeepsTheTurn: a lease that was lost keeps other goroutines out until
// its holder unlocks, and one that was granted meanwhile is kept alive.
func TestLossKeepsTheTurn(t *testing.T) {
	sharing(t, func(t *testing.T, s *memory.Server, m *mutex.Mutex) {
		first, err := m.Enqueue(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := first.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		locked := make(chan struct{})
		go func() {
			m.Lock()
			close(locked)
		}()
		synctest.Wait()
		s.Freeze()
		<-m.Lost()
		s.Thaw()
		time.Sleep(time.Minute) // virtual: the other has long been granted the key
		select {
		case <-locked:
			t.Fatal("a loss let another goroutine in")
		default:
		}
		m.Unlock()
		<-locked
		if err := m.Lease().Check(); err != nil {
			t.Error(err)
		}
		m.Unlock()
	})
}

// TestSharedInAnOutage: who waits behind a goroutine that rides out an outage is
// told of the outage, and not that the key is held.
func TestSharedInAnOutage(t *testing.T) {
	sharing(t, func(t *testing.T, s *memory.Server, m *mutex.Mutex) {
		s.Fail(errors.New("no route"))
		locked := make(chan struct{})
		go func() {
			m.Lock()
			close(locked)
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for what, err := range map[string]error{"LockContext": m.LockContext(ctx), "TryLockContext": m.TryLockContext(t.Context())} {
			if !errors.Is(err, locker.ErrUnavailable) || errors.Is(err, locker.ErrLocked) {
				t.Errorf("%s: %v", what, err)
			}
		}
		s.Fail(nil)
		<-locked
		if err := m.TryLockContext(t.Context()); !errors.Is(err, locker.ErrLocked) {
			t.Errorf("TryLockContext after the outage: %v", err)
		}
		m.Unlock()
	})
}

// TestDoTellsOfTheStop: f that ends because its context did makes Do say why.
func TestDoTellsOfTheStop(t *testing.T) {
	sharing(t, func(t *testing.T, s *memory.Server, m *mutex.Mutex) {
		err := m.Do(t.Context(), func(ctx context.Context) error {
			s.Freeze()
			<-ctx.Done()
			s.Thaw()
			return ctx.Err()
		})
		if !errors.Is(err, locker.ErrLost) || !errors.Is(err, context.Canceled) {
			t.Errorf("Do: %v", err)
		}
		err = m.Do(t.Context(), func(context.Context) error { return errors.New("f's own") })
		if err == nil || errors.Is(err, locker.ErrLost) {
			t.Errorf("Do of an f that failed by itself: %v", err)
		}
	})
}

// TestZeroMutex is no lock on anything.
func TestZeroMutex(t *testing.T) {
	for name, use := range map[string]func(*mutex.Mutex){
		"Lock":        (*mutex.Mutex).Lock,
		"TryLock":     func(m *mutex.Mutex) { m.TryLock() },
		"Unlock":      (*mutex.Mutex).Unlock,
		"LockContext": func(m *mutex.Mutex) { _ = m.LockContext(t.Context()) },
		"Enqueue":     func(m *mutex.Mutex) { _, _ = m.Enqueue(t.Context()) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s of a zero Mutex does not panic", name)
				}
			}()
			use(new(mutex.Mutex))
		}()
	}
}

// A slowRelease keeps the answer to releases back.
type slowRelease struct {
	*memory.Backend
	asked  chan struct{} // sent to when one is asked for
	answer chan struct{}
}

func (b slowRelease) Release(ctx context.Context, h locker.Hold) error {
	b.asked <- struct{}{}
	<-b.answer
	return b.Backend.Release(ctx, h)
}

// TestNextAsksBehindTheRelease: who waits for a goroutine of the same Mutex does
// not wait for the release to be answered before it asks the backend, whichever
// way the other unlocks.
func TestNextAsksBehindTheRelease(t *testing.T) {
	for name, hold := range map[string]func(*mutex.Mutex){
		"Unlock":        func(m *mutex.Mutex) { defer m.Unlock(); m.Lock() },
		"UnlockContext": func(m *mutex.Mutex) { m.Lock(); _ = m.UnlockContext(context.Background()) },
		"Do":            func(m *mutex.Mutex) { _ = m.Do(context.Background(), func(context.Context) error { return nil }) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := memory.NewServer()
				b := slowRelease{s.Backend(), make(chan struct{}), make(chan struct{})}
				c := locker.New(b, locker.WithTTL(10*time.Second))
				m := mutex.New(c, "k")
				go hold(m)
				<-b.asked
				next := make(chan struct{})
				go func() {
					defer close(next)
					m.Lock()
				}()
				synctest.Wait()
				if h, w := holders(t, s); h != 1 || w != 1 {
					t.Errorf("%d hold and %d wait while the release is under way, want 1 and 1", h, w)
				}
				close(b.answer)
				<-next
				go m.Unlock()
				<-b.asked
				synctest.Wait()
				free(t, s)
				if err := c.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestTurnAndEndAtOnce: a turn that comes at the very moment at which the wait for
// it ends is not lost.
func TestTurnAndEndAtOnce(t *testing.T) {
	for _, handovers := range []int{0, 10} {
		sharing(t, func(t *testing.T, s *memory.Server, m *mutex.Mutex) {
			m = m.WithLocalHandover(handovers)
			for range 300 {
				m.Lock()
				ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
				done := make(chan struct{})
				go func() {
					defer close(done)
					if m.LockContext(ctx) == nil {
						m.Unlock()
					}
				}()
				time.Sleep(time.Millisecond)
				m.Unlock()
				<-done
				cancel()
			}
			synctest.Wait() // a grant that came with the end of its wait is given back in the background
			if err := m.TryLockContext(t.Context()); err != nil {
				t.Error(err)
			} else {
				m.Unlock()
			}
			free(t, s)
		})
	}
}
