package mutex_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/memory"
	"github.com/distributed-go/distributed/mutex"
)

// A revoker is a backend that loses one hold at a time: it refuses to renew it.
type revoker struct {
	*memory.Backend

	mu      sync.Mutex
	granted []locker.Token        // in order
	revoked map[locker.Token]bool // released behind the holder's back
}

func (r *revoker) Acquire(ctx context.Context, req locker.Request) (locker.Grant, error) {
	g, err := r.Backend.Acquire(ctx, req)
	if err == nil {
		r.mu.Lock()
		r.granted = append(r.granted, g.Token)
		r.mu.Unlock()
	}
	return g, err
}

func (r *revoker) Renew(ctx context.Context, renewals []locker.Renewal) {
	r.Backend.Renew(ctx, renewals)
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range renewals {
		if r.revoked[renewals[i].Token] {
			renewals[i].Err = fmt.Errorf("%w: revoked", locker.ErrLost)
		}
	}
}

// revoke ends the i-th hold that was granted on a key of the kind, and waits
// until its holder knows.
func (r *revoker) revoke(t testing.TB, i int) {
	t.Helper()
	r.mu.Lock()
	token := r.granted[i]
	r.revoked[token] = true
	r.mu.Unlock()
	hold := locker.Hold{Kind: locker.Counting, Key: mutex.RWPrefix + "k", Token: token}
	assert.Sure(t, r.Backend.Release(t.Context(), hold))
	time.Sleep(ttl / 2)
}

// revoking runs a test of an RW whose holds are revoked, and of another client's.
func revoking(t *testing.T, f func(t *testing.T, r *revoker, mu, other *mutex.RW)) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.NewServer()
		r := &revoker{Backend: s.Backend(), revoked: make(map[locker.Token]bool)}
		c := locker.New(r, locker.WithTTL(ttl))
		defer c.Close()
		f(t, r, mutex.NewRW(c, "k"), mutex.NewRW(newClient(t, s), "k"))
		free(t, s)
	})
}

// TestRWUnlocksTheLostFirst: one of three readers loses its lease. Whoever of
// them unlocks first, those of the other two stay.
func TestRWUnlocksTheLostFirst(t *testing.T) {
	for lost := range 3 {
		revoking(t, func(t *testing.T, r *revoker, mu, other *mutex.RW) {
			for range 3 {
				mu.RLock()
			}
			r.revoke(t, lost)
			assert.Matches(t, mu.RUnlockContext(t.Context()), locker.ErrLost)
			for range 2 {
				assert.Exactly(t, "TryLock of another", other.TryLock(), false)
				assert.Sure(t, mu.RUnlockContext(t.Context()))
			}
			assert.Exactly(t, "TryLock of another", other.TryLock(), true)
			other.Unlock()
		})
	}
}

// TestRWLossFreesNobodyElse: other goroutines of the handle wait for the
// Unlock of who lost the lease, as writers and as readers.
func TestRWLossFreesNobodyElse(t *testing.T) {
	for name, sides := range map[string]func(*mutex.RW) (loser, next sync.Locker){
		"writer, then writer": func(mu *mutex.RW) (loser, next sync.Locker) { return mu, mu },
		"writer, then reader": func(mu *mutex.RW) (loser, next sync.Locker) { return mu, mu.RLocker() },
		"reader, then writer": func(mu *mutex.RW) (loser, next sync.Locker) { return mu.RLocker(), mu },
	} {
		t.Run(name, func(t *testing.T) {
			revoking(t, func(t *testing.T, r *revoker, mu, other *mutex.RW) {
				loser, next := sides(mu)
				loser.Lock()
				r.revoke(t, 0)
				locked := make(chan struct{})
				go func() {
					next.Lock()
					close(locked)
				}()
				time.Sleep(time.Minute)
				select {
				case <-locked:
					t.Fatal("a loss unlocked the RW")
				default:
				}
				try := mu.TryLockContext
				if next != sync.Locker(mu) {
					try = mu.TryRLockContext
				}
				assert.Matches(t, try(t.Context()), locker.ErrLocked)
				err := mu.LockContext(within(t, time.Second))
				assert.Matches(t, err, context.DeadlineExceeded)
				loser.Unlock()
				<-locked
				assert.Exactly(t, "TryLock of another", other.TryLock(), false)
				next.Unlock()
			})
		})
	}
}

// TestRWReadersAfterALoss run while the one who lost the lease reads on.
func TestRWReadersAfterALoss(t *testing.T) {
	revoking(t, func(t *testing.T, r *revoker, mu, other *mutex.RW) {
		mu.RLock()
		r.revoke(t, 0)
		mu.RLock()
		assert.Exactly(t, "TryRLock", mu.TryRLock(), true)
		for range 3 {
			mu.RUnlock()
		}
	})
}

// TestRWDoTellsOfALoss, to f and to its caller, for either side.
func TestRWDoTellsOfALoss(t *testing.T) {
	revoking(t, func(t *testing.T, r *revoker, mu, other *mutex.RW) {
		for i, do := range []doer{mu.Do, mu.RDo} {
			err := do(t.Context(), func(ctx context.Context) error {
				r.revoke(t, i)
				assert.Matches(t, context.Cause(ctx), locker.ErrLost)
				return errBoom
			})
			assert.Matches(t, err, errBoom, locker.ErrLost)
			assert.Exactly(t, "TryLock of another", other.TryLock(), true)
			other.Unlock()
		}
	})
}

// TestRWLossWhileItWaits: a writer whose lease is lost before a reader of the same
// handle, who lost another, makes way for it, asks anew.
func TestRWLossWhileItWaits(t *testing.T) {
	revoking(t, func(t *testing.T, r *revoker, mu, other *mutex.RW) {
		left := make(chan struct{})
		reader := make(chan error)
		go func() {
			reader <- mu.RDo(context.Background(), func(context.Context) error {
				r.revoke(t, 0)
				<-left
				return nil
			})
		}()
		time.Sleep(ttl)
		locked := make(chan struct{})
		go func() {
			mu.Lock()
			close(locked)
		}()
		synctest.Wait()
		r.revoke(t, 1)
		select {
		case <-locked:
			t.Error("a loss let a writer in")
		default:
		}
		close(left)
		<-locked
		assert.Sure(t, mu.Lease().Check())
		assert.Matches(t, <-reader, locker.ErrLost)
		mu.Unlock()
	})
}
