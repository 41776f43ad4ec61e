package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/distributed-go/distributed/server"
)

// runSh are the arguments of dlock run, with these flags and the key, of a shell
// script.
func runSh(url, script string, flagsAndKey ...string) []string {
	return runArgs(url, append(flagsAndKey, "--", "sh", "-c", script)...)
}

// runArgs are the arguments of dlock run against a server.
func runArgs(url string, args ...string) []string {
	return append([]string{"run", "--server", url}, args...)
}

// nobody is the URL of a port where nobody listens.
func nobody(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "dflockd://" + l.Addr().String()
}

func TestRunExitCodes(t *testing.T) {
	url := serve(t, server.Config{})
	defer hold(t, url, "busy")()
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		args []string
		code int
		says string // a part of stderr
	}{
		{"success", runSh(url, "exit 0", "key"), 0, ""},
		{"one", runSh(url, "exit 1", "key"), 1, ""},
		{"that of a loss", runSh(url, "exit 76", "key"), 76, ""},
		{"that of bad usage", runSh(url, "exit 125", "key"), 125, ""},
		{"largest", runSh(url, "exit 255", "key"), 255, ""},
		{"signal", runSh(url, "kill -TERM $$", "key"), 143, ""},
		{"kill", runSh(url, "kill -KILL $$", "key"), 137, ""},
		{"slot", runSh(url, "exit 9", "--limit", "2", "key"), 9, ""},
		{"no such command", runArgs(url, "key", "--", "no-such-command"), 127, "no-such-command"},
		{"no such file", runArgs(url, "key", "--", "/no/such/file"), 127, "/no/such/file"},
		{"not executable", runArgs(url, "key", "--", plain), 126, plain},
		{"directory", runArgs(url, "key", "--", filepath.Dir(plain)), 126, "permission denied"},
		{"busy, no wait", runSh(url, "exit 0", "-n", "busy"), 1, `"busy" is held by "`},
		{"busy, base protocol", runSh(url+"?session=0", "exit 0", "-n", "busy"), 1, `"busy" is held by somebody else`},
		{"busy, own code", runSh(url, "exit 0", "-n", "-E", "42", "busy"), 42, "busy"},
		{"busy, success", runSh(url, "exit 7", "-n", "-E", "0", "busy"), 0, "busy"},
		{"busy, waits", runSh(url, "exit 0", "-w", "200ms", "-E", "255", "busy"), 255, `"busy" is held by "`},
		{"flags behind the key", runSh(url, "exit 0", "busy", "-n", "-E", "3"), 3, "busy"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if says := start(t, toolEnv(), c.args...).want(c.code); !strings.Contains(says, c.says) || c.says == "" && says != "" {
				t.Errorf("stderr %q, want %q in it", says, c.says)
			}
		})
	}
	if k := inspect(t, url, "lock", "key"); k.Holders != 0 || k.Waiters != 0 {
		t.Errorf("left at the server: %+v", k)
	}
}

func TestRunRefusesBadUsage(t *testing.T) {
	url := nobody(t)
	for _, c := range []struct {
		args []string
		says string
	}{
		{nil, "no -- between KEY and COMMAND"},
		{[]string{"key", "true"}, "no -- between KEY and COMMAND"},
		{[]string{"--", "true"}, "want one KEY before the --, not 0"},
		{[]string{"key", "more", "--", "true"}, "want one KEY before the --, not 2"},
		{[]string{"key", "--"}, "no COMMAND"},
		{[]string{"", "--", "true"}, "key is empty"},
		{[]string{"a key", "--", "true"}, "must not contain white space"},
		{[]string{"a\x01key", "--", "true"}, "control characters"},
		{[]string{strings.Repeat("k", 257), "--", "true"}, "must have at most 256"},
		{[]string{"-n", "-w", "1s", "key", "--", "true"}, "exclude each other"},
		{[]string{"-w", "0s", "key", "--", "true"}, "want a wait above zero"},
		{[]string{"-w", "-1s", "key", "--", "true"}, "want a wait above zero"},
		{[]string{"-w", "soon", "key", "--", "true"}, "soon"},
		{[]string{"--ttl", "-1s", "key", "--", "true"}, "want a lease above zero"},
		{[]string{"--limit", "0", "key", "--", "true"}, "want at least 1"},
		{[]string{"--limit", "-3", "key", "--", "true"}, "want at least 1"},
		{[]string{"-E", "256", "key", "--", "true"}, "want an exit code from 0 to 255"},
		{[]string{"-E", "-1", "key", "--", "true"}, "want an exit code from 0 to 255"},
		{[]string{"--json=99", "key", "--", "true"}, "no such descriptor"},
		{[]string{"--json=out", "key", "--", "true"}, "want the number of a file descriptor"},
		{[]string{"--no-such-flag", "key", "--", "true"}, "no-such-flag"},
		{[]string{"--server", "http://host", "key", "--", "true"}, "http"},
		{[]string{"--server", "memory://", "key", "--", "true"}, "exclude nobody"},
		{[]string{"--server", "dflockd://user:pass@host", "key", "--", "true"}, "secret"},
		{[]string{"--ca", "ca.pem", "key", "--", "true"}, "need a URL with TLS"},
		{[]string{"--server", "dflockds://host", "--cert", "cert.pem", "key", "--", "true"}, "go together"},
		{[]string{"--server", "dflockds://host", "--ca", "/no/such/file", "key", "--", "true"}, "/no/such/file"},
		{[]string{"--auth-token-file", "/no/such/file", "key", "--", "true"}, "/no/such/file"},
	} {
		out := call(t, toolEnv("DISTRIBUTED_URL="+url), append([]string{"run"}, c.args...)...)
		if out.code != exitUsage || !strings.Contains(out.stderr, c.says) || out.stdout != "" {
			t.Errorf("run %.80q: %+v, want code 125 and %q", c.args, out, c.says)
		}
		if !strings.HasPrefix(out.stderr, "dlock: ") || !strings.HasSuffix(out.stderr, "Try 'dlock run --help'.\n") {
			t.Errorf("run %.80q says %q", c.args, out.stderr)
		}
	}
}

func TestRunServerThatCannotBeReached(t *testing.T) {
	for _, args := range [][]string{{"-n"}, {"-w", "300ms"}, {"-n", "-E", "7"}} {
		p := start(t, toolEnv(), runSh(nobody(t), "echo ran", append(args, "key")...)...)
		if says := p.want(exitUsage); !strings.Contains(says, "refused") {
			t.Errorf("%q says %q, want why", args, says)
		}
	}
}

func TestRunWaitsForTheServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	p := start(t, toolEnv(), runSh("dflockd://"+address, "exit 5", "key")...)
	_, port, _ := strings.Cut(address, ":")
	time.Sleep(200 * time.Millisecond) // real time: it should have tried by then; the test holds either way
	s := start(t, toolEnv(), "serve", "--port", port)
	s.expect("listening on dflockd://" + address)
	p.want(5)
}

func TestRunTellsTheCommand(t *testing.T) {
	url := serve(t, server.Config{})
	script := `echo "$DLOCK_KEY ${#DLOCK_TOKEN} ${DLOCK_FENCE:-none}"`
	env := toolEnv("DLOCK_KEY=outer", "DLOCK_TOKEN=outer", "DLOCK_FENCE=outer")

	p := start(t, env, runSh(url+"?session=0", script, "key")...)
	p.expect("key 32 none") // a stock server has no fences, and none is invented
	p.want(0)

	fence := uint64(0)
	for _, args := range [][]string{{"key"}, {"key"}, {"--limit", "1", "key"}} {
		p := start(t, env, runSh(url, script, args...)...)
		rest, ok := strings.CutPrefix(p.line(), "key 32 ")
		next, err := strconv.ParseUint(rest, 10, 64)
		if !ok || err != nil || next <= fence {
			t.Errorf("%q: fence %q after %d", args, rest, fence)
		}
		fence = next
		p.want(0)
	}

	p = start(t, env, runSh(url, script, "--limit", "2", "shared")...)
	p.expect("shared 32 none") // holders that share a key cannot be ordered
	p.want(0)
}

func TestRunPassesStreams(t *testing.T) {
	p := start(t, toolEnv(), runSh(serve(t, server.Config{}), `cat; echo to-stderr >&2`, "key")...)
	fmt.Fprintln(p.stdin, "from stdin")
	p.stdin.Close()
	p.expect("from stdin")
	if says := p.want(0); says != "to-stderr\n" {
		t.Errorf("stderr %q, want the command's and nothing else", says)
	}
}

func TestRunExcludes(t *testing.T) {
	url := serve(t, server.Config{})
	file := filepath.Join(t.TempDir(), "inside")
	script := `[ ! -e "` + file + `" ] || exit 99; : >"` + file + `"; sleep 0.02; rm "` + file + `"`
	var all []*tool
	for range 8 {
		all = append(all, start(t, toolEnv(), runSh(url, script, "key")...))
	}
	for _, p := range all {
		p.want(0)
	}
}

func TestRunHoldsOneOfNSlots(t *testing.T) {
	url := serve(t, server.Config{})
	var holders []*tool
	for range 2 {
		p := start(t, toolEnv(), runSh(url, "echo holds; read line", "--limit", "2", "slots")...)
		p.expect("holds")
		holders = append(holders, p)
	}
	start(t, toolEnv(), runSh(url, "exit 0", "-n", "--limit", "2", "slots")...).want(1)
	says := start(t, toolEnv(), runSh(url, "exit 0", "-n", "--limit", "3", "slots")...).want(exitUsage)
	if !strings.Contains(says, "another limit") {
		t.Errorf("another limit: %q", says)
	}
	start(t, toolEnv(), runSh(url, "exit 0", "-n", "slots")...).want(0) // a lock is something else
	holders[0].stdin.Close()
	holders[0].want(1) // read found the end
	start(t, toolEnv(), runSh(url, "exit 0", "-n", "--limit", "2", "slots")...).want(0)
	holders[1].stdin.Close()
	holders[1].want(1)
}

func TestRunForwardsSignals(t *testing.T) {
	url := serve(t, server.Config{})
	for name, sig := range map[string]syscall.Signal{
		"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP, "QUIT": syscall.SIGQUIT,
		"USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2, "WINCH": syscall.SIGWINCH,
	} {
		p := start(t, toolEnv(), runSh(url, `trap 'echo got; exit 5' `+name+`; echo ready; while :; do sleep 0.02; done`, "key")...)
		p.expect("ready")
		p.kill(sig)
		p.expect("got")
		p.want(5)
	}
}

func TestRunDiesOfASignalAsItsCommandDoes(t *testing.T) {
	p := start(t, toolEnv(), runSh(serve(t, server.Config{}), `sleep 1000 & echo $!; wait`, "key")...)
	child := p.line()
	p.kill(syscall.SIGTERM)
	p.want(128 + 15)
	gone(t, child)
}

func TestRunLeavesIgnoredSignalsIgnored(t *testing.T) {
	url := serve(t, server.Config{})
	cmd := exec.Command("sh", append([]string{"-c", `trap '' HUP PIPE; exec "$0" "$@"`, os.Args[0]},
		runSh(url, `echo ready; read line; echo "$line"`, "key")...)...)
	cmd.Env = toolEnv()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(stdout, make([]byte, len("ready\n"))); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(stdin, "survived")
	text, err := io.ReadAll(stdout)
	if err != nil || string(text) != "survived\n" {
		t.Errorf("printed %q, %v, under nohup", text, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func TestRunInterruptedWhileItWaits(t *testing.T) {
	url := serve(t, server.Config{})
	defer hold(t, url, "key")()
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		p := start(t, toolEnv(), runSh(url, "echo ran", "key")...)
		eventually(t, "waiting", func() bool { return inspect(t, url, "lock", "key").Waiters == 1 })
		p.kill(syscall.SIGUSR1) // means nothing yet
		p.kill(sig)
		p.want(128 + int(sig))
		eventually(t, "free of waiters", func() bool { return inspect(t, url, "lock", "key").Waiters == 0 })
	}
}

func TestRunReleasesAndLeavesNobody(t *testing.T) {
	url := serve(t, server.Config{})
	p := start(t, toolEnv(), runSh(url, `sleep 1000 & echo $!; (trap '' TERM; exec sleep 1000) & echo $!; sleep 0.1`, "key")...)
	listens, ignores := p.line(), p.line()
	p.want(0)
	for _, child := range []string{listens, ignores} {
		if n, _ := strconv.Atoi(child); n == 0 || alive(n) {
			t.Errorf("process %q outlived the tool", child)
		}
	}
	if k := inspect(t, url, "lock", "key"); k.Holders != 0 {
		t.Errorf("still held: %+v", k)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	url := serve(t, server.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	time.AfterFunc(300*time.Millisecond, cancel)
	if code := run(ctx, runArgs(url, "key", "--", "sleep", "1000"), toolEnv(), null, null, null); code != 143 {
		t.Errorf("exit code %d, want that of a command that got SIGTERM", code)
	}
}

func TestRunOverAShard(t *testing.T) {
	first, second := serve(t, server.Config{}), serve(t, server.Config{})
	url := first + "," + strings.TrimPrefix(second, "dflockd://")
	start(t, toolEnv("DISTRIBUTED_URL="+url), "run", "key", "--", "true").want(0)
	if one, two := inspect(t, first, "lock", "key"), inspect(t, second, "lock", "key"); (one.Key == "") == (two.Key == "") {
		t.Errorf("the key is known as %+v and %+v, want by one server", one, two)
	}
}
