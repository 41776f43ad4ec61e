package server

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

// The numbers are missing in package syscall, and pidfd_open's is the same on
// every architecture.
const (
	sysPidfdOpen = 434
	pollIn       = 1
)

// A pidfd is a descriptor of a process, which becomes readable when it exits.
// Unlike its number it never means another process.
type pidfd struct{ file *os.File }

// openProcess returns the coming exit of the process if it is one of this
// machine and name space, and nil if not, or if there is none (any more). If the
// process has died and its number been given to another one, that one is watched
// instead: the death is then noticed late or never, which the TTL is for.
func openProcess(process string) processExit {
	bootID, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	pidns, _ := os.Readlink("/proc/self/ns/pid")
	number, ok := ownProcess(process, strings.TrimSpace(string(bootID)), pidns)
	if !ok {
		return nil
	}
	pid, err := strconv.ParseUint(number, 10, 31)
	if err != nil || pid == 0 {
		return nil
	}
	fd, _, errno := syscall.Syscall(sysPidfdOpen, uintptr(pid), 0, 0)
	if errno != 0 {
		return nil
	}
	syscall.CloseOnExec(int(fd))
	// Only what does not block does the runtime wait for without a thread.
	if err := syscall.SetNonblock(int(fd), true); err != nil {
		syscall.Close(int(fd)) //nolint:errcheck // there is nothing to do about it
		return nil
	}
	return &pidfd{os.NewFile(fd, "pidfd")}
}

func (p *pidfd) wait() bool {
	raw, err := p.file.SyscallConn()
	if err != nil {
		return false
	}
	exited := false
	err = raw.Read(func(fd uintptr) bool {
		exited = readable(fd)
		return exited
	})
	return err == nil && exited
}

func (p *pidfd) close() { p.file.Close() } //nolint:errcheck // there is nothing to do about it

// readable asks the kernel, without waiting: that the runtime woke up is no
// proof of anything.
func readable(fd uintptr) bool {
	set := struct {
		fd              int32
		events, revents int16
	}{int32(fd), pollIn, 0} //nolint:gosec // descriptors are small
	var none syscall.Timespec
	n, _, errno := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&set)), 1, uintptr(unsafe.Pointer(&none)), 0, 0, 0)
	return errno == 0 && n == 1 && set.revents&pollIn != 0
}
