//go:build unix && !linux

package supervise

import "syscall"

// attributes has nothing to add: only Linux kills a child with its parent.
func attributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{} }

// onlyZombies never knows: only Linux has a /proc that says so without a library.
func onlyZombies(int) bool { return false }

// collect waits until something has happened to the leader and takes it in. For
// an instant the number of a leader that has ended belongs to nobody while a
// signal may be on its way to it: golang.org/x/sys offers a wait that leaves it
// uncollected on Linux only.
func (g *Group) collect() (stop syscall.Signal, ended bool, err error) {
	var ws syscall.WaitStatus
	if _, err := syscall.Wait4(g.pid, &ws, syscall.WUNTRACED, nil); err != nil {
		return 0, false, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	stop, ended = g.judgeLocked(ws)
	return stop, ended, nil
}
