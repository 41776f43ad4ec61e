package locker

import (
	"syscall"
	"unsafe"
)

// The clocks of clock_gettime(2) that package syscall does not name. The first
// stands still while the machine is suspended, the second does not.
const (
	clockMonotonic = 1
	clockBoottime  = 7
)

// suspended returns, in nanoseconds, for how long the machine has slept since it
// was booted, or a little less: the process may be stopped between the two
// readings, so they are taken in the order in which that makes the sleep look
// shorter. The next call will find what this one has missed, but clocks that
// had jumped for nothing could not be brought back. It is 0 where the kernel
// has no such clock.
func suspended() int64 {
	boot, ok := readClock(clockBoottime)
	if !ok {
		return 0
	}
	monotonic, _ := readClock(clockMonotonic)
	return max(0, boot-monotonic)
}

func readClock(id uintptr) (nanoseconds int64, ok bool) {
	var t syscall.Timespec
	_, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, id, uintptr(unsafe.Pointer(&t)), 0)
	return t.Nano(), errno == 0
}
