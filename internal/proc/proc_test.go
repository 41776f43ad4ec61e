//go:build unix

package proc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/distributed-go/distributed/internal/leaktest"
)

func TestMain(m *testing.M) {
	Main(map[string]Role{"adder": adder, "parent": parent, "broken": broken})
	leaktest.Main(m)
}

// adder is a role that adds.
func adder(c *Child) error {
	var base int
	if err := c.Args(&base); err != nil {
		return err
	}
	c.Handle("add", Handle(func(n int) (int, error) { return base + n, nil }))
	c.Handle("fail", Handle(func(what string) (int, error) { return 0, errors.New(what) }))
	c.Handle("hang", Handle(func(struct{}) (int, error) {
		time.Sleep(time.Hour) // not select{}: without cgo the runtime takes that for a deadlock
		return 0, nil
	}))
	return c.Serve(os.Getpid())
}

// broken is a role that fails before it is ready.
func broken(*Child) error { return errors.New("out of order") }

// parent is a role that has a child of its own, which ignores SIGTERM and is
// stopped, and tells its process id.
func parent(c *Child) error {
	signal.Ignore(syscall.SIGTERM)
	p, err := inRole("adder")
	if err != nil {
		return err
	}
	if err := p.Call(context.Background(), "", 1, nil); err != nil {
		return err
	}
	if err := p.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	return c.Serve(p.cmd.Process.Pid)
}

func TestCalls(t *testing.T) {
	var pid int
	p := Start(t, "adder", 40, &pid)
	if pid != p.cmd.Process.Pid || pid == os.Getpid() {
		t.Errorf("the child says that its id is %d, want %d and not our own", pid, p.cmd.Process.Pid)
	}
	var sum int
	if err := p.Call(t.Context(), "add", 2, &sum); err != nil || sum != 42 {
		t.Errorf("add: %d, %v; want 42", sum, err)
	}
	if err := p.Call(t.Context(), "fail", "as asked", nil); err == nil || !strings.Contains(err.Error(), "as asked") {
		t.Errorf("fail: %v", err)
	}
	if err := p.Call(t.Context(), "multiply", 2, nil); err == nil {
		t.Error("a call that nobody handles has no error")
	}
	if err := p.Call(t.Context(), "add", "two", nil); err == nil {
		t.Error("a call with arguments of the wrong type has no error")
	}
	if err := p.Call(t.Context(), "add", 3, &sum); err != nil || sum != 43 {
		t.Errorf("add after the errors: %d, %v; want 43", sum, err)
	}
}

func TestCallEndsWithItsContext(t *testing.T) {
	p := Start(t, "adder", 0, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := p.Call(ctx, "hang", struct{}{}, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a call that hangs: %v", err)
	}
}

func TestKillEndsAStoppedProcess(t *testing.T) {
	p := Start(t, "adder", 0, nil)
	if err := p.Freeze(); err != nil {
		t.Fatal(err)
	}
	p.Kill()
	p.Kill()
	<-p.Ended()
	if err := p.Call(t.Context(), "add", 1, nil); err == nil {
		t.Error("a dead process answered")
	}
}

func TestFrozenProcessGoesOn(t *testing.T) {
	p := Start(t, "adder", 40, nil)
	for range 3 {
		if err := p.Freeze(); err != nil {
			t.Fatal(err)
		}
		answered := make(chan error, 1)
		var sum int
		go func() { answered <- p.Call(t.Context(), "add", 2, &sum) }()
		select {
		case err := <-answered:
			t.Fatalf("a frozen process answered: %v", err)
		case <-time.After(20 * time.Millisecond): // real time: of a real process
		}
		if err := p.Signal(syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		if err := <-answered; err != nil || sum != 42 {
			t.Errorf("after it went on: %d, %v", sum, err)
		}
	}
}

func TestFreezeSaysThatAProcessEnded(t *testing.T) {
	p := Start(t, "adder", 0, nil)
	p.Kill()
	if err := p.Freeze(); err == nil {
		t.Error("froze a dead process")
	}
}

func TestRoleThatFailsSaysWhy(t *testing.T) {
	p, err := inRole("broken")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	if err := p.Call(t.Context(), "", 0, nil); err == nil || !strings.Contains(err.Error(), "out of order") {
		t.Errorf("ready: %v", err)
	}
}

func TestLaunch(t *testing.T) {
	cmd, err := InRole("adder")
	if err != nil {
		t.Fatal(err)
	}
	p, err := Launch(t.Context(), cmd, "adder", 40, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	var sum int
	if err := p.Call(t.Context(), "add", 2, &sum); err != nil || sum != 42 {
		t.Errorf("add: %d, %v; want 42", sum, err)
	}
	cmd, err = InRole("broken")
	if err != nil {
		t.Fatal(err)
	}
	if p, err := Launch(t.Context(), cmd, "broken", 0, nil); p != nil || err == nil || !strings.Contains(err.Error(), "out of order") {
		t.Errorf("launch of one that fails: %v, %v", p, err)
	}
}

// TestNothingOutlivesItsParent kills a process that has a stopped child.
func TestNothingOutlivesItsParent(t *testing.T) {
	var grandchild int
	p := Start(t, "parent", nil, &grandchild)
	if err := syscall.Kill(grandchild, 0); err != nil {
		t.Fatalf("the grandchild is not there to begin with: %v", err)
	}
	// Elsewhere than on Linux a stopped child would stay; one that runs ends.
	if attributes() == nil {
		if err := syscall.Kill(grandchild, syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
	p.Kill()
	deadline := time.Now().Add(5 * time.Second)
	for alive(t, grandchild) {
		if time.Now().After(deadline) {
			_ = syscall.Kill(grandchild, syscall.SIGKILL)
			t.Fatal("the grandchild outlived its parent by 5 s")
		}
		time.Sleep(time.Millisecond) // real time: the kernel ends it when it gets to it
	}
}

// alive says whether a process runs. One that has ended may stay as a zombie
// where the first process of the machine, or of a container, does not wait for
// orphans.
func alive(t *testing.T, pid int) bool {
	t.Helper()
	if err := syscall.Kill(pid, 0); err != nil {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return !errors.Is(err, os.ErrNotExist) || attributes() == nil
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(rest, "Z")
}

func TestUsage(t *testing.T) {
	p := Start(t, "adder", 0, nil)
	before, err := p.Usage(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	if before.CPU <= 0 || before.Goroutines < 1 || before.Files < 3 || before.Heap == 0 {
		t.Errorf("usage of a child: %+v", before)
	}
	if s, err := p.Stacks(t.Context()); err != nil || !strings.Contains(s, "adder") {
		t.Errorf("stacks of a child: %q, %v", s, err)
	}
}

func TestMeasureSeesASocket(t *testing.T) {
	before := Measure(false)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	during := Measure(false)
	if during.Sockets != before.Sockets+1 {
		t.Errorf("%d sockets with a listener, %d before", during.Sockets, before.Sockets)
	}
	ln.Close()
	if after := Measure(false); after.Sockets != before.Sockets {
		t.Errorf("%d sockets after closing the listener, %d before", after.Sockets, before.Sockets)
	}
}

func TestMeasureSeesHeap(t *testing.T) {
	before := Measure(true)
	kept := make([]byte, 8<<20)
	during := Measure(true)
	if grown := int64(during.Heap) - int64(before.Heap); grown < 7<<20 {
		t.Errorf("the heap grew by %d bytes with %d more", grown, len(kept))
	}
	runtime.KeepAlive(kept)
}

func TestCPUGrowsWithWork(t *testing.T) {
	before, sum := CPU(), 0
	for CPU() < before+time.Millisecond {
		sum += len(strconv.Itoa(sum))
	}
	if CPU() <= before {
		t.Error("the time on processors went back")
	}
}

func TestAlarming(t *testing.T) {
	for said, want := range map[string]bool{
		"":                                       false,
		"2026/01/01 listening":                   false,
		"WARNING: DATA RACE":                     true,
		"panic: oh":                              true,
		"fatal error: all goroutines are asleep": true,
	} {
		if got := alarming(said); got != want {
			t.Errorf("alarming(%q) = %v", said, got)
		}
	}
}

func TestOutputIsBounded(t *testing.T) {
	var o output
	for range 3 {
		if n, err := o.Write(make([]byte, maxOutput/2+1)); n != maxOutput/2+1 || err != nil {
			t.Fatalf("write: %d, %v", n, err)
		}
	}
	if n := len(o.String()); n != maxOutput {
		t.Errorf("%d bytes were kept, want %d", n, maxOutput)
	}
}
