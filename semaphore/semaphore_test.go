package semaphore_test

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/internal/leaktest"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/memory"
	"github.com/distributed-go/distributed/semaphore"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

const ttl = 10 * time.Second

// newClient returns a client of the server that is closed at the end of the
// test.
func newClient(t testing.TB, s *memory.Server, opts ...locker.Option) *locker.Client {
	t.Helper()
	quiet := locker.WithLogger(slog.New(slog.DiscardHandler))
	c := locker.New(s.Backend(), append([]locker.Option{locker.WithTTL(ttl), quiet}, opts...)...)
	t.Cleanup(func() { c.Close() })
	return c
}

// free checks that nobody holds and nobody waits.
func free(t testing.TB, s *memory.Server) {
	t.Helper()
	b := s.Backend()
	defer b.Close()
	r, err := b.Inspect(context.Background())
	assert.Sure(t, err)
	for _, k := range r.Keys {
		if k.Holders+k.Waiters > 0 {
			t.Errorf("%d hold %q and %d wait, want nobody", k.Holders, k.Key, k.Waiters)
		}
	}
}

func acquire(t testing.TB, w *semaphore.Weighted, n int64) *locker.Lease {
	t.Helper()
	l, err := w.Acquire(context.Background(), n)
	assert.Sure(t, err)
	return l
}

// TestLimit: never more than the limit, of any mix of weights and processes, and
// as much as it allows.
func TestLimit(t *testing.T) {
	const limit, processes, goroutines, rounds = 5, 3, 10, 20
	synctest.Test(t, func(t *testing.T) {
		s := memory.NewServer()
		var inside, most atomic.Int64
		var wg sync.WaitGroup
		for range processes {
			w := semaphore.New(newClient(t, s), "k", limit)
			for i := range int64(goroutines) {
				wg.Go(func() {
					n := i%limit + 1
					for range rounds {
						err := w.Do(t.Context(), n, func(context.Context) error {
							now := inside.Add(n)
							for seen := most.Load(); now > seen && !most.CompareAndSwap(seen, now); seen = most.Load() {
							}
							time.Sleep(time.Second)
							inside.Add(-n)
							return nil
						})
						if err != nil {
							t.Error(err)
						}
					}
				})
			}
		}
		wg.Wait()
		assert.Exactly(t, "most at once", most.Load(), limit)
		free(t, s)
	})
}

// TestHeavyIsNotStarved by lighter requests that come later, and a try does not
// jump the queue.
func TestHeavyIsNotStarved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.NewServer()
		w := semaphore.New(newClient(t, s), "k", 3)
		one := acquire(t, w, 1)
		heavy := make(chan *locker.Lease, 1)
		go func() {
			l, err := w.Acquire(context.Background(), 3)
			if err != nil {
				t.Error(err)
			}
			heavy <- l
		}()
		synctest.Wait()
		_, err := w.TryAcquire(t.Context(), 1)
		assert.Matches(t, err, locker.ErrLocked)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = w.Acquire(ctx, 1)
		assert.Matches(t, err, locker.ErrLocked, context.DeadlineExceeded)
		assert.Sure(t, one.Release(t.Context()))
		assert.Sure(t, (<-heavy).Release(t.Context()))
		free(t, s)
	})
}

// TestTryAcquire: at once, or not.
func TestTryAcquire(t *testing.T) {
	s := memory.NewServer()
	a, b := semaphore.New(newClient(t, s), "k", 3), semaphore.New(newClient(t, s), "k", 3)
	two, err := a.TryAcquire(t.Context(), 2)
	assert.Sure(t, err)
	_, err = b.TryAcquire(t.Context(), 2)
	assert.Matches(t, err, locker.ErrLocked)
	one, err := b.TryAcquire(t.Context(), 1)
	assert.Sure(t, err)
	_, fenced := two.Fence()
	assert.Exactly(t, "fence of one who shares", fenced, false)
	assert.Sure(t, two.Release(t.Context()))
	assert.Sure(t, one.Release(t.Context()))
	all := acquire(t, a, 3)
	_, fenced = all.Fence()
	assert.Exactly(t, "fence of one who holds all", fenced, true)
	assert.Sure(t, all.Release(t.Context()))
	s.Fail(errors.New("down"))
	_, err = a.TryAcquire(t.Context(), 1)
	assert.Matches(t, err, locker.ErrUnavailable)
	s.Fail(nil)
	free(t, s)
}

// TestLimitMismatch: all users of a key must agree.
func TestLimitMismatch(t *testing.T) {
	s := memory.NewServer()
	l := acquire(t, semaphore.New(newClient(t, s), "k", 3), 1)
	other := semaphore.New(newClient(t, s), "k", 4)
	for _, n := range []int64{1, 2, 4} {
		_, err := other.Acquire(t.Context(), n)
		assert.Matches(t, err, locker.ErrLimitMismatch)
		_, err = other.TryAcquire(t.Context(), n)
		assert.Matches(t, err, locker.ErrLimitMismatch)
		assert.Matches(t, other.Do(t.Context(), n, func(context.Context) error { return nil }), locker.ErrLimitMismatch)
	}
	assert.Sure(t, l.Release(t.Context()))
}

// TestBadArguments are returned by every acquisition, before anything is sent.
func TestBadArguments(t *testing.T) {
	s := memory.NewServer()
	c := newClient(t, s)
	for _, b := range []struct {
		key      string
		limit, n int64
		opts     []locker.Option
		want     string
	}{
		{"", 1, 1, nil, "key is empty"},
		{"a b", 1, 1, nil, "white space"},
		{"k", 0, 1, nil, "limit 0"},
		{"k", -1, 1, nil, "limit -1"},
		{"k", math.MinInt64, 1, nil, "limit -9223372036854775808"},
		{"k", math.MaxInt32 + 1, 1, nil, "limit 2147483648"},
		{"k", math.MaxInt64, math.MaxInt64, nil, "limit 9223372036854775807"},
		{"k", 3, 0, nil, "weight 0"},
		{"k", 3, -1, nil, "weight -1"},
		{"k", 3, math.MinInt64, nil, "weight -9223372036854775808"},
		{"k", 3, 4, nil, "weight 4"},
		{"k", 3, math.MaxInt64, nil, "weight 9223372036854775807"},
		{"k", math.MaxInt32, math.MaxInt32 + 1, nil, "weight 2147483648"},
		{"k", 3, 1, []locker.Option{locker.WithTTL(-1)}, "WithTTL(-1ns)"},
		{"k", 3, 2, []locker.Option{locker.WithTTL(-1)}, "WithTTL(-1ns)"},
	} {
		w := semaphore.New(c, b.key, b.limit, b.opts...)
		_, acquiring := w.Acquire(t.Context(), b.n)
		_, trying := w.TryAcquire(t.Context(), b.n)
		_, queueing := w.Enqueue(t.Context(), b.n)
		doing := w.Do(t.Context(), b.n, func(context.Context) error { t.Error("f runs"); return nil })
		for _, err := range []error{acquiring, trying, queueing, doing} {
			assert.Matches(t, err, locker.ErrInvalid)
			if err == nil || !strings.Contains(err.Error(), b.want) {
				t.Errorf("New(%q, %d).Acquire(%d): %v, want it to contain %q", b.key, b.limit, b.n, err, b.want)
			}
		}
	}
	assert.Sure(t, acquire(t, semaphore.New(c, "k", math.MaxInt32), math.MaxInt32).Release(t.Context()))
	free(t, s)
}

// TestNeverMade: what New did not make says so.
func TestNeverMade(t *testing.T) {
	for what, f := range map[string]func(){
		"New(nil)":   func() { semaphore.New(nil, "k", 1) },
		"Acquire":    func() { _, _ = new(semaphore.Weighted).Acquire(t.Context(), 1) },
		"TryAcquire": func() { _, _ = new(semaphore.Weighted).TryAcquire(t.Context(), 2) },
		"Enqueue":    func() { _, _ = new(semaphore.Weighted).Enqueue(t.Context(), 1) },
		"Do":         func() { _ = new(semaphore.Weighted).Do(t.Context(), 1, nil) },
	} {
		func() {
			defer func() {
				if s, _ := recover().(string); !strings.HasPrefix(s, "distributed: ") {
					t.Errorf("%s does not panic, or not with a reason", what)
				}
			}()
			f()
		}()
	}
}

// TestDo: errors, losses, panics.
func TestDo(t *testing.T) {
	boom := errors.New("boom")
	synctest.Test(t, func(t *testing.T) {
		s := memory.NewServer()
		b := s.Backend()
		c := locker.New(b, locker.WithTTL(ttl))
		defer c.Close()
		w := semaphore.New(c, "k", 3)
		assert.Exactly(t, "error", w.Do(t.Context(), 2, func(ctx context.Context) error {
			assert.Sure(t, ctx.Err())
			return boom
		}), boom)
		err := w.Do(t.Context(), 2, func(ctx context.Context) error {
			b.Disconnect()
			<-ctx.Done()
			assert.Matches(t, context.Cause(ctx), locker.ErrLost)
			return nil
		})
		assert.Matches(t, err, locker.ErrLost)
		func() {
			defer func() { assert.Exactly(t, "panic", recover(), any("boom")) }()
			_ = w.Do(t.Context(), 3, func(context.Context) error { panic("boom") })
		}()
		free(t, s)
	})
}

// TestEnqueue: a place for some of it.
func TestEnqueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.NewServer()
		w := semaphore.New(newClient(t, s), "k", 3)
		two := acquire(t, w, 2)
		ticket, err := w.Enqueue(t.Context(), 2)
		assert.Sure(t, err)
		assert.Exactly(t, "Acquired", ticket.Acquired(), false)
		time.AfterFunc(time.Minute, func() { two.Release(context.Background()) })
		l, err := ticket.Wait(t.Context())
		assert.Sure(t, err)
		assert.Sure(t, l.Release(t.Context()))
		free(t, s)
	})
}

// TestOptionsAreTheSemaphoresOwn, for every weight, whatever the caller does
// with the slice that they were in.
func TestOptionsAreTheSemaphoresOwn(t *testing.T) {
	s := memory.NewServer()
	opts := []locker.Option{locker.WithTTL(time.Minute)}
	w := semaphore.New(newClient(t, s), "k", 3, opts...)
	opts[0] = nil
	for _, n := range []int64{1, 2} {
		l := acquire(t, w, n)
		assert.Exactly(t, "TTL", l.TTL(), time.Minute)
		assert.Sure(t, l.Release(t.Context()))
	}
}

// TestVetNoticesCopies, as it does for a Mutex.
func TestVetNoticesCopies(t *testing.T) {
	out, err := exec.Command("go", "vet", "-copylocks", "./testdata/copies").CombinedOutput()
	if err == nil {
		t.Error("go vet is content")
	}
	for _, want := range []string{"assignment copies lock value", "passes lock by value"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("go vet does not say %q:\n%s", want, out)
		}
	}
}
