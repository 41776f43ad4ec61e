package supervise

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

func TestKillOfTheSupervisorKillsTheLeader(t *testing.T) {
	cmd := exec.Command(os.Args[0], "sh", "-c", `echo $$; exec sleep 1000`)
	cmd.Env = append(os.Environ(), "SUPERVISE_HELPER=1", "GORACE=atexit_sleep_ms=0")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed, as it should be
	gone(t, pid)
}

// A console is the far end of a terminal with a command behind it.
type console struct {
	t     *testing.T
	cmd   *exec.Cmd
	tty   *os.File
	seen  strings.Builder
	lines chan string
}

// openConsole runs a command as the leader of a session with a terminal, as
// a terminal emulator does.
func openConsole(t *testing.T, args ...string) *console {
	t.Helper()
	tty, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(int(tty.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(tty.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	far, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()

	c := &console{t: t, tty: tty, lines: make(chan string)}
	c.cmd = exec.Command(args[0], args[1:]...)
	c.cmd.Env = append(os.Environ(), "SUPERVISE_HELPER=1", "GORACE=atexit_sleep_ms=0", "DLOCK="+os.Args[0], "PS1=", "ENV=")
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = far, far, far
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0, Pdeathsig: syscall.SIGKILL}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(c.lines)
		for s := bufio.NewScanner(tty); s.Scan(); { // EIO once the session has ended
			c.lines <- strings.TrimSpace(s.Text())
		}
	}()
	t.Cleanup(func() {
		c.cmd.Process.Kill()
		for range c.lines {
		}
		tty.Close()
	})
	return c
}

// await reads until a line is printed. The terminal echoes what is typed, so
// no line that is awaited may be typed too.
func (c *console) await(want string) {
	c.t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case line, ok := <-c.lines:
			if !ok {
				c.t.Fatalf("session ended before %q; it printed:\n%s", want, &c.seen)
			}
			fmt.Fprintln(&c.seen, line)
			if strings.HasSuffix(line, want) { // the terminal may have echoed a key before it
				return
			}
		case <-timeout:
			c.t.Fatalf("no %q; it printed:\n%s", want, &c.seen)
		}
	}
}

func (c *console) press(text string) {
	c.t.Helper()
	if _, err := c.tty.WriteString(text); err != nil {
		c.t.Fatal(err)
	}
}

func (c *console) exit() int {
	for range c.lines {
	}
	_ = c.cmd.Wait() // the code says it
	return c.cmd.ProcessState.ExitCode()
}

func TestCommandReadsTheTerminal(t *testing.T) {
	c := openConsole(t, os.Args[0], "sh", "-c", `read a; echo "got-$a"; exit 4`)
	c.press("word\n")
	c.await("got-word")
	if code := c.exit(); code != 4 {
		t.Errorf("exit code %d, want 4", code)
	}
}

func TestInterruptKeyReachesTheCommandOnce(t *testing.T) {
	c := openConsole(t, os.Args[0], "sh", "-c", `n=0; trap 'n=$((n+1))' INT; echo ready
		i=0; while [ $i -lt 20 ]; do sleep 0.02; i=$((i+1)); done; echo "interrupts-$n"`)
	c.await("ready")
	c.press("\x03")
	c.await("interrupts-1")
	if code := c.exit(); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

func TestTerminalIsHandedOverOnDemand(t *testing.T) {
	// Its output goes to a pipe, so it does not get the foreground at once.
	c := openConsole(t, "sh", "-c", `"$DLOCK" sh -c 'read a </dev/tty; echo "got-$a"' | cat; echo "after"`)
	c.press("word\n")
	c.await("got-word")
	c.await("after")
}

func TestTerminalIsTakenBack(t *testing.T) {
	c := openConsole(t, "sh", "-c", `"$DLOCK" true; "$DLOCK" /nonexistent/command; echo "ready"; read a; echo "got-$a"`)
	c.await("ready")
	c.press("word\n") // a shell in the background could not read it
	c.await("got-word")
}

func TestStopKeyStopsTheJob(t *testing.T) {
	c := openConsole(t, "sh", "-m", "-c", `"$DLOCK" sh -c 'echo ready; read a; echo "got-$a"'
		echo "stopped-$?"; fg; echo "ended-$?"`)
	c.await("ready")
	c.press("\x1a")
	c.await("stopped-" + fmt.Sprint(128+int(syscall.SIGTTIN)))
	c.press("word\n")
	c.await("got-word")
	c.await("ended-0")
}
