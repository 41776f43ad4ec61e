//go:build unix

package supervise

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/distributed-go/distributed/internal/leaktest"
)

// TestMain lets the test binary stand in for a process that supervises.
func TestMain(m *testing.M) {
	if os.Getenv("SUPERVISE_HELPER") != "" {
		os.Exit(helper())
	}
	leaktest.Main(m)
}

// helper runs the command of its arguments under a hold that lasts.
func helper() int {
	path, err := Look(os.Args[1], os.Getenv("PATH"))
	if err != nil {
		return NotFound
	}
	out, err := Run(context.Background(), Command{
		Path: path, Args: os.Args[1:], Env: os.Environ(), Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr,
	}, newHold(time.Hour), nil)
	if err != nil {
		return CannotRun
	}
	return out.Status.ExitCode()
}

var errGone = errors.New("hold is gone")

// A fakeHold ends when the test says so.
type fakeHold struct {
	work   context.Context
	cancel context.CancelCauseFunc
	lost   chan struct{}

	mu       sync.Mutex
	deadline time.Time // guarded by mu
	err      error     // guarded by mu
}

func newHold(ttl time.Duration) *fakeHold {
	h := &fakeHold{lost: make(chan struct{}), deadline: time.Now().Add(ttl)}
	h.work, h.cancel = context.WithCancelCause(context.Background())
	return h
}

func (h *fakeHold) Context(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	stop := context.AfterFunc(h.work, func() { cancel(context.Cause(h.work)) })
	return ctx, func() { stop(); cancel(nil) }
}

func (h *fakeHold) Lost() <-chan struct{} { return h.lost }

func (h *fakeHold) Deadline() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.deadline
}

func (h *fakeHold) Check() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

// lose ends the hold as a refused renewal does.
func (h *fakeHold) lose() {
	h.mu.Lock()
	h.err, h.deadline = errGone, time.Now()
	close(h.lost)
	h.mu.Unlock()
	h.cancel(errGone)
}

// supervised is a command under Run.
type supervised struct {
	t       *testing.T
	signals chan os.Signal
	stdout  *os.File
	outcome chan Outcome
}

// start runs a shell script under the hold and waits until it has printed
// "ready".
func start(t *testing.T, ctx context.Context, h Hold, script string) *supervised {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	s := &supervised{t: t, signals: make(chan os.Signal, 1), stdout: r, outcome: make(chan Outcome, 1)}
	go func() {
		defer close(s.outcome)
		out, err := Run(ctx, Command{
			Path: "/bin/sh", Args: []string{"sh", "-c", script}, Env: os.Environ(), Stdout: w,
		}, h, s.signals)
		w.Close()
		if err == nil {
			s.outcome <- out
		}
	}()
	ready := make([]byte, len("ready\n"))
	if _, err := io.ReadFull(r, ready); err != nil || string(ready) != "ready\n" {
		t.Fatalf("the script did not get ready: %q, %v", ready, err)
	}
	return s
}

// end returns what became of the command and what it printed after "ready".
func (s *supervised) end() (Outcome, string) {
	s.t.Helper()
	text, err := io.ReadAll(s.stdout)
	if err != nil {
		s.t.Fatal(err)
	}
	out, ok := <-s.outcome
	if !ok {
		s.t.Fatal("the command did not start")
	}
	return out, string(text)
}

// line reads the next line that the command prints.
func (s *supervised) line() string {
	s.t.Helper()
	var text []byte
	for b := make([]byte, 1); ; {
		if _, err := s.stdout.Read(b); err != nil {
			s.t.Fatal(err)
		}
		if b[0] == '\n' {
			return string(text)
		}
		text = append(text, b[0])
	}
}

// patience bounds what should take milliseconds on a machine that is busy.
const patience = 10 * time.Second

// alive says whether a process is there, and not merely uncollected.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return !errors.Is(err, os.ErrNotExist) || !hasProc()
	}
	return !bytes.Contains(stat, []byte(") Z "))
}

func hasProc() bool {
	_, err := os.Stat("/proc/self/stat")
	return err == nil
}

// gone waits until a process has ended.
func gone(t *testing.T, pid string) {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(pid))
	if err != nil {
		t.Fatalf("no process id: %q", pid)
	}
	for deadline := time.Now().Add(patience); alive(n); {
		if time.Now().After(deadline) {
			t.Fatalf("process %d is still there", n)
		}
		time.Sleep(5 * time.Millisecond) // real time: the process is real
	}
}

func TestStatusIsTheCommands(t *testing.T) {
	for script, want := range map[string]int{
		"exit 0": 0, "exit 1": 1, "exit 76": 76, "exit 125": 125, "exit 255": 255,
		"kill -TERM $$": 128 + 15, "kill -KILL $$": 128 + 9, "kill -HUP $$": 128 + 1,
	} {
		out, _ := start(t, t.Context(), newHold(time.Hour), "echo ready; "+script).end()
		if got := out.Status.ExitCode(); got != want || out.Lost != nil || out.Left {
			t.Errorf("%s: exit code %d, %+v, want %d and no more", script, got, out, want)
		}
	}
}

func TestCommandThatDoesNotStart(t *testing.T) {
	dir := t.TempDir()
	for path, code := range map[string]int{
		dir + "/missing": NotFound,
		dir:              CannotRun,
		write(t, dir, "plain", "#!/bin/sh\n", 0o644):                   CannotRun,
		write(t, dir, "orphan", "#!/nonexistent/interpreter\n", 0o755): NotFound,
	} {
		_, err := Run(t.Context(), Command{Path: path, Args: []string{path}}, newHold(time.Hour), nil)
		var start *StartError
		if !errors.As(err, &start) || start.ExitCode() != code {
			t.Errorf("%s: %v, want a StartError with exit code %d", path, err, code)
		}
	}
}

func TestScriptWithoutInterpreterRuns(t *testing.T) {
	script := write(t, t.TempDir(), "script", "exit $1\n", 0o755)
	out, err := Run(t.Context(), Command{Path: script, Args: []string{script, "7"}}, newHold(time.Hour), nil)
	if err != nil || out.Status.Code != 7 {
		t.Errorf("%+v, %v, want exit code 7, as execvp would", out, err)
	}
}

func TestNilEnvironmentIsEmpty(t *testing.T) {
	t.Setenv("SUPERVISE_SECRET", "leaked")
	out, err := Run(t.Context(), Command{Path: "/bin/sh", Args: []string{"sh", "-c", `[ -z "$SUPERVISE_SECRET" ]`}}, newHold(time.Hour), nil)
	if err != nil || out.Status.Code != 0 {
		t.Errorf("%+v, %v: the environment of this process leaked", out, err)
	}
}

func TestLostHoldEndsTheCommand(t *testing.T) {
	h := newHold(time.Hour)
	s := start(t, t.Context(), h, `trap 'echo cleaned; exit 3' TERM; echo ready; while :; do sleep 0.02; done`)
	h.lose()
	out, text := s.end()
	if !errors.Is(out.Lost, errGone) || text != "cleaned\n" || out.Status.Code != 3 {
		t.Errorf("%+v, printed %q, want a loss, the command's clean-up and its code", out, text)
	}
}

func TestLostHoldKillsWhoIgnoresSIGTERM(t *testing.T) {
	h := newHold(time.Hour)
	s := start(t, t.Context(), h, `trap '' TERM; sh -c 'trap "" TERM; echo ready; echo $$; while :; do sleep 1; done'; exit 0`)
	began := time.Now()
	h.lose()
	out, child := s.end()
	if took := time.Since(began); took < grace/2 {
		t.Errorf("killed after %v, want up to a second to clean up", took)
	}
	if out.Status.Signal != syscall.SIGKILL || !errors.Is(out.Lost, errGone) {
		t.Errorf("%+v, want SIGKILL and a loss", out)
	}
	gone(t, child)
}

func TestStopInstantLeavesTimeUntilTheDeadline(t *testing.T) {
	h := newHold(1500 * time.Millisecond)
	s := start(t, t.Context(), h, `trap 'echo asked' TERM; echo ready; while :; do sleep 0.02; done`)
	h.cancel(errGone)
	out, text := s.end()
	if !strings.HasPrefix(text, "asked\n") || out.Status.Signal != syscall.SIGKILL || !errors.Is(out.Lost, errGone) {
		t.Errorf("%+v, printed %q, want SIGTERM, then SIGKILL", out, text)
	}
	if now := time.Now(); now.Before(h.deadline) {
		t.Errorf("killed %v before the deadline", h.deadline.Sub(now))
	}
}

func TestLossAfterThePausedDeadlineKillsAtOnce(t *testing.T) {
	h := newHold(-time.Second)
	s := start(t, t.Context(), h, `trap '' TERM; echo ready; while :; do sleep 1; done`)
	began := time.Now()
	h.lose()
	if out, _ := s.end(); out.Status.Signal != syscall.SIGKILL {
		t.Errorf("%+v, want SIGKILL", out)
	}
	t.Logf("killed after %v", time.Since(began)) // TestPlan says that no grace is given
}

func TestLossDuringTheCommandIsNoticedAfterIt(t *testing.T) {
	h := newHold(time.Hour)
	over := filepath.Join(t.TempDir(), "over")
	s := start(t, t.Context(), h, `echo ready; until [ -e `+over+` ]; do sleep 0.02; done`)
	h.mu.Lock()
	h.err = errGone // latched before any channel says so
	h.mu.Unlock()
	write(t, filepath.Dir(over), "over", "", 0o600)
	if out, _ := s.end(); !errors.Is(out.Lost, errGone) {
		t.Errorf("%+v, want the loss that only a check saw", out)
	}
}

func TestWhatTheCommandLeavesBehindIsEnded(t *testing.T) {
	for name, script := range map[string]string{
		"listens": `sleep 1000 & echo ready; echo $!`,
		"ignores": `(trap "" TERM; exec sleep 1000) >/dev/null & echo ready; echo $!; sleep 0.2`,
	} {
		t.Run(name, func(t *testing.T) {
			out, child := start(t, t.Context(), newHold(time.Hour), script).end()
			if out.Status.ExitCode() != 0 || out.Lost != nil || out.Left {
				t.Errorf("%+v, want success", out)
			}
			if n, _ := strconv.Atoi(strings.TrimSpace(child)); n == 0 || alive(n) {
				t.Errorf("what was left behind (%q) outlived Run", child)
			}
		})
	}
}

func TestEndOfContextEndsTheCommand(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := start(t, ctx, newHold(time.Hour), `trap '' TERM; echo ready; while :; do sleep 1; done`)
	cancel()
	if out, _ := s.end(); out.Status.Signal != syscall.SIGKILL || out.Lost != nil {
		t.Errorf("%+v, want SIGKILL and no loss", out)
	}
}

func TestSignalsAreForwarded(t *testing.T) {
	for name, sig := range map[string]syscall.Signal{
		"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP, "QUIT": syscall.SIGQUIT, "WINCH": syscall.SIGWINCH,
	} {
		s := start(t, t.Context(), newHold(time.Hour), `trap 'echo got; exit 5' `+name+`; echo ready; while :; do sleep 0.02; done`)
		s.signals <- sig
		if out, text := s.end(); text != "got\n" || out.Status.Code != 5 {
			t.Errorf("%s: %+v, printed %q", name, out, text)
		}
	}
}

func TestUserSignalsGoToTheLeaderAlone(t *testing.T) {
	for name, sig := range map[string]syscall.Signal{"USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2} {
		// The default effect of these signals would kill the child.
		s := start(t, t.Context(), newHold(time.Hour), `sleep 1000 & child=$!
			trap 'sleep 0.1; kill -0 $child && echo alone; exit 5' `+name+`; echo ready; while :; do sleep 0.02 || :; done`)
		s.signals <- sig
		if out, text := s.end(); text != "alone\n" || out.Status.Code != 5 {
			t.Errorf("%s: %+v, printed %q", name, out, text)
		}
	}
}

func TestSignalKillsTheWholeGroup(t *testing.T) {
	s := start(t, t.Context(), newHold(time.Hour), `sleep 1000 & echo ready; echo $!; wait`)
	child := s.line()
	s.signals <- syscall.SIGINT
	out, _ := s.end()
	if out.Status.ExitCode() != 130 {
		t.Errorf("exit code %d, want 130", out.Status.ExitCode())
	}
	gone(t, child)
}

func TestStoppedGroupHearsTheEnd(t *testing.T) {
	h := newHold(time.Hour)
	s := start(t, t.Context(), h, `trap 'echo cleaned; exit 3' TERM; echo ready; echo $$; kill -STOP $$; while :; do sleep 0.02; done`)
	time.Sleep(50 * time.Millisecond) // real time: it should be stopped by then; the test holds either way
	h.lose()
	if out, text := s.end(); !strings.HasSuffix(text, "cleaned\n") || out.Status.Code != 3 {
		t.Errorf("%+v, printed %q, want a clean-up although it was stopped", out, text)
	}
}
