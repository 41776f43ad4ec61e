package mutex_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/memory"
	"github.com/distributed-go/distributed/mutex"
)

type doer func(ctx context.Context, f func(context.Context) error) error

// TestRWUpgrade is an error and not a deadlock, however it is tried, and harms
// nobody.
func TestRWUpgrade(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.NewServer()
		c := newClient(t, s)
		mu, other, twin := mutex.NewRW(c, "k"), mutex.NewRW(c, "other"), mutex.NewRW(c, "k")
		refused := func(ctx context.Context) error {
			nothing := func(context.Context) error { t.Error("f runs"); return nil }
			for what, err := range map[string]error{
				"LockContext":     mu.LockContext(ctx),
				"RLockContext":    mu.RLockContext(ctx),
				"TryLockContext":  mu.TryLockContext(ctx),
				"TryRLockContext": mu.TryRLockContext(ctx),
				"Do":              mu.Do(ctx, nothing),
				"RDo":             mu.RDo(ctx, nothing),
			} {
				if err == nil {
					t.Errorf("%s locks twice", what)
				}
				assert.Matches(t, err, mutex.ErrUpgrade)
			}
			return nil
		}
		for _, do := range []doer{mu.Do, mu.RDo} {
			began := time.Now()
			assert.Sure(t, do(t.Context(), refused))
			assert.Sure(t, do(t.Context(), func(ctx context.Context) error {
				type key struct{}
				ctx, cancel := context.WithTimeout(context.WithValue(context.WithoutCancel(ctx), key{}, 1), time.Hour)
				defer cancel()
				return other.Do(ctx, func(ctx context.Context) error {
					done := make(chan struct{})
					go func() {
						defer close(done)
						assert.Sure(t, refused(ctx))
					}()
					<-done
					return nil
				})
			}))
			assert.Exactly(t, "took", time.Since(began), 0)
			free(t, s)
		}
		assert.Sure(t, mu.RDo(t.Context(), func(ctx context.Context) error {
			assert.Sure(t, twin.RLockContext(ctx)) // another handle, and nobody waits
			twin.RUnlock()
			assert.Matches(t, twin.TryLockContext(ctx), locker.ErrLocked)
			return nil
		}))
		free(t, s)
	})
}

// TestRWAfterAVisit: a context that outlives its function does not keep anybody
// from locking.
func TestRWAfterAVisit(t *testing.T) {
	s := memory.NewServer()
	mu := mutex.NewRW(newClient(t, s), "k")
	for _, do := range []doer{mu.Do, mu.RDo} {
		var kept context.Context
		func() {
			defer func() { recover() }() //nolint:errcheck // the panic below
			_ = do(t.Context(), func(ctx context.Context) error {
				kept = context.WithoutCancel(ctx)
				panic("boom")
			})
		}()
		for _, again := range []doer{mu.Do, mu.RDo} {
			assert.Sure(t, again(kept, func(ctx context.Context) error {
				assert.Matches(t, mu.LockContext(ctx), mutex.ErrUpgrade)
				return nil
			}))
		}
		assert.Sure(t, mu.LockContext(kept))
		mu.Unlock()
	}
	free(t, s)
}
