//go:build unix

package supervise

import (
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// A terminal is the controlling terminal of this process. Only its foreground
// group may read it and gets the signals of its keys, so a command in a group
// of its own needs the foreground to be interactive. All methods work, and do
// nothing, on nil: a process without a terminal.
type terminal struct{ file *os.File }

// openTerminal returns nil if this process has no terminal.
func openTerminal() *terminal {
	f, err := os.OpenFile("/dev/tty", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil
	}
	return &terminal{file: f}
}

func (t *terminal) close() {
	if t != nil {
		t.file.Close()
	}
}

// mine says whether the group of this process is in the foreground.
func (t *terminal) mine() bool { return t.has(syscall.Getpgrp()) }

func (t *terminal) has(group int) bool {
	if t == nil {
		return false
	}
	foreground, err := unix.IoctlGetInt(int(t.file.Fd()), unix.TIOCGPGRP)
	return err == nil && foreground == group
}

// give hands the foreground to a group, if it is ours to give.
func (t *terminal) give(group int) bool { return t.mine() && t.set(group) }

// take takes the foreground back from a group, if that has it.
func (t *terminal) take(group int) {
	if t.has(group) {
		t.set(syscall.Getpgrp())
	}
}

// set sets the foreground group. The system stops a background process that
// does this, unless it ignores the signal that would.
func (t *terminal) set(group int) bool {
	signal.Ignore(syscall.SIGTTOU)
	defer signal.Reset(syscall.SIGTTOU)
	return unix.IoctlSetPointerInt(int(t.file.Fd()), unix.TIOCSPGRP, group) == nil
}

// interactive says whether a command with these streams is one to talk to. With
// its output in a pipe it is not: the other end may be a pager of our own group,
// which needs the foreground more.
func interactive(c *Command) bool {
	return c.Stdin != nil && c.Stdout != nil &&
		term.IsTerminal(int(c.Stdin.Fd())) && term.IsTerminal(int(c.Stdout.Fd()))
}
