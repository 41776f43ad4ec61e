package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/distributed-go/distributed"
	"github.com/distributed-go/distributed/internal/leaktest"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/server"
)

// asTool makes the test binary be the tool.
const asTool = "DLOCK_TEST_AS_TOOL"

// TestMain lets the test binary stand in for the tool, so that no test needs
// anything built.
func TestMain(m *testing.M) {
	if os.Getenv(asTool) != "" {
		main()
	}
	leaktest.Main(m)
}

// patience bounds what should take milliseconds on a machine that is busy.
const patience = 15 * time.Second

// toolEnv is the environment of the tool: that of the test without what would
// configure the tool, and more.
func toolEnv(more ...string) []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "DISTRIBUTED_") && !strings.HasPrefix(e, "DFLOCKD_") && !strings.HasPrefix(e, "DLOCK_") {
			env = append(env, e)
		}
	}
	return append(append(env, asTool+"=1", "GORACE=atexit_sleep_ms=0"), more...)
}

// A tool is a process of the tool.
type tool struct {
	t      testing.TB
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout <-chan string // its lines; closed when it has ended
	stderr bytes.Buffer  // not to be read before ended is closed
	ended  chan struct{}
}

// start starts the tool in a process group of its own, so that signals meant
// for it alone reach nobody else.
func start(t testing.TB, env []string, args ...string) *tool {
	t.Helper()
	p := &tool{t: t, cmd: exec.Command(os.Args[0], args...), ended: make(chan struct{})}
	p.cmd.Env = env
	p.cmd.Stderr = &p.stderr
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	p.cmd.WaitDelay = patience // what the tool leaves behind would keep its output open
	stdin, err := p.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdin = stdin
	r, w := io.Pipe()
	p.cmd.Stdout = w
	p.stdout = readLines(r)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = p.cmd.Wait() // its state says it
		w.Close()
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it should have ended
		<-p.ended
	})
	return p
}

// wait waits for the tool to end and returns its exit code.
func (p *tool) wait() int {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(patience):
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // for the stacks on its stderr
		<-p.ended
	}
	return p.cmd.ProcessState.ExitCode()
}

// kill sends a signal to the tool.
func (p *tool) kill(sig syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
}

// freeze stops the tool, and returns when it has stopped: on a busy machine some of
// its threads run for a while after the signal was sent.
func (p *tool) freeze() {
	p.t.Helper()
	p.kill(syscall.SIGSTOP)
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(p.cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		p.t.Fatalf("not stopped: %#x, %v", status, err)
	}
}

// want fails unless the tool ends with this code, and returns its stderr.
func (p *tool) want(code int) string {
	p.t.Helper()
	if got := p.wait(); got != code {
		p.t.Errorf("%q: exit code %d, want %d; stderr:\n%s", p.cmd.Args[1:], got, code, &p.stderr)
	}
	return p.stderr.String()
}

// readLines returns the lines of an output. It never blocks who writes: no test
// prints that much.
func readLines(r io.Reader) <-chan string {
	next := make(chan string, 10_000)
	go func() {
		defer close(next)
		for s := bufio.NewScanner(r); s.Scan(); {
			next <- s.Text()
		}
	}()
	return next
}

// line returns the next line of the tool's stdout.
func (p *tool) line() string {
	p.t.Helper()
	select {
	case line, ok := <-p.stdout:
		if ok {
			return line
		}
		p.t.Fatalf("%q ended, exit code %d; stderr:\n%s", p.cmd.Args[1:], p.wait(), &p.stderr)
	case <-time.After(patience):
		p.t.Fatalf("%q prints nothing", p.cmd.Args[1:])
	}
	return ""
}

// expect fails unless the next line of the tool's stdout is this one.
func (p *tool) expect(want string) {
	p.t.Helper()
	if got := p.line(); got != want {
		p.t.Fatalf("%q printed %q, want %q", p.cmd.Args[1:], got, want)
	}
}

// An output is what a call of the tool in this process printed.
type output struct {
	code           int
	stdout, stderr string
}

// call runs the tool in this process.
func call(t testing.TB, env []string, args ...string) output {
	t.Helper()
	dir := t.TempDir()
	var files []*os.File
	for _, name := range []string{"stdin", "stdout", "stderr"} {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files = append(files, f)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	code := run(ctx, args, env, files[0], files[1], files[2])
	text := func(f *os.File) string {
		b, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	return output{code, text(files[1]), text(files[2])}
}

// serve runs a server in this process and returns its URL.
func serve(t testing.TB, cfg server.Config) string {
	t.Helper()
	cfg.Logger = slog.New(slog.DiscardHandler)
	s, err := server.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = s.Serve(l) // it says that it was closed
	}()
	t.Cleanup(func() {
		s.Close()
		<-served
	})
	return "dflockd://" + l.Addr().String()
}

// spawn runs the tool's server as a process of its own.
func spawn(t testing.TB, args ...string) (url string, p *tool) {
	t.Helper()
	p = start(t, toolEnv(), append([]string{"serve", "--port", "0"}, args...)...)
	url, ok := strings.CutPrefix(p.line(), "listening on ")
	if !ok {
		t.Fatalf("the server printed %q", url)
	}
	return url, p
}

// open returns a client that ends with the test.
func open(t testing.TB, url string) *distributed.Client {
	t.Helper()
	c, err := distributed.Open(url, locker.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// hold holds a lock until the returned function is called, or the test ends.
func hold(t testing.TB, url, key string) (release func()) {
	t.Helper()
	lease, err := open(t, url).Acquire(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := lease.Release(context.Background()); err != nil {
			t.Error(err)
		}
	}
}

// inspect returns what a server knows of a key; a zero report if nothing.
func inspect(t testing.TB, url, kind, key string) locker.KeyReport {
	t.Helper()
	r, err := open(t, url).Inspect(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range r.Keys {
		if k.Kind == kind && k.Key == key {
			return k
		}
	}
	return locker.KeyReport{}
}

// eventually waits until something is so.
func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !so(); {
		if time.Now().After(deadline) {
			t.Fatalf("never %s", what)
		}
		time.Sleep(5 * time.Millisecond) // real time: the processes are real
	}
}

// gone waits until a process has ended.
func gone(t testing.TB, pid string) {
	t.Helper()
	n, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatalf("no process id: %q", pid)
	}
	eventually(t, fmt.Sprintf("gone: process %d", n), func() bool { return !alive(n) })
}

// alive says whether a process is there and not merely uncollected.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if os.IsNotExist(err) {
		_, noProc := os.Stat("/proc/self")
		return noProc != nil
	}
	return err != nil || !bytes.Contains(stat, []byte(") Z "))
}
