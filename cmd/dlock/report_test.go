package main

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/distributed-go/distributed/server"
)

func TestRunReport(t *testing.T) {
	url := serve(t, server.Config{})
	defer hold(t, url, "busy")()
	read := func(text string) (r runReport) {
		t.Helper()
		lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
		d := json.NewDecoder(strings.NewReader(lines[len(lines)-1]))
		d.DisallowUnknownFields()
		if err := d.Decode(&r); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		return r
	}

	r := read(start(t, toolEnv(), runSh(url+"?fences=1", "echo noise >&2; sleep 0.1; exit 3", "--json", "key")...).want(3))
	if r.Key != "key" || !r.Acquired || r.ExitCode != 3 || r.Held < 0.1 || r.Fence == "" || r.Lost != "" || r.Error != "" || r.Signal != "" {
		t.Errorf("exit 3: %+v", r)
	}
	r = read(start(t, toolEnv(), runSh(url, "kill -TERM $$", "--json", "--limit", "2", "key")...).want(143))
	if !r.Acquired || r.Limit != 2 || r.ExitCode != 143 || r.Signal != "SIGTERM" || r.Fence != "" {
		t.Errorf("signal: %+v", r)
	}
	r = read(start(t, toolEnv(), runSh(url, "exit 0", "--json", "-w", "200ms", "busy")...).want(1))
	if r.Acquired || r.ExitCode != 1 || r.Waited < 0.2 || r.Held != 0 || r.Error == "" {
		t.Errorf("busy: %+v", r)
	}
	r = read(start(t, toolEnv(), runArgs(url, "--json", "key", "--", "no-such-command")...).want(127))
	if !r.Acquired || r.ExitCode != 127 || r.Error == "" {
		t.Errorf("no such command: %+v", r)
	}
	dying, srv := spawn(t)
	p := start(t, toolEnv(), runSh(dying+"?session=0", "echo ready; sleep 1000", "--json", "key")...)
	p.expect("ready")
	srv.kill(syscall.SIGKILL)
	if r = read(p.want(exitLost)); !r.Acquired || r.ExitCode != exitLost || r.Lost == "" || r.Signal != "SIGTERM" {
		t.Errorf("lost: %+v", r)
	}
}

func TestRunReportsToADescriptor(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command(os.Args[0], runSh(serve(t, server.Config{}), "echo leaked >&3", "--json=3", "key")...)
	cmd.Env, cmd.ExtraFiles = toolEnv(), []*os.File{w}
	_ = cmd.Run() // the shell fails: descriptor 3 is not for it
	w.Close()
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	var report runReport
	if err := json.Unmarshal(text, &report); err != nil || report.Key != "key" || report.ExitCode == 0 {
		t.Errorf("%q, %v, want the report alone", text, err)
	}
}
