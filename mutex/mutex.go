// Package mutex has the distributed counterpart of sync.Mutex: a lock that
// goroutines of different processes and machines take in turn.
package mutex

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/distributed-go/distributed/locker"
)

// unlockTimeout bounds how long Unlock blocks. The release goes on in the
// background for as long as the lease lasts.
const unlockTimeout = time.Second

var _ sync.Locker = (*Mutex)(nil)

// A Mutex is a mutual exclusion lock on a key, for everybody who uses the same
// key of the same backend. New makes one; unlike that of sync.Mutex its zero
// value is not usable, because it has no key. It must not be copied.
//
// It is safe for concurrent use, and goroutines that share one Mutex exclude
// each other too. As with sync.Mutex, any goroutine may unlock it.
//
// In the terminology of the Go memory model, a call of Unlock that was answered
// synchronizes before the next Lock of the key returns, also in another process
// as far as what the holders share is ordered by itself. What the lock cannot
// order is a write that a holder sends before it learns that its lease was
// lost: see Lease and its Fence.
//
// A lease that is lost does not unlock the Mutex for other goroutines: only the
// Unlock of its holder does.
type Mutex struct {
	acquirer *locker.Acquirer // nil if err is set
	err      error            // what was wrong with the arguments of New

	// turn has one slot, which the holder fills. It is a channel, and not a
	// sync.Mutex, so that waiting for it can be given up, and shows in a
	// testing/synctest bubble.
	turn chan struct{}

	mu    sync.Mutex
	lease *locker.Lease // of the current holder; nil if there is none; guarded by mu
}

// New returns a Mutex on the key. The options are its own defaults, over those
// of the client. It panics if the client is nil: a forgotten assignment must
// not become a lock on some default server. A bad key or option is returned, or
// thrown, by the first use.
func New(c *locker.Client, key string, opts ...locker.Option) *Mutex {
	if c == nil {
		panic("distributed: mutex.New with a nil Client")
	}
	a, err := c.Acquirer(locker.Request{Kind: locker.Exclusive, Key: key, Limit: 1, Weight: 1}, opts...)
	return &Mutex{acquirer: a, err: err, turn: make(chan struct{}, 1)}
}

// Do calls f while it holds m, and is the form to prefer. The one context
// bounds the wait and is the parent of the context of f, which is cancelled
// when f should end because the lease is about to be lost (its cause matches
// locker.ErrLost then).
//
// Do returns f's error first. It returns an error that matches locker.ErrLost
// if the lease was lost while f ran, even if f returned nil: somebody else may
// have worked at the same time. It unlocks if f panics, too.
func (m *Mutex) Do(ctx context.Context, f func(ctx context.Context) error) error {
	if err := m.LockContext(ctx); err != nil {
		return err
	}
	l := m.Lease()
	defer m.leave(l)
	return l.Do(ctx, f)
}

// Lock locks m. If the key is already held the calling goroutine blocks until
// it is its turn, in FIFO order over all processes. Lock never returns without
// the lock: it rides out outages of the backend, logging them. It panics on
// what can never succeed: a bad key, wrong credentials, a closed client. Use
// LockContext where waiting must have an end.
func (m *Mutex) Lock() {
	if m.err != nil {
		panic(m.err)
	}
	m.turn <- struct{}{}
	locked := false
	defer func() {
		if !locked {
			<-m.turn
		}
	}()
	m.set(m.acquirer.MustAcquire())
	locked = true
}

// LockContext locks m, waiting until ctx ends at most. Ctx bounds the wait, not
// the hold. It rides out outages of the backend meanwhile. The error matches
// the context's if that ended the wait, and locker.ErrLocked or
// locker.ErrUnavailable beside it, as the key was held or the backend could not
// be reached; see package locker for others.
func (m *Mutex) LockContext(ctx context.Context) error {
	if m.err != nil {
		return m.err
	}
	ctx, cancel := m.acquirer.Bound(ctx)
	defer cancel()
	if err := m.enter(ctx); err != nil {
		return err
	}
	return m.hold(m.acquirer.Acquire(ctx))
}

// TryLock tries to lock m and reports whether it succeeded. It returns false
// both if the key is held and if the backend could not be reached;
// TryLockContext tells them apart. It panics as Lock does on a bad key.
func (m *Mutex) TryLock() bool {
	if m.err != nil {
		panic(m.err)
	}
	return m.TryLockContext(context.Background()) == nil
}

// TryLockContext locks m if that is possible at once. The error matches
// locker.ErrLocked if the key is held or waited for, by whomever, and
// locker.ErrUnavailable if the backend could not be reached. Ctx bounds how long
// it waits for the backend's answer.
func (m *Mutex) TryLockContext(ctx context.Context) error {
	if m.err != nil {
		return m.err
	}
	select {
	case m.turn <- struct{}{}:
	default:
		return m.acquirer.Error("try", locker.ErrLocked)
	}
	return m.hold(m.acquirer.Try(ctx))
}

// Unlock unlocks m. It panics if m is not locked, as that of sync.Mutex does,
// and on nothing else: a lease that was lost needs no unlocking any more, and
// in an outage Unlock blocks for at most a second and the release goes on in
// the background until it is answered or the lease has run out.
func (m *Mutex) Unlock() {
	ctx, cancel := context.WithTimeout(context.Background(), unlockTimeout)
	defer cancel()
	if err := m.UnlockContext(ctx); errors.Is(err, locker.ErrInvalid) || errors.Is(err, locker.ErrNotHeld) && !errors.Is(err, locker.ErrLost) {
		panic(err)
	}
}

// UnlockContext unlocks m and says how that went: the error matches
// locker.ErrLost if the lease had been lost, locker.ErrNotHeld if m is not
// locked, and locker.ErrUnavailable or the context's error if the backend has
// not confirmed the release yet. M is unlocked for other goroutines in every
// case, and the release goes on in the background where it was not confirmed,
// also when ctx was cancelled before.
func (m *Mutex) UnlockContext(ctx context.Context) error {
	if m.err != nil {
		return m.err // never locked
	}
	m.mu.Lock()
	l := m.lease
	m.lease = nil
	m.mu.Unlock()
	if l == nil {
		return m.acquirer.Error("unlock", locker.ErrNotHeld)
	}
	defer func() { <-m.turn }()
	return l.Release(ctx)
}

// Lease returns the current holder's lease, and nil if m is not locked. It
// means something to the holder only.
func (m *Mutex) Lease() *locker.Lease {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lease
}

// Lost returns a channel that is closed when the current holder's lease is
// lost, and nil, which blocks for ever, if m is not locked.
func (m *Mutex) Lost() <-chan struct{} {
	if l := m.Lease(); l != nil {
		return l.Lost()
	}
	return nil
}

// enter waits for this goroutine's turn among those that share m.
func (m *Mutex) enter(ctx context.Context) error {
	select {
	case m.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return m.acquirer.Interrupted(ctx, "lock")
	}
}

// leave ends the turn that came with a lease, unless f of Do unlocked m itself.
func (m *Mutex) leave(l *locker.Lease) {
	m.mu.Lock()
	mine := m.lease == l
	if mine {
		m.lease = nil
	}
	m.mu.Unlock()
	if mine {
		<-m.turn
	}
}

// hold keeps the lease of the goroutine whose turn it is, or ends the turn.
func (m *Mutex) hold(l *locker.Lease, err error) error {
	if err != nil {
		<-m.turn
		return err
	}
	m.set(l)
	return nil
}

func (m *Mutex) set(l *locker.Lease) {
	m.mu.Lock()
	m.lease = l
	m.mu.Unlock()
}
