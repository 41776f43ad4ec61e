package datadir

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
)

// The files of a directory, of which the first two are the slots. A file that is
// being created has another name until it is whole.
var slotNames = [2]string{"state-a", "state-b"}

const (
	identityName = "identity"
	unfinished   = ".new"
)

// A store is the files of a directory, open and locked. It is not safe for
// concurrent use.
type store struct {
	fs         FS
	path       string
	id         id
	generation uint64 // of the newest slot
	slots      [2]File
	lock       io.Closer
	repaired   []string // what was damaged and could be written again
	faults     faults
}

// openStore opens a directory, or creates one, and returns what it holds. When it
// returns, both slots hold that and are on disk.
func openStore(path string, fsys FS, mustExist bool, wall int64, f faults) (*store, *State, error) {
	if !mustExist {
		if err := fsys.Mkdir(path); err != nil {
			return nil, nil, fmt.Errorf("datadir: cannot create the directory, whose parent must exist: %w", err)
		}
	}
	lock, err := fsys.Lock(path)
	if err != nil {
		return nil, nil, fmt.Errorf("datadir: %w", err)
	}
	st := &store{fs: fsys, path: path, lock: lock, faults: f}
	found, err := st.recover(mustExist, wall)
	if err != nil {
		return nil, nil, errors.Join(err, st.close())
	}
	return st, found, nil
}

// recover finds out what the directory holds, and makes both slots say so.
func (st *store) recover(mustExist bool, wall int64) (*State, error) {
	files, err := st.read()
	if err != nil {
		return nil, err
	}
	if files.firstUse(st.faults) {
		if mustExist {
			return nil, fmt.Errorf("datadir: %s has never been used, and was to be there: %w", st.path, fs.ErrNotExist)
		}
		if files, err = st.create(wall); err != nil {
			return nil, fmt.Errorf("datadir: creating %s: %w", st.path, err)
		}
	}
	newest, err := files.newest(st.path, st.faults)
	if err != nil {
		return nil, err
	}
	if err := st.settle(files, newest, wall); err != nil {
		return nil, fmt.Errorf("datadir: opening %s: %w", st.path, err)
	}
	return &newest.state, nil
}

func (st *store) file(name string) string { return filepath.Join(st.path, name) }

// read reads all files there are.
func (st *store) read() (*files, error) {
	var fl files
	b, err := st.fs.Read(st.file(identityName), identitySize)
	if fl.identity, err = presence(err); err != nil {
		return nil, fmt.Errorf("datadir: %w", err)
	}
	if fl.id, err = decodeIdentity(b); errors.Is(err, errVersion) {
		return nil, &DamagedError{st.file(identityName), err.Error(), upgrade}
	}
	fl.idBad = err != nil
	for i, name := range slotNames {
		b, err := st.fs.Read(st.file(name), maxSlot)
		tooLong := errors.Is(err, errTooLong)
		if fl.there[i], err = presence(err); err != nil {
			return nil, fmt.Errorf("datadir: %w", err)
		}
		switch {
		case tooLong:
			fl.bad[i] = errTooLong
		case fl.there[i]:
			fl.slots[i], fl.bad[i] = decodeSlot(b, st.faults.unchecked)
		}
	}
	return &fl, nil
}

// presence says what the error of a read does about the file: whether it is
// there, and the error if that cannot be known.
func presence(err error) (bool, error) {
	switch {
	case err == nil, errors.Is(err, errTooLong):
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	}
	return false, err
}

// create makes the files of the first generation, and returns them. Whatever a
// power cut leaves of it is a first use again, or all of it.
func (st *store) create(wall int64) (*files, error) {
	var key [KeySize]byte
	for _, b := range [][]byte{st.id[:], key[:]} {
		if _, err := rand.Read(b); err != nil {
			return nil, fmt.Errorf("no randomness: %w", err)
		}
	}
	s := &slot{generation: 1, id: st.id, state: State{Wall: wall, Key: key}}
	b, err := s.encode()
	if err != nil {
		return nil, err
	}
	if st.faults.identityFirst {
		if err := st.replace(identityName, encodeIdentity(st.id, wall)); err != nil {
			return nil, err
		}
	}
	err = st.syncDir(filepath.Dir(st.path))
	for _, name := range slotNames {
		if err == nil {
			err = st.replace(name, b)
		}
	}
	if err == nil {
		err = st.syncDir(st.path)
	}
	if err == nil {
		err = st.identify(wall)
	}
	if err != nil {
		return nil, err
	}
	return &files{identity: true, id: st.id, there: [2]bool{true, true}, slots: [2]*slot{s, s}}, nil
}

// identify writes the identity.
func (st *store) identify(wall int64) error {
	if err := st.replace(identityName, encodeIdentity(st.id, wall)); err != nil {
		return err
	}
	return st.syncDir(st.path)
}

func (st *store) syncDir(path string) error {
	if st.faults.noDirSync {
		return nil
	}
	return st.fs.SyncDir(path)
}

// replace puts a file in the place of any that has the name. After a crash there
// is the old one or the new one, whole.
func (st *store) replace(name string, b []byte) error {
	f, err := st.fs.Open(st.file(name+unfinished), true)
	if err != nil {
		return err
	}
	err = st.write(f, b)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return st.fs.Rename(st.file(name+unfinished), st.file(name))
}

// write makes b all that is in a file, and returns when it is on disk.
func (st *store) write(f File, b []byte) error {
	if _, err := f.WriteAt(b, 0); err != nil {
		return err
	}
	if err := f.Truncate(int64(len(b))); err != nil {
		return err
	}
	if st.faults.noSync {
		return nil
	}
	err := f.Sync()
	if err != nil && st.faults.syncAgain {
		err = f.Sync()
	}
	return err
}

// settle opens the slots and makes both equal to the newest one, also on disk,
// beginning with the one that may not be: see doc.go.
func (st *store) settle(fl *files, newest *slot, wall int64) error {
	st.id, st.generation = newest.id, newest.generation
	st.repaired = fl.repairs(st.path)
	for i, name := range slotNames {
		var err error
		if st.slots[i], err = st.fs.Open(st.file(name), false); err != nil {
			return err
		}
	}
	b, err := newest.encode()
	if err != nil {
		return err
	}
	for _, i := range fl.unsettled(st.faults) {
		if err := st.write(st.slots[i], b); err != nil {
			return err
		}
	}
	if fl.idBad {
		return st.identify(wall)
	}
	// Creation may have ended between its last rename and its last sync.
	return st.syncDir(st.path)
}

// update makes a state the newest one. When it returns without error the state
// is in both slots and on disk; if there was one, no update may follow.
func (st *store) update(s *State) error {
	next := slot{generation: st.generation + 1, id: st.id, state: *s}
	b, err := next.encode()
	if err != nil {
		return fmt.Errorf("datadir: %w", err)
	}
	for i, f := range st.slots {
		if st.faults.oneSlot && i > 0 || st.faults.pingPong && uint64(i) != next.generation%2 {
			continue
		}
		if err := st.write(f, b); err != nil {
			return fmt.Errorf("datadir: %w", err)
		}
	}
	st.generation = next.generation
	return nil
}

// begin writes the state of a start, and that of values.db before it. Without a
// ValuesFS there are no values.
func (st *store) begin(found, began *State, wall int64) (vs *valueStore, values []StoredValue, err error) {
	if fsys, ok := st.fs.(ValuesFS); ok {
		if st.faults.slotsFirst {
			err = st.update(began)
		}
		if err == nil {
			vs, values, err = openValues(fsys.ValuesDir(st.path), st.id, found, wall, st.faults)
		}
		if err != nil {
			return nil, nil, err
		}
		began.ValuesTx = vs.head.tx
	}
	if err := st.update(began); err != nil {
		if vs != nil {
			err = errors.Join(err, vs.close())
		}
		return nil, nil, err
	}
	return vs, values, nil
}

// close closes all files, the lock last.
func (st *store) close() error {
	var errs []error
	for _, f := range st.slots {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(append(errs, st.lock.Close())...)
}
