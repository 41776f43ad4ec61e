package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/once"
)

// Whoever takes the lock away ends the command before it has succeeded.
func TestOnceLosesItsLock(t *testing.T) {
	url := lasting(t)
	p := start(t, toolEnv(), onceSh(url, `echo ready; while :; do sleep 0.02; done`, "--json", "key")...)
	p.expect("ready")
	if out := call(t, toolEnv(), "force", "--server", url, "--yes", "once/key"); out.code != exitOK {
		t.Fatalf("%+v", out)
	}
	says := p.want(exitLost)
	if !strings.Contains(says, "lock lost") || !strings.Contains(says, `"lost":`) || !strings.Contains(says, `"done":false`) {
		t.Errorf("says %q", says)
	}
	status(t, exitFailed, "--server", url, "key")
}

// A command that succeeds although its lock is gone is not done: here it ignores
// what asks it to end, and ends well before it is ended.
func TestOnceDoesNotMarkWhatLostItsLock(t *testing.T) {
	url := lasting(t)
	p := start(t, toolEnv(), onceSh(url, `trap 'exit 0' TERM; echo "$DLOCK_TOKEN"; while :; do sleep 0.02; done`, "--ttl", "2s", "key")...)
	token := p.line()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "dflockd://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "r\nonce/key\n%s\n", token) // somebody with the token takes it away
	answer := make([]byte, 3)
	if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "ok\n" {
		t.Fatalf("release: %q, %v", answer, err)
	}
	p.want(exitLost)
	status(t, exitFailed, "--server", url, "key")
}

// The end of the command may come before the tool hears that the lock is gone. Then
// it is the server that refuses the mark.
func TestOnceIsRefusedAMarkAfterItsLock(t *testing.T) {
	url := lasting(t)
	script := `exec "$DLOCK" force --server "$1" --yes once/key`
	p := start(t, toolEnv("DLOCK="+os.Args[0]), append(onceSh(url, script, "key"), "sh", url)...)
	p.want(exitLost)
	status(t, exitFailed, "--server", url, "key")
	start(t, toolEnv(), onceSh(url, "exit 9", "key")...).want(9)
}

// A server that does not answer ends the command in time, as with dlock run.
func TestOnceWhenTheServerHangs(t *testing.T) {
	t.Parallel() // it mostly waits
	url, srv := spawn(t)
	p := start(t, toolEnv(), onceSh(url, `echo $$; while :; do sleep 0.02; done`, "--volatile", "--ttl", "2s", "key")...)
	leader := p.line()
	srv.freeze()
	if says := p.want(exitLost); !strings.Contains(says, "lock lost") {
		t.Errorf("says %q", says)
	}
	gone(t, leader)
	srv.kill(syscall.SIGCONT)
	status(t, exitFailed, "--server", url, "key")
}

// Of a command that succeeds while the server does not answer nobody knows whether
// it was marked: the request may be on its way.
func TestOnceInDoubt(t *testing.T) {
	t.Parallel() // it mostly waits
	url, srv := spawn(t)
	p := start(t, toolEnv(), onceSh(url, `echo ready; read line; exit 0`, "--volatile", "--json", "--ttl", "2s", "key")...)
	p.expect("ready")
	srv.freeze()
	fmt.Fprintln(p.stdin, "go on")
	says := p.want(exitLost)
	if !strings.Contains(says, "nobody knows whether") || !strings.Contains(says, `"done":false`) {
		t.Errorf("says %q", says)
	}
}

// What becomes of a success that was not marked depends on races with the server, so
// its verdicts are tested one by one.
func TestOnceVerdict(t *testing.T) {
	o := &onceOptions{runOptions: runOptions{code: 42}}
	for _, c := range []struct {
		err  error
		ran  bool
		code int
		says string
		lost bool
	}{
		{failf(7, "seven"), true, 7, "seven", false},
		{errors.Join(failf(exitLost, "lock lost"), locker.ErrLost), true, exitLost, "lock lost", false}, // its report says why
		{&interrupted{syscall.SIGINT}, false, 130, "waiting", false},
		{locker.ErrLost, true, exitLost, "it is not done", true},
		{fmt.Errorf("%w: %w", once.ErrInDoubt, locker.ErrLost), true, exitLost, "nobody knows", false},
		{locker.ErrFull, true, exitUsage, "succeeded, but", false},
		{locker.ErrUnavailable, true, exitUsage, "succeeded, but", false},
		{locker.ErrUnavailable, false, exitUsage, "unavailable", false},
		{locker.ErrLocked, false, 42, "held by somebody else", false},
		{&locker.HeldError{Holder: "me"}, false, 42, `held by "me"`, false},
		{once.ErrVolatile, false, exitUsage, "--volatile", false},
		{&once.FingerprintError{Have: "a", Want: "b"}, false, exitUsage, `"a" and not "b"`, false},
		{errors.ErrUnsupported, false, exitUsage, "use dlock serve", false},
	} {
		report := &onceReport{runReport: runReport{Acquired: c.ran}}
		var exit *exitError
		if err := o.verdict("key", "command", c.err, report); !errors.As(err, &exit) || exit.code != c.code || !strings.Contains(exit.Error(), c.says) {
			t.Errorf("%v (ran: %v): %v, code %d, want %d and %q", c.err, c.ran, err, exit.code, c.code, c.says)
		}
		if (report.Lost != "") != c.lost {
			t.Errorf("%v: lost %q", c.err, report.Lost)
		}
	}
	if err := o.verdict("key", "command", nil, &onceReport{}); err != nil {
		t.Errorf("success: %v", err)
	}
}
