package mutex_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/dflockd"
	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/memory"
	"github.com/distributed-go/distributed/mutex"
)

// TestRWReplacesRWMutex: the same calls, under the same rules.
func TestRWReplacesRWMutex(t *testing.T) {
	s := memory.NewServer()
	var mu interface {
		sync.Locker
		TryLock() bool
		RLock()
		TryRLock() bool
		RUnlock()
		RLocker() sync.Locker
	} = new(sync.RWMutex)
	for range 2 {
		mu.Lock()
		assert.Exactly(t, "TryLock", mu.TryLock(), false)
		assert.Exactly(t, "TryRLock", mu.TryRLock(), false)
		mu.Unlock()
		mu.RLock()
		mu.RLocker().Lock()
		assert.Exactly(t, "TryRLock", mu.TryRLock(), true)
		assert.Exactly(t, "TryLock", mu.TryLock(), false)
		mu.RUnlock()
		mu.RLocker().Unlock()
		assert.Exactly(t, "TryLock", mu.TryLock(), false)
		mu.RUnlock()
		assert.Exactly(t, "TryLock", mu.TryLock(), true)
		mu.Unlock()
		mu = mutex.NewRW(newClient(t, s), "k")
	}
	free(t, s)
}

// TestRWKeepsWritersApart: plain variables end exact, with all the forms there
// are. The race detector watches them too.
func TestRWKeepsWritersApart(t *testing.T) {
	const clients, goroutines, rounds = 3, 30, 5
	s := memory.NewServer()
	a, b := 0, 0
	write := func(context.Context) error { a++; b--; return nil }
	read := func(context.Context) error {
		if a+b != 0 {
			t.Errorf("read %d and %d", a, b)
		}
		return nil
	}
	var wg sync.WaitGroup
	for range clients {
		mu := mutex.NewRW(newClient(t, s), "k")
		for i := range goroutines {
			wg.Go(func() {
				ctx := context.Background()
				for range rounds {
					switch i % 6 {
					case 0:
						mu.Lock()
						assert.Sure(t, write(ctx))
						mu.Unlock()
					case 1:
						assert.Sure(t, mu.LockContext(ctx))
						assert.Sure(t, write(ctx))
						assert.Sure(t, mu.UnlockContext(ctx))
					case 2:
						assert.Sure(t, mu.Do(ctx, write))
					case 3:
						mu.RLock()
						assert.Sure(t, read(ctx))
						mu.RUnlock()
					case 4:
						assert.Sure(t, mu.RLockContext(ctx))
						assert.Sure(t, read(ctx))
						assert.Sure(t, mu.RUnlockContext(ctx))
					default:
						assert.Sure(t, mu.RDo(ctx, read))
					}
				}
			})
		}
	}
	wg.Wait()
	assert.Exactly(t, "writes", a, clients*goroutines*rounds/2)
	free(t, s)
}

// TestRWAndMutexOfOneKey do not exclude each other, and an RW is the semaphore
// that its documentation says.
func TestRWAndMutexOfOneKey(t *testing.T) {
	s := memory.NewServer()
	c := newClient(t, s)
	mu, rw := mutex.New(c, "k"), mutex.NewRW(c, "k")
	mu.Lock()
	rw.Lock()
	assert.Exactly(t, "key", rw.Lease().Key(), mutex.RWPrefix+"k")
	r, err := c.Inspect(t.Context())
	assert.Sure(t, err)
	if len(r.Keys) != 2 || r.Keys[1].Kind != "semaphore" || r.Keys[1].Key != "rw:k" || r.Keys[1].Limit != mutex.RWLimit {
		t.Errorf("the server has %+v", r.Keys)
	}
	rw.Unlock()
	mu.Unlock()
	free(t, s)
}

// TestRWMisuse panics, as with sync.RWMutex, and on nothing else.
func TestRWMisuse(t *testing.T) {
	s := memory.NewServer()
	mu := mutex.NewRW(newClient(t, s), "k")
	ctx := t.Context()
	unlocked := func() {
		t.Helper()
		assert.Matches(t, panics(t, "Unlock", mu.Unlock), locker.ErrNotHeld)
		assert.Matches(t, mu.UnlockContext(ctx), locker.ErrNotHeld)
	}
	runlocked := func() {
		t.Helper()
		assert.Matches(t, panics(t, "RUnlock", mu.RUnlock), locker.ErrNotHeld)
		assert.Matches(t, panics(t, "RLocker().Unlock", mu.RLocker().Unlock), locker.ErrNotHeld)
		assert.Matches(t, mu.RUnlockContext(ctx), locker.ErrNotHeld)
	}
	unlocked()
	runlocked()
	mu.Lock()
	runlocked()
	mu.Unlock()
	mu.RLock()
	unlocked()
	mu.RUnlock()
	runlocked()
	assert.Sure(t, mu.RDo(ctx, func(context.Context) error {
		runlocked() // RDo does that
		return nil
	}))
	mu.RLock()
	done := make(chan struct{})
	go func() { // any goroutine may
		defer close(done)
		mu.RUnlock()
	}()
	<-done
	unlocked()
	runlocked()
	free(t, s)
}

// TestRWBadArguments are returned, or thrown, by the first use.
func TestRWBadArguments(t *testing.T) {
	s := memory.NewServer()
	c := newClient(t, s)
	longest := strings.Repeat("k", locker.MaxKey-len(mutex.RWPrefix))
	for want, mu := range map[string]*mutex.RW{
		"key is empty":    mutex.NewRW(c, ""),
		"white space":     mutex.NewRW(c, "a b"),
		"WithTTL":         mutex.NewRW(c, "k", locker.WithTTL(-1)),
		"must have at mo": mutex.NewRW(c, longest+"k"),
		`key of 254 bytes: that of an RW must have at most 253, as "rw:" goes before it`: mutex.NewRW(c, longest+"k"),
	} {
		ctx := t.Context()
		unused := func(context.Context) error { t.Error("f runs"); return nil }
		for what, err := range map[string]error{
			"Lock":            panics(t, "Lock", mu.Lock),
			"TryLock":         panics(t, "TryLock", func() { mu.TryLock() }),
			"Unlock":          panics(t, "Unlock", mu.Unlock),
			"RLock":           panics(t, "RLock", mu.RLock),
			"TryRLock":        panics(t, "TryRLock", func() { mu.TryRLock() }),
			"RUnlock":         panics(t, "RUnlock", mu.RUnlock),
			"LockContext":     mu.LockContext(ctx),
			"TryLockContext":  mu.TryLockContext(ctx),
			"UnlockContext":   mu.UnlockContext(ctx),
			"RLockContext":    mu.RLockContext(ctx),
			"TryRLockContext": mu.TryRLockContext(ctx),
			"RUnlockContext":  mu.RUnlockContext(ctx),
			"Do":              mu.Do(ctx, unused),
			"RDo":             mu.RDo(ctx, unused),
		} {
			assert.Matches(t, err, locker.ErrInvalid)
			if err != nil && !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want it to say %q", what, err, want)
			}
		}
	}
	mu := mutex.NewRW(c, longest)
	mu.Lock()
	mu.Unlock() //lint:ignore SA2001 there is nothing to guard
	free(t, s)
}

// TestRWNeverMade: what NewRW did not make says so, and does not hang.
func TestRWNeverMade(t *testing.T) {
	assert.Matches(t, panics(t, "NewRW(nil)", func() { mutex.NewRW(nil, "k") }))
	var mu mutex.RW
	ctx := t.Context()
	nothing := func(context.Context) error { return nil }
	for what, f := range map[string]func(){
		"Lock": mu.Lock, "Unlock": mu.Unlock, "RLock": mu.RLock, "RUnlock": mu.RUnlock,
		"TryLock":         func() { mu.TryLock() },
		"TryRLock":        func() { mu.TryRLock() },
		"LockContext":     func() { _ = mu.LockContext(ctx) },
		"RLockContext":    func() { _ = mu.RLockContext(ctx) },
		"TryLockContext":  func() { _ = mu.TryLockContext(ctx) },
		"TryRLockContext": func() { _ = mu.TryRLockContext(ctx) },
		"UnlockContext":   func() { _ = mu.UnlockContext(ctx) },
		"RUnlockContext":  func() { _ = mu.RUnlockContext(ctx) },
		"Do":              func() { _ = mu.Do(ctx, nothing) },
		"RDo":             func() { _ = mu.RDo(ctx, nothing) },
	} {
		if err := panics(t, what, f); err == nil || !strings.Contains(err.Error(), "zero RW") {
			t.Errorf("%s of a zero RW panics with %v", what, err)
		}
	}
}

// TestRWTry: at once, and telling why not.
func TestRWTry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.NewServer()
		a, b := mutex.NewRW(newClient(t, s), "k"), mutex.NewRW(newClient(t, s), "k")
		ctx := t.Context()
		for _, mu := range []*mutex.RW{a, b} {
			assert.Sure(t, a.TryLockContext(ctx))
			assert.Matches(t, mu.TryLockContext(ctx), locker.ErrLocked)
			assert.Matches(t, mu.TryRLockContext(ctx), locker.ErrLocked)
			a.Unlock()
			assert.Sure(t, a.TryRLockContext(ctx))
			assert.Matches(t, mu.TryLockContext(ctx), locker.ErrLocked)
			assert.Sure(t, mu.TryRLockContext(ctx))
			mu.RUnlock()
			written := make(chan struct{})
			go func() {
				defer close(written)
				mu.Lock()
				mu.Unlock() //lint:ignore SA2001 there is nothing to guard
			}()
			synctest.Wait()
			assert.Matches(t, a.TryRLockContext(ctx), locker.ErrLocked) // a writer waits
			a.RUnlock()
			<-written
		}
		s.Fail(errors.New("down"))
		assert.Exactly(t, "TryRLock in an outage", a.TryRLock(), false)
		assert.Matches(t, a.TryRLockContext(ctx), locker.ErrUnavailable)
		assert.Matches(t, a.TryLockContext(ctx), locker.ErrUnavailable)
		s.Fail(nil)
		free(t, s)
	})
}

// TestRWContextsBoundTheWait, and WithWait does; not the hold.
func TestRWContextsBoundTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.NewServer()
		a, b := mutex.NewRW(newClient(t, s), "k"), mutex.NewRW(newClient(t, s), "k", locker.WithWait(2*time.Second))
		ctx, cancel := context.WithCancel(t.Context())
		assert.Sure(t, a.LockContext(ctx))
		cancel()
		nothing := func(context.Context) error { return nil }
		for _, wait := range []func(*mutex.RW, context.Context) error{
			(*mutex.RW).LockContext, (*mutex.RW).RLockContext,
			func(mu *mutex.RW, ctx context.Context) error { return mu.Do(ctx, nothing) },
			func(mu *mutex.RW, ctx context.Context) error { return mu.RDo(ctx, nothing) },
		} {
			for _, mu := range []*mutex.RW{a, b} {
				began := time.Now()
				assert.Matches(t, wait(mu, within(t, time.Second)), context.DeadlineExceeded, locker.ErrLocked)
				assert.Exactly(t, "took", time.Since(began), time.Second)
			}
			began := time.Now()
			err := wait(b, t.Context())
			assert.Matches(t, err, locker.ErrLocked)
			assert.MatchesNot(t, err, context.DeadlineExceeded)
			assert.Exactly(t, "took", time.Since(began), 2*time.Second)
		}
		synctest.Wait()
		h, w := holders(t, s)
		assert.Exactly(t, "holders and waiters", [2]int{h, w}, [2]int{1, 0})
		assert.Sure(t, a.Lease().Check())
		a.Unlock()
		free(t, s)
	})
}

// TestRWUnlockInAnOutage blocks for a second at most, lets other goroutines have
// their turn, and goes on in the background.
func TestRWUnlockInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.NewServer()
		mu := mutex.NewRW(newClient(t, s), "k")
		for _, l := range []sync.Locker{mu, mu.RLocker()} {
			l.Lock()
			s.Freeze()
			began := time.Now()
			l.Unlock()
			assert.Exactly(t, "took", time.Since(began), time.Second)
			assert.Matches(t, panics(t, "Unlock twice", l.Unlock), locker.ErrNotHeld)
			s.Thaw()
			time.Sleep(2 * time.Second)
			free(t, s)
		}
	})
}

// TestRWUnlocks whatever f does.
func TestRWUnlocks(t *testing.T) {
	s := memory.NewServer()
	mu := mutex.NewRW(newClient(t, s), "k")
	for _, do := range []func(context.Context, func(context.Context) error) error{mu.Do, mu.RDo} {
		func() {
			defer func() { assert.Exactly(t, "panic", recover(), any("boom")) }()
			_ = do(t.Context(), func(context.Context) error { panic("boom") })
		}()
		free(t, s)
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = do(context.Background(), func(context.Context) error { runtime.Goexit(); return nil })
		}()
		<-done
		free(t, s)
		assert.Exactly(t, "error", do(t.Context(), func(context.Context) error { return errBoom }), errBoom)
		assert.Exactly(t, "TryLock", mu.TryLock(), true)
		mu.Unlock()
	}
}

// TestRWFence: a writer has one, which grows over what others do meanwhile.
func TestRWFence(t *testing.T) {
	s := memory.NewServer()
	var last uint64
	for range 3 {
		mu := mutex.NewRW(newClient(t, s), "k")
		if mu.Lease() != nil || mu.Lost() != nil {
			t.Error("an RW that is not locked has a lease")
		}
		mu.RLock()
		if mu.Lease() != nil || mu.Lost() != nil {
			t.Error("an RW that is locked for reading has the lease of a writer")
		}
		mu.RUnlock()
		mu.Lock()
		fence, ok := mu.Lease().Fence()
		if !ok || fence <= last {
			t.Errorf("fence %d, %t after %d", fence, ok, last)
		}
		last = fence
		assert.Exactly(t, "Lost", mu.Lost(), mu.Lease().Lost())
		mu.Unlock()
	}
}

// onBaseProtocol returns a client that speaks the base protocol of dflockd, to
// nobody.
func onBaseProtocol(t *testing.T) *locker.Client {
	t.Helper()
	b, err := dflockd.New([]string{"127.0.0.1:1"}, dflockd.WithBaseProtocol(), dflockd.WithFences())
	assert.Sure(t, err)
	c := locker.New(b)
	t.Cleanup(func() { c.Close() })
	return c
}

// TestRWOnTheBaseProtocol: a writer is told at once that the backend has no
// weights. Nothing is sent: there is no server.
func TestRWOnTheBaseProtocol(t *testing.T) {
	mu := mutex.NewRW(onBaseProtocol(t), "k")
	assert.Matches(t, mu.LockContext(t.Context()), errors.ErrUnsupported)
	assert.Matches(t, mu.TryLockContext(t.Context()), errors.ErrUnsupported)
	assert.Matches(t, mu.Do(t.Context(), func(context.Context) error { return nil }), errors.ErrUnsupported)
	assert.Matches(t, panics(t, "Lock", mu.Lock), errors.ErrUnsupported)
}
