package memory

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/distributed-go/distributed/internal/table"
	"github.com/distributed-go/distributed/locker"
)

// Shelf implements locker.Publisher: a Server keeps values for as long as it is
// there, of up to 64 KiB each.
func (b *Backend) Shelf(ctx context.Context, _ string) (s locker.Shelf, err error) {
	err = b.do(ctx, func(time.Duration) error {
		s.MaxSize = b.server.table.MaxValue()
		return nil
	})
	return s, err
}

// Put implements locker.Publisher.
func (b *Backend) Put(ctx context.Context, h locker.Hold, data []byte, keep time.Duration) (fence uint64, err error) {
	switch {
	case h.Kind != locker.Exclusive:
		return 0, errCounting
	case keep < 0:
		return 0, fmt.Errorf("%w: a value cannot be kept for %v: the time must not be negative, and 0 is for ever", locker.ErrInvalid, keep)
	}
	err = b.do(ctx, func(now time.Duration) (err error) {
		t := b.server.table
		fence, err = t.Publish(now, []byte(h.Key), tableToken(h.Token), data, keep, false)
		if errors.Is(err, table.ErrValueTooLarge) {
			return &locker.SizeError{Size: len(data), Max: t.MaxValue()}
		}
		return lockerError(err)
	})
	return fence, err
}

// Get implements locker.Publisher.
func (b *Backend) Get(ctx context.Context, key string) (locker.Value, error) {
	var a answer
	err := b.do(ctx, func(now time.Duration) error {
		if !b.server.freshLocked(now, key, locker.AnyAge, &a) {
			return locker.ErrNoValue
		}
		return nil
	})
	if err != nil {
		return locker.Value{}, err
	}
	return *a.value(), nil
}

// Remove implements locker.Publisher.
func (b *Backend) Remove(ctx context.Context, h locker.Hold) error {
	if h.Kind != locker.Exclusive {
		return errCounting
	}
	return b.do(ctx, func(now time.Duration) error {
		_, err := b.server.table.Unpublish(now, []byte(h.Key), tableToken(h.Token), false)
		return lockerError(err)
	})
}

// Join implements locker.Joiner. A grant or a value that comes at the same time as
// the end of ctx is given back, or forgotten: the error wins.
func (b *Backend) Join(ctx context.Context, req locker.Request, fresh time.Duration) (locker.Grant, *locker.Value, error) {
	if req.Kind != locker.Exclusive {
		return locker.Grant{}, nil, errCounting
	}
	for {
		p, err := b.place(ctx, req, &fresh)
		switch {
		case err != nil:
			return locker.Grant{}, nil, err
		case p.acquired || p.answer.of != nil:
			return p.grant, p.answer.value(), nil
		}
		g, err := p.Wait(ctx)
		if errors.Is(err, locker.ErrPlaceExpired) {
			continue // as in Acquire
		}
		return g, p.answer.value(), err
	}
}

// errCounting is for what is there for exclusive keys alone.
var errCounting = fmt.Errorf("%w: only exclusive keys have values", locker.ErrInvalid)

// An answer is a value of the table and the age that it had, or nothing.
type answer struct {
	of  *table.Value
	age time.Duration
}

// value returns a copy that its receiver may change. Values of the table do not
// change, so the server need not stand still for it.
func (a answer) value() *locker.Value {
	if a.of == nil {
		return nil
	}
	return &locker.Value{Data: bytes.Clone(a.of.Data), Fence: a.of.Fence, Age: a.age}
}

// freshLocked fills in the answer and returns true if there is a value under the
// key that is younger than fresh.
func (s *Server) freshLocked(now time.Duration, key string, fresh time.Duration, a *answer) bool {
	v, _ := s.table.LookupValue(now, []byte(key))
	if v == nil || fresh != locker.AnyAge && now-v.At >= fresh {
		return false
	}
	*a = answer{v, now - v.At}
	return true
}
