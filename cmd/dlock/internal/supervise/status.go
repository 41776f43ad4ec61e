//go:build unix

package supervise

import (
	"errors"
	"fmt"
	"syscall"
)

// A Status says how a command ended: with a code, or by a signal. The zero
// value is success.
type Status struct {
	// Code is what the command passed to exit; 0 if a signal ended it.
	Code int
	// Signal is what ended the command; 0 if it exited by itself.
	Signal syscall.Signal
}

// ExitCode returns the status as a shell reports it: the command's own code, or
// 128 and the number of the signal.
func (s Status) ExitCode() int {
	if s.Signal != 0 {
		return 128 + int(s.Signal)
	}
	return s.Code
}

// String is for people: "exit code 3" or "terminated".
func (s Status) String() string {
	if s.Signal != 0 {
		return s.Signal.String()
	}
	return fmt.Sprintf("exit code %d", s.Code)
}

// statusOf reads what wait4 reported of a process that has ended.
func statusOf(ws syscall.WaitStatus) Status {
	if ws.Signaled() {
		return Status{Signal: ws.Signal()}
	}
	return Status{Code: ws.ExitStatus()}
}

// The codes of env(1), and of every shell, for a command that did not start.
const (
	CannotRun = 126 // found, but it cannot be executed
	NotFound  = 127 // there is no such command
)

// A StartError says why a command did not start.
type StartError struct {
	// Name is the command as it was given.
	Name string
	// Err is what the system said.
	Err error
}

func (e *StartError) Error() string { return fmt.Sprintf("%s: %v", e.Name, e.Err) }

// Unwrap returns what the system said.
func (e *StartError) Unwrap() error { return e.Err }

// ExitCode returns NotFound or CannotRun. A script whose interpreter is missing
// counts as not found, because the system does not tell the two apart.
func (e *StartError) ExitCode() int {
	if errors.Is(e.Err, syscall.ENOENT) {
		return NotFound
	}
	return CannotRun
}
