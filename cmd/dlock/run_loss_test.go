package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/distributed-go/distributed/server"
)

// stubborn ignores SIGTERM, and so does its child. It prints both process ids.
const stubborn = `trap '' TERM; echo $$; sh -c 'echo $$; while :; do sleep 1; done'`

// TestRunWhenTheServerDies is about the base protocol, where a lock that depends
// on a connection is gone with it. In session mode the lease goes on, as when the
// server hangs.
func TestRunWhenTheServerDies(t *testing.T) {
	for name, script := range map[string]string{
		"listens": `trap 'echo cleaned; exit 0' TERM; echo $$; sh -c 'echo $$; while :; do sleep 0.02; done'`,
		"ignores": stubborn,
	} {
		t.Run(name, func(t *testing.T) {
			url, srv := spawn(t)
			p := start(t, toolEnv(), runSh(url+"?session=0", script, "--ttl", "60s", "key")...)
			leader, child := p.line(), p.line()
			srv.kill(syscall.SIGKILL)
			began := time.Now()
			if says := p.want(exitLost); !strings.Contains(says, "lock lost") {
				t.Errorf("says %q", says)
			}
			t.Logf("ended %v after the server", time.Since(began).Round(time.Millisecond))
			for _, pid := range []string{leader, child} {
				if n, _ := strconv.Atoi(pid); n == 0 || alive(n) {
					t.Errorf("process %q outlived the tool", pid)
				}
			}
		})
	}
}

func TestRunWhenTheServerHangs(t *testing.T) {
	t.Parallel() // it mostly waits
	url, srv := spawn(t)
	// SIGTERM is due a second before the deadline: enough for a busy machine.
	p := start(t, toolEnv(), runSh(url, `trap 'echo asked' TERM; echo $$; while :; do sleep 0.02; done`, "--ttl", "6s", "key")...)
	leader := p.line()
	srv.freeze()
	began := time.Now()
	p.expect("asked")
	asked := time.Since(began)
	p.want(exitLost)
	ended := time.Since(began)
	t.Logf("SIGTERM after %v, ended after %v", asked.Round(time.Millisecond), ended.Round(time.Millisecond))
	if ended > 6*time.Second+3*time.Second { // busy, as above
		t.Errorf("ended %v after the server hung, the lease is 6s", ended)
	}
	gone(t, leader)
}

func TestRunWhenTheRenewalIsRefused(t *testing.T) {
	url := serve(t, server.Config{})
	p := start(t, toolEnv(), runSh(url, `echo $DLOCK_TOKEN; while :; do sleep 0.02; done`, "--ttl", "2s", "key")...)
	token := p.line()
	conn, err := net.Dial("tcp", strings.TrimPrefix(url, "dflockd://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "r\nkey\n%s\n", token) // somebody with the token takes it away
	answer := make([]byte, 3)
	if _, err := io.ReadFull(conn, answer); err != nil || string(answer) != "ok\n" {
		t.Fatalf("release: %q, %v", answer, err)
	}
	p.want(exitLost)
}

func TestRunWhoseStderrNobodyReads(t *testing.T) {
	url, srv := spawn(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	defer w.Close()
	cmd := exec.Command(os.Args[0], runSh(url, "echo ready; exec sleep 1000", "key")...)
	cmd.Env, cmd.Stderr = toolEnv(), w
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
	srv.kill(syscall.SIGKILL)
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != exitLost {
		t.Errorf("%v, want exit code %d", err, exitLost)
	}
}
