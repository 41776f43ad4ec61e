package memory

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/distributed-go/distributed/locker"
)

// TestRandomClients lets clients do anything at any instant of virtual time,
// and wants those who believe that they hold a key never to weigh more than its
// limit, and no fence to be given twice.
func TestRandomClients(t *testing.T) {
	t.Parallel()
	grants := 0
	for seed := range uint64(60) {
		bubble(t, func(w *world) {
			m := &believers{limit: 1 + int(seed%4), byFence: make(map[uint64]*belief)}
			done := make(chan struct{})
			const clients = 6
			for i := range uint64(clients) {
				c := &randomClient{world: w, b: w.client(), m: m, random: rand.New(rand.NewPCG(seed, i))} //nolint:gosec // a test repeats itself
				go func() {
					defer func() { done <- struct{}{} }()
					for range 40 {
						c.turn()
					}
				}()
			}
			for range clients {
				<-done
			}
			grants += m.grants
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		})
	}
	t.Logf("%d grants", grants)
}

// believers are those who hold the only key of the test, as far as they know.
// In virtual time goroutines of a bubble still run beside each other, so the
// server's mutex guards it.
type believers struct {
	limit   int
	byFence map[uint64]*belief
	grants  int
}

type belief struct {
	weight  int
	until   time.Time
	session *locker.Session
}

// add notes a grant that a client was told of.
func (m *believers) add(now time.Time, fence uint64, b *belief) error {
	sum := b.weight
	for f, other := range m.byFence {
		if !now.Before(other.until) || other.session.Err() != nil {
			delete(m.byFence, f)
			continue
		}
		sum += other.weight
	}
	m.grants++
	switch {
	case sum > m.limit:
		return fmt.Errorf("%d is held of %d", sum, m.limit)
	case m.byFence[fence] != nil:
		return fmt.Errorf("fence %d was given twice", fence)
	}
	m.byFence[fence] = b
	return nil
}

// A randomClient does one thing after the other.
type randomClient struct {
	*world
	b      *Backend
	m      *believers
	random *rand.Rand
}

func (c *randomClient) below(n int) int { return c.random.IntN(n) }

func (c *randomClient) some(d time.Duration) time.Duration {
	return time.Duration(c.below(20)) * d / 10
}

// turn acquires in one of the ways there are, holds for a while with or without
// renewals, and ends the hold in one of the ways there are.
func (c *randomClient) turn() {
	time.Sleep(c.some(second))
	if c.below(12) == 0 {
		c.b.Disconnect()
	}
	r := lasting(slots("s", c.m.limit, 1+c.below(c.m.limit)), second+c.some(second))
	r.Try = c.below(4) == 0
	ctx, cancel := context.WithTimeout(c.ctx, c.some(5*second))
	defer cancel()
	g, err := c.acquire(ctx, r)
	if err != nil {
		for _, fine := range []error{context.DeadlineExceeded, locker.ErrLocked, locker.ErrPlaceExpired} {
			if errors.Is(err, fine) {
				return
			}
		}
		c.Error(err)
		return
	}
	held := &belief{weight: r.Weight, until: time.Now().Add(r.TTL), session: g.Session}
	c.locked(func() error { return c.m.add(time.Now(), g.Fence, held) })
	for range c.below(4) {
		time.Sleep(c.some(r.TTL / 2))
		c.extend(r, g, held)
	}
	if c.below(6) == 0 {
		return // forgotten
	}
	c.locked(func() error { delete(c.m.byFence, g.Fence); return nil })
	if err := c.b.Release(c.ctx, hold(r, g)); err != nil && !errors.Is(err, locker.ErrNotHeld) {
		c.Error(err)
	}
}

func (c *randomClient) acquire(ctx context.Context, r locker.Request) (locker.Grant, error) {
	if c.below(3) > 0 {
		return c.b.Acquire(ctx, r)
	}
	p, err := c.b.Enqueue(ctx, r)
	if err != nil {
		return locker.Grant{}, err
	}
	time.Sleep(c.some(second))
	if c.below(4) == 0 {
		return locker.Grant{}, errors.Join(p.Cancel(ctx), locker.ErrLocked)
	}
	return p.Wait(ctx)
}

// extend renews a hold, and wants the answer to be what the client believes.
func (c *randomClient) extend(r locker.Request, g locker.Grant, held *belief) {
	now := time.Now()
	believes := now.Before(held.until) && g.Session.Err() == nil
	_, err := c.renew(c.b, r, g, r.TTL)
	switch {
	case err == nil && !now.After(held.until):
		c.locked(func() error { held.until = now.Add(r.TTL); return nil })
	case err == nil:
		c.Errorf("a renewal brought back a lease that ended %v ago", now.Sub(held.until))
	case believes || !errors.Is(err, locker.ErrLost):
		c.Errorf("renewal with %v left: %v", held.until.Sub(now), err)
	}
}

// locked runs f with the believers guarded.
func (c *randomClient) locked(f func() error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := f(); err != nil {
		c.Error(err)
	}
}
