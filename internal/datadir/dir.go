package datadir

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// A Dir is a data directory that is open. All methods are safe for concurrent
// use, and none but Wait, Stop and Close waits for the disk.
type Dir struct {
	opts  Options
	began time.Time
	store *store // the writer's
	found Found

	values *valueWriter // nil without a ValuesFS

	ceiling atomic.Uint64 // as the ledger says, written under mu
	plenty  atomic.Uint64 // Reserve has nothing to do up to there; written under mu

	wake  chan struct{} // wakes the writer; closed to end it
	ended chan struct{} // closed when the writer is gone

	mu      sync.Mutex
	ledger  *ledger       // guarded by mu, as is everything below
	changed chan struct{} // closed, and replaced, after each update
	err     error         // why there are no more updates
	closing bool
	updates uint64 // on disk since Open

	closeOnce sync.Once
	closeErr  error
}

// Open opens a data directory, and creates it if it was never used; its parent
// must exist. When it returns, the disk says that a server runs, so that a crash
// from now on is one. The directory is locked until Close, Stop, or the end of
// the process: the error matches ErrInUse if somebody else has it. It matches
// ErrDamaged if what is there does not fit together: see the package's comment.
// Other errors are the file system's.
func Open(path string, opts Options) (*Dir, error) {
	opts, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	wall := opts.wall()
	st, found, err := openStore(path, opts.FS, opts.MustExist, wall, opts.faults)
	if err != nil {
		return nil, err
	}
	lim := opts.limits()
	began := lim.begin(found, wall)
	vs, values, err := st.begin(found, &began, wall)
	if err != nil {
		return nil, errors.Join(err, st.close())
	}
	d := &Dir{
		opts: opts, began: time.Now(), store: st,
		found: Found{State: *found, Fence: lim.firstFence(found, wall), SetBack: time.Duration(max(found.Wall-wall, 0)), Repaired: st.repaired, Values: values},
		wake:  make(chan struct{}, 1), ended: make(chan struct{}), changed: make(chan struct{}),
		ledger: newLedger(lim, found, &began),
	}
	if !found.Clean {
		d.found.Grace = found.Mark
	}
	d.publish()
	if vs != nil {
		d.values = newValueWriter(vs, &d.opts, d.began, d.noteValues)
	}
	go d.run()
	return d, nil
}

// noteValues lets the slots know of a transaction of values that is on disk.
func (d *Dir) noteValues(tx uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ledger.note(time.Since(d.began), tx, false)
	d.kick()
}

// endValues ends the writer of values, and has the slots know its last transaction.
func (d *Dir) endValues() error {
	err := d.values.stop()
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ledger.note(time.Since(d.began), 0, true)
	d.kick()
	return err
}

// Found returns what the start found. Its records must not be changed.
func (d *Dir) Found() Found { return d.found }

// Ceiling returns the highest fence that may be given now. It never falls.
func (d *Dir) Ceiling() uint64 { return d.ceiling.Load() }

// Reserve asks that the fences up to the given one may be given, and says whether
// they may: if not, the stamp says when. It must be called, at the latest, before
// each such grant; it is also what asks for more in time, at the cost of an atomic
// load where there are plenty.
func (d *Dir) Reserve(fence uint64) Stamp {
	if fence <= d.plenty.Load() {
		return 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	stamp := d.ledger.reserve(fence)
	d.publish()
	d.kick()
	return stamp
}

// Admit asks that a lease of the given TTL may be out, and says whether it may:
// if not, the stamp says when to ask again. It must be called before each grant,
// renewal and place in a queue, and the TTL must be part of what Tidy is told
// from the moment on at which Admit returned 0. Above Options.MaxGrace it is
// always 0, and the lease needs a record.
func (d *Dir) Admit(ttl time.Duration) Stamp {
	d.mu.Lock()
	defer d.mu.Unlock()
	stamp := d.ledger.admit(ttl)
	d.kick()
	return stamp
}

// Keep asks for the record of a lease, in place of any of the same kind, key and
// fence. The holder must not hear of the lease, or of its new TTL, before the
// stamp is done; it is 0 if that very record is on disk already. The error says what is wrong with the record, or matches ErrFull
// or ErrClosed.
func (d *Dir) Keep(r Record) (Stamp, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	stamp, err := d.ledger.keep(r)
	d.kick()
	return stamp, err
}

// Drop asks for the record to be gone of a lease that ended, or got a TTL for
// which Admit returned 0 and no record is needed. There is nothing to
// wait for: a record too many only keeps its own key for its TTL after a crash.
// Without such a record it does nothing.
func (d *Dir) Drop(kind uint8, key string, fence uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ledger.drop(recordKey{kind, key, fence})
	d.kick()
}

// Tidy lets the mark fall, at most once a minute, to what the leases of this
// start need: the longest TTL up to Options.MaxGrace of all that are granted or
// queued at this moment. To be called every now and then, with no Admit between
// the look at the leases and the call.
func (d *Dir) Tidy(need time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ledger.lower(time.Since(d.began), need)
	d.kick()
}

// Done says whether a stamp counts. The error is why it never will.
func (d *Dir) Done(s Stamp) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if s <= d.ledger.done {
		return true, nil
	}
	return false, d.err
}

// Wait returns when a stamp counts, with an error if it never will or ctx ended
// first.
func (d *Dir) Wait(ctx context.Context, s Stamp) error {
	for {
		d.mu.Lock()
		done, err, changed := s <= d.ledger.done, d.err, d.changed
		d.mu.Unlock()
		if done || err != nil {
			if done {
				return nil
			}
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Err returns why nothing new will count any more: the first write or sync that
// failed, ErrClosed after Close and Stop, or nil.
func (d *Dir) Err() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// Updates counts the updates that are on disk since the start. Each is two syncs.
func (d *Dir) Updates() uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.updates
}

// Stop writes all leases there are, so that the next start restores them and
// needs no grace, and closes the Dir. The server must not grant, renew or release
// any more, and nobody who calls may hold a mutex that Changed takes. The stop is
// not clean within Found.Grace after the start, because leases of earlier starts
// may be out that nobody has claimed yet, nor when there is an error; then the
// next start has a grace as after a crash.
func (d *Dir) Stop(leases []Record) (clean bool, err error) {
	verr := d.endValues()
	d.mu.Lock()
	stamp, clean, err := d.ledger.stop(time.Since(d.began), leases)
	d.kick()
	d.mu.Unlock()
	if err == nil {
		err = d.Wait(context.Background(), stamp)
	}
	err = errors.Join(err, verr, d.Close())
	return clean && err == nil, err
}

// Close ends the writer, after what was asked for before, and releases the
// directory. The next start will take it for a crash. Nobody who calls may hold a
// mutex that Changed takes. Closing again does nothing.
func (d *Dir) Close() error {
	d.closeOnce.Do(func() {
		verr := d.endValues()
		d.mu.Lock()
		d.closing = true
		close(d.wake)
		d.mu.Unlock()
		<-d.ended
		d.fail(ErrClosed)
		d.closeErr = errors.Join(verr, d.store.close())
	})
	return d.closeErr
}

// publish makes the ledger's fences known to those who do not take the mutex.
// It is called with the mutex held, but in Open.
func (d *Dir) publish() {
	d.ceiling.Store(d.ledger.ceiling())
	d.plenty.Store(min(d.ledger.plenty(), d.ledger.ceiling()))
}

// kick wakes the writer if there is something to write, with the mutex held.
func (d *Dir) kick() {
	if d.ledger.asked == d.ledger.flew || d.closing || d.err != nil {
		return
	}
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// run is the writer: it writes what was asked for, all that came together in one
// update, until it is told to end or an update failed.
func (d *Dir) run() {
	defer close(d.ended)
	for range d.wake {
		for {
			more, err := d.write()
			if err != nil {
				d.fail(err)
				d.opts.Changed()
				return
			}
			if !more {
				break
			}
			d.opts.Changed()
		}
	}
}

// write makes one update, and says whether there was anything to write.
func (d *Dir) write() (bool, error) {
	wall := d.opts.wall()
	d.mu.Lock()
	s, ok := d.ledger.next(wall)
	d.mu.Unlock()
	if !ok {
		return false, nil
	}
	if err := d.store.update(s); err != nil {
		return false, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ledger.wrote()
	d.updates++
	d.publish()
	d.tell()
	return true, nil
}

// fail keeps the first error.
func (d *Dir) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil {
		d.err = err
		d.tell()
	}
}

// tell wakes those who wait, with the mutex held.
func (d *Dir) tell() {
	close(d.changed)
	d.changed = make(chan struct{})
}
