package main

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/distributed-go/distributed/cmd/dlock/internal/ptytest"
	"github.com/distributed-go/distributed/server"
)

func TestRunKilledTakesItsCommandAlong(t *testing.T) {
	url := serve(t, server.Config{})
	p := start(t, toolEnv(), runSh(url, `echo $$; exec sleep 1000`, "--ttl", "1s", "key")...)
	leader := p.line()
	p.kill(syscall.SIGKILL)
	p.wait()
	gone(t, leader)
	start(t, toolEnv(), runSh(url, "exit 4", "-w", "10s", "key")...).want(4) // and the lock is free
}

func TestRunOnATerminal(t *testing.T) {
	url := serve(t, server.Config{})
	c := ptytest.Open(t, toolEnv(), append([]string{os.Args[0]}, runSh(url, `read a; echo "got-$a"; read b; exit 6`, "key")...)...)
	c.Press("word\n")
	c.Await("got-word")
	c.Press("\x03")
	if printed, code := c.Exit(); code != 130 {
		t.Errorf("exit code %d after the interrupt key; it printed:\n%s", code, printed)
	}
}

// A job that was stopped beyond its lease must not go on when it is continued.
func TestRunStoppedBeyondItsLease(t *testing.T) {
	t.Parallel() // it mostly waits
	url := serve(t, server.Config{})
	c := ptytest.Open(t, toolEnv("DLOCK="+os.Args[0], "ENV="), "sh", "-m", "-c", `
		"$DLOCK" run --server `+url+` --ttl 2s key -- sh -c 'echo ready; read a; echo "went-on"; exit 0'
		echo stopped; sleep 3; fg >/dev/null; echo "ended-$?"`)
	c.Await("ready")
	c.Press("\x1a")
	c.Await("stopped")
	eventually(t, "given to somebody else", func() bool { return inspect(t, url, "lock", "key").Holders == 0 })
	c.Await("ended-76")
}

// While the shell has the terminal the command must not have it.
func TestRunInABackgroundJob(t *testing.T) {
	url := serve(t, server.Config{})
	c := ptytest.Open(t, toolEnv("DLOCK="+os.Args[0], "ENV="), "sh", "-m", "-c", `
		"$DLOCK" run --server `+url+` key -- sh -c 'echo ready; read a; echo "command-got-$a"' &
		sleep 0.3; read a; echo "shell-got-$a"; fg >/dev/null; echo "ended-$?"`)
	c.Await("ready")
	c.Press("one\n")
	c.Await("shell-got-one")
	time.Sleep(100 * time.Millisecond) // real time: the shell should be in fg by then; the test holds either way
	c.Press("two\n")
	c.Await("command-got-two")
	c.Await("ended-0")
}

func TestDemoOnATerminal(t *testing.T) {
	for _, c := range []struct {
		noColor string
		colour  bool
	}{{"", true}, {"1", false}} {
		env, dir := demoEnv(t)
		console := ptytest.Open(t, append(env, "TERM=xterm", "NO_COLOR="+c.noColor), os.Args[0], "demo")
		printed, code := console.Exit()
		if code != 0 || !strings.Contains(printed, "11 of 11 hold") || !strings.Contains(printed, erase) {
			t.Errorf("exit code %d; it printed:\n%s", code, printed)
		}
		if got := strings.Contains(printed, green); got != c.colour {
			t.Errorf("NO_COLOR=%s: colour %v", c.noColor, got)
		}
		nothingLeft(t, dir)
	}
}
