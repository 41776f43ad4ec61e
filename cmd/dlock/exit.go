package main

import "fmt"

// The exit codes of the tool. Those of dlock run leave the small ones to the
// command, as env(1) and timeout(1) do.
const (
	exitOK     = 0
	exitFailed = 1   // a verb other than run failed; with run: not acquired in time
	exitLost   = 76  // the lock was lost while the command ran; EX_PROTOCOL of sysexits.h, which nothing uses
	exitUsage  = 125 // the tool itself failed: usage, a bad key, a server that could not be reached
)

// An exitError ends the tool with a code.
type exitError struct {
	code  int
	err   error // what to print; nil prints nothing, because all is said
	usage bool  // --help would have helped
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}

// Unwrap returns the cause.
func (e *exitError) Unwrap() error { return e.err }

// usagef is an error of the one who called the tool.
func usagef(format string, args ...any) *exitError {
	return &exitError{code: exitUsage, err: fmt.Errorf(format, args...), usage: true}
}

// failf ends the tool with a code and a message.
func failf(code int, format string, args ...any) *exitError {
	return &exitError{code: code, err: fmt.Errorf(format, args...)}
}
