package once

import (
	"context"
	"fmt"
	"sync"

	"github.com/distributed-go/distributed/locker"
)

// A Value is the result of a function that runs one time, for everybody who uses
// the same key of the same backend, after sync.OnceValue. NewValue makes one; its
// zero value is not usable. It is safe for concurrent use and must not be copied.
type Value[T any] struct {
	_    noCopy
	f    func(ctx context.Context) (T, error)
	cell *cell

	mu   sync.Mutex
	run  string // that v is of; guarded by mu
	v    T      // guarded by mu
	have bool   // guarded by mu
}

// NewValue returns a Value on the key, which has 251 bytes at most, that f
// computes. What f returns goes through the Encoding, and must fit into a value of
// the backend, of 64 KiB unless the server says otherwise. NewValue does no I/O. It
// panics if the client or f is nil; a bad key or option is returned by the first
// use. A Once and a Value must not have the same key.
func NewValue[T any](c *locker.Client, key string, f func(ctx context.Context) (T, error), opts ...Option) *Value[T] {
	if f == nil {
		panic("distributed: once.NewValue with a nil function")
	}
	return &Value[T]{f: f, cell: newCell(c, key, opts, "WithEncoding")}
}

// Get returns the value, and computes it if nobody has. Everything that Once.Do
// says of its function is true of that of the Value. The error is a
// *locker.SizeError, and matches locker.ErrTooLarge, if what the function returned
// is more than the backend takes: then it is not done, and the next one computes it
// again.
//
// The value is decoded once by each handle, if it does not expire; all callers
// share it, so they must not change what it points to.
func (o *Value[T]) Get(ctx context.Context) (T, error) {
	var computed *T
	r, err := o.cell.do(ctx, func(ctx context.Context) ([]byte, error) {
		v, err := o.f(ctx)
		if err != nil {
			return nil, err
		}
		b, err := o.cell.settings.encoding.Marshal(v)
		if err != nil {
			return nil, o.cell.fail(fmt.Errorf("result: %w", err))
		}
		computed = &v
		return b, nil
	})
	if err != nil {
		var none T
		return none, err
	}
	return o.decode(r, computed)
}

// decode returns the value of a record.
func (o *Value[T]) decode(r *record, computed *T) (T, error) {
	o.mu.Lock()
	v, have := o.v, o.have && o.run == r.Run
	o.mu.Unlock()
	switch {
	case have:
		return v, nil
	case computed != nil:
		v = *computed
	default:
		v = *new(T)
		if err := o.cell.settings.encoding.Unmarshal(r.data, &v); err != nil {
			var none T
			return none, o.cell.fail(fmt.Errorf("value of %s: %w", r.By, err))
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.have && o.run == r.Run {
		return o.v, nil // all share one
	}
	o.v, o.run, o.have = v, r.Run, true
	return v, nil
}

// Mark asks who computed the value, when, and under which fence. The error matches
// ErrNotDone if nobody did.
func (o *Value[T]) Mark(ctx context.Context) (Mark, error) { return o.cell.mark(ctx) }

// Reset removes the value, so that the next Get computes it. It waits for who
// computes now. Other handles that remember the value are not told.
func (o *Value[T]) Reset(ctx context.Context) error { return o.cell.reset(ctx) }
