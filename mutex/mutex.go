// Package mutex has the distributed counterparts of sync.Mutex and sync.RWMutex:
// locks that goroutines of different processes and machines take in turn.
package mutex

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/distributed-go/distributed/locker"
)

var _ sync.Locker = (*Mutex)(nil)

// unlockTimeout bounds how long Unlock blocks. The release goes on in the
// background for as long as the lease lasts.
const unlockTimeout = time.Second

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
	client   *locker.Client // that of New, as opts are
	opts     []locker.Option
	acquirer *locker.Acquirer // nil if err is set
	err      error            // what was wrong with the arguments of New

	// Direct says not to queue: whoever locks m goes to the backend at once.
	direct bool

	mu     sync.Mutex
	holder holder // guarded by mu, as all below

	// Queue is for those who lock m, from Lock to Unlock: they go to the
	// backend one at a time, so that a hundred goroutines that share m do not
	// make a hundred requests wait there. Turn is for those who hold a lease,
	// from Lock or from a Ticket, until Unlock; one who waits for the backend
	// does not have it, or else it and the Ticket before it in the backend's
	// queue would wait for each other.
	queue, turn line

	waiters  waiters  // not guarded by mu
	handover handover // nothing unless WithLocalHandover made m
}

// A holder is who has the turn.
type holder struct {
	lease  *locker.Lease // nil if nobody
	queued bool          // it also has the queue
}

// New returns a Mutex on the key. The options are its own defaults, over those
// of the client. It panics if the client is nil: a forgotten assignment must
// not become a lock on some default server. A bad key or option is returned, or
// thrown, by the first use.
func New(c *locker.Client, key string, opts ...locker.Option) *Mutex {
	if c == nil {
		panic("distributed: mutex.New with a nil Client")
	}
	m := &Mutex{client: c, opts: slices.Clone(opts)}
	m.prepare(locker.Request{Kind: locker.Exclusive, Key: key, Limit: 1, Weight: 1})
	return m
}

// prepare prepares to lock by requests of one kind.
func (m *Mutex) prepare(req locker.Request) {
	m.acquirer, m.err = m.client.Acquirer(req, m.opts...)
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
	l, err := m.lock(ctx)
	if err != nil {
		return err
	}
	return l.Do(ctx, func(ctx context.Context) error {
		defer m.open(l) // before the release is sent; in vain if f unlocked m itself
		return f(ctx)
	})
}

// Lock locks m. If the key is already held the calling goroutine blocks until
// it is its turn, in FIFO order over all processes. Lock never returns without
// the lock: it rides out outages of the backend, logging them. It panics on
// what can never succeed: a bad key, wrong credentials, a closed client. Use
// LockContext where waiting must have an end.
func (m *Mutex) Lock() {
	m.mustBeReady()
	handed, _ := m.enter(context.Background())
	locked := handed != nil
	defer func() {
		if !locked {
			m.exit() // MustAcquire panicked
		}
	}()
	for !locked {
		locked = m.take(context.Background(), m.acquirer.MustAcquire(), !m.direct) == nil
	}
}

// LockContext locks m, waiting until ctx ends at most. Ctx bounds the wait, not
// the hold. It rides out outages of the backend meanwhile. The error matches
// the context's if that ended the wait, and locker.ErrLocked or
// locker.ErrUnavailable beside it, as the key was held or the backend could not
// be reached; see package locker for others.
func (m *Mutex) LockContext(ctx context.Context) error {
	_, err := m.lock(ctx)
	return err
}

// lock locks m and returns the lease, which m may not have any more when the
// caller looks: any goroutine may unlock m.
func (m *Mutex) lock(ctx context.Context) (*locker.Lease, error) {
	if err := m.ready(); err != nil {
		return nil, err
	}
	ctx, cancel := m.acquirer.Bound(ctx)
	defer cancel()
	handed, ok := m.enter(ctx)
	switch {
	case !ok:
		return nil, m.acquirer.Interrupted(ctx, "lock")
	case handed != nil:
		return handed, nil
	}
	for {
		l, err := m.acquirer.AcquireBound(ctx)
		if err == nil {
			err = m.take(ctx, l, !m.direct)
		}
		if err == nil {
			return l, nil
		}
		if !errors.Is(err, locker.ErrLost) { // while it waited for the turn: begin anew
			m.exit()
			return nil, err
		}
	}
}

// TryLock tries to lock m and reports whether it succeeded. It returns false
// both if the key is held and if the backend could not be reached;
// TryLockContext tells them apart. It panics as Lock does on a bad key.
func (m *Mutex) TryLock() bool {
	m.mustBeReady()
	return m.TryLockContext(context.Background()) == nil
}

// TryLockContext locks m if that is possible at once. The error matches
// locker.ErrLocked if the key is held or waited for, by whomever, and
// locker.ErrUnavailable if the backend could not be reached. Ctx bounds how long
// it waits for the backend's answer.
func (m *Mutex) TryLockContext(ctx context.Context) error {
	if err := m.ready(); err != nil {
		return err
	}
	if !m.tryEnter() {
		return m.acquirer.Busy("try")
	}
	l, err := m.acquirer.Try(ctx)
	if err == nil {
		if m.tryTake(l) {
			return nil
		}
		// Somebody lost the lease and has not unlocked m yet.
		err = m.acquirer.Busy("try")
		giveBack(l)
	}
	m.exit()
	return err
}

// Unlock unlocks m. It panics if m is not locked, as that of sync.Mutex does,
// and on nothing else: a lease that was lost needs no unlocking any more, and
// in an outage Unlock blocks for at most a second and the release goes on in
// the background until it is answered or the lease has run out.
func (m *Mutex) Unlock() {
	m.mustBeReady()
	switch l, handed := m.open(nil); {
	case l == nil:
		panic(m.acquirer.Error("unlock", locker.ErrNotHeld))
	case !handed:
		_ = l.ReleaseWithin(unlockTimeout) // what goes wrong goes on in the background, or needs no release any more
	}
}

// UnlockContext unlocks m and says how that went: the error matches
// locker.ErrLost if the lease had been lost, locker.ErrNotHeld if m is not
// locked, and locker.ErrUnavailable or the context's error if the backend has
// not confirmed the release yet. M is unlocked for other goroutines in every
// case, and the release goes on in the background where it was not confirmed,
// also when ctx was cancelled before.
func (m *Mutex) UnlockContext(ctx context.Context) error {
	if err := m.ready(); err != nil {
		return err // never locked
	}
	switch l, handed := m.open(nil); {
	case l == nil:
		return m.acquirer.Error("unlock", locker.ErrNotHeld)
	case !handed:
		return l.Release(ctx)
	}
	return nil
}

// Lease returns the current holder's lease, and nil if m is not locked. It
// means something to the holder only.
func (m *Mutex) Lease() *locker.Lease {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.holder.lease
}

// Lost returns a channel that is closed when the current holder's lease is
// lost, and nil, which blocks for ever, if m is not locked.
func (m *Mutex) Lost() <-chan struct{} {
	if l := m.Lease(); l != nil {
		return l.Lost()
	}
	return nil
}

// ready returns what was wrong with the arguments of New. It panics if there
// was no New.
func (m *Mutex) ready() error {
	if m.acquirer == nil && m.err == nil {
		panic("distributed: use of a zero Mutex: make one with New")
	}
	return m.err
}

// mustBeReady is ready for methods that return no error.
func (m *Mutex) mustBeReady() {
	if err := m.ready(); err != nil {
		panic(err)
	}
}
