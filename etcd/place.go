package etcd

import (
	"context"
	"fmt"
	"time"

	"github.com/distributed-go/distributed/locker"
)

// A place is a locker.Place: an entry, and a timer that ends a turn which nobody
// collects. Its key would live on with the lease.
type place struct {
	b        *Backend
	e        *entry
	ready    <-chan struct{}
	acquired bool
	used     bool

	began time.Duration // when the place was asked for

	turn  bool        // it came; guarded by Backend.mu
	timer *time.Timer // that ends it; guarded by Backend.mu
}

// Enqueue implements locker.Queuer.
func (b *Backend) Enqueue(ctx context.Context, req locker.Request) (locker.Place, error) {
	if err := b.check(ctx, &req); err != nil {
		return nil, err
	}
	p := &place{b: b, began: b.now()}
	w := &wait{place: p, answered: make(chan struct{})}
	e, ready, err := b.enter(ctx, &req, w)
	if err != nil {
		return nil, err
	}
	select {
	case <-w.answered:
	case <-ctx.Done():
	case <-b.life.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	p.e, p.ready, p.acquired = e, ready, e.state == holding
	switch {
	case e.state == over:
		return nil, e.err()
	case b.life.Err() != nil:
		return nil, b.closedFor()
	case ctx.Err() != nil:
		p.usedLocked()
		b.abandonLocked(e, nil)
		return nil, ended(ctx)
	}
	return p, nil
}

// turnLocked is called when the turn comes, perhaps before Enqueue has returned.
func (p *place) turnLocked(e *entry) {
	if p.e == nil { // Enqueue is about to set it
		p.e = e
	}
	if p.turn = true; !p.used {
		p.timer = time.AfterFunc(e.lease.term, p.expire)
	}
}

// expire ends a turn that nobody collected.
func (p *place) expire() {
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	if p.timer != nil && p.e.state == holding {
		p.b.abandonLocked(p.e, nil)
	}
}

// usedLocked says that the place is collected, or given up.
func (p *place) usedLocked() {
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
	p.used = true
}

// Acquired implements locker.Place.
func (p *place) Acquired() bool { return p.acquired }

// Wait implements locker.Place.
func (p *place) Wait(ctx context.Context) (locker.Grant, error) {
	b := p.b
	b.mu.Lock()
	if p.used {
		b.mu.Unlock()
		return locker.Grant{}, fmt.Errorf("%w: the place was used before", locker.ErrNotHeld)
	}
	p.usedLocked()
	turn := p.turn
	b.mu.Unlock()
	g, err := b.await(ctx, p.e, p.ready, p.began)
	switch {
	case err != nil && turn && ctx.Err() == nil && b.life.Err() == nil:
		return g, fmt.Errorf("%w: %w", locker.ErrPlaceExpired, err)
	case err == nil && p.e.lease.private:
		if err = p.e.lease.renewOnce(ctx); err != nil {
			b.mu.Lock()
			b.abandonLocked(p.e, nil)
			b.mu.Unlock()
			return locker.Grant{}, fmt.Errorf("%w: %w", locker.ErrPlaceExpired, err)
		}
	}
	return g, err
}

// Cancel implements locker.Place.
func (p *place) Cancel(ctx context.Context) error {
	b := p.b
	b.mu.Lock()
	if p.used {
		b.mu.Unlock()
		return nil
	}
	p.usedLocked()
	done := make(chan error, 1)
	b.abandonLocked(p.e, func(err error) { done <- err })
	b.mu.Unlock()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return b.unanswered(ctx)
	case <-b.life.Done():
		return nil
	}
}
