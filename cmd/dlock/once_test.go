package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/distributed-go/distributed/once"
	"github.com/distributed-go/distributed/server"
)

// lasting runs a server in this process that forgets nothing.
func lasting(t *testing.T) string {
	t.Helper()
	return serve(t, server.Config{DataDir: filepath.Join(t.TempDir(), "data")})
}

// onceSh are the arguments of dlock once, with these flags and the key, of a
// shell script.
func onceSh(url, script string, flagsAndKey ...string) []string {
	return append(append([]string{"once", "--server", url}, flagsAndKey...), "--", "sh", "-c", script)
}

// appends is a script that adds a line to a file, and the number of its lines.
func appends(t *testing.T) (script string, lines func() int) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "lines")
	return fmt.Sprintf("echo ran >>%q", file), func() int {
		text, err := os.ReadFile(file)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return strings.Count(string(text), "\n")
	}
}

// status asks dlock once --status --json.
func status(t *testing.T, code int, args ...string) (s onceStatus) {
	t.Helper()
	out := call(t, toolEnv(), append([]string{"once", "--status", "--json"}, args...)...)
	d := json.NewDecoder(strings.NewReader(out.stdout))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil || out.code != code {
		t.Fatalf("%q: %+v, %v, want exit code %d", args, out, err, code)
	}
	return s
}

func TestOnceRunsOneOfThoseWhoRace(t *testing.T) {
	url := lasting(t)
	script, lines := appends(t)
	var all []*tool
	for range 6 {
		all = append(all, start(t, toolEnv(), onceSh(url, script+"; sleep 0.2", "key")...))
	}
	for _, p := range all {
		if says := p.want(0); says != "" {
			t.Errorf("stderr %q", says)
		}
	}
	if n := lines(); n != 1 {
		t.Errorf("ran %d times", n)
	}
	start(t, toolEnv(), onceSh(url, "exit 9", "key")...).want(0) // and not later either
}

func TestOnceRunsAgainAfterAFailure(t *testing.T) {
	url := lasting(t)
	first := start(t, toolEnv(), onceSh(url, "echo runs; read line; exit 7", "key")...)
	first.expect("runs")
	second := start(t, toolEnv(), onceSh(url, "echo runs", "key")...)
	eventually(t, "waiting", func() bool { return inspect(t, url, "lock", "once/key").Waiters == 1 })
	first.stdin.Close()
	first.want(7)
	second.expect("runs")
	second.want(0)
}

func TestOnceExitCodes(t *testing.T) {
	url := lasting(t)
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, []byte("#!/bin/sh\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	start(t, toolEnv(), onceSh(url, "exit 0", "--fingerprint", "one", "done")...).want(0)
	defer hold(t, url, "once/busy")()
	to := func(url string, args ...string) []string { return append([]string{"once", "--server", url}, args...) }
	for _, c := range []struct {
		name string
		args []string
		code int
		says string // a part of stderr
	}{
		{"failure", onceSh(url, "exit 1", "key"), 1, ""},
		{"that of a loss", onceSh(url, "exit 76", "key"), 76, ""},
		{"signal", onceSh(url, "kill -TERM $$", "key"), 143, ""},
		{"no such command", to(url, "key", "--", "no-such-command"), 127, "no-such-command"},
		{"not executable", to(url, "key", "--", plain), 126, plain},
		{"same input", onceSh(url, "exit 9", "--fingerprint", "one", "done"), 0, ""},
		{"any input", onceSh(url, "exit 9", "done"), 0, ""},
		{"another input", onceSh(url, "exit 9", "--fingerprint", "two", "done"), 125, `its fingerprint is "one" and not "two"`},
		{"another input, status", to(url, "--status", "--fingerprint", "two", "done"), 125, `is "one" and not "two"`},
		{"busy", onceSh(url, "exit 9", "-w", "100ms", "busy"), 1, `"busy" is held by "`},
		{"busy, own code", onceSh(url, "exit 9", "-w", "100ms", "-E", "42", "busy"), 42, `"busy" is held by "`},
		{"busy, reset", to(url, "--reset", "--yes", "-w", "100ms", "busy"), 1, `"busy" is not done`},
		{"nobody there", onceSh(nobody(t), "exit 9", "-w", "300ms", "key"), 125, "refused"},
		{"nobody there, status", to(nobody(t), "--status", "key"), 125, "refused"},
		{"nobody there, reset", to(nobody(t), "--reset", "--yes", "key"), 125, "refused"},
		{"no values", onceSh(url+"?session=0", "exit 9", "key"), 125, "use dlock serve"},
		{"no values, status", to(url+"?session=0", "--status", "key"), 125, "use dlock serve"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if says := start(t, toolEnv(), c.args...).want(c.code); !strings.Contains(says, c.says) || c.says == "" && says != "" {
				t.Errorf("stderr %q, want %q in it", says, c.says)
			}
		})
	}
	if s := status(t, exitFailed, "--server", url, "key"); s != (onceStatus{Key: "key"}) {
		t.Errorf("after failures only: %+v", s)
	}
	if k := inspect(t, url, "lock", "once/key"); k.Holders != 0 || k.Waiters != 0 {
		t.Errorf("left at the server: %+v", k)
	}
}

func TestOnceRefusesBadUsage(t *testing.T) {
	for _, c := range []struct {
		args []string
		says string
	}{
		{nil, "no -- between KEY and COMMAND"},
		{[]string{"key", "--"}, "no COMMAND"},
		{[]string{"a key", "--", "true"}, "white space"},
		{[]string{strings.Repeat("k", 252), "--", "true"}, "must have at most 251"},
		{[]string{"--expire", "0s", "key", "--", "true"}, "want a time above zero"},
		{[]string{"--expire", "-1h", "key", "--", "true"}, "want a time above zero"},
		{[]string{"--fingerprint", strings.Repeat("f", 1025), "key", "--", "true"}, "at most 1024 bytes"},
		{[]string{"--ttl", "-1s", "key", "--", "true"}, "want a lease above zero"},
		{[]string{"-w", "0s", "key", "--", "true"}, "want a wait above zero"},
		{[]string{"-w", "-1s", "--status", "key"}, "want a wait above zero"},
		{[]string{"-E", "256", "key", "--", "true"}, "want an exit code from 0 to 255"},
		{[]string{"--limit", "2", "key", "--", "true"}, "unknown flag"},
		{[]string{"--json=99", "key", "--", "true"}, "no such descriptor"},
		{[]string{"--json=99", "--status", "key"}, "no such descriptor"},
		{[]string{"--status", "--reset", "key"}, "exclude each other"},
		{[]string{"--status", "key", "--", "true"}, "run no COMMAND"},
		{[]string{"--status"}, "want one KEY, not 0"},
		{[]string{"--reset", "--yes", "key", "more"}, "want one KEY, not 2"},
		{[]string{"--status", "a key"}, "white space"},
		{[]string{"--yes", "key", "--", "true"}, "--yes is for --reset"},
		{[]string{"--reset", "key"}, "say --yes"},
		{[]string{"--server", "memory://", "key", "--", "true"}, "exclude nobody"},
	} {
		out := call(t, toolEnv("DISTRIBUTED_URL="+nobody(t)), append([]string{"once"}, c.args...)...)
		if out.code != exitUsage || !strings.Contains(out.stderr, c.says) || out.stdout != "" {
			t.Errorf("once %.80q: %+v, want code 125 and %q", c.args, out, c.says)
		}
		if !strings.HasPrefix(out.stderr, "dlock: ") || !strings.HasSuffix(out.stderr, "Try 'dlock once --help'.\n") {
			t.Errorf("once %.80q says %q", c.args, out.stderr)
		}
	}
}

func TestOnceOnAServerThatForgets(t *testing.T) {
	url := serve(t, server.Config{})
	says := start(t, toolEnv(), onceSh(url, "echo ran", "key")...).want(exitUsage)
	for _, what := range []string{"--data-dir", "--volatile", "--expire"} {
		if !strings.Contains(says, what) {
			t.Errorf("%q does not name %s", says, what)
		}
	}
	for _, args := range [][]string{{"--volatile", "volatile"}, {"--expire", "1h", "expires"}} {
		for _, code := range []int{5, 0, 0} { // the last does not run
			start(t, toolEnv(), onceSh(url, "exit "+strconv.Itoa(code), args...)...).want(code)
		}
		start(t, toolEnv(), onceSh(url, "exit 9", args...)...).want(0)
	}
}

func TestOnceExpires(t *testing.T) {
	url := lasting(t)
	for i := range 2 {
		p := start(t, toolEnv(), onceSh(url, "echo ran", "--expire", "1h", "hour")...)
		if i == 0 {
			p.expect("ran")
		}
		p.want(0)
	}
	s := status(t, exitOK, "--server", url, "hour")
	if s.Expires == nil || s.At == nil || s.Expires.Sub(*s.At) != time.Hour {
		t.Errorf("%+v, want to expire after an hour", s)
	}
	start(t, toolEnv(), onceSh(url, "exit 0", "--expire", "50ms", "soon")...).want(0)
	eventually(t, "expired", func() bool {
		return call(t, toolEnv(), "once", "--server", url, "--status", "soon").code == exitFailed
	})
	start(t, toolEnv(), onceSh(url, "exit 9", "--expire", "50ms", "soon")...).want(9)
}

func TestOnceTellsTheCommand(t *testing.T) {
	url := lasting(t)
	p := start(t, toolEnv("DLOCK_FENCE=outer"), onceSh(url, `echo "$DLOCK_KEY ${#DLOCK_TOKEN} $DLOCK_FENCE"`, "key")...)
	fence, ok := strings.CutPrefix(p.line(), "once/key 32 ")
	p.want(0)
	if s := status(t, exitOK, "--server", url, "key"); !ok || s.Fence != fence || fence == "" {
		t.Errorf("the command had the fence %q, the mark %+v", fence, s)
	}
}

func TestOnceStatusAndReset(t *testing.T) {
	url := lasting(t)
	out := call(t, toolEnv(), "once", "--server", url, "--status", "key")
	if out.code != exitFailed || out.stdout != "\"key\" is not done\n" || out.stderr != "" {
		t.Errorf("before: %+v", out)
	}
	p := start(t, toolEnv(), onceSh(url, "exit 0", "--fingerprint", "sum", "key")...)
	p.want(0)
	by := fmt.Sprintf("/%d/", p.cmd.Process.Pid)
	out = call(t, toolEnv(), "once", "--server", url, "--status", "key")
	if out.code != exitOK || !strings.HasPrefix(out.stdout, `"key" was done by `) || !strings.Contains(out.stdout, by) || !strings.Contains(out.stdout, `fingerprint "sum"`) {
		t.Errorf("after: %+v, want %s in it", out, by)
	}
	s := status(t, exitOK, "--server", url, "key")
	if !s.Done || !strings.Contains(s.By, by) || s.At == nil || time.Since(*s.At) > time.Hour || s.Expires != nil || s.Fingerprint != "sum" || s.Fence == "" {
		t.Errorf("after, as JSON: %+v", s)
	}
	out = call(t, toolEnv(), "once", "--server", url, "--reset", "--yes", "--json", "key")
	var undone onceStatus
	if err := json.Unmarshal([]byte(out.stdout), &undone); err != nil || out.code != exitOK || undone.Fence != s.Fence || out.stderr != "" {
		t.Errorf("reset: %+v, %v, want what was undone", out, err)
	}
	status(t, exitFailed, "--server", url, "key")
	out = call(t, toolEnv(), "once", "--server", url, "--reset", "--yes", "key")
	if out.code != exitFailed || !strings.Contains(out.stderr, `"key" is not done`) {
		t.Errorf("reset of what is not done: %+v", out)
	}
	start(t, toolEnv(), onceSh(url, "exit 0", "key")...).want(0)
	out = call(t, toolEnv(), "once", "--server", url, "--reset", "-y", "key")
	if out.code != exitOK || !strings.Contains(out.stderr, `"key" is not done any more`) {
		t.Errorf("reset: %+v", out)
	}
}

func TestOnceReport(t *testing.T) {
	url := lasting(t)
	read := func(text string) (r onceReport) {
		t.Helper()
		lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		d := json.NewDecoder(strings.NewReader(lines[len(lines)-1]))
		d.DisallowUnknownFields()
		if err := d.Decode(&r); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		return r
	}
	r := read(start(t, toolEnv(), onceSh(url, "exit 3", "--json", "key")...).want(3))
	if r.Key != "key" || !r.Acquired || r.Done || r.ExitCode != 3 || r.Fence == "" || r.Error != "" {
		t.Errorf("failure: %+v", r)
	}
	r = read(start(t, toolEnv(), onceSh(url, "sleep 0.1", "--json", "key")...).want(0))
	if !r.Acquired || !r.Done || r.ExitCode != 0 || r.Held < 0.1 {
		t.Errorf("success: %+v", r)
	}
	r = read(start(t, toolEnv(), onceSh(url, "exit 9", "--json", "key")...).want(0))
	if r.Acquired || !r.Done || r.ExitCode != 0 || r.Held != 0 || r.Fence != "" {
		t.Errorf("done: %+v", r)
	}
	r = read(start(t, toolEnv(), onceSh(url, "exit 9", "--json", "--fingerprint", "x", "key")...).want(125))
	if r.Acquired || r.Done || r.ExitCode != 125 || r.Error == "" {
		t.Errorf("another input: %+v", r)
	}
}

func TestOnceInterrupted(t *testing.T) {
	url := lasting(t)
	release := hold(t, url, "once/key")
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT} {
		p := start(t, toolEnv(), onceSh(url, "echo ran", "key")...)
		eventually(t, "waiting", func() bool { return inspect(t, url, "lock", "once/key").Waiters == 1 })
		p.kill(syscall.SIGUSR1) // means nothing yet
		p.kill(sig)
		p.want(128 + int(sig))
		eventually(t, "free of waiters", func() bool { return inspect(t, url, "lock", "once/key").Waiters == 0 })
	}
	release()
	start(t, toolEnv(), onceSh(url, "exit 0", "key")...).want(0)
	defer hold(t, url, "once/key")()
	p := start(t, toolEnv(), "once", "--server", url, "--reset", "--yes", "key")
	eventually(t, "waiting", func() bool { return inspect(t, url, "lock", "once/key").Waiters == 1 })
	p.kill(syscall.SIGTERM)
	p.want(128 + int(syscall.SIGTERM))
	p = start(t, toolEnv(), onceSh(url, `trap 'echo got; exit 5' INT; echo ready; while :; do sleep 0.02; done`, "other")...)
	p.expect("ready")
	p.kill(syscall.SIGINT)
	p.expect("got")
	p.want(5)
}

// What a program did with package once the tool knows, and the other way round.
func TestOnceIsThatOfPackageOnce(t *testing.T) {
	url := lasting(t)
	client := open(t, url)
	if err := once.New(client, "program").Do(t.Context(), func(context.Context) error { return nil }); err != nil {
		t.Fatal(err)
	}
	start(t, toolEnv(), onceSh(url, "exit 9", "program")...).want(0)
	start(t, toolEnv(), onceSh(url, "exit 0", "tool")...).want(0)
	if done, err := once.New(client, "tool").Done(t.Context()); !done || err != nil {
		t.Errorf("done by the tool: %v, %v", done, err)
	}
}

func TestOnceSurvivesTheServer(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	url, srv := spawn(t, "--data-dir", dir)
	start(t, toolEnv(), onceSh(url, "exit 0", "key")...).want(0)
	srv.kill(syscall.SIGKILL)
	srv.wait()
	url, _ = spawn(t, "--data-dir", dir)
	start(t, toolEnv(), onceSh(url, "exit 9", "key")...).want(0)
}
