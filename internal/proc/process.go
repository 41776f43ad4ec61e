//go:build unix

package proc

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// A Process is a child process, seen from its parent. It is safe for concurrent
// use; calls are answered one after the other.
type Process struct {
	name   string
	cmd    *exec.Cmd
	stderr output
	ended  chan struct{} // closed when the process was waited for

	mu  sync.Mutex // one call at a time
	in  *os.File
	out *os.File
	dec *json.Decoder
}

// T is what Start needs of a testing.TB, so that programs which measure
// need not link package testing.
type T interface {
	Helper()
	Context() context.Context
	Cleanup(func())
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Failed() bool
	Logf(format string, args ...any)
}

// Start starts this program again in a role, gives it the arguments as JSON,
// waits until it is ready and reads what it says then into ready. The process is
// killed when the test ends, if not before; a data race or a panic that it
// reported fails the test.
func Start(t T, role string, args, ready any) *Process {
	t.Helper()
	p, err := inRole(role)
	if err != nil {
		t.Fatalf("start %s: %v", role, err)
	}
	t.Cleanup(func() {
		p.Kill()
		p.report(t)
	})
	if err := p.Call(t.Context(), "", args, ready); err != nil {
		t.Fatalf("%v", err)
	}
	return p
}

// Launch is Start for programs: cmd is a program whose Main or Be makes it a
// child, and gets its streams here. The caller kills the process; it ends with
// the caller otherwise. When there is an error nothing runs.
func Launch(ctx context.Context, cmd *exec.Cmd, name string, args, ready any) (*Process, error) {
	p, err := start(cmd, name)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	if err := p.Call(ctx, "", args, ready); err != nil {
		p.Kill()
		if said := p.stderr.String(); said != "" {
			err = fmt.Errorf("%w; it said: %s", err, said)
		}
		return nil, err
	}
	return p, nil
}

// InRole is a command for Launch that starts this program again in a role that
// its Main knows.
func InRole(role string) (*exec.Cmd, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	return cmd, nil
}

func inRole(role string) (*Process, error) {
	cmd, err := InRole(role)
	if err != nil {
		return nil, err
	}
	return start(cmd, role)
}

func start(cmd *exec.Cmd, name string) (*Process, error) {
	childIn, in, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer childIn.Close()
	out, childOut, err := os.Pipe()
	if err != nil {
		in.Close()
		return nil, err
	}
	defer childOut.Close()
	p := &Process{name: name, cmd: cmd, ended: make(chan struct{}), in: in, out: out, dec: json.NewDecoder(out)}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = childIn, childOut, &p.stderr
	cmd.SysProcAttr = attributes()
	if err := cmd.Start(); err != nil {
		in.Close()
		out.Close()
		return nil, err
	}
	go func() {
		defer close(p.ended)
		_ = cmd.Wait() // how it ended does not matter: it is killed as a rule
	}()
	return p, nil
}

// Call makes a call and reads the answer into result, unless that is nil. When
// ctx ends first the process is of no more use.
func (p *Process) Call(ctx context.Context, name string, args, result any) error {
	err := p.call(ctx, name, args, result)
	if err != nil {
		return fmt.Errorf("%s %s: %w", p.name, cmp.Or(name, "start"), err)
	}
	return nil
}

func (p *Process) call(ctx context.Context, name string, args, result any) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	raw, err := json.Marshal(args)
	if err != nil {
		return err
	}
	line, err := json.Marshal(request{Call: name, Args: raw})
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() {
		_ = p.out.SetReadDeadline(time.Unix(1, 0))
	})
	defer stop()
	if _, err := p.in.Write(append(line, '\n')); err != nil {
		return err
	}
	var a answer
	if err := p.dec.Decode(&a); err != nil {
		return errors.Join(err, ctx.Err())
	}
	switch {
	case a.Error != "":
		return errors.New(a.Error)
	case result == nil:
		return nil
	}
	return json.Unmarshal(a.Result, result)
}

// Usage asks what the process uses. Collect runs the garbage collector first,
// so that Heap says what is still referred to.
func (p *Process) Usage(ctx context.Context, collect bool) (Usage, error) {
	var u Usage
	err := p.Call(ctx, "usage", collect, &u)
	return u, err
}

// CPU asks for the time that the process has spent on processors, and for
// nothing else: it may be called between measurements.
func (p *Process) CPU(ctx context.Context) (time.Duration, error) {
	var d time.Duration
	err := p.Call(ctx, "cpu", struct{}{}, &d)
	return d, err
}

// Stacks asks for the stacks of all goroutines.
func (p *Process) Stacks(ctx context.Context) (string, error) {
	var s string
	err := p.Call(ctx, "stacks", struct{}{}, &s)
	return s, err
}

// Freeze stops the process with SIGSTOP and returns when none of its threads
// runs any more, which on a busy machine takes the kernel some time.
func (p *Process) Freeze() error {
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	for {
		var status syscall.WaitStatus
		_, err := syscall.Wait4(p.cmd.Process.Pid, &status, syscall.WUNTRACED, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
		case err != nil:
			return err
		case status.Stopped():
			return nil
		default:
			return fmt.Errorf("%s ended instead of stopping: %v", p.name, status)
		}
	}
}

// PID is the process's id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Signal sends a signal.
func (p *Process) Signal(s syscall.Signal) error { return p.cmd.Process.Signal(s) }

// Kill kills the process with SIGKILL, also if it was stopped, and waits until
// it is gone. It is idempotent.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // an error says that it has ended
	<-p.ended
	p.in.Close()
	p.out.Close()
}

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// report fails the test if the process said that it has a bug, and shows what
// it said if the test failed for another reason.
func (p *Process) report(t T) {
	said := p.stderr.String()
	switch {
	case alarming(said):
		t.Errorf("%s said:\n%s", p.name, said)
	case said != "" && t.Failed():
		t.Logf("%s said:\n%s", p.name, said)
	}
}

// alarming says whether a process's standard error speaks of a bug.
func alarming(stderr string) bool {
	for _, sign := range []string{"DATA RACE", "panic:", "fatal error:"} {
		if bytes.Contains([]byte(stderr), []byte(sign)) {
			return true
		}
	}
	return false
}

// maxOutput is how much of a process's standard error is kept: the beginning,
// where a bug shows first.
const maxOutput = 256 << 10

// An output keeps what a process says on standard error.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

// Write keeps what there is room for, and takes everything.
func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf.Write(b[:min(len(b), maxOutput-o.buf.Len())])
	return len(b), nil
}

// String returns what was kept.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}
