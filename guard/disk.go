package guard

import (
	"errors"
	"io/fs"
	"os"
)

// A disk is what File does to the file system, one step at a time, so that
// tests can crash between any two.
type disk interface {
	// lock takes the lock at path, without waiting: it returns errLocked if
	// another has it.
	lock(path string) (unlock func(), err error)
	read(path string) ([]byte, error)
	remove(path string) error
	// create makes a new file that is on the disk when it returns; its name
	// need not be.
	create(path string, perm fs.FileMode, data []byte) error
	rename(from, to string) error
	// syncDir returns when the names in a directory are on the disk.
	syncDir(path string) error
}

// errLocked says that another writer has the lock of a file.
var errLocked = errors.New("another writer is at work")

// A machine is the disk of this machine.
type machine struct{}

func (machine) lock(path string) (func(), error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := flock(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return func() { _ = f.Close() }, nil // which gives the lock back; nothing was written
}

func (machine) read(path string) ([]byte, error) { return os.ReadFile(path) }
func (machine) remove(path string) error         { return os.Remove(path) }
func (machine) rename(from, to string) error     { return os.Rename(from, to) }

func (machine) create(path string, perm fs.FileMode, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, perm)
	if err != nil {
		return err
	}
	if _, err = f.Write(data); err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func (machine) syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
