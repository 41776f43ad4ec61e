package locker_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
)

// TestClose: what is held is lost with ErrClosed and given back, what waits
// returns, and nothing works any more.
func TestClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		book := newLogbook()
		released := new(record[locker.ReleasedInfo])
		c := newClient(t, f, locker.WithLogger(newLogger(book)), locker.WithTrace(&locker.Trace{Released: released.add}))
		var leases []*locker.Lease
		for i := range 200 {
			leases = append(leases, acquire(t, c, fmt.Sprint("k", i)))
		}
		ctx, cancel := leases[0].Context(t.Context())
		defer cancel()
		others := locker.Request{Kind: locker.Exclusive, Key: "others", Limit: 1, Weight: 1, TTL: time.Hour}
		_, err := f.serve(t.Context(), others)
		assert.Sure(t, err)
		waited := make(chan error, 1)
		go func() {
			_, err := c.Acquire(context.Background(), "others")
			waited <- err
		}()
		synctest.Wait()
		began := time.Now()
		assert.Sure(t, c.Close())
		assert.Exactly(t, "took", time.Since(began), 0)
		assert.Matches(t, <-waited, locker.ErrClosed)
		for _, l := range leases {
			assert.Exactly(t, "Lost is closed", closed(l.Lost()), true)
			assert.Matches(t, l.Check(), locker.ErrLost, locker.ErrClosed)
			assert.Matches(t, l.Release(t.Context()), locker.ErrLost, locker.ErrClosed)
		}
		assert.Matches(t, context.Cause(ctx), locker.ErrLost, locker.ErrClosed)
		assert.Exactly(t, "releases", len(f.of("release")), len(leases))
		assert.Exactly(t, "closes", len(f.of("close")), 1)
		assert.Exactly(t, "holders", f.holders(), 1) // that of others
		assert.Exactly(t, "log lines", book.with(""), 0)

		_, err = c.Acquire(t.Context(), "k")
		assert.Matches(t, err, locker.ErrClosed)
		_, err = c.TryAcquire(t.Context(), "k")
		assert.Matches(t, err, locker.ErrClosed)
		assert.Sure(t, c.Close())
		assert.Exactly(t, "closes", len(f.of("close")), 1)
	})
}

// TestCloseOfAFrozenBackend takes a second, whatever is held, waited for and
// given back.
func TestCloseOfAFrozenBackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.release, f.renew = frozen, frozenRenew
		released := new(record[locker.ReleasedInfo])
		c := newClient(t, f, locker.WithTrace(&locker.Trace{Released: released.add}))
		for i := range 500 {
			acquire(t, c, fmt.Sprint("k", i))
		}
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		for i := range 500 {
			_ = acquire(t, c, fmt.Sprint("given-back", i)).Release(cancelled)
		}
		releasing := make(chan error, 1)
		l := acquire(t, c, "released")
		go func() { releasing <- l.Release(context.Background()) }()
		time.Sleep(ttl / 2) // renewals are under way
		began := time.Now()
		assert.Sure(t, c.Close())
		assert.Exactly(t, "took", time.Since(began), time.Second)
		time.Sleep(time.Minute)
		if err := <-releasing; err == nil {
			t.Error("a release that was not answered succeeded")
		}
		assert.Exactly(t, "traced releases", len(released.all()), 501)
	})
}

// TestCloseInAnOutage ends what rides it out.
func TestCloseInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.acquire = unavailable
		c := newClient(t, f)
		waited := make(chan error, 1)
		go func() {
			_, err := c.Acquire(context.Background(), "k")
			waited <- err
		}()
		panicked := make(chan any, 1)
		a := acquirer(t, c, "k")
		go func() {
			defer func() { panicked <- recover() }()
			a.MustAcquire()
		}()
		time.Sleep(time.Minute)
		assert.Sure(t, c.Close())
		assert.Matches(t, <-waited, locker.ErrClosed)
		err, _ := (<-panicked).(error)
		assert.Matches(t, err, locker.ErrClosed)
	})
}

// TestCloseWithAGrantOnItsWay: it is given back, not left behind.
func TestCloseWithAGrantOnItsWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.release = func(_ context.Context, h locker.Hold) error { // Close has something to do meanwhile
			time.Sleep(500 * time.Millisecond)
			return f.free(h)
		}
		f.acquire = func(ctx context.Context, req locker.Request) (locker.Grant, error) {
			if req.Key == "late" {
				time.Sleep(100 * time.Millisecond)
			}
			return f.serve(ctx, req)
		}
		c := newClient(t, f)
		acquire(t, c, "k")
		got := make(chan error, 1)
		go func() {
			_, err := c.Acquire(context.Background(), "late")
			got <- err
		}()
		synctest.Wait()
		assert.Sure(t, c.Close())
		assert.Matches(t, <-got, locker.ErrClosed)
		assert.Exactly(t, "holders", f.holders(), 0)
	})
}

// TestCloseConcurrently with everything.
func TestCloseConcurrently(t *testing.T) {
	for range 50 {
		f := newFake()
		c := newClient(t, f)
		var wg sync.WaitGroup
		for i := range 6 {
			wg.Go(func() {
				for {
					l, err := c.Acquire(context.Background(), fmt.Sprint("k", i%3))
					if err != nil {
						assert.Matches(t, err, locker.ErrClosed)
						return
					}
					if err := l.Do(context.Background(), func(context.Context) error { return nil }); err != nil {
						assert.Matches(t, err, locker.ErrLost)
					}
				}
			})
		}
		time.Sleep(time.Millisecond) // real time: let them work
		for range 3 {
			wg.Go(func() {
				if err := c.Close(); err != nil {
					t.Error(err)
				}
				assert.Exactly(t, "closes", len(f.of("close")), 1)
			})
		}
		wg.Wait()
	}
}

// TestCloseReturnsTheBackendsError, each time.
func TestCloseReturnsTheBackendsError(t *testing.T) {
	f := newFake()
	f.shut = func() error { return errCut }
	c := newClient(t, f)
	assert.Matches(t, c.Close(), errCut)
	assert.Matches(t, c.Close(), errCut)
	assert.Exactly(t, "backend", c.Backend(), locker.Backend(f))
}
