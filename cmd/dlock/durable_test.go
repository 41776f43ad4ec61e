package main

import (
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
)

func TestServeHealth(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	_, srv := spawn(t, "--http", addr)
	for _, path := range []string{"/healthz", "/readyz"} {
		u := "http://" + addr + path
		resp, err := http.Get(u)
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK || string(text) != "ready\n" || err != nil {
			t.Errorf("%s: %s %q, %v", u, resp.Status, text, err)
		}
	}
	srv.kill(syscall.SIGTERM)
	srv.want(0)
}

func TestServeOnADataDirectory(t *testing.T) {
	dir := t.TempDir()
	_, srv := spawn(t, "--data-dir", dir)
	out := call(t, toolEnv(), "serve", "--port", "0", "--data-dir", dir)
	if out.code != exitUsage || !strings.Contains(out.stderr, "--data-dir") || !strings.Contains(out.stderr, dir) {
		t.Errorf("of a directory in use: %+v", out)
	}
	srv.kill(syscall.SIGTERM)
	srv.want(0)
	again := start(t, toolEnv("DFLOCKD_DATA_DIR="+dir), "serve", "--port", "0")
	again.line()
	again.kill(syscall.SIGTERM)
	again.want(0)
	out = call(t, toolEnv(), "serve", "--port", "0", "--data-dir", dir+"/no/such")
	if out.code != exitUsage || !strings.Contains(out.stderr, "--data-dir") {
		t.Errorf("of a directory that cannot be: %+v", out)
	}
}

func TestServeOnAVolumeThatIsNotMounted(t *testing.T) {
	dir := t.TempDir()
	out := call(t, toolEnv("DFLOCKD_DATA_DIR_MUST_EXIST=1"), "serve", "--port", "0", "--data-dir", dir)
	if out.code != exitUsage || !strings.Contains(out.stderr, dir) || !strings.Contains(out.stderr, "--data-dir-must-exist") {
		t.Errorf("of an empty directory: %+v", out)
	}
	out = call(t, toolEnv(), "serve", "--port", "0", "--data-dir-must-exist")
	if out.code != exitUsage || !strings.Contains(out.stderr, "--data-dir-must-exist is set without --data-dir") {
		t.Errorf("of no directory: %+v", out)
	}
	for _, must := range []string{"0", "1"} {
		_, srv := spawn(t, "--data-dir", dir, "--data-dir-must-exist="+must)
		srv.kill(syscall.SIGTERM)
		srv.want(0)
	}
}

// TestToolsInTheGrace restarts a server that was killed, and asks the tools.
func TestToolsInTheGrace(t *testing.T) {
	dir := t.TempDir()
	url, srv := spawn(t, "--data-dir", dir)
	start(t, toolEnv(), runSh(url, "exit 3", "k")...).want(3)
	srv.kill(syscall.SIGKILL)
	srv.wait()
	url, srv = spawn(t, "--data-dir", dir)
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{runSh(url, "exit 0", "-n", "free"), 1, `"free" is not to be had yet: the server was restarted`},
		{runSh(url+"?session=0", "exit 0", "-n", "free"), 1, `"free" is not to be had yet: the server was restarted`},
		{runSh(url, "exit 0", "-n", "-E", "42", "--limit", "2", "free"), 42, "not to be had yet"},
		{[]string{"force", "--yes", "--server", url, "k"}, 1, `nobody holds the lock "k" yet: its server was restarted`},
		{[]string{"stats", "--server", url}, 0, "was restarted: nothing is granted for another"},
		{[]string{"stats", "--json", "--server", url}, 0, `"state": "grace"`},
		{[]string{"stats", "--json", "--server", url}, 0, `"grace_ends_in_ns": `},
	} {
		out := call(t, toolEnv(), c.args...)
		if out.code != c.code || !strings.Contains(out.stdout+out.stderr, c.says) {
			t.Errorf("%q: %+v, want code %d and %q", c.args, out, c.code, c.says)
		}
	}
	srv.kill(syscall.SIGTERM)
	srv.want(0)
}

// TestServeThatCannotListenLeavesTheDirectory starts in vain after a clean stop.
func TestServeThatCannotListenLeavesTheDirectory(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	dir := t.TempDir()
	url, srv := spawn(t, "--data-dir", dir)
	start(t, toolEnv(), runSh(url, "exit 3", "key")...).want(3)
	srv.kill(syscall.SIGTERM)
	srv.want(0)
	for _, args := range [][]string{{"--port", port}, {"--port", "0", "--http", l.Addr().String()}} {
		out := call(t, toolEnv(), append([]string{"serve", "--data-dir", dir}, args...)...)
		if out.code != exitFailed || !strings.Contains(out.stderr, "in use") {
			t.Errorf("%q: %+v", args, out)
		}
	}
	url, srv = spawn(t, "--data-dir", dir)
	start(t, toolEnv(), runSh(url, "exit 3", "-n", "key")...).want(3)
	srv.kill(syscall.SIGTERM)
	if says := srv.want(0); !strings.Contains(says, "clean=true") || !strings.Contains(says, "grace=0s") {
		t.Errorf("the log says %s", says)
	}
}

// TestServeSendsNobodyToTheHelpInVain names the help only where that would help.
func TestServeSendsNobodyToTheHelpInVain(t *testing.T) {
	dir := t.TempDir()
	for _, c := range []struct {
		args []string
		says string
		help bool
	}{
		{[]string{"--data-dir", dir + "/no/such"}, dir, false},
		{[]string{"--auth-token-file", dir + "/no/such"}, dir, false},
		{[]string{"--data-dir", ""}, "--data-dir is empty", true},
		{[]string{"--max-grace", "1e99"}, "from 0 to 9223372036", true},
		{[]string{"--max-grace", "0.5"}, "must be at least 1s", true},
	} {
		out := call(t, toolEnv(), append([]string{"serve", "--port", "0"}, c.args...)...)
		if out.code != exitUsage || !strings.Contains(out.stderr, c.says) || strings.Contains(out.stderr, "--help") != c.help {
			t.Errorf("%q: %+v", c.args, out)
		}
	}
}
