//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package guard

import (
	"errors"
	"os"
	"syscall"
)

// flock takes the lock of an open file without waiting. It ends when the file
// is closed or the process dies, and excludes others of the same process too.
func flock(f *os.File) error {
	for {
		switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); { //nolint:gosec // a file descriptor is an int
		case errors.Is(err, syscall.EWOULDBLOCK):
			return errLocked
		case !errors.Is(err, syscall.EINTR):
			return os.NewSyscallError("flock", err)
		}
	}
}
