package mutex_test

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/memory"
	"github.com/distributed-go/distributed/mutex"
)

var errBoom = errors.New("boom")

// TestDo: f runs while the Mutex is locked, with a context of the lease, and
// its error comes back as it is.
func TestDo(t *testing.T) {
	s := memory.NewServer()
	mu := mutex.New(newClient(t, s), "k")
	type key struct{}
	err := mu.Do(context.WithValue(t.Context(), key{}, 1), func(ctx context.Context) error {
		assert.Sure(t, ctx.Err())
		assert.Exactly(t, "value", ctx.Value(key{}), any(1))
		assert.Sure(t, mu.Lease().Check())
		assert.Exactly(t, "TryLock", mu.TryLock(), false)
		return errBoom
	})
	assert.Exactly(t, "error", err, errBoom)
	assert.Sure(t, mu.Do(t.Context(), func(context.Context) error { return nil }))
	if mu.Lease() != nil {
		t.Error("there is a lease after Do")
	}
	free(t, s)
}

// TestDoWithoutTheLock does not run f.
func TestDoWithoutTheLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.NewServer()
		a, b := mutex.New(newClient(t, s), "k"), mutex.New(newClient(t, s), "k")
		a.Lock()
		f := func(context.Context) error {
			t.Error("f runs")
			return nil
		}
		for _, mu := range []*mutex.Mutex{a, b} {
			assert.Matches(t, mu.Do(within(t, time.Second), f), locker.ErrLocked, context.DeadlineExceeded)
		}
		a.Unlock()
		free(t, s)
	})
}

// TestDoUnlocks whatever f does.
func TestDoUnlocks(t *testing.T) {
	s := memory.NewServer()
	mu := mutex.New(newClient(t, s), "k")
	func() {
		defer func() { assert.Exactly(t, "panic", recover(), any("boom")) }()
		_ = mu.Do(t.Context(), func(context.Context) error { panic("boom") })
	}()
	free(t, s)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = mu.Do(context.Background(), func(context.Context) error { runtime.Goexit(); return nil })
	}()
	<-done
	free(t, s)
	assert.Exactly(t, "TryLock", mu.TryLock(), true)
	mu.Unlock()
}

// TestDoAndALoss: somebody else may have worked at the same time, so that is an
// error even if f has none, and f's comes first.
func TestDoAndALoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, fails := range []error{nil, errBoom} {
			s := memory.NewServer()
			b := s.Backend()
			c := locker.New(b, locker.WithTTL(ttl))
			mu := mutex.New(c, "k")
			err := mu.Do(t.Context(), func(ctx context.Context) error {
				b.Disconnect()
				<-ctx.Done()
				assert.Matches(t, context.Cause(ctx), locker.ErrLost)
				return fails
			})
			assert.Matches(t, err, locker.ErrLost)
			if fails != nil {
				assert.Matches(t, err, fails)
				if text := err.Error(); text[:5] != "boom\n" {
					t.Errorf("f's error does not come first: %s", text)
				}
			}
			assert.Exactly(t, "TryLock", mu.TryLock(), true)
			mu.Unlock()
			free(t, s)
			assert.Sure(t, c.Close())
		}
	})
}

// TestDoUnlockedByF: f may unlock the Mutex itself, and even lock it again.
func TestDoUnlockedByF(t *testing.T) {
	s := memory.NewServer()
	mu := mutex.New(newClient(t, s), "k")
	assert.Sure(t, mu.Do(t.Context(), func(context.Context) error {
		mu.Unlock()
		return nil
	}))
	free(t, s)
	assert.Sure(t, mu.Do(t.Context(), func(context.Context) error {
		mu.Unlock()
		mu.Lock()
		return nil
	}))
	assert.Sure(t, mu.Lease().Check()) // that of f's Lock
	assert.Exactly(t, "TryLock", mu.TryLock(), false)
	mu.Unlock()
	free(t, s)
}

// TestDoUnlockedByOthers: any goroutine may unlock a Mutex, also before f has
// begun.
func TestDoUnlockedByOthers(t *testing.T) {
	s := memory.NewServer()
	mu := mutex.New(newClient(t, s), "k")
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for !stop.Load() {
			if mu.UnlockContext(context.Background()) != nil {
				runtime.Gosched()
			}
		}
	})
	for range 4000 {
		if err := mu.Do(t.Context(), func(context.Context) error { return nil }); err != nil {
			assert.Matches(t, err, locker.ErrLost) // released by the other
		}
	}
	stop.Store(true)
	wg.Wait()
	free(t, s)
}

// TestDoInAnOutage is not kept by its release for longer than a second, and
// that is no error of f.
func TestDoInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.NewServer()
		mu := mutex.New(newClient(t, s), "k")
		began := time.Now()
		assert.Sure(t, mu.Do(t.Context(), func(context.Context) error {
			s.Freeze()
			return nil
		}))
		assert.Exactly(t, "took", time.Since(began), time.Second)
		s.Thaw()
		time.Sleep(2 * time.Second)
		free(t, s)
	})
}

// TestDoWithAContextThatEnds still unlocks.
func TestDoWithAContextThatEnds(t *testing.T) {
	s := memory.NewServer()
	mu := mutex.New(newClient(t, s), "k")
	ctx, cancel := context.WithCancel(t.Context())
	err := mu.Do(ctx, func(ctx context.Context) error {
		cancel()
		<-ctx.Done()
		return context.Cause(ctx)
	})
	assert.Matches(t, err, context.Canceled)
	assert.MatchesNot(t, err, locker.ErrLost)
	free(t, s)
}
