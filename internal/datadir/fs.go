package datadir

import (
	"errors"
	"io"
	"io/fs"
	"os"
)

// An FS is what a Dir needs of a file system. Tests have one that keeps only
// what was synced, and one whose syncs fail.
type FS interface {
	// Mkdir makes a directory for the owner alone. That there is one already
	// is no error.
	Mkdir(path string) error
	// Lock takes the exclusive lock of a directory, without waiting, until
	// the closer is closed or the process dies. The error matches ErrInUse if
	// somebody has it.
	Lock(path string) (io.Closer, error)
	// Read returns a whole file, or errTooLong if it has more bytes than most.
	// The error matches fs.ErrNotExist if there is none.
	Read(path string, most int) ([]byte, error)
	// Open opens a file for writing: an existing one as it is, or a new empty
	// one, in place of any that has the name, if create is set.
	Open(path string, create bool) (File, error)
	// Rename gives a file another name, in place of any that has it.
	Rename(from, to string) error
	// SyncDir returns when the names in a directory are on disk.
	SyncDir(path string) error
}

// A File is open for writing.
type File interface {
	io.WriterAt
	Truncate(size int64) error
	// Sync returns when all that was written is on disk.
	Sync() error
	io.Closer
}

var errTooLong = errors.New("is longer than it can be")

// OS is the operating system's file system. Files are for their owner alone.
type OS struct{}

// Mkdir implements FS.
func (OS) Mkdir(path string) error {
	if err := os.Mkdir(path, 0o700); !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// Lock implements FS.
func (OS) Lock(path string) (io.Closer, error) {
	d, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := flock(d); err != nil {
		d.Close() //nolint:errcheck // nothing was written
		return nil, &fs.PathError{Op: "flock", Path: path, Err: err}
	}
	return d, nil
}

// Read implements FS.
func (OS) Read(path string, most int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // nothing was written
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > int64(most) {
		return nil, errTooLong
	}
	b := make([]byte, info.Size())
	_, err = io.ReadFull(f, b)
	return b, err
}

// Open implements FS.
func (OS) Open(path string, create bool) (File, error) {
	mode := os.O_RDWR
	if create {
		mode |= os.O_CREATE | os.O_TRUNC
	}
	f, err := os.OpenFile(path, mode, 0o600)
	if err != nil {
		return nil, err // not a File that holds a nil
	}
	return f, nil
}

// Rename implements FS.
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// SyncDir implements FS.
func (OS) SyncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
