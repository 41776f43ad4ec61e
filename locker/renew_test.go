package locker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
)

// TestRenewalKeepsALease for a day, with the TTL in every renewal, between 0.3
// and a third of the TTL after the one before.
func TestRenewalKeepsALease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		l := acquire(t, newClient(t, f, locker.WithTTL(time.Minute)), "k")
		time.Sleep(24 * time.Hour)
		assert.Sure(t, l.Check())
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
			assert.Exactly(t, "TTL", r.ttl, time.Minute)
			assert.Exactly(t, "attempt", r.attempt, 1)
		}
		assert.Sure(t, l.Release(t.Context()))
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
			assert.Sure(t, l.Check())
			assert.Sure(t, l.Release(t.Context()))
			time.Sleep(time.Minute)
		}
		long := acquire(t, c, "long", locker.WithTTL(24*time.Hour))
		time.Sleep(time.Minute)
		short := acquire(t, c, "short", locker.WithTTL(100*time.Millisecond))
		time.Sleep(time.Minute)
		assert.Sure(t, short.Check())
		assert.Sure(t, long.Check())
	})
}

// TestRenewalSaysTheBackendsDefault where no TTL was asked for.
func TestRenewalSaysTheBackendsDefault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		l := acquire(t, newClient(t, f, locker.WithTTL(0)), "k")
		assert.Exactly(t, "TTL asked for", f.of("acquire")[0].ttl, 0)
		time.Sleep(time.Minute)
		for _, r := range f.of("renew") {
			assert.Exactly(t, "TTL of a renewal", r.ttl, 33*time.Second)
		}
		assert.Sure(t, l.Release(t.Context()))
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
					assert.Sure(t, l.Check())
					if closed(lost) {
						t.Error("Lost is closed")
					}
					for i, r := range f.of("renew")[:n+1] {
						assert.Exactly(t, "attempt", r.attempt, i+1)
						assert.Exactly(t, "TTL", r.ttl, ttl)
					}
					traced := infos.all()[:n+1] // in any order: the next attempt may be answered before this one is traced
					slices.SortFunc(traced, func(a, b locker.RenewedInfo) int { return a.Attempt - b.Attempt })
					for i, info := range traced {
						assert.Exactly(t, "traced attempt", info.Attempt, i+1)
						assert.Exactly(t, "traced success", info.Err == nil, i == n)
					}
					time.Sleep(time.Minute)
					assert.Sure(t, l.Check())
					assert.Exactly(t, "attempt after a success", f.of("renew")[n+1].attempt, 1)
					assert.Sure(t, l.Release(t.Context()))
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
			assert.Matches(t, i.Err, locker.ErrLost)
			assert.Exactly(t, "key", i.Key, "k")
		}})), "k")
		<-l.Lost()
		assert.Exactly(t, "lost at", f.now(), believed(ttl))
		assert.Matches(t, l.Check(), locker.ErrLost)
		assert.Matches(t, l.Err(), locker.ErrLost)
		synctest.Wait()
		assert.Exactly(t, "traced", fmt.Sprint(lostAt.all()), fmt.Sprint([]time.Duration{believed(ttl)}))
		if n := len(f.of("renew")); n < 4 {
			t.Errorf("%d attempts before the deadline", n)
		}
		for i, r := range f.of("renew") {
			assert.Exactly(t, "attempt", r.attempt, i+1)
		}
		time.Sleep(time.Minute)
		if n := len(f.of("renew")); n > 6 {
			t.Errorf("%d attempts: they went on after the loss", n)
		}
		assert.Matches(t, l.Release(t.Context()), locker.ErrLost)
		assert.Exactly(t, "releases", len(f.of("release")), 0)
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
		assert.Matches(t, l.Check(), locker.ErrLost, why)
		assert.Matches(t, l.Err(), locker.ErrLost, why)
		f.set(func() { f.renew = nil })
		time.Sleep(time.Minute)
		assert.Matches(t, l.Check(), locker.ErrLost, why)
		assert.Exactly(t, "renewals", len(f.of("renew")), 1)
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
					assert.Matches(t, l.Check(), locker.ErrLost)
					if !closed(l.Lost()) {
						t.Error("Lost is open")
					}
					return
				}
				assert.Sure(t, l.Check())
				assert.Exactly(t, "deadline", l.Deadline().Sub(f.start)-stamp, believed(c.want))
				assert.Exactly(t, "TTL", l.TTL(), c.want)
				time.Sleep(time.Minute)
				assert.Sure(t, l.Check())
				for _, r := range f.of("renew") {
					assert.Exactly(t, "TTL asked for", r.ttl, ttl)
				}
				assert.Sure(t, l.Release(t.Context()))
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
		assert.Matches(t, l.Check(), locker.ErrLost)
		assert.Exactly(t, "lost", closed(l.Lost()), true)
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
				assert.Exactly(t, "log lines", book.with(""), c.want)
				assert.Exactly(t, "log lines about the loss", book.with("lease lost"), c.want)
			})
		})
	}
}

// A granter grants and renews everything and remembers nothing.
type granter struct {
	session *locker.Session              // of every grant; nil for none
	kept    func(key string) locker.Kept // of every grant; nil for none
	heard   time.Duration                // of every grant

	tokens, batches, renewals, releases atomic.Int64
}

func (g *granter) String() string { return "granter://" }

func (g *granter) Acquire(_ context.Context, req locker.Request) (locker.Grant, error) {
	n := g.tokens.Add(1)
	grant := locker.Grant{Token: locker.Token{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)}, Fence: uint64(n), TTL: req.TTL, Session: g.session, Heard: g.heard}
	if g.kept != nil {
		grant.Kept = g.kept(req.Key)
	}
	return grant, nil
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
