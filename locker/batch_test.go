package locker_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
)

// TestManyLeasesAreRenewedInBatches: ten thousand leases cost few calls, and
// neither a goroutine nor a timer each.
func TestManyLeasesAreRenewedInBatches(t *testing.T) {
	const leases = 10_000
	synctest.Test(t, func(t *testing.T) {
		f := new(granter)
		c := newClient(t, f, locker.WithTTL(time.Minute))
		before := runtime.NumGoroutine()
		all := make([]*locker.Lease, leases)
		for i := range all {
			all[i] = acquire(t, c, fmt.Sprint("k", i))
			if i%10 == 0 {
				time.Sleep(time.Millisecond) // a second in all
			}
		}
		most := 0
		for range 600 {
			time.Sleep(100 * time.Millisecond)
			most = max(most, runtime.NumGoroutine()-before)
		}
		for _, l := range all {
			assert.Sure(t, l.Check())
		}
		if n := f.renewals.Load(); n < 2*leases || n > 4*leases {
			t.Errorf("%d renewals in a minute", n)
		}
		if n := f.batches.Load(); n > 150 {
			t.Errorf("%d calls of Renew in a minute for %d renewals", n, f.renewals.Load())
		}
		if most > 4 {
			t.Errorf("%d goroutines more than before", most)
		}
	})
}

// TestStuckBatchHoldsUpNobodyElse: renewals of leases of a minute whose first
// attempt is never answered do not touch shorter leases, or, where these are
// nearly as long, by little more than an attempt of their own.
func TestStuckBatchHoldsUpNobodyElse(t *testing.T) {
	for _, short := range []time.Duration{time.Second, 10 * time.Second, 30 * time.Second, 35 * time.Second, 45 * time.Second, 52 * time.Second, 59 * time.Second} {
		t.Run(short.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				f.renew = func(ctx context.Context, rs []locker.Renewal) {
					stuck := false
					for i := range rs {
						if rs[i].Key == "short" || rs[i].Attempt > 1 {
							f.extend(rs[i : i+1])
						} else {
							rs[i].Err = locker.ErrUnavailable
							stuck = true
						}
					}
					if stuck {
						<-ctx.Done()
					}
				}
				c := newClient(t, f, locker.WithTTL(time.Minute))
				for i := range 100 {
					acquire(t, c, fmt.Sprint("long", i))
					time.Sleep(300 * time.Millisecond)
				}
				l := acquire(t, c, "short", locker.WithTTL(short))
				work, cancel := l.Context(t.Context())
				defer cancel()
				last, most := f.now(), time.Duration(0)
				time.Sleep(20 * time.Minute)
				assert.Sure(t, l.Check())
				assert.Sure(t, work.Err())
				for _, r := range f.of("renew") {
					if r.key == "short" {
						most = max(most, r.at-last)
						last = r.at
					}
				}
				if limit := short/3 + short*5/24; most > limit {
					t.Errorf("a lease of %v was renewed %v after the last renewal, want at most %v", short, most, limit)
				}
				assert.Sure(t, l.Release(t.Context()))
			})
		})
	}
}

// TestRetriesHoldUpOthersOnce: of leases on two servers, one of them frozen,
// those of the other wait for an attempt once, and not for as long as the
// outage lasts.
func TestRetriesHoldUpOthersOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.renew = func(ctx context.Context, rs []locker.Renewal) {
			frozen := false
			for i := range rs {
				if rs[i].Key == "good" {
					f.extend(rs[i : i+1])
				} else {
					frozen = true
					rs[i].Err = locker.ErrUnavailable
				}
			}
			if frozen {
				<-ctx.Done()
			}
		}
		took := new(record[time.Duration])
		c := newClient(t, f, locker.WithTTL(time.Minute), locker.WithTrace(&locker.Trace{Renewed: func(i locker.RenewedInfo) {
			if i.Key == "good" {
				took.add(i.Took)
			}
		}}))
		l := acquire(t, c, "good")
		for i := range 20 {
			acquire(t, c, fmt.Sprint("bad", i))
		}
		time.Sleep(10 * time.Minute)
		slow := 0
		for _, d := range took.all() {
			if d > 0 {
				slow++
			}
		}
		if slow > 1 {
			t.Errorf("%d renewals had to wait for the frozen server: %v", slow, took.all())
		}
		assert.Sure(t, l.Release(t.Context()))
	})
}
