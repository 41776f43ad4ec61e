package datadir

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"
)

// A ValueStamp is a change of a value that was asked for. The changes count in
// the order in which they were asked for: a stamp counts as soon as the
// transaction with it, and so all before it, is on disk. 0 counts already.
type ValueStamp uint64

// never is the stamp of what cannot be kept.
const never ValueStamp = math.MaxUint64

// sweepEvery is how often values that expired are looked for, and the slots told
// of the last transaction.
const sweepEvery = time.Minute

// errNoValues is what a Dir says whose FS is no ValuesFS.
var errNoValues = fmt.Errorf("datadir: values need a file system with a real directory: %w", errors.ErrUnsupported)

// A valueWriter is the goroutine that writes values.db, and what it is asked for.
type valueWriter struct {
	store   *valueStore     // the goroutine's
	changed func()          // Options.ValuesChanged
	noted   func(tx uint64) // is told of transactions that are on disk
	now     func() int64    // milliseconds since 1970
	faults  faults

	wake  chan struct{} // wakes the goroutine; closed to end it
	ended chan struct{} // closed when it is gone
	once  sync.Once     // of stop

	mu      sync.Mutex
	pending []valueOp     // guarded by mu, as is everything below
	asked   ValueStamp    // of the last of pending
	done    ValueStamp    // on disk
	told    chan struct{} // closed, and replaced, when done or err changes
	err     error         // why nothing more will count
	closing bool
	updates uint64 // transactions since the start
}

func newValueWriter(store *valueStore, opts *Options, began time.Time, noted func(tx uint64)) *valueWriter {
	w := &valueWriter{
		store: store, changed: opts.ValuesChanged, noted: noted, faults: opts.faults,
		wake: make(chan struct{}, 1), ended: make(chan struct{}), told: make(chan struct{}),
	}
	start := opts.wall()
	w.now = func() int64 { // a clock that is set, either way, lets nothing expire early
		return min(opts.wall(), start+int64(time.Since(began))) / int64(time.Millisecond)
	}
	go w.run()
	return w
}

// PutValue asks for a value of the key, in place of any, and returns at once:
// nobody must hear of the value before the stamp counts. At is the instant of the
// put and until that of its end, in milliseconds since 1970 by the wall clock;
// until 0 is never. Calls for one key must come with growing fences, all of them
// reserved. The data must not be changed any more. If the value can never be kept
// ValueDone says so at once, and nothing else is changed.
func (d *Dir) PutValue(key string, data []byte, fence uint64, until, at int64) ValueStamp {
	if key == "" || len(key) > MaxKey || len(data) > MaxValue {
		return never
	}
	return d.values.ask(valueOp{StoredValue{Key: key, Data: data, Fence: fence, At: at, Until: until}, false})
}

// RemoveValue asks for the value of the key to be gone, unless one was put with a
// fence above the given one. It returns at once; until the stamp counts, a crash
// may bring the value back. Values that expire need no call.
func (d *Dir) RemoveValue(key string, fence uint64) ValueStamp {
	return d.values.ask(valueOp{StoredValue{Key: key, Fence: fence}, true})
}

// ValueDone says whether a stamp counts. The error is why it never will: it
// matches ErrBadValue or errors.ErrUnsupported for what cannot be kept, and else
// is that of ValuesErr. A stamp that counts stays so.
func (d *Dir) ValueDone(s ValueStamp) (bool, error) {
	done, _, err := d.values.look(s)
	return done, err
}

// WaitValue returns when a stamp counts, with an error if it never will or ctx
// ended first.
func (d *Dir) WaitValue(ctx context.Context, s ValueStamp) error {
	for {
		done, told, err := d.values.look(s)
		if done || err != nil {
			return err
		}
		select {
		case <-told:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// ValuesErr returns why no change of a value will count any more: the first
// transaction that failed, ErrClosed after Close and Stop, an error that matches
// errors.ErrUnsupported if Options.FS is no ValuesFS, or nil. Leases do not depend
// on it.
func (d *Dir) ValuesErr() error {
	_, _, err := d.values.look(never - 1)
	return err
}

// ValueUpdates counts the transactions of values that are on disk since the start.
// Each is two syncs, and now and then a third when the file grows.
func (d *Dir) ValueUpdates() uint64 {
	if d.values == nil {
		return 0
	}
	d.values.mu.Lock()
	defer d.values.mu.Unlock()
	return d.values.updates
}

// look says whether a stamp counts, when to look again, and why it never will.
func (w *valueWriter) look(s ValueStamp) (done bool, again <-chan struct{}, err error) {
	switch {
	case s == 0:
		return true, nil, nil
	case w == nil:
		return false, nil, errNoValues
	case s == never:
		return false, nil, ErrBadValue
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if s <= w.done {
		return true, nil, nil
	}
	return false, w.told, w.err
}

// ask takes note of a change. After a failure and after the end it takes no data.
func (w *valueWriter) ask(op valueOp) ValueStamp {
	if w == nil {
		return never
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked++
	if w.err != nil || w.closing {
		return w.asked
	}
	w.pending = append(w.pending, op)
	select {
	case w.wake <- struct{}{}:
	default:
	}
	if w.faults.valuesEarly {
		w.done = w.asked
	}
	return w.asked
}

// run writes what was asked for, all that came together in one transaction, until
// it is told to end or a transaction failed.
func (w *valueWriter) run() {
	defer close(w.ended)
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	for open := true; open; {
		var over []valueOp
		var err error
		select {
		case _, open = <-w.wake:
		case <-sweep.C:
			w.noted(w.store.head.tx)
			over, err = w.store.expired(w.now())
		}
		if err == nil {
			err = w.write(over)
		}
		if err != nil {
			w.fail(valuesError(err))
			w.changed()
			return
		}
	}
}

// write makes a transaction of the given changes and of all that were asked for,
// if there are any.
func (w *valueWriter) write(ops []valueOp) error {
	w.mu.Lock()
	ops, w.pending = append(ops, w.pending...), nil
	asked := w.asked
	w.mu.Unlock()
	if len(ops) == 0 {
		return nil
	}
	if err := w.store.apply(ops); err != nil {
		return err
	}
	w.noted(w.store.head.tx)
	w.mu.Lock()
	w.done = asked
	w.updates++
	w.tell()
	w.mu.Unlock()
	w.changed()
	return nil
}

// fail keeps the first error, and lets go of what will not be written.
func (w *valueWriter) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err, w.pending = err, nil
		w.tell()
	}
}

// tell wakes those who wait, with the mutex held.
func (w *valueWriter) tell() {
	close(w.told)
	w.told = make(chan struct{})
}

// stop ends the goroutine, after what was asked for before, and closes the file.
func (w *valueWriter) stop() (err error) {
	if w == nil {
		return nil
	}
	w.once.Do(func() {
		w.mu.Lock()
		w.closing = true
		close(w.wake)
		w.mu.Unlock()
		<-w.ended
		w.fail(ErrClosed)
		err = w.store.close()
	})
	return err
}
