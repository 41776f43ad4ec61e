package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/distributed-go/distributed/internal/proc"
	"github.com/distributed-go/distributed/internal/servers"
)

// A backend is a server process.
type backend struct {
	addr string
	// cpu is the processor time that it has used.
	cpu    func(ctx context.Context) (time.Duration, error)
	freeze func() error
	kill   func() // idempotent
}

// child starts this program again in a role that serves, with its argument.
func child(ctx context.Context, role string, args any) (*backend, error) {
	cmd, err := proc.InRole(role)
	if err != nil {
		return nil, err
	}
	b := &backend{}
	p, err := proc.Launch(ctx, cmd, role, args, &b.addr)
	if err != nil {
		return nil, err
	}
	b.cpu, b.freeze, b.kill = p.CPU, p.Freeze, p.Kill
	return b, nil
}

func serveEcho(ctx context.Context, _ string) (*backend, error) {
	return child(ctx, "server", servers.Echo)
}

func serveLocks(ctx context.Context, _ string) (*backend, error) {
	return child(ctx, "server", servers.Locks)
}

// program starts a server that is none of ours.
func program(cmd *exec.Cmd, addr string) (*backend, error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // it is killed as a rule
	}()
	return &backend{
		addr:   addr,
		cpu:    func(context.Context) (time.Duration, error) { return cpuOf(cmd.Process.Pid) },
		freeze: func() error { return cmd.Process.Signal(syscall.SIGSTOP) },
		kill: func() {
			_ = cmd.Process.Kill() // an error says that it has ended
			<-ended
		},
	}, nil
}

// cpuOf is the processor time of a process, as the kernel tells it: in 1/100 s.
func cpuOf(pid int) (time.Duration, error) {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err1, err2)
}
