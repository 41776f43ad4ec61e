package datadir

import (
	"errors"
	"fmt"
)

var (
	// ErrDamaged matches every error about a file that is damaged, missing
	// or older than it can be. It is always a *DamagedError.
	ErrDamaged = errors.New("the data directory is damaged")
	// ErrInUse means that another server, or this one, has the directory open.
	ErrInUse = errors.New("another server uses the data directory")
	// ErrClosed means that the Dir was closed or stopped.
	ErrClosed = errors.New("the data directory is closed")
	// ErrBadValue means that a value can never be kept: its key must have 1 to
	// MaxKey bytes, and its data at most MaxValue.
	ErrBadValue = errors.New("datadir: a value's key must have 1 to 256 bytes and its data at most 1 GiB")
	// ErrFull means that there are more records than the files take.
	ErrFull = errors.New("too many recorded leases")
)

// A DamagedError says which file stops the start, and what to do about it.
type DamagedError struct {
	File string // its path, or both
	What string // what is wrong with it
	Do   string // what would help
}

// Error names the file, says what is wrong, and what to do.
func (e *DamagedError) Error() string {
	return fmt.Sprintf("datadir: %s %s: %s", e.File, e.What, e.Do)
}

// Is makes every DamagedError match ErrDamaged.
func (e *DamagedError) Is(target error) bool { return target == ErrDamaged }

// The ways out of damage. None of them is to go on as if nothing had been there
// while leases may be out.
const (
	restore = "put the right file back; if there is none, wait until every lease of this server has run out, then move " +
		"the whole directory away and start with an empty one: any sooner, locks that are still held would be given twice"
	restoreValues = "put the right file back; if there is none the values are lost, and with them the marks of what was to " +
		"be done once: to begin without any, wait until every lease of this server has run out, then move the whole " +
		"directory away and start with an empty one"
	restoreNewer = "an older copy was put back; " + restore
	upgrade      = "start the version that wrote it, or a newer one"
)
