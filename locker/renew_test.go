package locker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/locker"
)

// TestRenewalKeepsALease for a day, with the TTL in every renewal, between 0.3
// and a third of the TTL after the one before.
func TestRenewalKeepsALease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		l := acquire(t, newClient(t, f, locker.WithTTL(time.Minute)), "k")
		time.Sleep(24 * time.Hour)
		sure(t, l.Check())
		last := time.Duration(0)
		renewals := f.of("renew")
		if n := len(renewals); n < 24*60*3 || n > 24*60*10/3 {
			t.Errorf("%d renewals in a day", n)
		}
		for _, r := range renewals {
			if gap := r.at - last; gap < 18*time.Second || gap > 20*time.Second {
				t.Fatalf("a renewal %v after the one before", gap)
			}
			last = r.at
			exactly(t, "TTL", r.ttl, time.Minute)
			exactly(t, "attempt", r.attempt, 1)
		}
		sure(t, l.Release(t.Context()))
	})
}

// TestKeeperWakes for a lease that comes when nothing was held, and for one that
// is shorter than those that it sleeps for.
func TestKeeperWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := newClient(t, f)
		for range 3 {
			l := acquire(t, c, "k")
			time.Sleep(time.Minute)
			sure(t, l.Check())
			sure(t, l.Release(t.Context()))
			time.Sleep(time.Minute)
		}
		long := acquire(t, c, "long", locker.WithTTL(24*time.Hour))
		time.Sleep(time.Minute)
		short := acquire(t, c, "short", locker.WithTTL(100*time.Millisecond))
		time.Sleep(time.Minute)
		sure(t, short.Check())
		sure(t, long.Check())
	})
}

// TestRenewalSaysTheBackendsDefault where no TTL was asked for.
func TestRenewalSaysTheBackendsDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		l := acquire(t, newClient(t, f, locker.WithTTL(0)), "k")
		exactly(t, "TTL asked for", f.of("acquire")[0].ttl, 0)
		time.Sleep(time.Minute)
		for _, r := range f.of("renew") {
			exactly(t, "TTL of a renewal", r.ttl, 33*time.Second)
		}
		sure(t, l.Release(t.Context()))
	})
}

// TestRenewalFailsAndSucceeds: transient errors at the first n attempts cost
// nothing but the attempts.
func TestRenewalFailsAndSucceeds(t *testing.T) {
	for name, fail := range map[string]func(context.Context, []locker.Renewal){
		"refused": func(_ context.Context, rs []locker.Renewal) { rs[0].Err = locker.ErrUnavailable },
		"unknown": func(_ context.Context, rs []locker.Renewal) { rs[0].Err = errors.New("what?") },
		"frozen":  frozenRenew,
		"silent":  func(ctx context.Context, _ []locker.Renewal) { <-ctx.Done() }, // sets neither field
	} {
		for n := range 4 {
			t.Run(fmt.Sprint(name, " ", n), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := newFake()
					f.renew = func(ctx context.Context, rs []locker.Renewal) {
						if len(f.of("renew")) <= n {
							fail(ctx, rs)
							return
						}
						f.extend(rs)
					}
					infos := new(record[locker.RenewedInfo])
					l := acquire(t, newClient(t, f, locker.WithTrace(&locker.Trace{Renewed: infos.add})), "k")
					lost := l.Lost()
					time.Sleep(8500 * time.Millisecond)
					sure(t, l.Check())
					if closed(lost) {
						t.Error("Lost is closed")
					}
					for i, r := range f.of("renew")[:n+1] {
						exactly(t, "attempt", r.attempt, i+1)
						exactly(t, "TTL", r.ttl, ttl)
					}
					traced := infos.all()[:n+1] // in any order: the next attempt may be answered before this one is traced
					slices.SortFunc(traced, func(a, b locker.RenewedInfo) int { return a.Attempt - b.Attempt })
					for i, info := range traced {
						exactly(t, "traced attempt", info.Attempt, i+1)
						exactly(t, "traced success", info.Err == nil, i == n)
					}
					time.Sleep(time.Minute)
					sure(t, l.Check())
					exactly(t, "attempt after a success", f.of("renew")[n+1].attempt, 1)
					sure(t, l.Release(t.Context()))
				})
			})
		}
	}
}

// TestRenewalIsNeverAnswered: at least four attempts, then loss at the deadline.
func TestRenewalIsNeverAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.renew = frozenRenew
		lostAt := new(record[time.Duration])
		l := acquire(t, newClient(t, f, locker.WithTrace(&locker.Trace{Lost: func(i locker.LostInfo) {
			lostAt.add(f.now())
			matches(t, i.Err, locker.ErrLost)
			exactly(t, "key", i.Key, "k")
		}})), "k")
		<-l.Lost()
		exactly(t, "lost at", f.now(), believed(ttl))
		matches(t, l.Check(), locker.ErrLost)
		matches(t, l.Err(), locker.ErrLost)
		synctest.Wait()
		exactly(t, "traced", fmt.Sprint(lostAt.all()), fmt.Sprint([]time.Duration{believed(ttl)}))
		if n := len(f.of("renew")); n < 4 {
			t.Errorf("%d attempts before the deadline", n)
		}
		for i, r := range f.of("renew") {
			exactly(t, "attempt", r.attempt, i+1)
		}
		time.Sleep(time.Minute)
		if n := len(f.of("renew")); n > 6 {
			t.Errorf("%d attempts: they went on after the loss", n)
		}
		matches(t, l.Release(t.Context()), locker.ErrLost)
		exactly(t, "releases", len(f.of("release")), 0)
	})
}

// TestRenewalIsRefused: lost at once, and for ever.
func TestRenewalIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		why := errors.New("gone with the server")
		f.renew = func(_ context.Context, rs []locker.Renewal) {
			rs[0].Err = fmt.Errorf("%w: %w", locker.ErrLost, why)
		}
		l := acquire(t, newClient(t, f), "k")
		<-l.Lost()
		if at := f.now(); at > ttl/3 {
			t.Errorf("lost at %v: not at once", at)
		}
		matches(t, l.Check(), locker.ErrLost, why)
		matches(t, l.Err(), locker.ErrLost, why)
		f.set(func() { f.renew = nil })
		time.Sleep(time.Minute)
		matches(t, l.Check(), locker.ErrLost, why)
		exactly(t, "renewals", len(f.of("renew")), 1)
	})
}

// TestRenewalAnsweredTTL: belief follows what is answered, and an answer of no
// time ends it.
func TestRenewalAnsweredTTL(t *testing.T) {
	for _, c := range []struct {
		answered time.Duration
		want     time.Duration // 0: lost
	}{
		{ttl, ttl}, {4 * time.Second, 4 * time.Second}, {time.Second, time.Second}, {time.Hour, ttl}, {0, 0}, {-1, 0}, {-time.Hour, 0},
	} {
		t.Run(c.answered.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				f.renew = func(_ context.Context, rs []locker.Renewal) {
					f.extend(rs)
					rs[0].Granted = c.answered
				}
				l := acquire(t, newClient(t, f), "k")
				time.Sleep(ttl / 3)
				synctest.Wait()
				stamp := f.of("renew")[0].at
				if c.want == 0 {
					matches(t, l.Check(), locker.ErrLost)
					if !closed(l.Lost()) {
						t.Error("Lost is open")
					}
					return
				}
				sure(t, l.Check())
				exactly(t, "deadline", l.Deadline().Sub(f.start)-stamp, believed(c.want))
				exactly(t, "TTL", l.TTL(), c.want)
				time.Sleep(time.Minute)
				sure(t, l.Check())
				for _, r := range f.of("renew") {
					exactly(t, "TTL asked for", r.ttl, ttl)
				}
				sure(t, l.Release(t.Context()))
			})
		})
	}
}

// TestLateRenewal: an answer that comes after the deadline does not bring the
// lease back, not even if the server says that it is still held.
func TestLateRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.renew = func(_ context.Context, rs []locker.Renewal) { // ignores its context
			time.Sleep(9 * time.Second)
			for i := range rs {
				rs[i].Granted = rs[i].TTL
			}
		}
		l := acquire(t, newClient(t, f), "k")
		time.Sleep(15 * time.Second)
		matches(t, l.Check(), locker.ErrLost)
		exactly(t, "lost", closed(l.Lost()), true)
	})
}

// TestLossWithoutAListenerIsLogged, and with one it is not.
func TestLossWithoutAListenerIsLogged(t *testing.T) {
	for name, c := range map[string]struct {
		listen func(*locker.Lease)
		trace  *locker.Trace
		want   int
	}{
		"nobody":  {func(*locker.Lease) {}, nil, 1},
		"check":   {func(l *locker.Lease) { l.Check(); l.Err(); l.Deadline(); l.TTL() }, nil, 1},
		"lost":    {func(l *locker.Lease) { l.Lost() }, nil, 0},
		"context": {func(l *locker.Lease) { l.Context(context.Background()) }, nil, 0},
		"trace":   {func(*locker.Lease) {}, &locker.Trace{Lost: func(locker.LostInfo) {}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				f.renew = frozenRenew
				book := newLogbook()
				l := acquire(t, newClient(t, f, locker.WithLogger(slog.New(book)), locker.WithTrace(c.trace)), "k")
				c.listen(l)
				time.Sleep(time.Minute)
				exactly(t, "log lines", book.with(""), c.want)
				exactly(t, "log lines about the loss", book.with("lease lost"), c.want)
			})
		})
	}
}

// A granter grants and renews everything and remembers nothing.
type granter struct {
	session *locker.Session // of every grant; nil for none

	tokens, batches, renewals, releases atomic.Int64
}

func (g *granter) String() string { return "granter://" }

func (g *granter) Acquire(_ context.Context, req locker.Request) (locker.Grant, error) {
	n := g.tokens.Add(1)
	return locker.Grant{Token: locker.Token{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)}, Fence: uint64(n), TTL: req.TTL, Session: g.session}, nil
}

func (g *granter) Renew(_ context.Context, rs []locker.Renewal) {
	g.batches.Add(1)
	g.renewals.Add(int64(len(rs)))
	for i := range rs {
		rs[i].Granted = rs[i].TTL
	}
}

func (g *granter) Release(context.Context, locker.Hold) error {
	g.releases.Add(1)
	return nil
}

func (g *granter) Close() error { return nil }

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
				sure(t, l.Check())
				sure(t, work.Err())
				for _, r := range f.of("renew") {
					if r.key == "short" {
						most = max(most, r.at-last)
						last = r.at
					}
				}
				if limit := short/3 + short*5/24; most > limit {
					t.Errorf("a lease of %v was renewed %v after the last renewal, want at most %v", short, most, limit)
				}
				sure(t, l.Release(t.Context()))
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
		sure(t, l.Release(t.Context()))
	})
}

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
			sure(t, l.Check())
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
