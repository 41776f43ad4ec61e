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
