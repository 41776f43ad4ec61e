package supervise

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// attributes makes the leader die with the thread that starts it.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// adopt makes this process the parent of orphans among its descendants, so that
// it, and not an init that may never do so, collects what it killed.
func adopt() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// collect waits until something has happened to the leader and takes it in.
// The waiting leaves it uncollected: its number cannot be given to a stranger
// before mu is held, and no signal is sent without mu.
func (g *Group) collect() (stop syscall.Signal, ended bool, err error) {
	if err := unix.Waitid(unix.P_PID, g.pid, nil, unix.WEXITED|unix.WSTOPPED|unix.WNOWAIT, nil); err != nil {
		return 0, false, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	var ws syscall.WaitStatus
	pid, err := syscall.Wait4(g.pid, &ws, syscall.WUNTRACED|syscall.WNOHANG, nil)
	if err != nil || pid != g.pid { // 0: it was stopped, and runs again
		return 0, false, err
	}
	stop, ended = g.judgeLocked(ws)
	return stop, ended, nil
}
