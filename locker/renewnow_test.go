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

// TestRenew starts the TTL anew, now.
func TestRenew(t *testing.T) {
	inWorlds(t, func(t *testing.T, w world) {
		l := fenced(t, newClient(t, w.Backend), 10)
		for i := range 5 {
			time.Sleep(1500 * time.Millisecond)
			assert.Sure(t, l.Renew(t.Context()))
			assert.Exactly(t, "left", l.Left(), believed(ttl))
			assert.Exactly(t, "renewals", len(w.of("renew")), i+1)
		}
		time.Sleep(time.Minute)
		assert.Sure(t, l.Check())
		assert.Sure(t, l.Release(t.Context()))
		assert.Matches(t, l.Renew(t.Context()), locker.ErrNotHeld)
	})
}

// TestRenewFails: a refusal is a loss, no answer is none.
func TestRenewFails(t *testing.T) {
	inWorlds(t, func(t *testing.T, w world) {
		c := newClient(t, w.Backend)
		l := fenced(t, c, 1)
		w.set(func() { w.renew = frozenRenew })
		began := time.Now()
		assert.Matches(t, l.Renew(t.Context()), locker.ErrUnavailable)
		assert.Exactly(t, "took", time.Since(began), ttl/6)
		assert.Sure(t, l.Check())
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		assert.Matches(t, l.Renew(ctx), context.DeadlineExceeded)
		w.set(func() {
			w.renew = func(_ context.Context, rs []locker.Renewal) {
				for i := range rs {
					rs[i].Err = fmt.Errorf("%w: %w", locker.ErrLost, locker.ErrRevoked)
				}
			}
		})
		time.Sleep(ttl / 6)
		err := l.Renew(t.Context())
		assert.Matches(t, err, locker.ErrLost, locker.ErrRevoked)
		assert.Exactly(t, "Err", l.Err(), err)
		assert.Matches(t, l.Renew(t.Context()), locker.ErrLost)
	})
}

// TestRenewAndClose at the same time.
func TestRenewAndClose(t *testing.T) {
	for range 200 {
		inWorlds(t, func(t *testing.T, w world) {
			c := newClient(t, w.Backend)
			l := fenced(t, c, 1)
			var wg sync.WaitGroup
			wg.Go(func() {
				if err := l.Renew(t.Context()); err != nil {
					assert.Matches(t, err, locker.ErrClosed)
				}
			})
			wg.Go(func() { assert.Sure(t, c.Close()) })
			wg.Wait()
			assert.Matches(t, l.Release(t.Context()), locker.ErrClosed)
		})
	}
}

// TestRenewWhileHandedOver: what is answered is the heir's, also where it is less
// than before.
func TestRenewWhileHandedOver(t *testing.T) {
	inWorlds(t, func(t *testing.T, w world) {
		l := fenced(t, newClient(t, w.Backend), 10)
		w.set(func() {
			w.renew = func(_ context.Context, rs []locker.Renewal) {
				time.Sleep(time.Second / 2)
				w.extend(rs)
				rs[0].Granted = ttl / 2
			}
		})
		renewed := make(chan error, 1)
		go func() { renewed <- l.Renew(t.Context()) }()
		synctest.Wait()
		for range 3 {
			var err error
			l, err = l.HandOver()
			assert.Sure(t, err)
		}
		assert.Sure(t, <-renewed)
		assert.Exactly(t, "TTL", l.TTL(), ttl/2)
		assert.Exactly(t, "left", l.Left(), believed(ttl/2)-time.Second/2)
	})
}
