package dflockd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/locker"
)

// errNoValues says that a server keeps no values, as all but this project's.
var errNoValues = fmt.Errorf("%w: dflockd's base protocol knows no values; this project's server does, in session mode", errors.ErrUnsupported)

// Shelf says what the server that owns the key promises of values, as it did when
// it was connected to last; see locker.Publisher. The error matches
// errors.ErrUnsupported on the base protocol.
func (b *Backend) Shelf(ctx context.Context, key string) (locker.Shelf, error) {
	return valued(ctx, b, key, func(x *conversation) (locker.Shelf, error) {
		size, durable := x.offers()
		if size == 0 {
			return locker.Shelf{}, errNoValues
		}
		return locker.Shelf{Durable: durable, MaxSize: size}, nil
	})
}

// Put stores data under the key of a hold; see locker.Publisher. In an outage it
// goes on while the hold may last, and is done once; but a server that died when it
// had written the value and not said so stores it again when it is back, with a
// higher fence.
func (b *Backend) Put(ctx context.Context, h locker.Hold, data []byte, keep time.Duration) (uint64, error) {
	return b.put(ctx, h, data, keep, false)
}

// PutVolatile is Put of what need not be there after a restart of the server, which
// then does not wait for its disk; see locker.VolatilePublisher.
func (b *Backend) PutVolatile(ctx context.Context, h locker.Hold, data []byte, keep time.Duration) (uint64, error) {
	return b.put(ctx, h, data, keep, true)
}

func (b *Backend) put(ctx context.Context, h locker.Hold, data []byte, keep time.Duration, volatile bool) (uint64, error) {
	if keep < 0 {
		return 0, fmt.Errorf("%w: a value cannot be kept for %v", locker.ErrInvalid, keep)
	}
	return changed(ctx, b, h, func(x *conversation) (uint64, error) { return x.publish(ctx, h, data, keep, volatile) })
}

// Remove removes the value under the key of a hold; see locker.Publisher.
func (b *Backend) Remove(ctx context.Context, h locker.Hold) error {
	_, err := changed(ctx, b, h, func(x *conversation) (struct{}, error) { return struct{}{}, x.remove(ctx, h) })
	return err
}

// changed does something under a hold, in the conversation that keeps it.
func changed[T any](ctx context.Context, b *Backend, h locker.Hold, do func(*conversation) (T, error)) (zero T, err error) {
	if h.Kind != locker.Exclusive {
		return zero, fmt.Errorf("%w: values are kept under locks, not under semaphores", locker.ErrInvalid)
	}
	g, ok := h.Kept.(*grant)
	if !ok {
		return valued(ctx, b, h.Key, do)
	}
	if ctx.Err() != nil {
		return zero, context.Cause(ctx)
	}
	if err := codec.CheckKey(h.Key); err != nil { // a line feed would be an injection
		return zero, fmt.Errorf("%w: %w", locker.ErrInvalid, err)
	}
	return do(g.x)
}

// Get returns the value under a key; see locker.Publisher.
func (b *Backend) Get(ctx context.Context, key string) (locker.Value, error) {
	return valued(ctx, b, key, func(x *conversation) (locker.Value, error) { return x.get(ctx, key) })
}

// Join queues for a key and for its value at once; see locker.Joiner.
func (b *Backend) Join(ctx context.Context, req locker.Request, fresh time.Duration) (locker.Grant, *locker.Value, error) {
	if req.Kind != locker.Exclusive || fresh < 0 || req.TTL < 0 {
		return locker.Grant{}, nil, fmt.Errorf("%w: a %v joined for %v, fresh for %v", locker.ErrInvalid, req.Kind, req.TTL, fresh)
	}
	var v *locker.Value
	g, err := valued(ctx, b, req.Key, func(x *conversation) (g locker.Grant, err error) {
		g, v, err = x.join(ctx, &req, fresh)
		return g, err
	})
	return g, v, err
}

// valued does something in the conversation with the server of a key. What a
// session did not begin before it ended is done in the next.
func valued[T any](ctx context.Context, b *Backend, key string, do func(*conversation) (T, error)) (zero T, err error) {
	if ctx.Err() != nil {
		return zero, context.Cause(ctx)
	}
	s, err := b.serverOfKey(key)
	if err != nil {
		return zero, err
	}
	for {
		x, err := s.way(ctx)
		switch {
		case err != nil:
			return zero, err
		case x == nil:
			return zero, errNoValues
		}
		if v, err := do(x); err != errTooLate {
			return v, err
		}
	}
}

// publish puts. The data are copied: the request may have to be sent again after
// its caller has gone.
func (x *conversation) publish(ctx context.Context, h locker.Hold, data []byte, keep time.Duration, volatile bool) (uint64, error) {
	most, durable := x.offers()
	if len(data) > most && most > 0 { // the server would end the connection over such a line
		return 0, &locker.SizeError{Size: len(data), Max: most}
	}
	a := x.srv.b.newAsk(codec.Put, locker.Exclusive, h.Key)
	r := &a.call.Request
	r.Value, r.Keep, r.Volatile = bytes.Clone(data), keep, volatile && durable
	if err := x.change(ctx, h, a); err != nil {
		return 0, err
	}
	fence, status, failure := a.call.Fence, a.call.Status, a.err
	x.srv.b.recycle(a)
	switch {
	case status == codec.TooLarge:
		if most, _ = x.offers(); most == 0 { // the server may be another one by now
			return 0, errNoValues
		}
		return 0, &locker.SizeError{Size: len(data), Max: most}
	case status == codec.Full:
		return 0, fmt.Errorf("%w at %v", locker.ErrFull, x.srv.addr)
	}
	return fence, x.refusedChange(status, failure)
}

// remove removes.
func (x *conversation) remove(ctx context.Context, h locker.Hold) error {
	a := x.srv.b.newAsk(codec.Delete, locker.Exclusive, h.Key)
	if err := x.change(ctx, h, a); err != nil {
		return err
	}
	status, failure := a.call.Status, a.err
	x.srv.b.recycle(a)
	if status == codec.None {
		status = codec.OK
	}
	return x.refusedChange(status, failure)
}

// change asks for a change of the value under the key of a hold, and waits for the
// answer.
func (x *conversation) change(ctx context.Context, h locker.Hold, a *ask) error {
	g, _ := h.Kept.(*grant)
	a.call.Request.Token = codec.Token(h.Token)
	now := x.clock()
	x.mu.Lock()
	if g != nil {
		if gone, lost := g.Tag.(gone); lost {
			x.mu.Unlock()
			x.srv.b.recycle(a)
			return fmt.Errorf("%w: %w", locker.ErrNotHeld, gone.cause)
		}
		a.call.Hold = &g.Hold
		a.call.Request.TTL = g.TTL() // for as long it is worth asking
	}
	x.sentLocked(a)
	x.client.Do(now, &a.call)
	x.leave(now)
	return x.wait(ctx, a)
}

// refusedChange is the error for the answer to a change, nil if it was made.
func (x *conversation) refusedChange(status codec.Status, failure error) error {
	switch {
	case failure != nil:
		return failure
	case status == codec.OK:
		return nil
	case status == codec.ErrSession:
		return x.ended()
	case status == 0:
		return fmt.Errorf("%w: the connection to %v ended again and again, or the lease did, before it answered", locker.ErrUnavailable, x.srv.addr)
	case status == codec.Failed:
		return fmt.Errorf("%w: %v knows no such hold", locker.ErrNotHeld, x.srv.addr)
	case status == codec.Unavailable:
		return fmt.Errorf("%w: %v could not write it", locker.ErrNotStored, x.srv.addr)
	}
	return fmt.Errorf("%w: %v answered %v", locker.ErrUnavailable, x.srv.addr, status)
}

// get asks for a value.
func (x *conversation) get(ctx context.Context, key string) (locker.Value, error) {
	a := x.srv.b.newAsk(codec.Get, locker.Exclusive, key)
	if err := x.do(ctx, a); err != nil {
		return locker.Value{}, err
	}
	v, status, failure := a.value(), a.call.Status, a.err
	x.srv.b.recycle(a)
	switch {
	case failure == nil && status == codec.Found:
		return *v, nil
	case failure == nil && status == codec.None:
		return locker.Value{}, locker.ErrNoValue
	case failure == nil && status == codec.Failed:
		return locker.Value{}, errNoValues
	case failure == nil && status == codec.Unavailable:
		return locker.Value{}, fmt.Errorf("%w: %v waited for its disk in vain", locker.ErrUnavailable, x.srv.addr)
	}
	return locker.Value{}, x.refusedChange(status, failure)
}

// value returns what the answer brought.
func (a *ask) value() *locker.Value {
	return &locker.Value{Data: a.call.Value, Fence: a.call.Fence, Age: a.call.Age}
}

// join is acquire, but for the value that may end it.
func (x *conversation) join(ctx context.Context, req *locker.Request, fresh time.Duration) (locker.Grant, *locker.Value, error) {
	if size, _ := x.offers(); size == 0 {
		return locker.Grant{}, nil, errNoValues
	}
	g := x.newGrant(req)
	a := x.srv.b.newAsk(codec.Join, req.Kind, req.Key)
	a.wants(req, g)
	a.call.Request.Fresh = fresh
	a.bound(ctx)
	if err := x.do(ctx, a); err != nil {
		return locker.Grant{}, nil, err
	}
	if a.err == nil && a.call.Status == codec.Found {
		v := a.value()
		x.srv.b.recycle(a)
		return locker.Grant{}, v, nil
	}
	grant, err := x.conclude(ctx, req, g, a)
	return grant, nil, err
}

// offers returns how large values may be, 0 if there are none, and whether they
// outlive the server.
func (x *conversation) offers() (size int, durable bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.client.Offers()
}

var (
	_ locker.Joiner            = (*Backend)(nil)
	_ locker.VolatilePublisher = (*Backend)(nil)
)
