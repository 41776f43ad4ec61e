package once

import (
	"context"
	"errors"

	"github.com/distributed-go/distributed/locker"
)

// A Once runs a function that succeeds one time, for everybody who uses the same
// key of the same backend. New makes one; unlike that of sync.Once its zero value
// is not usable, because it has no key. It is safe for concurrent use and must not
// be copied.
//
// Done means that a function returned nil, and that a mark was written under the
// lease that it ran under. In the terminology of the Go memory model, that return
// synchronizes before the return of every call of Do that finds it done, also in
// another process as far as what they share is ordered by itself.
type Once struct {
	_    noCopy
	cell *cell
}

// noCopy makes go vet notice copies.
type noCopy struct{}

func (*noCopy) Lock()   {}
func (*noCopy) Unlock() {}

// New returns a Once on the key, which has 251 bytes at most. It does no I/O. It
// panics if the client is nil; a bad key or option is returned by the first use.
func New(c *locker.Client, key string, opts ...Option) *Once {
	return &Once{cell: newCell(c, key, opts)}
}

// Do calls f unless it is done, by whomever: then it returns nil at once. While
// somebody else runs Do waits, until it is done or that one has failed, died or
// lost its lease; then exactly one of those who wait runs its f. So Do returning
// nil means that it is done.
//
// The one context bounds the wait and is the parent of the context of f, which is
// cancelled when f should end because the lease is about to be lost (its cause
// matches locker.ErrLost then). If f fails, its caller gets the error and the next
// one runs. If f panics, or calls runtime.Goexit, its caller goes on with that and
// the next one runs. If the lease is lost the error matches locker.ErrLost, the
// mark is refused whatever f returns, and the next one runs, possibly at the same
// time: at most one run is ever marked as done. LeaseOf returns the lease, which has a
// fence for what f writes.
//
// The mark is written when f has returned nil, also if ctx has ended meanwhile. The
// error matches ErrInDoubt if the backend does not answer for as long as the lease
// lasts, and locker.ErrNotStored if it answers that it cannot write. It matches
// ErrVolatile if the server would forget the mark, locker.ErrTooLarge if that is more
// than it takes, as with a long fingerprint, and errors.ErrUnsupported if it has no
// marks; f is not called then.
//
// A Once that has seen a mark which does not expire remembers it for as long as it
// lives, and does not hear of a Reset elsewhere. As with sync.Once, an f that calls
// Do of its own key waits for itself.
func (o *Once) Do(ctx context.Context, f func(ctx context.Context) error) error {
	_, err := o.cell.do(ctx, func(ctx context.Context) ([]byte, error) { return nil, f(ctx) })
	return err
}

// Done asks whether it is done. It does not wait for who runs. The error is a
// *FingerprintError if it was done with another input.
func (o *Once) Done(ctx context.Context) (bool, error) {
	r, err := o.cell.done(ctx)
	switch {
	case errors.Is(err, ErrNotDone):
		return false, nil
	case err != nil:
		return false, err
	}
	if err := o.cell.same(r); err != nil {
		return false, o.cell.fail(err)
	}
	return true, nil
}

// Mark asks who did it, when, and under which fence. The error matches ErrNotDone
// if nobody did.
func (o *Once) Mark(ctx context.Context) (Mark, error) { return o.cell.mark(ctx) }

// Reset undoes that it is done, so that the next Do runs. It waits for who runs
// now. Other handles that remember that it is done are not told.
func (o *Once) Reset(ctx context.Context) error { return o.cell.reset(ctx) }

func (c *cell) mark(ctx context.Context) (Mark, error) {
	r, err := c.done(ctx)
	if err != nil {
		return Mark{}, err
	}
	return r.Mark, nil
}
