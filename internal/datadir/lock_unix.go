//go:build darwin || dragonfly || freebsd || illumos || linux || netbsd || openbsd

package datadir

import (
	"errors"
	"os"
	"syscall"
)

// flock takes the exclusive lock of an open file. The lock is the open file's:
// closing it releases it, and so does the kernel when the process dies. Go opens
// files so that no child inherits them.
func flock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) //nolint:gosec // descriptors are small
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EWOULDBLOCK):
			return ErrInUse
		default:
			return err
		}
	}
}
