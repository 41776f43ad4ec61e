package locker

import (
	"errors"
	"fmt"
	"strconv"
	"time"
)

// The errors that callers tell apart, to be matched with errors.Is. Those that
// the Client returns are wrapped in an *Error, which adds the operation, the
// key and the backend.
var (
	// ErrLocked says that somebody else holds the key: a try failed, or the
	// wait of WithWait ran out while the backend could be reached.
	ErrLocked = errors.New("held by somebody else")

	// ErrLost says that a lease ended before its holder released it: its TTL
	// ran out without a renewal, a renewal was refused, the connection that
	// it depended on closed, its longest hold was over, or the Client was
	// closed. The cause is wrapped beside it. Stop the work; the key may
	// already be held by somebody else.
	ErrLost = errors.New("lease lost")

	// ErrNotHeld says that a hold that was to be released or checked is not
	// held (any more) by this handle.
	ErrNotHeld = errors.New("not held")

	// ErrMaxHold is the cause of an ErrLost whose lease lasted for as long as
	// WithMaxHold allows.
	ErrMaxHold = errors.New("longest hold is over")

	// ErrRevoked is the cause of an ErrLost whose lease was taken away by
	// Client.Force, here or elsewhere. It matches ErrLost too.
	ErrRevoked = fmt.Errorf("%w: revoked", ErrLost)

	// ErrNoFence says that a lease cannot be handed over, because the fences
	// that its Request asked for are used up.
	ErrNoFence = errors.New("no fence is left to hand over with")

	// ErrUnavailable says that the backend could not be reached, or did not
	// answer in time. Waiting acquisitions retry it until their context ends.
	ErrUnavailable = errors.New("backend unavailable")

	// ErrNotStored says that the backend was asked to change a value and answered
	// that it could not write it, because its disk failed: where ErrUnavailable
	// alone may mean that a connection broke, to ask again is of no use soon. What
	// is stored is as it was, as far as anybody can learn before the backend is
	// restarted. It matches ErrUnavailable too.
	ErrNotStored = fmt.Errorf("not stored: %w", ErrUnavailable)

	// ErrDraining says that the server is shutting down and grants nothing
	// more. It matches ErrUnavailable too: another server may take over.
	ErrDraining = fmt.Errorf("server is draining: %w", ErrUnavailable)

	// ErrLimitMismatch says that the key of a semaphore is in use with
	// another limit. All users of a key must agree on it; to change it, let
	// the key become idle, or use another key.
	ErrLimitMismatch = errors.New("key is in use with another limit")

	// ErrTooManyKeys says that the server's cap on keys is reached.
	ErrTooManyKeys = errors.New("server holds too many keys")

	// ErrTooManyWaiters says that the server's cap on waiters of a key is
	// reached.
	ErrTooManyWaiters = errors.New("key has too many waiters")

	// ErrTooManyConns says that the client's own cap on connections is
	// reached: on the base protocol of dflockd each wait needs one.
	ErrTooManyConns = errors.New("too many connections")

	// ErrLeaseTooShort says that too little was left of a lease when its
	// grant arrived: the TTL is too short for this network.
	ErrLeaseTooShort = errors.New("lease too short for this network")

	// ErrPlaceExpired says that the turn of a place in a queue came and its
	// lease ran out before it was collected.
	ErrPlaceExpired = errors.New("place in the queue expired")

	// ErrNoValue says that nothing is stored under a key.
	ErrNoValue = errors.New("no value")

	// ErrTooLarge says that a value has more bytes than the backend takes.
	ErrTooLarge = errors.New("value too large")

	// ErrFull says that the backend has no room for more values.
	ErrFull = errors.New("no room for more values")

	// ErrAuth says that the backend refused the credentials, or wants some, or
	// that its own are not trusted.
	ErrAuth = errors.New("authentication refused")

	// ErrInvalid says that an argument can never be right, such as an empty
	// key. Nothing was sent.
	ErrInvalid = errors.New("invalid argument")

	// ErrClosed says that the Client, or its backend, was closed.
	ErrClosed = errors.New("client closed")
)

// A HeldError is an ErrLocked of a backend that knows who is in the way.
type HeldError struct {
	// Holder is what the holder calls itself: host/pid/program, unless it chose
	// otherwise. Empty if it said nothing.
	Holder string
	// For is the time since the holder was granted the key; 0 if unknown.
	For time.Duration
}

// Error is what ErrLocked says, and by whom and for how long.
func (e *HeldError) Error() string {
	s := ErrLocked.Error()
	if e.Holder != "" {
		s = "held by " + strconv.Quote(e.Holder)
	}
	if e.For > 0 {
		s += " for " + e.For.String()
	}
	return s
}

// Unwrap returns ErrLocked.
func (e *HeldError) Unwrap() error { return ErrLocked }

// An Error says which operation failed, on which key and which backend. It
// matches what it wraps.
type Error struct {
	// Op is "acquire", "try", "enqueue", "wait", "cancel", "renew", "release",
	// "hand over", "check", "force", "lock", "unlock", "join", "get", "put",
	// "remove", "shelf" or "do".
	Op string
	// Key is the key at hand.
	Key string
	// Backend is the backend's name.
	Backend string
	// Err is the cause: it matches one of the package's errors, and the
	// context's where that ended a wait.
	Err error
}

// Error is one line: what failed, on what, where and why.
func (e *Error) Error() string {
	return fmt.Sprintf("distributed: %s %q on %s: %v", e.Op, e.Key, e.Backend, e.Err)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
