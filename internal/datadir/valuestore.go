package datadir

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
)

// A ValuesFS is an FS with a place for values.db, which bbolt maps into memory and
// so must be a real file. A Dir on an FS that is none keeps no values.
type ValuesFS interface {
	// ValuesDir returns the real directory for values.db of the Dir at path.
	ValuesDir(path string) string
}

// ValuesDir implements ValuesFS.
func (OS) ValuesDir(path string) string { return path }

// firstTx is bbolt's number of the first transaction in a new file.
const firstTx = 2

// A valueStore is values.db, open. It is not safe for concurrent use.
type valueStore struct {
	dir    string
	db     *bbolt.DB
	head   valuesHead // on disk
	due    int64      // no value expires before; 0: none does
	faults faults
}

// A valueOp is a value to be put, or one to be removed if its fence is not higher.
type valueOp struct {
	StoredValue
	remove bool
}

// openValues opens values.db, or makes one if the slots know of none yet, and
// returns what is in it, without what has expired. When it returns, the start that
// follows the slots' last one is written in it.
func openValues(dir string, name id, slots *State, wall int64, f faults) (*valueStore, []StoredValue, error) {
	vs := &valueStore{dir: dir, faults: f}
	old, err := vs.read(name, slots)
	switch {
	case err == nil:
		if err = vs.settle(old, slots); err != nil {
			return nil, nil, valuesError(err)
		}
		vs.head = old.head
	case !errors.Is(err, fs.ErrNotExist):
		return nil, nil, err
	case slots.ValuesTx > 0 && !f.missingValues:
		return nil, nil, damaged(dir, valuesName, errors.New("is missing"), restoreValues)
	default:
		vs.head, old = valuesHead{id: name}, &valuesFound{}
		if err := vs.create(); err != nil {
			return nil, nil, valuesError(err)
		}
	}
	live, err := vs.start(old.values, slots.Boot+1, wall)
	if err != nil {
		return nil, nil, valuesError(errors.Join(err, vs.close()))
	}
	return vs, live, nil
}

func valuesError(err error) error {
	if errors.Is(err, bbolterrors.ErrTimeout) {
		err = ErrInUse
	}
	return fmt.Errorf("datadir: %s: %w", valuesName, err)
}

func (vs *valueStore) path() string { return filepath.Join(vs.dir, valuesName) }

// A valuesFound is what a values.db holds.
type valuesFound struct {
	head   valuesHead
	values []StoredValue
	pages  []boltPage
}

// read reads the file there is, and judges whether it is whole and the right one.
func (vs *valueStore) read(name id, slots *State) (*valuesFound, error) {
	file, err := os.Open(vs.path())
	if err != nil {
		return nil, fmt.Errorf("datadir: %w", err)
	}
	defer file.Close() //nolint:errcheck // nothing was written
	info, err := file.Stat()
	if err != nil {
		return nil, fmt.Errorf("datadir: %w", err)
	}
	found, err := readValues(file, info.Size(), vs.faults)
	if err == nil {
		err = found.head.belongs(name, slots, vs.faults)
	}
	var unread readError
	switch {
	case err == nil:
		return found, nil
	case errors.As(err, &unread):
		return nil, valuesError(err)
	case errors.Is(err, errVersion):
		return nil, damaged(vs.dir, valuesName, err, upgrade)
	}
	return nil, damaged(vs.dir, valuesName, err, restoreValues)
}

// readValues reads and checks all that is in a values.db, before bbolt touches it.
func readValues(r io.ReaderAt, size int64, f faults) (found *valuesFound, err error) {
	defer func() {
		if p := recover(); p != nil {
			found, err = nil, fmt.Errorf("cannot be read: %v", p)
		}
	}()
	bf, err := openBolt(r, size, f)
	if err != nil {
		return nil, err
	}
	found = &valuesFound{}
	var have valuesHead
	heads := 0
	err = bf.bucket(bucketName, func(e element) error {
		if e.bucket {
			return errors.New("has a bucket in a bucket")
		}
		if string(e.key) == headName {
			heads++
			found.head, err = decodeValuesHead(e.value, f)
			return err
		}
		v, s, err := decodeValue(string(e.key), e.value, f)
		found.values = append(found.values, v)
		have.count++
		have.sums.toggle(s)
		return err
	})
	if err == nil {
		err = bf.free()
	}
	switch {
	case err != nil:
		return nil, err
	case heads == 0:
		return nil, errors.New("has no head")
	case (have.count != found.head.count || have.sums != found.head.sums) && !f.valuesUnchecked && !f.noSums:
		return nil, fmt.Errorf("has %d values that are not the %d that were put", have.count, found.head.count)
	case found.head.tx+firstTx-1 != bf.meta.tx && !f.noSums:
		return nil, fmt.Errorf("has a head of transaction %d under first pages of %d", found.head.tx, bf.meta.tx+1-firstTx)
	}
	found.pages = bf.pages
	return found, nil
}

// settle writes the pages of a file again, each as it is, unless the last server
// stopped in order with all of them on disk: if a sync of its last transaction
// failed, the pages are whole in memory and will never be written by the kernel.
// The syncs of the start then put them on disk.
func (vs *valueStore) settle(found *valuesFound, slots *State) error {
	if slots.Clean && slots.ValuesTx == found.head.tx {
		return nil
	}
	file, err := os.OpenFile(vs.path(), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	for _, p := range found.pages {
		if err == nil {
			_, err = file.WriteAt(p.b, p.at)
		}
	}
	if err == nil && !vs.faults.noValuesSync {
		err = file.Sync()
	}
	return errors.Join(err, file.Close())
}

// create makes a file with nothing in it but a head. It has its name when it is
// whole and on disk.
func (vs *valueStore) create() error {
	unnamed := vs.path() + unfinished
	if err := os.Remove(unnamed); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err := guarded(func() error { return vs.open(unnamed) })
	if err == nil {
		err = vs.commit(func(*bbolt.Bucket, *valuesHead) error { return nil })
	}
	if err = errors.Join(err, vs.close()); err != nil {
		return err
	}
	if err := os.Rename(unnamed, vs.path()); err != nil {
		return err
	}
	return OS{}.SyncDir(vs.dir)
}

// open has bbolt open a file. Another process that has it, some tool of bbolt's, is
// not waited for.
func (vs *valueStore) open(path string) (err error) {
	vs.db, err = bbolt.Open(path, 0o600, &bbolt.Options{
		Timeout: time.Nanosecond, PageSize: valuesPage, FreelistType: bbolt.FreelistMapType,
		NoStatistics: true, NoSync: vs.faults.noValuesSync,
	})
	return err
}

// start writes that a start was, and removes what expired. It returns the rest.
func (vs *valueStore) start(values []StoredValue, boot uint64, wall int64) (live []StoredValue, err error) {
	if vs.db == nil {
		if err := guarded(func() error { return vs.open(vs.path()) }); err != nil {
			return nil, err
		}
	}
	ms := wall / int64(time.Millisecond)
	err = vs.commit(func(b *bbolt.Bucket, h *valuesHead) error {
		h.boot, h.fresh = boot, true
		for i := range values {
			if !values[i].expired(ms) {
				live = append(live, values[i])
				vs.dueAt(values[i].Until)
				continue
			}
			if err := h.remove(b, values[i].Key, values[i].Fence); err != nil {
				return err
			}
		}
		return nil
	})
	return live, err
}

// apply makes all of the changes in one transaction. When it returns without
// error they are on disk; if there was one, none may follow.
func (vs *valueStore) apply(ops []valueOp) error {
	return vs.commit(func(b *bbolt.Bucket, h *valuesHead) error {
		h.fresh = false
		for i := range ops {
			op, change := &ops[i], h.put
			if op.remove {
				change = func(b *bbolt.Bucket, v *StoredValue) error { return h.remove(b, v.Key, v.Fence) }
			}
			if err := change(b, &op.StoredValue); err != nil {
				return err
			}
			vs.dueAt(op.Until)
		}
		return nil
	})
}

// dueAt takes note that a value expires.
func (vs *valueStore) dueAt(until int64) {
	if until != 0 && (vs.due == 0 || until < vs.due) {
		vs.due = until
	}
}

// expired returns removals of the values that are over at an instant.
func (vs *valueStore) expired(ms int64) (ops []valueOp, err error) {
	if vs.due == 0 || vs.due > ms {
		return nil, nil
	}
	vs.due = 0
	err = guarded(func() error {
		return vs.db.View(func(tx *bbolt.Tx) error {
			c := tx.Bucket([]byte(bucketName)).Cursor()
			for k, b := c.Seek([]byte(valuePrefix)); k != nil; k, b = c.Next() {
				if len(b) < valueHead {
					return fmt.Errorf("has a value of %d bytes", len(b))
				}
				v := storedHead(string(k), b)
				if v.expired(ms) {
					ops = append(ops, valueOp{v, true})
				} else {
					vs.dueAt(v.Until)
				}
			}
			return nil
		})
	})
	return ops, err
}

// commit makes one transaction, with a new head.
func (vs *valueStore) commit(change func(*bbolt.Bucket, *valuesHead) error) error {
	h := vs.head
	h.tx++
	err := guarded(func() error {
		return vs.db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte(bucketName))
			if err != nil {
				return err
			}
			if err := change(b, &h); err != nil {
				return err
			}
			return b.Put([]byte(headName), h.encode())
		})
	})
	var p *panicError
	if errors.As(err, &p) {
		vs.db = nil // it may wait for ever for a mutex that the panic left locked
	}
	if err == nil {
		vs.head = h
	}
	return err
}

// put puts a value in place of any that has its key.
func (h *valuesHead) put(b *bbolt.Bucket, v *StoredValue) error {
	name := []byte(valuePrefix + v.Key)
	if old := b.Get(name); old != nil {
		h.sums.toggle(sum(old))
		h.count--
	}
	rec := v.encode()
	h.sums.toggle(sum(rec))
	h.count++
	return b.Put(name, rec)
}

// remove removes the value of a key, unless it was put with a higher fence.
func (h *valuesHead) remove(b *bbolt.Bucket, key string, fence uint64) error {
	name := []byte(valuePrefix + key)
	old := b.Get(name)
	if old == nil || storedHead(string(name), old).Fence > fence {
		return nil
	}
	h.sums.toggle(sum(old))
	h.count--
	return b.Delete(name)
}

// close closes the file. What was not committed is lost.
func (vs *valueStore) close() error {
	if vs.db == nil {
		return nil
	}
	db := vs.db
	vs.db = nil
	return db.Close()
}

// A panicError is a panic of bbolt, or a page that could not be read.
type panicError struct{ value any }

func (e *panicError) Error() string { return fmt.Sprintf("cannot go on: %v", e.value) }

// guarded calls f, and makes an error of a panic and of a page of the mapped file
// that cannot be read, which would else end the process.
func guarded(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{p}
		}
	}()
	return f()
}
