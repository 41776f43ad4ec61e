package once

import (
	"context"
	"errors"
	"fmt"

	"github.com/distributed-go/distributed/locker"
)

var (
	// ErrNotDone says that no function of a Once, or of a Value, has succeeded
	// yet, or that this was undone or has expired.
	ErrNotDone = errors.New("not done")

	// ErrVolatile says that the server keeps marks in memory only, so that its
	// restart would let a function run again that may run one time. Give the
	// server a data directory, or accept it by WithExpiry or WithVolatile.
	ErrVolatile = errors.New("the server forgets what is done when it restarts: give it a data directory, or accept that by once.WithExpiry or once.WithVolatile")

	// ErrInDoubt says that a function returned nil, and that nobody knows
	// whether the mark was written: the backend did not answer before the lease
	// was over. Done says it once the backend can be reached; if it is not
	// done, the next one runs the function again. A backend that answers that it
	// cannot write leaves no doubt: that is locker.ErrNotStored.
	ErrInDoubt = errors.New("in doubt whether it is done")

	// ErrStale is what a Store returns that has a record with a larger fence. What
	// it was to be saved for fails with an error that matches locker.ErrLost too.
	ErrStale = errors.New("a later holder has saved a record")

	// ErrLeaderPanicked says that the function of a Group, its Encoding or its
	// Store panicked, or called runtime.Goexit, in the caller that ran it for all.
	ErrLeaderPanicked = errors.New("the function panicked in the caller that ran it for all")
)

// A FingerprintError says that something was done with another input than that of
// WithFingerprint.
type FingerprintError struct {
	Have string // of what is done; empty if its runner gave none
	Want string // of this handle
}

// Error names both.
func (e *FingerprintError) Error() string {
	if e.Have == "" {
		return fmt.Sprintf("done without a fingerprint, so perhaps with another input than %q", e.Want)
	}
	return fmt.Sprintf("done with another input: its fingerprint is %q and not %q", e.Have, e.Want)
}

// A RemoteError is the error of a function of a Group that another process ran.
// Only its text has come from there, so it matches nothing, but for
// ErrLeaderPanicked where that is what happened.
type RemoteError struct {
	By       string // who ran it: host/pid/program
	Message  string // what its error said, at most 4 KiB of it and what the backend takes
	Panicked bool
}

// Error is what the error said there, and who says so.
func (e *RemoteError) Error() string { return fmt.Sprintf("%s (in %s)", e.Message, e.By) }

// Unwrap returns ErrLeaderPanicked if the function panicked, else nil.
func (e *RemoteError) Unwrap() error {
	if e.Panicked {
		return ErrLeaderPanicked
	}
	return nil
}

// A PanicError is an ErrLeaderPanicked of this process: what Group.Do panics with
// in the caller whose function it was, and what the others get as an error.
type PanicError struct {
	Value any    // that the function panicked with
	Stack []byte // of the function
}

// Error says the value, and where the function panicked.
func (e *PanicError) Error() string {
	return fmt.Sprintf("%v: %v\n\n%s", ErrLeaderPanicked, e.Value, e.Stack)
}

// Unwrap returns ErrLeaderPanicked, and beside it the value if that is an error.
func (e *PanicError) Unwrap() []error {
	errs := []error{ErrLeaderPanicked}
	if err, ok := e.Value.(error); ok {
		errs = append(errs, err)
	}
	return errs
}

// ended returns what a context ended with: its error, and its cause where that
// says more.
func ended(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) {
		return cause
	}
	return fmt.Errorf("%w: %w", err, cause)
}

// unsupported says what to do where the backend keeps no values.
func unsupported(err error, option string) error {
	if !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	return fmt.Errorf("%w: the backend keeps no values, as a stock dflockd server: use a server of this project, or give %s a Store, such as a table of a database", errors.ErrUnsupported, option)
}

// lost says whether a change was refused because the lease is over: then nothing
// was written.
func lost(err error) bool { return errors.Is(err, locker.ErrLost) }
