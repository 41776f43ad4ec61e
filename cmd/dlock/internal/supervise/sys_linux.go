package supervise

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// attributes makes the leader die with the thread that starts it.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// onlyZombies says whether everybody in a group has ended and merely was not
// collected by its parent, which is some init, or somebody outside the group. A
// fork while it looks can slip past it.
func onlyZombies(group int) bool {
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return false
	}
	listed := false
	for _, p := range processes {
		stat, err := os.ReadFile("/proc/" + p.Name() + "/stat")
		if err != nil {
			continue // not a process, or one that is gone
		}
		listed = true
		// PID (NAME) STATE PARENT GROUP ..., where NAME may be anything.
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) > 2 && fields[2] == strconv.Itoa(group) && fields[0] != "Z" && fields[0] != "X" {
			return false
		}
	}
	return listed
}

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
