//go:build unix

package supervise

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Look returns the file that execvp(3) would run for name with this PATH. The
// error is a *StartError.
//
// It is not exec.LookPath, because that reports a file that was found but may
// not be executed as missing, and env(1) tells the two apart by its exit code.
func Look(name, path string) (string, error) {
	if name == "" {
		return "", &StartError{Name: `""`, Err: syscall.ENOENT}
	}
	if strings.Contains(name, "/") {
		return name, nil // the system judges it when it is started
	}
	var found error = syscall.ENOENT
	for _, dir := range filepath.SplitList(path) {
		if dir == "" {
			dir = "." // POSIX: an empty entry is the working directory
		}
		file := dir + "/" + name
		switch err := executable(file); err {
		case nil:
			return file, nil
		case syscall.EACCES:
			found = err
		}
	}
	return "", &StartError{Name: name, Err: found}
}

// executable returns nil, EACCES or ENOENT.
func executable(file string) error {
	info, err := os.Stat(file)
	if errors.Is(err, fs.ErrPermission) {
		return syscall.EACCES
	}
	if err != nil {
		return syscall.ENOENT
	}
	if info.IsDir() || unix.Access(file, unix.X_OK) != nil {
		return syscall.EACCES
	}
	return nil
}
