package proc

import "syscall"

// attributes has the kernel kill a child when the thread that started it ends.
// Threads of a Go program end with it, unless a goroutine that is locked to one
// returns; nothing here locks.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
