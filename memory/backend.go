package memory

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/distributed-go/distributed/internal/table"
	"github.com/distributed-go/distributed/locker"
)

var (
	_ locker.Queuer    = (*Backend)(nil)
	_ locker.Inspector = (*Backend)(nil)
	_ locker.Forcer    = (*Backend)(nil)
	_ locker.Joiner    = (*Backend)(nil)
)

// A Backend is one client of a Server. Make one with New or Server.Backend. It
// is safe for concurrent use.
type Backend struct {
	server  *Server
	session *session // nil once closed; guarded by server.mu
	closing sync.Once
}

// New returns the only client of a Server of its own, for programs alone.
func New(opts ...Option) *Backend { return NewServer(opts...).Backend() }

// String returns "memory://".
func (b *Backend) String() string { return "memory://" }

// Acquire implements locker.Backend. A grant that comes at the same time as the
// end of ctx is released: the error wins.
func (b *Backend) Acquire(ctx context.Context, req locker.Request) (locker.Grant, error) {
	for {
		p, err := b.place(ctx, req, nil)
		if err != nil {
			return locker.Grant{}, err
		}
		if p.acquired {
			return p.grant, nil
		}
		g, err := p.Wait(ctx)
		if errors.Is(err, locker.ErrPlaceExpired) {
			continue // this goroutine was not run for a whole TTL
		}
		return g, err
	}
}

// Renew implements locker.Backend. The error of a hold that is over matches
// locker.ErrLost and locker.ErrNotHeld.
func (b *Backend) Renew(ctx context.Context, renewals []locker.Renewal) {
	err := b.do(ctx, func(now time.Duration) error {
		for i := range renewals {
			r := &renewals[i]
			ttl := ttlOf(r.TTL)
			_, err := b.server.table.Renew(now, kindOf(r.Kind), []byte(r.Key), tableToken(r.Token), ttl)
			r.Granted, r.Err = ttl, nil
			if err != nil {
				r.Granted, r.Err = 0, lockerError(err)
			}
			if errors.Is(err, table.ErrNotHeld) {
				r.Err = fmt.Errorf("%w: %w", locker.ErrLost, r.Err)
			}
		}
		return nil
	})
	if err != nil {
		for i := range renewals {
			renewals[i].Granted, renewals[i].Err = 0, err
		}
	}
}

// Release implements locker.Backend.
func (b *Backend) Release(ctx context.Context, h locker.Hold) error {
	return b.do(ctx, func(now time.Duration) error {
		return lockerError(b.server.table.Release(now, kindOf(h.Kind), []byte(h.Key), tableToken(h.Token)))
	})
}

// Close implements locker.Backend: what is held is lost and released, places in
// queues are given up, calls in flight return locker.ErrClosed. It does not
// wait for a server that is frozen, and always returns nil.
func (b *Backend) Close() error {
	b.closing.Do(func() { b.end(locker.ErrClosed) })
	return nil
}

// do calls f in the session of now.
func (b *Backend) do(ctx context.Context, f func(now time.Duration) error) error {
	c, err := b.current()
	if err != nil {
		return err
	}
	return c.do(ctx, f)
}

// current returns the session of now.
func (b *Backend) current() (*session, error) {
	b.server.mu.Lock()
	defer b.server.mu.Unlock()
	if b.session == nil {
		return nil, locker.ErrClosed
	}
	return b.session, nil
}

// end ends the session of now. Another follows, unless the Backend is closed.
func (b *Backend) end(why error) {
	s := b.server
	s.mu.Lock()
	c := b.session
	if c == nil {
		s.mu.Unlock()
		return
	}
	c.err = why
	if b.session = nil; errors.Is(why, locker.ErrClosed) {
		s.backends--
	} else {
		b.session = s.sessionLocked()
	}
	s.mu.Unlock()
	c.end()
}

func kindOf(k locker.Kind) table.Kind {
	if k == locker.Counting {
		return table.Semaphore
	}
	return table.Lock
}

// ttlOf is the lease that a request means.
func ttlOf(d time.Duration) time.Duration {
	if d == 0 {
		return DefaultTTL
	}
	return d
}

func lockerToken(t table.Token) (l locker.Token) {
	binary.BigEndian.PutUint64(l[:8], t.Fence)
	binary.BigEndian.PutUint64(l[8:], t.MAC)
	return l
}

func tableToken(l locker.Token) table.Token {
	return table.Token{Fence: binary.BigEndian.Uint64(l[:8]), MAC: binary.BigEndian.Uint64(l[8:])}
}

// lockerErrors is what the table's errors are to callers of a backend.
var lockerErrors = map[error]error{
	table.ErrLocked:         locker.ErrLocked,
	table.ErrLimitMismatch:  locker.ErrLimitMismatch,
	table.ErrTooManyKeys:    locker.ErrTooManyKeys,
	table.ErrTooManyWaiters: locker.ErrTooManyWaiters,
	table.ErrNotHeld:        locker.ErrNotHeld,
	table.ErrExpired:        locker.ErrPlaceExpired,
	table.ErrValuesFull:     locker.ErrFull,
	table.ErrWeight:         fmt.Errorf("%w: the weight must be from 1 to the limit", locker.ErrInvalid),
	table.ErrFences:         fmt.Errorf("%w: fences must be from 0 to %d", locker.ErrInvalid, table.MaxFences),
	table.ErrTTL:            fmt.Errorf("%w: the TTL must not be negative", locker.ErrInvalid),
}

// lockerError translates an error of the table; nil stays nil.
func lockerError(err error) error { return lockerErrors[err] }
