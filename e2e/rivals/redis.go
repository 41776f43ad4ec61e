package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"time"

	"github.com/bsm/redislock"
	"github.com/distributed-go/distributed/internal/measure"
	"github.com/go-redsync/redsync/v4"
	"github.com/go-redsync/redsync/v4/redis/goredis/v9"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
	"github.com/redis/rueidis/rueidislock"
)

// serveRedis starts a Redis that keeps nothing.
func serveRedis(ctx context.Context, dir string) (*backend, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("redis-server", "--bind", host, "--port", port, "--save", "", "--appendonly", "no", "--dir", dir)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	b, err := program(cmd, addr)
	if err != nil {
		return nil, err
	}
	c := redis.NewClient(&redis.Options{Addr: addr})
	defer c.Close()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if err = c.Ping(ctx).Err(); err == nil {
			return b, nil
		}
		if time.Now().After(end) || ctx.Err() != nil {
			b.kill()
			return nil, fmt.Errorf("redis-server does not answer: %w; it said: %s", err, &said)
		}
	}
}

// A redisRival is a client of Redis.
type redisRival struct {
	lock  func(key string) redisLock
	close func() error
}

// A redisLock is measured as it is, and held.
type redisLock interface {
	measure.Lock
	holding
}

// client adapts a redisRival.
type client struct{ redisRival }

func (c client) mutex(key string, _ bool) (measure.Lock, error) { return c.lock(key), nil }
func (c client) close() error                                   { return c.redisRival.close() }

func (c client) hold(ctx context.Context, key string) (holding, error) {
	l := c.lock(key)
	return l, l.Lock(ctx)
}

func goRedis(addr string) *redis.Client { return redis.NewClient(&redis.Options{Addr: addr}) }

func dialRedsync(addr string) (rival, error) {
	c := goRedis(addr)
	rs := redsync.New(goredis.NewPool(c))
	return client{redisRival{close: c.Close, lock: func(key string) redisLock {
		return &redsyncLock{rs.NewMutex(key, redsync.WithExpiry(heldTTL))}
	}}}, nil
}

type redsyncLock struct{ m *redsync.Mutex }

// Lock locks, however long that takes: redsync gives up after 32 tries.
func (l *redsyncLock) Lock(ctx context.Context) error {
	for {
		var taken *redsync.ErrTaken
		err := l.m.LockContext(ctx)
		if ctx.Err() != nil || !errors.Is(err, redsync.ErrFailed) && !errors.As(err, &taken) {
			return err
		}
	}
}

// Unlock unlocks.
func (l *redsyncLock) Unlock(ctx context.Context) error {
	ok, err := l.m.UnlockContext(ctx)
	if err == nil && !ok {
		return errors.New("redsync: not unlocked")
	}
	return err
}

func (l *redsyncLock) release(ctx context.Context) error { return l.Unlock(ctx) }
func (l *redsyncLock) lost() <-chan struct{}             { return nil }

func dialRedislock(addr string) (rival, error) {
	c := goRedis(addr)
	locks := redislock.New(c)
	return client{redisRival{close: c.Close, lock: func(key string) redisLock { return &redislockLock{client: locks, key: key} }}}, nil
}

type redislockLock struct {
	client *redislock.Client
	key    string
	held   *redislock.Lock
}

// Lock locks. Redislock waits until ctx ends, or for as long as the TTL if ctx
// has no end.
func (l *redislockLock) Lock(ctx context.Context) (err error) {
	l.held, err = l.client.Obtain(ctx, l.key, heldTTL, &redislock.Options{RetryStrategy: redislock.LinearBackoff(100 * time.Millisecond)})
	return err
}

// Unlock unlocks.
func (l *redislockLock) Unlock(ctx context.Context) error { return l.held.Release(ctx) }

func (l *redislockLock) release(ctx context.Context) error { return l.Unlock(ctx) }
func (l *redislockLock) lost() <-chan struct{}             { return nil }

func dialRueidis(addr string) (rival, error) {
	l, err := rueidislock.NewLocker(rueidislock.LockerOption{
		ClientOption: rueidis.ClientOption{InitAddress: []string{addr}}, KeyMajority: 1, NoLoopTracking: true,
	})
	if err != nil {
		return nil, err
	}
	return client{redisRival{close: func() error { l.Close(); return nil }, lock: func(key string) redisLock { return &rueidisLock{locker: l, key: key} }}}, nil
}

type rueidisLock struct {
	locker rueidislock.Locker
	key    string
	ctx    context.Context // of the hold, as the library has it
	unlock context.CancelFunc
}

// Lock locks.
func (l *rueidisLock) Lock(ctx context.Context) (err error) {
	l.ctx, l.unlock, err = l.locker.WithContext(ctx, l.key)
	return err
}

// Unlock unlocks, and returns when that was answered.
func (l *rueidisLock) Unlock(context.Context) error {
	l.unlock()
	return nil
}

func (l *rueidisLock) release(ctx context.Context) error { return l.Unlock(ctx) }
func (l *rueidisLock) lost() <-chan struct{}             { return l.ctx.Done() }
