package etcd

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-go/distributed/locker"
)

const (
	// DefaultTTL is the lease of requests that ask for none. It is dflockd's.
	DefaultTTL = 33 * time.Second

	// linger is how long beyond its TTL a lease stays that nobody needs.
	linger = 10 * time.Second

	// renewDivisor of the TTL passes before a lease is renewed, and
	// attemptDivisor of it is how long an attempt may take, as for leases that a
	// locker.Client renews.
	renewDivisor   = 3
	attemptDivisor = 6

	// jitter of the time to a renewal is taken off at random.
	jitter = 0.07
)

// A lease is a lease of etcd: one for all holds of a TTL, or, in a Backend that has
// no clock, for one hold, which keeps it alive only while that waits.
type lease struct {
	b       *Backend
	ttl     time.Duration // that was asked for, in whole seconds
	private bool

	granted chan struct{} // closed when etcd has granted the lease, or failed to
	err     error         // why it failed; set before granted is closed
	id      clientv3.LeaseID
	term    time.Duration // what etcd granted
	base    uint64        // the first of the names of its keys; see entries

	since atomic.Int64  // the stamp of the last renewal that was answered
	look  chan struct{} // capacity 1: the goroutine of the lease is to look again

	// Guarded by Backend.mu:
	users   int           // entries that need it
	idle    time.Duration // the instant at which the last of them went
	tainted bool          // it takes no new ones: a request that uses it may still be on its way
	over    error         // why it has ended
	rest    func()        // ends the renewals of a private lease; nil while there are none
}

// wholeSeconds is a TTL as etcd knows it.
func wholeSeconds(d time.Duration) time.Duration {
	if d == 0 {
		d = DefaultTTL
	}
	if rest := d % time.Second; rest > 0 {
		d += time.Second - rest
	}
	return d
}

// take returns a lease of a TTL, with the caller among its users.
func (b *Backend) take(ctx context.Context, ttl time.Duration) (*lease, error) {
	ttl = wholeSeconds(ttl)
	b.mu.Lock()
	l := b.leases[ttl]
	if l == nil || !b.clocked {
		l = &lease{
			b: b, ttl: ttl, private: !b.clocked, base: rand.Uint64(), //nolint:gosec // who can read the key can delete it
			granted: make(chan struct{}), look: make(chan struct{}, 1),
		}
		if !b.background(l.run) {
			b.mu.Unlock()
			return nil, b.closedFor()
		}
		if l.private {
			b.private[l] = struct{}{}
		} else {
			b.leases[ttl] = l
		}
	}
	l.users++
	b.mu.Unlock()
	select {
	case <-l.granted:
	case <-ctx.Done():
		l.leave()
		return nil, b.unanswered(ctx)
	}
	if l.err != nil {
		return nil, l.err
	}
	return l, nil
}

// leave ends one use of the lease.
func (l *lease) leave() {
	l.b.mu.Lock()
	defer l.b.mu.Unlock()
	l.leaveLocked()
}

func (l *lease) leaveLocked() {
	l.users--
	l.idle = l.b.now()
	switch {
	case l.users > 0:
	case l.private && l.id != 0: // else who waits for its grant ends it
		l.endPrivateLocked()
	case l.tainted:
		l.wake()
	}
}

// endPrivateLocked ends a private lease whose only user has gone.
func (l *lease) endPrivateLocked() {
	l.restLocked()
	l.endedLocked()
	l.b.background(func() { l.revoke(l.b.life) })
}

// toilLocked renews a private lease from now on, while its hold waits.
func (l *lease) toilLocked() {
	if !l.private {
		return
	}
	ctx, stop := context.WithCancel(l.b.life)
	if l.b.background(func() { l.keep(ctx) }) {
		l.rest = stop
	} else {
		stop()
	}
}

// restLocked ends that.
func (l *lease) restLocked() {
	if l.rest != nil {
		l.rest()
		l.rest = nil
	}
}

// taintLocked lets the lease take no new users, and end with its last.
func (l *lease) taintLocked() {
	l.tainted = true
	if l.b.leases[l.ttl] == l {
		delete(l.b.leases, l.ttl)
		l.b.old[l] = struct{}{}
	}
	l.wake()
}

func (l *lease) wake() {
	select {
	case l.look <- struct{}{}:
	default:
	}
}

// run is the goroutine of the lease. That of a private one ends with its grant.
func (l *lease) run() {
	if !l.begin() {
		return
	}
	if !l.private {
		l.keep(l.b.life)
	}
}

// begin asks for the lease.
func (l *lease) begin() bool {
	b := l.b
	stamp := b.now()
	r, err := l.grant()
	b.mu.Lock()
	defer b.mu.Unlock()
	defer close(l.granted)
	if err != nil {
		l.err = b.explain(err)
		l.endedLocked()
		return false
	}
	l.id, l.term, l.idle = r.ID, time.Duration(r.TTL)*time.Second, stamp
	l.since.Store(int64(stamp))
	if l.private && l.users == 0 {
		l.endPrivateLocked()
	}
	return true
}

func (l *lease) grant() (*clientv3.LeaseGrantResponse, error) {
	c, err := l.b.connect()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(l.b.life, requestTimeout)
	defer cancel()
	return c.Grant(ctx, int64(l.ttl/time.Second))
}

// keep renews the lease for as long as somebody needs it.
func (l *lease) keep(ctx context.Context) {
	p := pulse{b: l.b}
	defer p.stop()
	next := l.next()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(max(0, next-l.b.now()))
		select {
		case <-ctx.Done():
			return
		case <-l.look:
		case <-timer.C:
		}
		if l.unneeded() {
			l.revoke(ctx)
			return
		}
		if now := l.b.now(); now >= next {
			switch err := l.renew(ctx, &p); {
			case err == nil:
				l.check(ctx)
				next = l.next()
			case errors.Is(err, locker.ErrLost):
				return
			default:
				next = l.b.now() + min(l.term/24, time.Second)
			}
		}
	}
}

// check looks for the keys of its holds.
func (l *lease) check(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, l.term/attemptDivisor)
	defer cancel()
	l.b.checkHolds(ctx, l)
}

// next is the instant of the next renewal.
func (l *lease) next() time.Duration {
	wait := l.term / renewDivisor
	return time.Duration(l.since.Load()) + wait - time.Duration(jitter*rand.Float64()*float64(wait)) //nolint:gosec // no secret
}

// unneeded says whether the lease should end, and lets nobody in any more then.
func (l *lease) unneeded() bool {
	b := l.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if l.private || l.users > 0 || !l.tainted && b.now()-l.idle < l.term+linger {
		return false
	}
	l.endedLocked()
	return true
}

// deletion is why a hold is lost whose key was deleted: while the lease must still
// be alive, somebody took the key away.
func (l *lease) deletion() error {
	if l.over != nil {
		return l.over
	}
	if left := time.Duration(l.since.Load()) + l.term - l.b.now(); left <= 0 {
		return fmt.Errorf("%w: its lease ran out at etcd", locker.ErrLost)
	}
	return fmt.Errorf("%w: its key was deleted", locker.ErrRevoked)
}

// endedLocked forgets the lease.
func (l *lease) endedLocked() {
	b := l.b
	if b.leases[l.ttl] == l {
		delete(b.leases, l.ttl)
	}
	delete(b.old, l)
	delete(b.private, l)
}

// revoke tells etcd that the lease is over, and with it all keys that it has.
func (l *lease) revoke(ctx context.Context) {
	c, err := l.b.connect()
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, _ = c.Revoke(ctx, l.id) // or it runs out
}

// renewOnce is renew with a stream of its own, for any goroutine.
func (l *lease) renewOnce(ctx context.Context) error {
	p := pulse{b: l.b}
	defer p.stop()
	return l.renew(ctx, &p)
}

// renew renews the lease once. The error matches locker.ErrLost if it is over.
func (l *lease) renew(ctx context.Context, p *pulse) error {
	ctx, cancel := context.WithTimeout(ctx, l.term/attemptDivisor)
	defer cancel()
	stamp := l.b.now()
	granted, err := p.beat(ctx, l.id)
	switch {
	case err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound):
		return l.b.explain(err)
	case err != nil || granted <= 0:
		return l.b.leaseOver(l)
	}
	for {
		last := l.since.Load()
		if int64(stamp) <= last || l.since.CompareAndSwap(last, int64(stamp)) {
			return nil
		}
	}
}

// leaseOver ends a lease that etcd does not know any more: its holds are lost, and
// those who wait have lost their places. It returns why.
func (b *Backend) leaseOver(l *lease) error {
	var after aftermath
	defer after.run()
	b.mu.Lock()
	defer b.mu.Unlock()
	if l.over == nil {
		l.over = fmt.Errorf("%w: etcd does not know the lease %x (any more)", locker.ErrLost, int64(l.id))
		l.endedLocked()
		for e := range b.entries.all() {
			if e.lease == l {
				b.goneLocked(e, math.MaxInt64, l.over, &after)
			}
		}
	}
	return l.over
}
