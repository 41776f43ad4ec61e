package main

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/distributed-go/distributed"
	"github.com/distributed-go/distributed/locker"
)

// lastingTTL is the lease that package once is told of: the one that counts is
// that of the tool's own client.
const lastingTTL = 10 * 365 * 24 * time.Hour

// leases is the backend that package once gets from dlock once. Behind it is the
// client of the servers, which keeps the leases alive and refuses to write under
// one that is lost. Package once tells its function of the end of a lease by a
// context, and no more; but what ends a command in time needs the lease itself:
// its deadline above all, and its fence and token for the environment.
type leases struct {
	client *distributed.Client

	mu   sync.Mutex
	last *distributed.Lease // guarded by mu
}

var _ locker.Joiner = (*leases)(nil)

// lease returns the lease that was given out last.
func (b *leases) lease() *distributed.Lease {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last
}

// bare returns an error without the key and the backend, which the caller adds.
func bare(err error) error {
	var says *locker.Error
	if errors.As(err, &says) {
		return says.Err
	}
	return err
}

// String implements locker.Backend.
func (b *leases) String() string { return b.client.Backend().String() }

// Join implements locker.Joiner. It is where leases come from.
func (b *leases) Join(ctx context.Context, req locker.Request, fresh time.Duration) (locker.Grant, *locker.Value, error) {
	l, v, err := b.client.Join(ctx, req.Key, fresh)
	if l == nil {
		return locker.Grant{}, v, bare(err)
	}
	b.mu.Lock()
	b.last = l
	b.mu.Unlock()
	fence, _ := l.Fence()
	return locker.Grant{Token: l.Token(), Fence: fence, TTL: lastingTTL}, nil, nil
}

// Acquire implements locker.Backend. Nobody asks for a lease without its value.
func (b *leases) Acquire(context.Context, locker.Request) (locker.Grant, error) {
	return locker.Grant{}, errors.ErrUnsupported
}

// Renew implements locker.Backend. The client does it, at its own pace.
func (b *leases) Renew(_ context.Context, renewals []locker.Renewal) {
	for i := range renewals {
		renewals[i].Granted = lastingTTL
	}
}

// Release implements locker.Backend.
func (b *leases) Release(ctx context.Context, h locker.Hold) error {
	if l := b.lease(); l != nil && l.Token() == h.Token {
		return bare(l.Release(ctx))
	}
	return locker.ErrNotHeld
}

// Shelf implements locker.Publisher.
func (b *leases) Shelf(ctx context.Context, key string) (locker.Shelf, error) {
	s, err := b.client.Shelf(ctx, key)
	return s, bare(err)
}

// Put implements locker.Publisher.
func (b *leases) Put(ctx context.Context, h locker.Hold, data []byte, keep time.Duration) (uint64, error) {
	l := b.lease()
	if l == nil || l.Token() != h.Token {
		return 0, locker.ErrNotHeld
	}
	fence, err := l.Put(ctx, data, keep)
	return fence, bare(err)
}

// Get implements locker.Publisher.
func (b *leases) Get(ctx context.Context, key string) (locker.Value, error) {
	v, err := b.client.Get(ctx, key)
	return v, bare(err)
}

// Remove implements locker.Publisher.
func (b *leases) Remove(context.Context, locker.Hold) error { return errors.ErrUnsupported }

// Close implements locker.Backend. The client belongs to who made it.
func (b *leases) Close() error { return nil }
