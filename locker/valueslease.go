package locker

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// errPutOver is what a change of a value ends with when the lease ends first.
var errPutOver = fmt.Errorf("%w: the lease ran out before the value's change was answered", ErrUnavailable)

// Put publishes data under the key, in place of what was there, and returns the
// fence that the value took, which is larger than that of the lease. All who wait
// in Join are answered with it. The value outlives the lease, and goes by itself
// after keep; 0 keeps it until it is removed.
//
// The error matches ErrLost if the lease is lost, or turns out to be: then
// nothing was stored, unless by a server that died before it could say so, and a
// lease that is known to be lost sends nothing. It matches ErrTooLarge, and is a
// *SizeError, if the data are more than the backend takes, and ErrFull if that has
// no room. After any other error that matches ErrUnavailable, or the context's,
// nobody knows whether the value was stored. Put waits for the answer until ctx
// ends, and for no longer than the lease would have lasted when it was called.
func (l *Lease) Put(ctx context.Context, data []byte, keep time.Duration) (fence uint64, err error) {
	return l.put(ctx, data, keep, func(p Publisher) putter { return p.Put })
}

// PutVolatile is Put of a value that need not be there after a restart of the backend,
// such as an answer for those who wait: one that would write it to its disk first, as
// Shelf.Durable says, does not. After a restart there is no value then, and never an
// older one. Where the backend knows no difference it is Put.
func (l *Lease) PutVolatile(ctx context.Context, data []byte, keep time.Duration) (fence uint64, err error) {
	return l.put(ctx, data, keep, func(p Publisher) putter {
		if v, ok := p.(VolatilePublisher); ok {
			return v.PutVolatile
		}
		return p.Put
	})
}

// A putter is a method of a Publisher that puts.
type putter func(ctx context.Context, h Hold, data []byte, keep time.Duration) (fence uint64, err error)

func (l *Lease) put(ctx context.Context, data []byte, keep time.Duration, by func(Publisher) putter) (fence uint64, err error) {
	if keep < 0 {
		return 0, l.error("put", fmt.Errorf("%w: keep %v: must not be negative", ErrInvalid, keep))
	}
	s := l.acquirer.settings
	began := s.clockIf(s.trace.Stored != nil)
	err = l.change(ctx, "put", func(ctx context.Context, p Publisher) (err error) {
		fence, err = by(p)(ctx, l.handle(), data, keep)
		return err
	})
	if err != nil {
		fence = 0
	}
	if f := s.trace.Stored; f != nil {
		f(StoredInfo{Key: l.Key(), Size: len(data), Fence: fence, Took: s.clock() - began, Err: err})
	}
	return fence, err
}

// RemoveValue removes the value under the key; without one it does nothing. Its
// errors are those of Put.
func (l *Lease) RemoveValue(ctx context.Context) error {
	return l.change(ctx, "remove", func(ctx context.Context, p Publisher) error { return p.Remove(ctx, l.handle()) })
}

// change changes the value under the lease by one call of the backend.
func (l *Lease) change(ctx context.Context, op string, call func(context.Context, Publisher) error) error {
	a := l.acquirer
	p, err := a.settings.client.publisher(ctx, l.Key())
	if err = errors.Join(a.hasValue(), err); err != nil {
		return l.error(op, err)
	}
	if err := l.Check(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, l.Left(), errPutOver)
	defer cancel()
	switch err := call(ctx, p); {
	case err == nil:
		return nil
	case errors.Is(err, ErrNotHeld):
		// The backend ended the hold before we did, unless a Release did so
		// meanwhile, and nobody had noticed yet.
		l.lose(fmt.Errorf("%w: %w", ErrLost, err))
		if err := l.checkTwice(); !errors.Is(err, ErrLost) {
			return l.error(op, ErrNotHeld)
		}
		return l.error(op, fmt.Errorf("%w: %w", ErrLost, err))
	default:
		return l.error(op, besides(ctx, err))
	}
}
