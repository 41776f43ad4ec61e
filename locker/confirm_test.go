package locker_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
)

// TestLateGrantIsConfirmedOnce: where less than half of the lease would be left
// the caller is told only after one renewal, and the deadline counts from that.
func TestLateGrantIsConfirmedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.acquire = f.late(6 * time.Second)
		f.renew = func(_ context.Context, rs []locker.Renewal) {
			time.Sleep(time.Second)
			f.extend(rs)
		}
		info := new(record[locker.AcquiredInfo])
		c := newClient(t, f, locker.WithTrace(&locker.Trace{Acquired: info.add}))
		l := acquire(t, c, "k")
		r := f.of("renew")
		assert.Exactly(t, "confirmations", len(r), 1)
		assert.Exactly(t, "sent after", r[0].at, 6*time.Second)
		assert.Exactly(t, "TTL asked for", r[0].ttl, ttl)
		assert.Exactly(t, "attempt", r[0].attempt, 1)
		assert.Exactly(t, "token", r[0].token, l.Token())
		assert.Exactly(t, "deadline", time.Until(l.Deadline()), believed(ttl)-time.Second)
		assert.Exactly(t, "trace", fmt.Sprint(info.all()), fmt.Sprint([]locker.AcquiredInfo{{Key: "k", Fence: 1, Waited: 7 * time.Second, Confirmed: true}}))
		assert.Sure(t, l.Release(t.Context()))
	})
}

// TestQueuedGrantIsConfirmed: the wait may have been ours or another holder's.
func TestQueuedGrantIsConfirmed(t *testing.T) {
	for _, queued := range []time.Duration{0, time.Second, 4 * time.Second, 6 * time.Second, time.Minute, time.Hour} {
		t.Run(queued.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				first := acquire(t, newClient(t, f), "k")
				time.AfterFunc(queued, func() { first.Release(context.Background()) })
				l := acquire(t, newClient(t, f), "k")
				if left := time.Until(l.Deadline()); left < ttl/2-ttl/50 {
					t.Errorf("%v of %v is left after the wait", left, ttl)
				}
				confirmed := 0
				for _, r := range f.of("renew") {
					if r.token == l.Token() {
						confirmed++
					}
				}
				want := 0
				if queued > ttl/2 {
					want = 1
				}
				assert.Exactly(t, "confirmations", confirmed, want)
				assert.Sure(t, l.Release(t.Context()))
			})
		})
	}
}

// TestLapsedGrantIsAcquiredAnew: a grant that ran out on its way is no hold and
// no error, and nothing of it is left.
func TestLapsedGrantIsAcquiredAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.acquire = func(ctx context.Context, req locker.Request) (locker.Grant, error) {
			g, err := f.serve(ctx, req)
			if len(f.of("acquire")) == 1 {
				time.Sleep(15 * time.Second)
			}
			return g, err
		}
		released := new(record[locker.ReleasedInfo])
		c := newClient(t, f, locker.WithTrace(&locker.Trace{Released: released.add}))
		l := acquire(t, c, "k")
		synctest.Wait()
		assert.Exactly(t, "releases of leases that nobody had", len(released.all()), 0)
		assert.Exactly(t, "acquisitions", len(f.of("acquire")), 2)
		assert.Exactly(t, "confirmations", len(f.of("renew")), 1)
		assert.Exactly(t, "holders", f.holders(), 1)
		assert.Sure(t, l.Check())
		assert.Sure(t, l.Release(t.Context()))
		assert.Exactly(t, "holders", f.holders(), 0)
	})
}

// TestTryOfLapsedGrant: a try tries once.
func TestTryOfLapsedGrant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.acquire = func(ctx context.Context, req locker.Request) (locker.Grant, error) {
			defer time.Sleep(15 * time.Second)
			return f.serve(ctx, req)
		}
		_, err := newClient(t, f).TryAcquire(t.Context(), "k")
		assert.Matches(t, err, locker.ErrUnavailable)
		assert.MatchesNot(t, err, locker.ErrLost)
		assert.Exactly(t, "holders", f.holders(), 0)
	})
}

// TestUnconfirmedGrantIsGivenBack: the confirmation fails in every way.
func TestUnconfirmedGrantIsGivenBack(t *testing.T) {
	boom := errors.New("boom")
	for name, c := range map[string]struct {
		renew func(context.Context, []locker.Renewal)
		want  error
		took  time.Duration
	}{
		"frozen":      {frozenRenew, locker.ErrUnavailable, 6*time.Second + ttl/3},
		"unavailable": {func(_ context.Context, rs []locker.Renewal) { rs[0].Err = locker.ErrUnavailable }, locker.ErrUnavailable, 6 * time.Second},
		"for good":    {func(_ context.Context, rs []locker.Renewal) { rs[0].Err = boom }, boom, 6 * time.Second},
		"for nothing": {func(_ context.Context, rs []locker.Renewal) { rs[0].Granted = 0 }, locker.ErrLeaseTooShort, 6 * time.Second},
		"for less":    {func(_ context.Context, rs []locker.Renewal) { rs[0].Granted = -time.Second }, locker.ErrLeaseTooShort, 6 * time.Second},
		"too late": {func(_ context.Context, rs []locker.Renewal) {
			time.Sleep(3 * time.Second)
			rs[0].Granted = 4 * time.Second
		}, locker.ErrLeaseTooShort, 9 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				f.acquire, f.renew = f.late(6*time.Second), c.renew
				began := time.Now()
				_, err := newClient(t, f).TryAcquire(t.Context(), "k")
				assert.Exactly(t, "took", time.Since(began), c.took)
				assert.Matches(t, err, c.want)
				synctest.Wait()
				assert.Exactly(t, "holders", f.holders(), 0)
				assert.Exactly(t, "releases", len(f.of("release")), 1)
			})
		})
	}
}

// TestAnsweredTTL: belief follows the smaller of what was asked for and what
// was answered; a lease of no time is none.
func TestAnsweredTTL(t *testing.T) {
	for _, c := range []struct {
		asked, answered, want time.Duration
		err                   error
	}{
		{ttl, ttl, ttl, nil},
		{ttl, 4 * time.Second, 4 * time.Second, nil},
		{ttl, time.Hour, ttl, nil},
		{0, 33 * time.Second, 33 * time.Second, nil},
		{ttl, 0, 0, locker.ErrLeaseTooShort},
		{ttl, -1, 0, locker.ErrLeaseTooShort},
		{ttl, -time.Hour, 0, locker.ErrLeaseTooShort},
		{0, 0, 0, locker.ErrLeaseTooShort},
		{0, -time.Hour, 0, locker.ErrLeaseTooShort},
		{ttl, time.Millisecond, 0, locker.ErrLeaseTooShort},
	} {
		t.Run(fmt.Sprint(c.asked, " ", c.answered), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				f.acquire = func(ctx context.Context, req locker.Request) (locker.Grant, error) {
					g, err := f.serve(ctx, req)
					g.TTL = c.answered
					return g, err
				}
				l, err := newClient(t, f, locker.WithTTL(c.asked)).Acquire(t.Context(), "k")
				if c.err != nil {
					assert.Matches(t, err, c.err)
					synctest.Wait()
					assert.Exactly(t, "holders", f.holders(), 0)
					return
				}
				assert.Sure(t, err)
				assert.Exactly(t, "TTL", l.TTL(), c.want)
				assert.Exactly(t, "deadline", time.Until(l.Deadline()), believed(c.want))
				time.Sleep(c.want)
				for _, r := range f.of("renew") {
					assert.Exactly(t, "TTL of a renewal", r.ttl, c.want)
				}
				assert.Sure(t, l.Check())
				assert.Sure(t, l.Release(t.Context()))
			})
		})
	}
}

// TestContextEndsDuringConfirmation: a caller whose context ended is not kept
// waiting for it.
func TestContextEndsDuringConfirmation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		f.acquire, f.renew = f.late(6*time.Second), frozenRenew
		ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
		defer cancel()
		began := time.Now()
		_, err := newClient(t, f).Acquire(ctx, "k")
		assert.Matches(t, err, context.DeadlineExceeded)
		assert.Exactly(t, "took", time.Since(began), 7*time.Second)
		synctest.Wait()
		assert.Exactly(t, "holders", f.holders(), 0)
	})
}
