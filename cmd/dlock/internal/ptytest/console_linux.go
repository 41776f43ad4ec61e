// Package ptytest gives tests a terminal with a command behind it, as a
// terminal emulator does. It builds on Linux only: elsewhere terminals are
// opened in other ways, and the tests that need one are about what all of them
// have in common.
package ptytest

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds what should take milliseconds on a machine that is busy.
const patience = 10 * time.Second

// A Console is the near end of a terminal.
type Console struct {
	t     testing.TB
	cmd   *exec.Cmd
	tty   *os.File
	lines chan string
	seen  strings.Builder
}

// Open runs a command as the leader of a session with a terminal of its own. It
// is killed with the test.
func Open(t testing.TB, env []string, args ...string) *Console {
	t.Helper()
	near, far := openPair(t)
	defer far.Close()
	c := &Console{t: t, tty: near, lines: make(chan string)}
	c.cmd = exec.Command(args[0], args[1:]...)
	c.cmd.Env = env
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = far, far, far
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(c.lines)
		for s := bufio.NewScanner(near); s.Scan(); { // EIO once the session has ended
			c.lines <- strings.TrimSuffix(s.Text(), "\r")
		}
	}()
	t.Cleanup(func() {
		_ = c.cmd.Process.Kill() // it may have ended
		c.drain()
		near.Close()
	})
	return c
}

func openPair(t testing.TB) (near, far *os.File) {
	t.Helper()
	near, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(near.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(near.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	far, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return near, far
}

func (c *Console) drain() {
	for line := range c.lines {
		fmt.Fprintln(&c.seen, line)
	}
}

// Press types, also control characters such as "\x03".
func (c *Console) Press(text string) {
	c.t.Helper()
	if _, err := c.tty.WriteString(text); err != nil {
		c.t.Fatal(err)
	}
}

// Await reads until a line ends in a text. The terminal echoes what is typed,
// also in front of a line that is printed then; so no text that is awaited may
// be typed too.
func (c *Console) Await(end string) {
	c.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case line, ok := <-c.lines:
			if !ok {
				c.t.Fatalf("session ended before %q; it printed:\n%s", end, &c.seen)
			}
			fmt.Fprintln(&c.seen, line)
			if strings.HasSuffix(line, end) {
				return
			}
		case <-timeout:
			c.t.Fatalf("no %q; it printed:\n%s", end, &c.seen)
		}
	}
}

// Exit reads until the session ends and returns everything that it printed, and
// the exit code of the command.
func (c *Console) Exit() (printed string, code int) {
	c.drain()
	_ = c.cmd.Wait() // the code says it
	return c.seen.String(), c.cmd.ProcessState.ExitCode()
}
