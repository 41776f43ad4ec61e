package main

import (
	"context"
	"log/slog"

	"github.com/distributed-go/distributed"
	"github.com/distributed-go/distributed/internal/measure"
	"github.com/distributed-go/distributed/locker"
)

// ours is this project's client.
type ours struct{ client *distributed.Client }

func dialOurs(addr string) (rival, error) {
	c, err := distributed.Open("dflockd://"+addr, locker.WithTTL(ttl), locker.WithLogger(slog.New(slog.DiscardHandler)))
	return ours{c}, err
}

func (o ours) mutex(key string, _ bool) (measure.Lock, error) {
	return ourMutex{distributed.NewMutex(o.client, key)}, nil
}

func (o ours) hold(ctx context.Context, key string) (holding, error) {
	l, err := o.client.Acquire(ctx, key)
	return ourLease{l}, err
}

func (o ours) close() error { return o.client.Close() }

type ourMutex struct{ *distributed.Mutex }

// Lock locks.
func (m ourMutex) Lock(ctx context.Context) error { return m.LockContext(ctx) }

// Unlock unlocks.
func (m ourMutex) Unlock(ctx context.Context) error { return m.UnlockContext(ctx) }

type ourLease struct{ *distributed.Lease }

func (l ourLease) release(ctx context.Context) error { return l.Release(ctx) }
func (l ourLease) lost() <-chan struct{}             { return l.Lost() }
