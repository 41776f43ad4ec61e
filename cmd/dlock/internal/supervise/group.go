//go:build unix

package supervise

import (
	"os"
	"runtime"
	"sync"
	"syscall"
)

// A Command is what to start.
type Command struct {
	// Path is the file to execute; see Look.
	Path string
	// Args are the arguments; the first, which must be there, is the command's
	// name.
	Args []string
	// Env is the environment, as "name=value"; nil is an empty one.
	Env []string
	// Stdin, Stdout and Stderr are inherited; nil is the null device.
	Stdin, Stdout, Stderr *os.File
	// Terminal, if not nil, is the controlling terminal: the group becomes its
	// foreground group before the command runs.
	Terminal *os.File
}

// A Group is a command that was started and whatever it has started, as far as
// that stayed in its process group. Its methods are safe for concurrent use.
type Group struct {
	pid int // of the leader, and the number of the group

	ended   chan struct{}       // closed when the leader has ended
	stopped chan syscall.Signal // what stopped the leader; never blocks the sender

	mu     sync.Mutex
	reaped bool   // the leader's status was collected; guarded by mu
	status Status // set before ended is closed; guarded by mu
	killed bool   // everybody was sent SIGKILL; guarded by mu
	empty  bool   // nothing is left, so its number may be a stranger's; guarded by mu
}

// Start starts the command. The error is a *StartError.
//
// The goroutine that starts it stays, locked to its OS thread, until the leader
// has ended: on Linux the kernel kills the leader when the *thread* that
// started it ends, so a thread that the runtime is free to drop would be a
// killer at random. The leader, not what it started, dies when this process is
// killed; nothing can promise more without being asked in advance.
func Start(c Command) (*Group, error) {
	files, closeFiles, err := c.files()
	if err != nil {
		return nil, &StartError{Name: c.Path, Err: err}
	}
	g := &Group{ended: make(chan struct{}), stopped: make(chan syscall.Signal, 1)}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		pid, err := c.exec(files)
		g.pid = pid
		started <- err
		if err == nil {
			g.wait()
		}
	}()
	err = <-started
	closeFiles()
	if err != nil {
		return nil, &StartError{Name: c.Path, Err: err}
	}
	return g, nil
}

// exec forks and executes. What the system does not know how to execute is
// given to the shell, as execvp(3) does with scripts that do not name one.
func (c *Command) exec(files []uintptr) (int, error) {
	sys := attributes()
	sys.Setpgid = true
	if c.Terminal != nil {
		sys.Foreground, sys.Ctty = true, int(c.Terminal.Fd())
	}
	env := c.Env
	if env == nil {
		env = []string{} // syscall takes nil for the environment of this process
	}
	attr := &syscall.ProcAttr{Env: env, Files: files, Sys: sys}
	pid, err := syscall.ForkExec(c.Path, c.Args, attr)
	if err == syscall.ENOEXEC {
		args := append([]string{"sh", c.Path}, c.Args[1:]...)
		pid, err = syscall.ForkExec("/bin/sh", args, attr)
	}
	return pid, err
}

// files returns the descriptors that the command starts with, and what closes
// those that were opened here.
func (c *Command) files() (fds []uintptr, closeAll func(), err error) {
	var null *os.File
	for _, f := range []*os.File{c.Stdin, c.Stdout, c.Stderr} {
		if f == nil {
			if null == nil {
				if null, err = os.OpenFile(os.DevNull, os.O_RDWR, 0); err != nil {
					return nil, nil, err
				}
			}
			f = null
		}
		fds = append(fds, f.Fd())
	}
	return fds, func() {
		if null != nil {
			null.Close()
		}
	}, nil
}

// wait collects what happens to the leader until it has ended.
func (g *Group) wait() {
	defer close(g.ended)
	for {
		stop, ended, err := g.collect()
		switch {
		case err == syscall.EINTR:
		case err != nil:
			// Somebody else in this process collected it: the status is lost,
			// and a success must not be made up.
			g.mu.Lock()
			g.endLocked(Status{Code: CannotRun})
			g.mu.Unlock()
			return
		case ended:
			return
		case stop != 0:
			select {
			case g.stopped <- stop:
			default:
			}
		}
	}
}

// judgeLocked takes in what wait4 reported of the leader. Callers hold mu.
func (g *Group) judgeLocked(ws syscall.WaitStatus) (stop syscall.Signal, ended bool) {
	switch {
	case ws.Stopped():
		return ws.StopSignal(), false
	case ws.Exited() || ws.Signaled():
		g.endLocked(statusOf(ws))
		return 0, true
	}
	return 0, false
}

// endLocked takes in that the leader has ended. Callers hold mu.
func (g *Group) endLocked(s Status) {
	g.reaped, g.status = true, s
	g.lookLocked()
}

// Pid returns the process id of the leader, which is the number of the group.
func (g *Group) Pid() int { return g.pid }

// Ended is closed when the leader has ended. Others of the group may be left:
// see Empty.
func (g *Group) Ended() <-chan struct{} { return g.ended }

// Stopped delivers the signal that stopped the leader, each time that one did
// and somebody listens.
func (g *Group) Stopped() <-chan syscall.Signal { return g.stopped }

// Status returns how the leader ended: zero before Ended is closed.
func (g *Group) Status() Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.status
}

// Signal sends a signal to everybody in the group, and to the leader if it has
// moved to another. It does nothing once the group is empty.
func (g *Group) Signal(sig syscall.Signal) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.empty {
		return
	}
	g.killed = g.killed || sig == syscall.SIGKILL
	_ = syscall.Kill(-g.pid, sig) // ESRCH is what was wanted; EPERM cannot be helped
	if g.reaped {
		return
	}
	if group, err := syscall.Getpgid(g.pid); err == nil && group != g.pid {
		_ = syscall.Kill(g.pid, sig)
	}
}

// SignalLeader sends a signal to the leader alone, unless it has ended.
func (g *Group) SignalLeader(sig syscall.Signal) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.reaped {
		_ = syscall.Kill(g.pid, sig)
	}
}

// Terminate asks everybody in the group to end. It wakes those who are stopped,
// who could not hear it otherwise.
func (g *Group) Terminate() {
	g.Signal(syscall.SIGTERM)
	g.Signal(syscall.SIGCONT)
}

// Kill ends everybody in the group.
func (g *Group) Kill() { g.Signal(syscall.SIGKILL) }

// Empty says whether the leader has ended and nobody is left in the group.
// Zombies are nobody, where the system tells them apart: in a container without
// an init nobody may ever collect them.
func (g *Group) Empty() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.lookLocked()
	return g.empty
}

// lookLocked finds out whether the group is empty. It also collects those of
// the group that were given to this process when their parents ended, as they
// are where it is the first in a container: uncollected they would count as
// members for ever. Callers hold mu.
func (g *Group) lookLocked() {
	if g.empty || !g.reaped {
		return
	}
	for {
		var ws syscall.WaitStatus
		if pid, err := syscall.Wait4(-g.pid, &ws, syscall.WNOHANG, nil); pid <= 0 && err != syscall.EINTR {
			break
		}
	}
	if syscall.Kill(-g.pid, 0) == syscall.ESRCH {
		g.empty = true
		return
	}
	if onlyZombies(g.pid) && !g.killed {
		// A fork may have slipped past the look. It cannot slip past SIGKILL.
		g.killed = true
		_ = syscall.Kill(-g.pid, syscall.SIGKILL)
	}
	g.empty = g.killed && onlyZombies(g.pid)
}
