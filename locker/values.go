package locker

import (
	"context"
	"fmt"
	"time"
)

// A Value is what a holder published under a key.
type Value struct {
	// Data are the bytes, as they were put. The receiver may change them.
	Data []byte
	// Fence is that of the put: it is larger than that of the hold which put it,
	// and than all fences that the key gave before.
	Fence uint64
	// Age is the time since the put, as the backend knows it.
	Age time.Duration
}

// A Shelf says what a backend promises of the values under a key.
type Shelf struct {
	// Durable says that a put which was answered, and was not volatile, is there
	// after a crash of the backend.
	Durable bool
	// MaxSize is how many bytes a value may have.
	MaxSize int
}

// A Publisher is a Backend that keeps one value under each Exclusive key. Only who
// holds the key writes it, by the token of the hold, so that a holder that lost
// its lease cannot publish; anybody reads it. The value outlives the hold.
//
// A backend some of whose servers cannot do it, as a stock dflockd server, is a
// Publisher all the same, and says errors.ErrUnsupported when it is asked.
type Publisher interface {
	Backend

	// Shelf says what the server that owns the key promises. It may have to ask
	// that server.
	Shelf(ctx context.Context, key string) (Shelf, error)

	// Put stores data under the key of a hold, in place of what was there, and
	// returns the fence that it took. The value goes by itself after keep; 0
	// keeps it until it is removed. When Put has returned nil every Get and Join
	// sees it. The error matches ErrNotHeld if the hold has ended: nothing was
	// stored then; ErrTooLarge if the data are more than the server takes; and
	// ErrFull if the server has no room for more values. After ErrNotStored it is
	// of no use to ask again soon. After any other ErrUnavailable, or an error of
	// ctx, nobody knows whether it was stored.
	Put(ctx context.Context, h Hold, data []byte, keep time.Duration) (fence uint64, err error)

	// Get returns the value under a key, or an error that matches ErrNoValue. It
	// does not queue.
	Get(ctx context.Context, key string) (Value, error)

	// Remove removes the value under the key of a hold. Without a value it does
	// nothing. The error matches ErrNotHeld if the hold has ended.
	Remove(ctx context.Context, h Hold) error
}

// A VolatilePublisher is a Publisher that may keep a value with less effort if that
// need not be there after a restart of its server.
type VolatilePublisher interface {
	Publisher

	// PutVolatile is Put of such a value: a crash or a restart may take it away, and
	// never brings back what was there before it.
	PutVolatile(ctx context.Context, h Hold, data []byte, keep time.Duration) (fence uint64, err error)
}

// AnyAge lets Join return a value however old it is.
const AnyAge time.Duration = 1<<63 - 1

// A Joiner is a Publisher that can wait for a key and for its value at once.
type Joiner interface {
	Publisher

	// Join queues for the Exclusive key like Acquire, and returns either a grant
	// or a value, which is not nil then: a put on the key answers all who are
	// queued by Join at that moment with what was put. A value that is there
	// already, and is younger than fresh, is the answer at once, without a
	// queue; a fresh of 0 wants none of those. A holder that releases without a
	// put passes the key to exactly one of those who wait.
	//
	// Request.Try asks for an answer at once: a value that is fresh enough, the
	// grant, or ErrLocked. Errors are those of Acquire.
	Join(ctx context.Context, req Request, fresh time.Duration) (Grant, *Value, error)
}

// A SizeError is an ErrTooLarge that knows by how much.
type SizeError struct {
	Size int // of what was to be stored, in bytes
	Max  int // what the backend takes
}

// Error names both sizes.
func (e *SizeError) Error() string {
	return fmt.Sprintf("%v: %d bytes, at most %d", ErrTooLarge, e.Size, e.Max)
}

// Unwrap returns ErrTooLarge.
func (e *SizeError) Unwrap() error { return ErrTooLarge }
