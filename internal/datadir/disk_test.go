package datadir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
)

var errDisk = errors.New("the simulated disk failed")

// A simDisk is a file system that keeps what was synced. At a power cut it keeps
// of the rest whatever chance wants: each name and each sector for itself. It is
// as bad as file systems may be, not as bad as one of them is.
type simDisk struct {
	dirMade, dirKept bool // the directory, whether its parent was synced
	locked           bool
	names            map[string]*simFile // as processes see them
	kept             map[string]*simFile // on disk
	pending          []nameOp            // what SyncDir would put there

	sector int                  // of files: what is written as a whole
	before func(op string)      // called before each operation that changes something
	fails  func(op string) bool // says that it is to fail
	trace  []string             // the operations
	random *rand.Rand           // decides what a failed sync loses
}

type nameOp struct {
	from, to string // from is empty for a new file
	file     *simFile
}

type simFile struct {
	now     []byte // as processes see it
	kept    []byte // on disk
	long    bool   // it is too long to be held here
	pending []dataOp
}

type dataOp struct {
	at   int
	data []byte // nil: a truncation to at
}

func newSimDisk(random *rand.Rand) *simDisk {
	return &simDisk{
		names: map[string]*simFile{}, kept: map[string]*simFile{}, random: random,
		sector: []int{512, 512, 64, 8}[random.IntN(4)],
	}
}

// does is called before each operation, and says whether it is to fail.
func (d *simDisk) does(op string) bool {
	d.trace = append(d.trace, op)
	if d.before != nil {
		d.before(op)
	}
	return d.fails != nil && d.fails(op)
}

func (d *simDisk) Mkdir(string) error {
	if !d.dirMade {
		if d.does("mkdir") {
			return errDisk
		}
		d.dirMade = true
	}
	return nil
}

func (d *simDisk) Lock(string) (io.Closer, error) {
	if d.locked {
		return nil, ErrInUse
	}
	d.locked = true
	return closer(func() { d.locked = false }), nil
}

type closer func()

func (c closer) Close() error { c(); return nil }

func (d *simDisk) Read(path string, most int) ([]byte, error) {
	f := d.names[filepath.Base(path)]
	switch {
	case f == nil:
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	case f.long || len(f.now) > most:
		return nil, errTooLong
	}
	return slices.Clone(f.now), nil
}

func (d *simDisk) Open(path string, create bool) (File, error) {
	name := filepath.Base(path)
	f := d.names[name]
	switch {
	case !create && f == nil:
		return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
	case create:
		if d.does("create " + name) {
			return nil, errDisk
		}
		if f != nil {
			f.truncate(0)
			break
		}
		f = &simFile{}
		d.names[name] = f
		d.pending = append(d.pending, nameOp{to: name, file: f})
	}
	return &handle{d, name, f}, nil
}

func (d *simDisk) Rename(from, to string) error {
	from, to = filepath.Base(from), filepath.Base(to)
	if d.does("rename " + to) {
		return errDisk
	}
	f := d.names[from]
	delete(d.names, from)
	d.names[to] = f
	d.pending = append(d.pending, nameOp{from, to, f})
	return nil
}

func (d *simDisk) SyncDir(path string) error {
	if d.does("syncdir") {
		return errDisk
	}
	if filepath.Base(path) != "dir" {
		d.dirKept = d.dirMade
		return nil
	}
	d.kept, d.pending = maps.Clone(d.names), nil
	return nil
}

// A handle is an open file.
type handle struct {
	d    *simDisk
	name string
	*simFile
}

func (h *handle) WriteAt(b []byte, at int64) (int, error) {
	if h.d.does("write " + h.name) {
		n := h.d.random.IntN(len(b) + 1) // full
		h.write(b[:n], int(at))
		return n, errDisk
	}
	h.write(b, int(at))
	return len(b), nil
}

func (h *handle) Truncate(n int64) error {
	if h.d.does("truncate " + h.name) {
		return errDisk
	}
	h.truncate(int(n))
	return nil
}

// Sync, when it fails, keeps some sectors and believes that it kept all, as
// kernels do: a second one has nothing to do.
func (h *handle) Sync() error {
	if h.d.does("sync " + h.name) {
		h.kept = h.survives(h.d.random, h.d.sector)
		h.pending = nil
		return errDisk
	}
	h.kept = replay(h.kept, h.pending, func(int) bool { return true }, h.d.sector)
	h.pending = nil
	return nil
}

func (h *handle) Close() error { return nil }

func (f *simFile) write(b []byte, at int) {
	op := dataOp{at, slices.Clone(b)}
	f.now = op.apply(f.now)
	f.pending = append(f.pending, op)
}

func (f *simFile) truncate(n int) {
	op := dataOp{at: n}
	f.now = op.apply(f.now)
	f.pending = append(f.pending, op)
}

func (op dataOp) apply(b []byte) []byte {
	end := op.at + len(op.data)
	if op.data == nil {
		b = b[:min(len(b), op.at)]
	}
	if len(b) < end {
		b = append(b, make([]byte, end-len(b))...)
	}
	copy(b[op.at:], op.data)
	return b
}

// replay applies those sectors of the operations that keep says, by number.
func replay(kept []byte, ops []dataOp, keep func(n int) bool, sector int) []byte {
	b := slices.Clone(kept)
	n := 0
	for _, op := range ops {
		if op.data == nil {
			if keep(n) {
				b = op.apply(b)
			}
			n++
			continue
		}
		for at := op.at; at < op.at+len(op.data); n++ {
			end := min((at/sector+1)*sector, op.at+len(op.data))
			if keep(n) {
				b = dataOp{at, op.data[at-op.at : end-op.at]}.apply(b)
			}
			at = end
		}
	}
	return b
}

// survives returns what a power cut leaves of the file: nothing new, all of it,
// the first sectors, or any.
func (f *simFile) survives(r *rand.Rand, sector int) []byte {
	keep := func(int) bool { return false }
	switch r.IntN(4) {
	case 0:
		keep = func(int) bool { return true }
	case 1:
		sectors := 1
		for _, op := range f.pending {
			sectors += 1 + len(op.data)/sector
		}
		first := r.IntN(sectors)
		keep = func(n int) bool { return n < first }
	case 2:
		keep = func(int) bool { return r.IntN(2) == 0 }
	}
	return replay(f.kept, f.pending, keep, sector)
}

// cut returns the disk as it may be after a power cut at this moment.
func (d *simDisk) cut(r *rand.Rand) *simDisk {
	after := newSimDisk(r)
	if !d.dirKept && r.IntN(2) == 0 {
		return after
	}
	after.dirMade, after.dirKept = d.dirMade, d.dirMade
	names := maps.Clone(d.kept)
	first, some := r.IntN(len(d.pending)+1), r.IntN(2) == 0
	for i, op := range d.pending {
		if some && r.IntN(2) == 0 || !some && i >= first {
			continue
		}
		delete(names, op.from)
		names[op.to] = op.file
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		b := names[name].survives(r, d.sector)
		after.names[name] = &simFile{now: b, kept: slices.Clone(b)}
	}
	after.kept = maps.Clone(after.names)
	return after
}

// killed returns the disk as the next process sees it if this one is killed.
func (d *simDisk) killed() *simDisk {
	d.locked, d.before, d.fails = false, nil, nil
	return d
}

// copied returns a disk with the same files, all on disk.
func (d *simDisk) copied() *simDisk {
	c := newSimDisk(d.random)
	c.dirMade, c.dirKept = d.dirMade, d.dirMade
	for name, f := range d.names {
		c.names[name] = &simFile{now: slices.Clone(f.now), kept: slices.Clone(f.now)}
	}
	c.kept = maps.Clone(c.names)
	return c
}

func (d *simDisk) String() string {
	s := ""
	for _, name := range slices.Sorted(maps.Keys(d.names)) {
		s += fmt.Sprintf("%s: %d bytes; ", name, len(d.names[name].now))
	}
	return s
}
