package locker

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Get returns the value under a key, or an error that matches ErrNoValue. It
// does not queue, and asks once: the error matches ErrUnavailable if the backend
// could not be reached, and errors.ErrUnsupported if it keeps no values.
func (c *Client) Get(ctx context.Context, key string) (Value, error) {
	began := c.settings.clockIf(c.settings.trace.Found != nil)
	p, err := c.publisher(ctx, key)
	if err == nil {
		var v Value
		if v, err = p.Get(ctx, key); err == nil {
			c.settings.found(key, &v, began)
			return v, nil
		}
		err = besides(ctx, err)
	}
	return Value{}, &Error{Op: "get", Key: key, Backend: c.name, Err: err}
}

// clockIf reads the clock for a Trace, if that wants to know: without one nothing is
// paid for it.
func (s *settings) clockIf(traced bool) time.Duration {
	if !traced {
		return 0
	}
	return s.clock()
}

// found tells the Trace of the value that a call which began then has brought.
func (s *settings) found(key string, v *Value, began time.Duration) {
	if f := s.trace.Found; f != nil {
		f(FoundInfo{Key: key, Size: len(v.Data), Fence: v.Fence, Age: v.Age, Waited: s.clock() - began})
	}
}

// Shelf says what the backend promises of the values under a key. Like Acquire it
// rides out outages until ctx ends, or WithWait's time is over. The error matches
// errors.ErrUnsupported if the backend keeps no values.
func (c *Client) Shelf(ctx context.Context, key string) (Shelf, error) {
	a, err := c.exclusive(key, nil)
	if err != nil {
		return Shelf{}, err
	}
	ctx, cancel := a.Bound(ctx)
	defer cancel()
	pub, err := c.publisher(ctx, key)
	for p := a.patience("shelf", outage); err == nil; err = p.bear(ctx, err) {
		var s Shelf
		if s, err = pub.Shelf(ctx, key); err == nil {
			return s, nil
		}
		if ctx.Err() != nil && !errors.Is(err, ErrUnavailable) {
			err = fmt.Errorf("%w: no answer in time: %w", ErrUnavailable, err) // nobody is in the way of a question
		}
	}
	return Shelf{}, a.Error("shelf", err)
}

// publisher returns the backend as one that keeps values, or why it cannot be
// asked for the one of a key.
func (c *Client) publisher(ctx context.Context, key string) (Publisher, error) {
	if err := CheckKey(key); err != nil {
		return nil, err
	}
	p, ok := c.backend.(Publisher)
	switch {
	case !ok:
		return nil, errors.ErrUnsupported
	case c.life.Err() != nil:
		return nil, ErrClosed
	case ctx.Err() != nil:
		return nil, ended(ctx)
	}
	return p, nil
}

// besides is what a call failed with, and beside it why its context ended, where
// that says more.
func besides(ctx context.Context, err error) error {
	if ctx.Err() == nil || errors.Is(err, context.Cause(ctx)) {
		return err
	}
	return fmt.Errorf("%w: %w", ended(ctx), err)
}

// Join queues for the exclusive lease on the key, and for its value at once: it
// returns either a lease, to be released when done, or what a holder published
// while this call waited. A value that is there already, and is younger than
// fresh, is the answer without a queue; 0 wants none of those, AnyAge takes any.
// When a holder releases without a value, exactly one of those who wait gets the
// lease.
//
// Everything else is as for Acquire: ctx and WithWait bound the waiting, outages
// are ridden out meanwhile, and a lease that is old when it arrives is confirmed.
// After an outage the call begins anew, and may miss a value that was published
// before. The error matches errors.ErrUnsupported if the backend cannot.
func (c *Client) Join(ctx context.Context, key string, fresh time.Duration, opts ...Option) (*Lease, *Value, error) {
	a, err := c.exclusive(key, opts)
	if err != nil {
		return nil, nil, err
	}
	return a.Join(ctx, fresh)
}

// Join is Client.Join for a request that was prepared, of an Exclusive key.
func (a *Acquirer) Join(ctx context.Context, fresh time.Duration) (*Lease, *Value, error) {
	ctx, cancel := a.Bound(ctx)
	defer cancel()
	p := a.patience("join", outage)
	j, err := a.joiner(fresh)
	if err == nil {
		err = a.usable(ctx)
	}
	for stamp := p.began; err == nil; stamp = a.settings.clock() {
		var l *Lease
		var v *Value
		if l, v, err = a.joinOnce(ctx, j, fresh, stamp, p.began); err == nil {
			return l, v, nil
		}
		err = p.bear(ctx, err)
	}
	return nil, nil, a.fail(p.op, p.began, err)
}

// joiner returns the backend as one that can be joined, or why it cannot.
func (a *Acquirer) joiner(fresh time.Duration) (Joiner, error) {
	j, ok := a.settings.client.backend.(Joiner)
	switch {
	case !ok:
		return nil, errors.ErrUnsupported
	case fresh < 0:
		return nil, fmt.Errorf("%w: fresh %v: must not be negative", ErrInvalid, fresh)
	}
	return j, a.hasValue()
}

// hasValue returns why a key of this kind has no value, or nil.
func (a *Acquirer) hasValue() error {
	if a.req.Kind != Exclusive {
		return fmt.Errorf("%w: %v %q: only a lock has a value", ErrInvalid, a.req.Kind, a.req.Key)
	}
	return nil
}

// joinOnce asks the backend once, now, for a call that may have begun before.
func (a *Acquirer) joinOnce(ctx context.Context, j Joiner, fresh, stamp, began time.Duration) (*Lease, *Value, error) {
	req := a.req
	req.Stamp = stamp
	g, v, err := j.Join(ctx, req, fresh)
	switch {
	case err != nil:
		return nil, nil, err
	case v != nil:
		a.settings.found(req.Key, v, began)
		return nil, v, nil
	}
	l, err := a.settle(ctx, g, stamp, began)
	return l, nil, err
}
