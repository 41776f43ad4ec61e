//go:build unix

package once

import (
	"context"
	"sync"
	"time"

	"github.com/distributed-go/distributed/dflockd"
	"github.com/distributed-go/distributed/locker"
)

// A backend is one of dflockd that tells where its caller is: before and after each
// thing that it asks the server. So a process can end itself there, and the product
// needs no hooks.
type backend struct {
	*dflockd.Backend
	reach func(point, key string)
	put   func(key string, fence uint64, err error) // is told of answers to puts; nil for nobody

	mu     sync.Mutex
	fences map[string]uint64 // of the last grant of each key; guarded by mu
}

// newBackend returns a backend for the server at an address. Proof says that the
// server may take the death of this process for the end of what it holds.
func newBackend(addr string, proof bool, reach func(point, key string)) (*backend, error) {
	opts := []dflockd.Option{dflockd.WithFences()}
	if !proof {
		opts = append(opts, dflockd.WithoutProcess())
	}
	b, err := dflockd.New([]string{addr}, opts...)
	if err != nil {
		return nil, err
	}
	return &backend{Backend: b, reach: reach, fences: make(map[string]uint64)}, nil
}

var _ locker.Joiner = (*backend)(nil)

// fence returns that of the last grant of a key.
func (b *backend) fence(key string) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.fences[key]
}

func (b *backend) granted(key string, g locker.Grant) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fences[key] = g.Fence
}

func (b *backend) Get(ctx context.Context, key string) (locker.Value, error) {
	b.reach("get: before", key)
	defer b.reach("get: answered", key)
	return b.Backend.Get(ctx, key)
}

func (b *backend) Join(ctx context.Context, req locker.Request, fresh time.Duration) (locker.Grant, *locker.Value, error) {
	b.reach("join: before", req.Key)
	g, v, err := b.Backend.Join(ctx, req, fresh)
	if err == nil && v == nil {
		b.granted(req.Key, g)
		b.reach("join: granted", req.Key)
	}
	return g, v, err
}

func (b *backend) Acquire(ctx context.Context, req locker.Request) (locker.Grant, error) {
	g, err := b.Backend.Acquire(ctx, req)
	if err == nil {
		b.granted(req.Key, g)
	}
	return g, err
}

func (b *backend) Put(ctx context.Context, h locker.Hold, data []byte, keep time.Duration) (uint64, error) {
	return b.puts(h, func() (uint64, error) { return b.Backend.Put(ctx, h, data, keep) })
}

func (b *backend) PutVolatile(ctx context.Context, h locker.Hold, data []byte, keep time.Duration) (uint64, error) {
	return b.puts(h, func() (uint64, error) { return b.Backend.PutVolatile(ctx, h, data, keep) })
}

func (b *backend) puts(h locker.Hold, put func() (uint64, error)) (uint64, error) {
	b.reach("put: before", h.Key)
	defer b.reach("put: answered", h.Key)
	fence := b.fence(h.Key)
	putFence, err := put()
	if b.put != nil {
		b.put(h.Key, fence, err)
	}
	return putFence, err
}

func (b *backend) Release(ctx context.Context, h locker.Hold) error {
	b.reach("release: before", h.Key)
	defer b.reach("release: answered", h.Key)
	return b.Backend.Release(ctx, h)
}

func (b *backend) ReleaseWithin(now, d time.Duration, h locker.Hold) error {
	b.reach("release: before", h.Key)
	defer b.reach("release: answered", h.Key)
	return b.Backend.ReleaseWithin(now, d, h)
}
