package mutex

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/distributed-go/distributed/locker"
)

// RDo calls f while it holds m for reading, and is the form to prefer: Do with
// RLock for Lock. A loss of its lease is found and reported as that of Do's is.
func (m *RW) RDo(ctx context.Context, f func(ctx context.Context) error) error {
	if err := m.check(ctx, "lock"); err != nil {
		return err
	}
	l, err := m.rlock(ctx)
	if err != nil {
		return err
	}
	visit := m.visit(f)
	return l.Do(ctx, func(ctx context.Context) error {
		defer m.writer.leave(&m.writer.turn) // before the release is sent, as with Mutex
		return visit(ctx)
	})
}

// RLock locks m for reading. If a writer holds it, or waits for it, the calling
// goroutine blocks until it is its turn. RLock never returns without the lock,
// and panics on what can never succeed, as Mutex.Lock does.
func (m *RW) RLock() {
	m.mustBeReady()
	for {
		l := m.reader.MustAcquire()
		if m.writer.await(context.Background(), l, true) == nil {
			m.keep(l)
			return
		}
	}
}

// RLockContext locks m for reading, waiting until ctx ends at most. Ctx bounds
// the wait, not the hold. The errors are those of Mutex.LockContext, and
// ErrUpgrade.
func (m *RW) RLockContext(ctx context.Context) error {
	if err := m.check(ctx, "lock"); err != nil {
		return err
	}
	l, err := m.rlock(ctx)
	if err == nil {
		m.keep(l)
	}
	return err
}

// rlock locks m for reading and returns the lease.
func (m *RW) rlock(ctx context.Context) (*locker.Lease, error) {
	ctx, cancel := m.reader.Bound(ctx)
	defer cancel()
	for {
		l, err := m.reader.AcquireBound(ctx)
		if err == nil {
			err = m.writer.await(ctx, l, true)
		}
		if err == nil {
			return l, nil
		}
		if !errors.Is(err, locker.ErrLost) { // while it waited for the turn: begin anew
			return nil, err
		}
	}
}

// TryRLock tries to lock m for reading and reports whether it succeeded. It
// returns false both if a writer holds m, or waits for it, and if the backend
// could not be reached; TryRLockContext tells them apart. It panics as RLock
// does on a bad key.
func (m *RW) TryRLock() bool {
	m.mustBeReady()
	return m.TryRLockContext(context.Background()) == nil
}

// TryRLockContext locks m for reading if that is possible at once. The errors
// are those of Mutex.TryLockContext, and ErrUpgrade.
func (m *RW) TryRLockContext(ctx context.Context) error {
	if err := m.check(ctx, "try"); err != nil {
		return err
	}
	l, err := m.reader.Try(ctx)
	if err != nil {
		return err
	}
	w := &m.writer
	w.mu.Lock()
	entered := w.turn.tryEnter(true)
	w.mu.Unlock()
	if !entered { // a writer lost the lease and has not unlocked m yet
		giveBack(l)
		return m.reader.Busy("try")
	}
	m.keep(l)
	return nil
}

// RUnlock undoes a single RLock call; it does not affect other readers. It
// panics if m is not locked for reading by RLock, and on nothing else: see
// Mutex.Unlock for losses and outages.
func (m *RW) RUnlock() {
	m.mustBeReady()
	l := m.drop()
	if l == nil {
		panic(m.reader.Error("unlock", locker.ErrNotHeld))
	}
	_ = l.ReleaseWithin(unlockTimeout)
}

// RUnlockContext is RUnlock that says how that went: the error matches
// locker.ErrNotHeld if m is not locked for reading by RLock, and is else as that
// of Mutex.UnlockContext. Who shares m with other readers may be told of the
// loss of another's lease in the place of their own.
func (m *RW) RUnlockContext(ctx context.Context) error {
	if err := m.ready(); err != nil {
		return err
	}
	l := m.drop()
	if l == nil {
		return m.reader.Error("unlock", locker.ErrNotHeld)
	}
	return l.Release(ctx)
}

// keep keeps the lease of a reader for its RUnlock.
func (m *RW) keep(l *locker.Lease) {
	m.writer.mu.Lock()
	m.readers = append(m.readers, l)
	m.writer.mu.Unlock()
}

// drop ends the turn of a reader and returns a lease to release, or nil if there
// is no reader. Which goroutine unlocks is not known, so a lease that was lost
// goes first, though it takes a look at all: who gave back a good one in its
// place would leave another reader, whose lease that was, without. Else the
// oldest goes.
func (m *RW) drop() *locker.Lease {
	w := &m.writer
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(m.readers) == 0 {
		return nil
	}
	i := max(0, slices.IndexFunc(m.readers, func(l *locker.Lease) bool { return l.Err() != nil }))
	l := m.readers[i]
	m.readers = slices.Delete(m.readers, i, i+1)
	w.turn.leave()
	return l
}

// RLocker returns a sync.Locker whose Lock and Unlock are m's RLock and RUnlock.
func (m *RW) RLocker() sync.Locker { return (*rlocker)(m) }

// An rlocker is the reading side of an RW.
type rlocker RW

func (r *rlocker) Lock()   { (*RW)(r).RLock() }
func (r *rlocker) Unlock() { (*RW)(r).RUnlock() }
