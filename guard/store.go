package guard

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"
)

// A Record is what a Store keeps under a key.
type Record struct {
	// Fence is that of the last write, 0 if there was none.
	Fence uint64
	// Value is what was written; nil where the fence alone is remembered.
	Value []byte
	// Version names this state of the record for CompareAndSwap. Only its Store
	// understands it; it is empty for a record that does not exist.
	Version string
}

// A Store keeps a record under each key and replaces it in one step, if nobody
// was faster. It is all that a guard needs: implement it for what you have, an
// object store with If-Match, a key-value store with transactions. It must be
// safe for concurrent use.
//
// Fence and value must be written together, by one operation. A store that
// only remembered the fence, with the data elsewhere, would leave the gap
// between check and write open.
type Store interface {
	// Load returns the record, and the zero Record if there is none. It may be
	// an old one: CompareAndSwap then says no.
	Load(ctx context.Context, key string) (Record, error)

	// CompareAndSwap replaces the record by next, whose Version means nothing,
	// if its version is old, and says whether it did. An empty old means that
	// there must be no record. After an error it may have happened or not.
	//
	// Every write must change the version. The hash of an object's content, as
	// S3's ETag is one, does only if the fence is in the content, not beside it
	// in metadata: else a write of the same value by a later holder goes unseen.
	CompareAndSwap(ctx context.Context, key, old string, next Record) (bool, error)
}

// Write stores value under key with the fence of its writer, and returns a
// *StaleError if a larger one was seen. After an error of the store the write
// may have happened or not; it may be repeated with the same fence.
func Write(ctx context.Context, s Store, key string, fence uint64, value []byte) error {
	return Update(ctx, s, key, fence, func([]byte) ([]byte, error) { return value, nil })
}

// Check remembers the fence and leaves the value as it is. It returns a
// *StaleError if a larger one was seen. It protects what follows it only as far
// as smaller fences come through the same store: writes elsewhere it does not
// see.
func Check(ctx context.Context, s Store, key string, fence uint64) error {
	return Update(ctx, s, key, fence, nil)
}

// Update replaces the value under key by what f makes of it, and returns a
// *StaleError if a larger fence was seen. f gets nil if there is no value; it is
// called again when another write came between, so it must have no other
// effect, and must not change what it gets. Its error ends Update with nothing
// written. Update tries, with growing pauses of up to 100 ms, until ctx ends.
func Update(ctx context.Context, s Store, key string, fence uint64, f func(old []byte) ([]byte, error)) error {
	if err := usable(key, fence); err != nil {
		return err
	}
	pauses := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(time.Millisecond),
		backoff.WithMaxInterval(100*time.Millisecond),
		backoff.WithMaxElapsedTime(0),
	)
	overtaken := false // at the latest attempt: what f returns can be anything, the context's error too
	err := backoff.Retry(func() error {
		err := try(ctx, s, key, fence, f)
		if overtaken = err == errOvertaken; err != nil && !overtaken { //nolint:errorlint // the bare one, of try
			return backoff.Permanent(err)
		}
		return err
	}, backoff.WithContext(pauses, ctx))
	if err != nil && overtaken {
		return failed(key, "update", fmt.Errorf("%w: %w", errOvertaken, context.Cause(ctx)))
	}
	return err
}

// errOvertaken says that another write came between load and swap. Callers see
// it only beside the reason why ctx ended: until then Update tries again.
var errOvertaken = errors.New("overtaken by another write")

// try is one attempt to load, judge and swap.
func try(ctx context.Context, s Store, key string, fence uint64, f func([]byte) ([]byte, error)) error {
	r, err := s.Load(ctx, key)
	if err != nil {
		return failed(key, "load", err)
	}
	if err := judge(key, fence, r.Fence); err != nil {
		return err
	}
	next := Record{Fence: fence, Value: r.Value}
	switch {
	case f != nil:
		if next.Value, err = f(r.Value); err != nil {
			return err
		}
	case r.Fence == fence:
		return nil // remembered already
	}
	swapped, err := s.CompareAndSwap(ctx, key, r.Version, next)
	switch {
	case err != nil:
		return failed(key, "swap", err)
	case !swapped:
		return errOvertaken
	}
	return nil
}
