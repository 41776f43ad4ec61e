package once

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/distributed-go/distributed/locker"
)

// A source is where records are: the values of a backend, or a Store.
type source interface {
	// look returns the record of a key, or an error that matches ErrNotDone.
	look(ctx context.Context, key string) (*record, error)

	// wait waits for the lease of the acquirer's key, or for a record: one that
	// is younger than fresh, or that was put since the call began.
	wait(ctx context.Context, a *locker.Acquirer, fresh time.Duration) (*locker.Lease, *record, error)

	// put puts a record under a lease, and remove removes it. What is volatile
	// need not be there after a restart.
	put(ctx context.Context, l *locker.Lease, r *record, keep time.Duration, volatile bool) error
	remove(ctx context.Context, l *locker.Lease) error

	// shelf says whether a record that is put for ever stays for ever, and how
	// many bytes it may have.
	shelf(ctx context.Context, key string) (locker.Shelf, error)

	// retries says whether an error of put is no answer: it leaves the outcome
	// open, and to put again may help.
	retries(err error) bool
}

// sourceOf returns the store, or if there is none the values of the client.
func sourceOf(c *locker.Client, s Store, option string) source {
	if s != nil {
		return rows{store: s}
	}
	return values{client: c, option: option}
}

// Values are the source that needs a backend which keeps them.
type values struct {
	client *locker.Client
	option string // that does without
}

func (s values) look(ctx context.Context, key string) (*record, error) {
	v, err := s.client.Get(ctx, key)
	switch {
	case errors.Is(err, locker.ErrNoValue):
		return nil, ErrNotDone
	case err != nil:
		return nil, unsupported(err, s.option)
	}
	return s.read(&v), nil
}

func (s values) read(v *locker.Value) *record {
	r := readRecord(v.Data)
	r.age = v.Age
	return r
}

func (s values) wait(ctx context.Context, a *locker.Acquirer, fresh time.Duration) (*locker.Lease, *record, error) {
	l, v, err := a.Join(ctx, fresh)
	switch {
	case err != nil:
		return nil, nil, unsupported(err, s.option)
	case v != nil:
		return nil, s.read(v), nil
	}
	return l, nil, nil
}

func (s values) put(ctx context.Context, l *locker.Lease, r *record, keep time.Duration, volatile bool) error {
	b, header, err := r.bytes()
	if err != nil {
		return err
	}
	put := l.Put
	if volatile {
		put = l.PutVolatile
	}
	_, err = put(ctx, b, keep)
	var size *locker.SizeError
	if errors.As(err, &size) && size.Max >= header { // what counts for the caller is its own
		return &locker.SizeError{Size: size.Size - header, Max: size.Max - header}
	}
	return err
}

func (s values) remove(ctx context.Context, l *locker.Lease) error {
	return unsupported(l.RemoveValue(ctx), s.option)
}

func (s values) shelf(ctx context.Context, key string) (locker.Shelf, error) {
	shelf, err := s.client.Shelf(ctx, key)
	return shelf, unsupported(err, s.option)
}

// Answers that say that nothing was stored are final. The rest is an outage, or
// the end of the client.
func (s values) retries(err error) bool {
	for _, final := range []error{locker.ErrTooLarge, locker.ErrFull, locker.ErrNotStored, locker.ErrInvalid, locker.ErrAuth, errors.ErrUnsupported} {
		if errors.Is(err, final) {
			return false
		}
	}
	return true
}

// Rows are the source that needs a Store, and of the backend a lock.
type rows struct{ store Store }

func (s rows) look(ctx context.Context, key string) (*record, error) {
	b, err := s.store.Load(ctx, key)
	if err != nil {
		return nil, err
	}
	if r := s.read(b); r != nil {
		return r, nil
	}
	return nil, ErrNotDone
}

// read reads a row. It returns nil if there is none, or it has expired.
func (s rows) read(b []byte) *record {
	if len(b) == 0 {
		return nil
	}
	r := readRecord(b)
	now := time.Now()
	if !r.Expires.IsZero() && !now.Before(r.Expires) {
		return nil
	}
	r.age = max(0, now.Sub(r.At))
	return r
}

// wait takes the lock. Who finds another record then than before it queued has
// waited for the one who saved it, or came before that began: clocks, which differ
// from one machine to the next, have no say in it.
func (s rows) wait(ctx context.Context, a *locker.Acquirer, fresh time.Duration) (*locker.Lease, *record, error) {
	key := a.Request().Key
	before, err := s.store.Load(ctx, key)
	if err != nil {
		return nil, nil, err
	}
	if r := s.read(before); r != nil && r.err == nil && r.age < fresh {
		return nil, r, nil
	}
	l, err := a.Acquire(ctx)
	if err != nil {
		return nil, nil, err
	}
	r, err := s.since(ctx, key, before)
	if err != nil || r != nil {
		_ = l.ReleaseWithin(0) // what is not answered goes on in the background
		return nil, r, err
	}
	return l, nil, nil
}

// since returns the record if it is another one than before.
func (s rows) since(ctx context.Context, key string, before []byte) (*record, error) {
	after, err := s.store.Load(ctx, key)
	if err != nil || bytes.Equal(before, after) {
		return nil, err
	}
	return s.read(after), nil
}

func (s rows) put(ctx context.Context, l *locker.Lease, r *record, keep time.Duration, _ bool) error {
	b, _, err := r.bytes()
	if err != nil {
		return err
	}
	return s.save(ctx, l, b, keep)
}

func (s rows) remove(ctx context.Context, l *locker.Lease) error { return s.save(ctx, l, nil, 0) }

// save asks the lease first: a holder that knows that it lost it need not be
// refused.
func (s rows) save(ctx context.Context, l *locker.Lease, b []byte, keep time.Duration) error {
	if err := l.Check(); err != nil {
		return err
	}
	fence, _ := l.Fence()
	err := s.store.Save(ctx, l.Key(), b, fence, keep)
	if errors.Is(err, ErrStale) {
		err = fmt.Errorf("%w: %w", locker.ErrLost, err)
	}
	return err
}

// shelf trusts the store, and leaves sizes to it.
func (s rows) shelf(context.Context, string) (locker.Shelf, error) {
	return locker.Shelf{Durable: true, MaxSize: math.MaxInt}, nil
}

func (s rows) retries(err error) bool {
	return errors.Is(err, locker.ErrUnavailable) && !errors.Is(err, locker.ErrNotStored)
}
