package locker_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
)

// TestReleaseJoinsTheRenewal: the request to release is sent when the renewal
// under way has been answered.
func TestReleaseJoinsTheRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.renew = func(_ context.Context, rs []locker.Renewal) {
			time.Sleep(time.Second)
			f.extend(rs)
		}
		l := acquire(t, newClient(t, f), "k")
		time.Sleep(ttl / 3)
		r := f.of("renew")
		assert.Exactly(t, "renewals", len(r), 1)
		assert.Sure(t, l.Release(t.Context()))
		assert.Exactly(t, "released at", f.of("release")[0].at, r[0].at+time.Second)
		assert.Exactly(t, "holders", f.holders(), 0)
		assert.Sure(t, l.Err())
		assert.Matches(t, l.Check(), locker.ErrNotHeld)
		assert.MatchesNot(t, l.Check(), locker.ErrLost)
		time.Sleep(time.Minute)
		assert.Exactly(t, "renewals", len(f.of("renew")), 1)
		assert.Exactly(t, "Lost is closed", closed(l.Lost()), false)
	})
}

// TestReleaseDoesNotWaitForARenewalForEver, and neither does what goes on in
// the background: the renewal has a time of its own.
func TestReleaseDoesNotWaitForARenewalForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.renew = frozenRenew
		l := acquire(t, newClient(t, f), "k")
		time.Sleep(ttl / 3)
		stamp := f.of("renew")[0].at
		began := time.Now()
		err := l.Release(ctx2(t, 500*time.Millisecond))
		assert.Matches(t, err, context.DeadlineExceeded)
		assert.Exactly(t, "took", time.Since(began), 500*time.Millisecond)
		assert.Matches(t, l.Check(), locker.ErrNotHeld)
		time.Sleep(ttl / 6)
		assert.Exactly(t, "holders", f.holders(), 0)
		assert.Exactly(t, "released at", f.of("release")[0].at, stamp+ttl/6)
		assert.Exactly(t, "renewals", len(f.of("renew")), 1)
	})
}

// An orderly backend complains when a renewal and a release of one hold are
// under way at the same time, or a renewal begins after the release.
type orderly struct {
	granter
	mu       sync.Mutex
	renewing map[locker.Token]bool
	released map[locker.Token]bool
	faults   []string
}

func (o *orderly) Renew(ctx context.Context, rs []locker.Renewal) {
	o.mu.Lock()
	for _, r := range rs {
		if o.released[r.Token] {
			o.faults = append(o.faults, "a renewal began after the release")
		}
		o.renewing[r.Token] = true
	}
	o.mu.Unlock()
	time.Sleep(time.Duration(rand.Int64N(int64(ttl / 6))))
	o.mu.Lock()
	for _, r := range rs {
		delete(o.renewing, r.Token)
	}
	o.mu.Unlock()
	o.granter.Renew(ctx, rs)
}

func (o *orderly) Release(ctx context.Context, h locker.Hold) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.renewing[h.Token] {
		o.faults = append(o.faults, "released while a renewal was under way")
	}
	o.released[h.Token] = true
	return o.granter.Release(ctx, h)
}

// TestNoRenewalAfterARelease: ten thousand leases are released around the
// instants of their renewals, some with a context that ends.
func TestNoRenewalAfterARelease(t *testing.T) {
	const goroutines, rounds = 100, 100
	synctest.Test(t, func(t *testing.T) {
		o := &orderly{renewing: make(map[locker.Token]bool), released: make(map[locker.Token]bool)}
		c := newClient(t, o)
		var wg sync.WaitGroup
		for range goroutines {
			wg.Go(func() {
				for range rounds {
					l, err := c.Acquire(context.Background(), "k")
					if err != nil {
						t.Error(err)
						return
					}
					time.Sleep(time.Duration(3+rand.IntN(2))*time.Second + time.Duration(rand.IntN(400))*time.Millisecond)
					ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rand.Int64N(int64(ttl/3))))
					if rand.IntN(10) == 0 {
						cancel()
					}
					if err := l.Release(ctx); err != nil && ctx.Err() == nil {
						t.Error(err)
					}
					cancel()
				}
			})
		}
		wg.Wait()
		time.Sleep(ttl)
		o.mu.Lock()
		defer o.mu.Unlock()
		assert.Exactly(t, "released", len(o.released), goroutines*rounds)
		assert.Exactly(t, "releases", o.releases.Load(), goroutines*rounds)
		if len(o.faults) > 0 {
			t.Errorf("%d times, first: %s", len(o.faults), o.faults[0])
		}
	})
}

// TestReleaseIsIdempotent, also for many at the same time.
func TestReleaseIsIdempotent(t *testing.T) {
	f := newFake()
	released := new(record[locker.ReleasedInfo])
	l := acquire(t, newClient(t, f, locker.WithTrace(&locker.Trace{Released: released.add})), "k")
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if err := l.Release(context.Background()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	assert.Sure(t, l.Release(t.Context()))
	assert.Exactly(t, "releases", len(f.of("release")), 1)
	assert.Exactly(t, "traced", len(released.all()), 1)
	assert.Sure(t, released.all()[0].Err)
}

// TestReleaseOfWhatTheServerForgot: somebody else may have held the key.
func TestReleaseOfWhatTheServerForgot(t *testing.T) {
	f := newFake()
	released := new(record[locker.ReleasedInfo])
	l := acquire(t, newClient(t, f, locker.WithTrace(&locker.Trace{Released: released.add})), "k")
	assert.Sure(t, f.free(locker.Hold{Kind: locker.Exclusive, Key: "k", Token: l.Token()}))
	assert.Matches(t, l.Release(t.Context()), locker.ErrLost, locker.ErrNotHeld)
	assert.Sure(t, l.Release(t.Context()))
	assert.Exactly(t, "releases", len(f.of("release")), 1)
	assert.Exactly(t, "traced", len(released.all()), 1)
	assert.Matches(t, released.all()[0].Err, locker.ErrLost)
}

// TestReleaseWithACancelledContext still frees the key.
func TestReleaseWithACancelledContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		l := acquire(t, newClient(t, f), "k")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := l.Release(ctx)
		assert.Matches(t, err, context.Canceled)
		assert.Exactly(t, "error", err.Error(), `distributed: release "k" on fake://: context canceled (going on in the background)`)
		synctest.Wait()
		assert.Exactly(t, "holders", f.holders(), 0)
		assert.Exactly(t, "time", f.now(), 0)
		assert.Sure(t, l.Release(t.Context()))
	})
}

// TestReleaseInAnOutage returns within its context and goes on until it is
// answered.
func TestReleaseInAnOutage(t *testing.T) {
	for name, release := range map[string]func(context.Context, locker.Hold) error{
		"frozen":  frozen,
		"refused": func(context.Context, locker.Hold) error { return locker.ErrUnavailable },
		"silent": func(ctx context.Context, _ locker.Hold) error { // on why it returns
			<-ctx.Done()
			return locker.ErrUnavailable
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				released := new(record[locker.ReleasedInfo])
				l := acquire(t, newClient(t, f, locker.WithTrace(&locker.Trace{Released: released.add})), "k")
				f.set(func() { f.release = release })
				err := l.Release(ctx2(t, time.Second))
				assert.Matches(t, err, locker.ErrUnavailable)
				if name != "refused" {
					assert.Matches(t, err, context.DeadlineExceeded)
					assert.Exactly(t, "took", f.now(), time.Second)
				}
				assert.Exactly(t, "traced before it is answered", len(released.all()), 0)
				time.Sleep(4 * time.Second)
				assert.Exactly(t, "holders", f.holders(), 1)
				f.set(func() { f.release = nil })
				time.Sleep(3 * time.Second)
				assert.Exactly(t, "holders", f.holders(), 0)
				assert.Exactly(t, "renewals", len(f.of("renew")), 0)
				assert.Exactly(t, "traced", len(released.all()), 1)
				assert.Sure(t, released.all()[0].Err)
			})
		})
	}
}

// TestReleaseIsNotSentAfterTheDeadline: what could not be released runs out.
func TestReleaseIsNotSentAfterTheDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.release = frozen
		released := new(record[locker.ReleasedInfo])
		l := acquire(t, newClient(t, f, locker.WithTrace(&locker.Trace{Released: released.add})), "k")
		assert.Matches(t, l.Release(ctx2(t, time.Second)), locker.ErrUnavailable)
		time.Sleep(time.Minute)
		for _, r := range f.of("release") {
			if r.at >= believed(ttl) {
				t.Errorf("a release was sent at %v", r.at)
			}
		}
		assert.Exactly(t, "traced", len(released.all()), 1)
		assert.Matches(t, released.all()[0].Err, locker.ErrUnavailable)
	})
}

// TestReleaseWithoutADeadline is over when the lease is.
func TestReleaseWithoutADeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.release = frozen
		l := acquire(t, newClient(t, f), "k")
		time.Sleep(time.Second)
		assert.Matches(t, l.Release(context.Background()), locker.ErrUnavailable)
		assert.Exactly(t, "time", f.now(), believed(ttl))
	})
}

// TestReleaseRefusedForGood is not tried for ever.
func TestReleaseRefusedForGood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.release = func(context.Context, locker.Hold) error { return locker.ErrAuth }
		released := new(record[locker.ReleasedInfo])
		l := acquire(t, newClient(t, f, locker.WithTrace(&locker.Trace{Released: released.add})), "k")
		assert.Matches(t, l.Release(t.Context()), locker.ErrAuth)
		time.Sleep(time.Minute)
		if n := len(f.of("release")); n > 2 {
			t.Errorf("%d releases", n)
		}
		assert.Exactly(t, "traced", len(released.all()), 1)
		assert.Matches(t, released.all()[0].Err, locker.ErrAuth)
	})
}

// TestManyReleasesInALongOutage: what is given back in the background costs no
// goroutine each, does not storm the server when it is back, and nothing of it
// is forgotten.
func TestManyReleasesInALongOutage(t *testing.T) {
	const leases = 5000
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		var mu sync.Mutex
		var most, now int
		f.release = func(ctx context.Context, h locker.Hold) error {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			defer func() {
				mu.Lock()
				now--
				mu.Unlock()
			}()
			if f.now() < 20*time.Second {
				return frozen(ctx, h)
			}
			time.Sleep(time.Millisecond)
			return f.free(h)
		}
		c := newClient(t, f, locker.WithTTL(time.Minute))
		before := runtime.NumGoroutine()
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		for i := range leases {
			assert.Matches(t, acquire(t, c, fmt.Sprint("k", i)).Release(cancelled), context.Canceled)
		}
		time.Sleep(10 * time.Second)
		if n := runtime.NumGoroutine() - before; n > 100 {
			t.Errorf("%d goroutines to give back %d leases", n, leases)
		}
		assert.Exactly(t, "holders", f.holders(), leases)
		time.Sleep(13 * time.Second)
		assert.Exactly(t, "holders 3 s after the outage", f.holders(), 0)
		if most > 64 {
			t.Errorf("%d releases at the same time", most)
		}
		// What comes later is not held up by what is left of an outage.
		assert.Sure(t, acquire(t, c, "later").Release(t.Context()))
	})
}

// TestFreshReleasesGoFirst: of those that wait in an outage of one of two
// servers, the releases that have not been tried yet.
func TestFreshReleasesGoFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.release = func(ctx context.Context, h locker.Hold) error {
			if h.Key != "good" {
				return frozen(ctx, h)
			}
			return f.free(h)
		}
		c := newClient(t, f, locker.WithTTL(time.Minute))
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		for i := range 300 {
			_ = acquire(t, c, fmt.Sprint("bad", i)).Release(cancelled)
		}
		time.Sleep(20 * time.Second)
		assert.Exactly(t, "holders", f.holders(), 300)
		_ = acquire(t, c, "good").Release(cancelled)
		time.Sleep(3 * time.Second)
		assert.Exactly(t, "holders", f.holders(), 300)
	})
}
