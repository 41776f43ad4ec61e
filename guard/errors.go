package guard

import (
	"errors"
	"fmt"
)

// The errors that callers tell apart, to be matched with errors.Is.
var (
	// ErrStale says that the resource has seen a larger fence: the lock went
	// on to another holder, and nothing was written. Stop the work; trying
	// again with this fence can never succeed. It comes as a *StaleError.
	ErrStale = errors.New("stale fence")

	// ErrNoFence says that there is no fence to check, and that nothing was
	// written: the lock service gives none (on dflockd's protocol the URL must
	// say fences=1), or holders share the key.
	ErrNoFence = errors.New("no fence")
)

// A StaleError says which write was refused. It matches ErrStale.
type StaleError struct {
	// Key is what is guarded: the key of the lock, or the path of a File.
	Key string
	// Fence is the one that was refused.
	Fence uint64
	// Seen is the larger one that the resource remembers.
	Seen uint64
}

// Error is one line: what was refused, and why.
func (e *StaleError) Error() string {
	return fmt.Sprintf("guard: %q: %v: %d after %d was seen", e.Key, ErrStale, e.Fence, e.Seen)
}

// Is says whether target is ErrStale.
func (e *StaleError) Is(target error) bool { return target == ErrStale }

// judge is the rule of every guard: a fence may not be smaller than the largest
// that was seen.
func judge(key string, fence, seen uint64) error {
	if fence < seen {
		return &StaleError{Key: key, Fence: fence, Seen: seen}
	}
	return nil
}

// usable returns nil if the two can be checked at all.
func usable(key string, fence uint64) error {
	switch {
	case key == "":
		return errors.New("guard: the key is empty: give that of the lock")
	case fence == 0:
		return failed(key, "check", ErrNoFence)
	}
	return nil
}

// failed says on which key what failed.
func failed(key, op string, err error) error {
	return fmt.Errorf("guard: %q: %s: %w", key, op, err)
}
