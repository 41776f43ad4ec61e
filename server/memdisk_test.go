package server_test

import (
	"errors"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"sync"

	"github.com/distributed-go/distributed/internal/datadir"
)

var errMemDisk = errors.New("no space left on device")

// A memDisk is a file system in memory that keeps what was synced when its
// machine dies, and whose syncs can be made to fail or to hang.
type memDisk struct {
	mu     sync.Mutex
	files  map[string]*memFile // guarded by mu, as is everything below
	locked bool
	dead   bool          // nothing gets through any more
	full   bool          // writes fail
	hangs  chan struct{} // syncs wait until it is closed; nil for none
	syncs  int
}

type memFile struct {
	disk      *memDisk
	now, kept []byte
}

func newMemDisk() *memDisk { return &memDisk{files: make(map[string]*memFile)} }

// crash returns the disk as the next process finds it, with what was not synced
// or without. The process before gets nothing through any more.
func (d *memDisk) crash(power bool) *memDisk {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dead = true
	next := newMemDisk()
	for name, f := range d.files {
		kept := f.now
		if power {
			kept = f.kept
		}
		next.files[name] = &memFile{disk: next, now: slices.Clone(kept), kept: slices.Clone(kept)}
	}
	return next
}

// set changes the disk.
func (d *memDisk) set(change func(*memDisk)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(d)
}

func (d *memDisk) may() error {
	switch {
	case d.dead:
		return errors.New("the process is dead")
	case d.full:
		return errMemDisk
	}
	return nil
}

func (d *memDisk) Mkdir(string) error { return nil }

func (d *memDisk) Lock(string) (io.Closer, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.locked {
		return nil, datadir.ErrInUse
	}
	d.locked = true
	return unlock{d}, nil
}

type unlock struct{ disk *memDisk }

func (u unlock) Close() error {
	u.disk.set(func(d *memDisk) { d.locked = false })
	return nil
}

func (d *memDisk) Read(path string, _ int) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f := d.files[filepath.Base(path)]
	if f == nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	}
	return slices.Clone(f.now), nil
}

func (d *memDisk) Open(path string, create bool) (datadir.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	name := filepath.Base(path)
	f := d.files[name]
	switch {
	case !create && f == nil:
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	case create:
		f = &memFile{disk: d}
		d.files[name] = f
	}
	return f, d.may()
}

func (d *memDisk) Rename(from, to string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.files[filepath.Base(to)] = d.files[filepath.Base(from)]
	delete(d.files, filepath.Base(from))
	return d.may()
}

func (d *memDisk) SyncDir(string) error { return nil }

func (f *memFile) WriteAt(p []byte, at int64) (int, error) {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.disk.may(); err != nil {
		return 0, err
	}
	if need := int(at) + len(p); need > len(f.now) {
		f.now = append(f.now, make([]byte, need-len(f.now))...)
	}
	return copy(f.now[at:], p), nil
}

func (f *memFile) Truncate(size int64) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	f.now = f.now[:min(int(size), len(f.now))]
	return f.disk.may()
}

func (f *memFile) Sync() error {
	f.disk.mu.Lock()
	hangs := f.disk.hangs
	f.disk.mu.Unlock()
	if hangs != nil {
		<-hangs
	}
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.disk.may(); err != nil {
		return err
	}
	f.disk.syncs++
	f.kept = slices.Clone(f.now)
	return nil
}

func (f *memFile) Close() error { return nil }
