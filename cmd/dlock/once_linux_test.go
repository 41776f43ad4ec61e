package main

import (
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/distributed-go/distributed/cmd/dlock/internal/ptytest"
)

// A tool that is killed takes its command along and leaves nothing done, and one
// of those who wait runs.
func TestOnceKilled(t *testing.T) {
	url := lasting(t)
	p := start(t, toolEnv(), onceSh(url, `echo $$; exec sleep 1000`, "--ttl", "1s", "key")...)
	leader := p.line()
	next := start(t, toolEnv(), onceSh(url, "echo runs", "--ttl", "1s", "key")...)
	eventually(t, "waiting", func() bool { return inspect(t, url, "lock", "once/key").Waiters == 1 })
	p.kill(syscall.SIGKILL)
	p.wait()
	gone(t, leader)
	next.expect("runs")
	next.want(0)
}

// The server must not release what a killed tool held before the lease is over: its
// command, or what that started, may live on for a moment.
func TestOnceIsNotWatched(t *testing.T) {
	t.Parallel() // it mostly waits
	url := lasting(t)
	p := start(t, toolEnv(), onceSh(url, `echo $$; exec sleep 1000`, "--ttl", "60s", "key")...)
	leader := p.line()
	p.kill(syscall.SIGKILL)
	p.wait()
	gone(t, leader)
	time.Sleep(300 * time.Millisecond) // real time: a death that is watched is seen in less; the test holds either way
	if k := inspect(t, url, "lock", "once/key"); k.Holders != 1 {
		t.Errorf("released: %+v", k)
	}
}

func TestOnceResetAsks(t *testing.T) {
	url := lasting(t)
	start(t, toolEnv(), onceSh(url, "exit 0", "key")...).want(0)
	for _, c := range []struct {
		answer string
		code   int
		done   int
	}{{"n", exitFailed, exitOK}, {"", exitFailed, exitOK}, {"y", exitOK, exitFailed}} {
		console := ptytest.Open(t, toolEnv(), os.Args[0], "once", "--server", url, "--reset", "key")
		console.Press(c.answer + "\n")
		printed, code := console.Exit()
		if code != c.code || !strings.Contains(printed, `"key" was done by`) {
			t.Errorf("answer %q: exit code %d; it printed:\n%s", c.answer, code, printed)
		}
		status(t, c.done, "--server", url, "key")
	}
}
