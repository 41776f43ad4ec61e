// Package semaphore has the distributed counterpart of
// golang.org/x/sync/semaphore: a limit that goroutines of different processes
// and machines share.
package semaphore

import (
	"context"
	"fmt"
	"math"
	"slices"

	"github.com/distributed-go/distributed/locker"
)

// Weighted is a semaphore on a key, for everybody who uses the same key and
// limit of the same backend. New makes one; its zero value is not usable. It is
// safe for concurrent use and must not be copied.
//
// Requests are served in FIFO order, all or nothing: a heavy request is never
// starved by lighter ones behind it. Each Acquire returns a lease of its own,
// because a shared handle could not say whose hold was lost.
type Weighted struct {
	_ noCopy

	client *locker.Client // nil if New did not make it
	key    string
	limit  int64
	opts   []locker.Option
	single *locker.Acquirer // for weight 1, prepared; nil if err is set
	err    error            // what was wrong with the arguments of New
}

// noCopy makes go vet notice copies. A copy would work, but who copies it will
// copy a Mutex as well.
type noCopy struct{}

func (*noCopy) Lock()   {}
func (*noCopy) Unlock() {}

// New returns a semaphore on the key whose holders' weights add up to n at
// most, which is from 1 to 2³¹-1. All users of a key must give the same n: while
// the key is in use with another, acquiring fails with locker.ErrLimitMismatch.
// It panics if the client is nil. A bad key, n or option is returned by the
// first acquisition.
func New(c *locker.Client, key string, n int64, opts ...locker.Option) *Weighted {
	if c == nil {
		panic("distributed: semaphore.New with a nil Client")
	}
	w := &Weighted{client: c, key: key, limit: n, opts: slices.Clone(opts)}
	if w.err = w.check("limit", n, math.MaxInt32); w.err == nil {
		w.single, w.err = w.acquirer(1)
	}
	return w
}

// acquirer prepares acquisitions of one weight.
func (w *Weighted) acquirer(n int64) (*locker.Acquirer, error) {
	switch {
	case w.client == nil:
		panic("distributed: use of a zero Weighted: make one with New")
	case w.err != nil:
		return nil, w.err
	case n == 1 && w.single != nil:
		return w.single, nil
	}
	if err := w.check("weight", n, w.limit); err != nil {
		return nil, err
	}
	return w.client.Acquirer(locker.Request{
		Kind: locker.Counting, Key: w.key, Limit: int(w.limit), Weight: int(n),
	}, w.opts...)
}

// check returns why n is not from 1 to most. The Client's own check comes after
// a conversion to int, which has 32 bits on some machines.
func (w *Weighted) check(what string, n, most int64) error {
	if n >= 1 && n <= most {
		return nil
	}
	return &locker.Error{
		Op: "acquire", Key: w.key, Backend: w.client.Backend().String(),
		Err: fmt.Errorf("%w: %s %d: must be from 1 to %d", locker.ErrInvalid, what, n, most),
	}
}

// Acquire waits for n of the semaphore until ctx ends, and returns the lease on
// them: release it when done. Ctx bounds the wait, not the hold. More than the
// limit, or less than 1, is an error at once, as is, matching
// errors.ErrUnsupported, more than 1 on a backend without weights.
func (w *Weighted) Acquire(ctx context.Context, n int64) (*locker.Lease, error) {
	a, err := w.acquirer(n)
	if err != nil {
		return nil, err
	}
	return a.Acquire(ctx)
}

// TryAcquire is Acquire without waiting: the error matches locker.ErrLocked if
// n are not free, or somebody else waits for some.
func (w *Weighted) TryAcquire(ctx context.Context, n int64) (*locker.Lease, error) {
	a, err := w.acquirer(n)
	if err != nil {
		return nil, err
	}
	return a.Try(ctx)
}

// Enqueue takes a place in the queue for n of the semaphore, to be waited for
// later.
func (w *Weighted) Enqueue(ctx context.Context, n int64) (*locker.Ticket, error) {
	a, err := w.acquirer(n)
	if err != nil {
		return nil, err
	}
	return a.Enqueue(ctx)
}

// Do calls f while it holds n of the semaphore. The one context bounds the wait
// and is the parent of the context of f, which is cancelled when f should end
// because the lease is about to be lost. Do returns f's error first, and an
// error that matches locker.ErrLost if the lease was lost while f ran.
func (w *Weighted) Do(ctx context.Context, n int64, f func(ctx context.Context) error) error {
	l, err := w.Acquire(ctx, n)
	if err != nil {
		return err
	}
	return l.Do(ctx, f)
}
