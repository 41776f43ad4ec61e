package mutex

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/distributed-go/distributed/locker"
)

const (
	// RWPrefix goes before the key of an RW, and what it makes is the key of
	// a semaphore to the backend: NewRW(c, "prices") holds the semaphore
	// "rw:prices".
	RWPrefix = "rw:"

	// RWLimit is the limit of that semaphore. A reader takes 1 of it and a
	// writer all.
	RWLimit = 1 << 30
)

// ErrUpgrade says that an RW was to be locked by somebody who holds it already,
// as the context shows that Do or RDo gave: to make a write of a read, or to
// lock it twice. To wait would be to wait for oneself.
var ErrUpgrade = errors.New("held already by the caller: an RW cannot be upgraded, or locked twice")

var _ sync.Locker = (*RW)(nil)

// An RW is a reader/writer mutual exclusion lock on a key, for everybody who
// uses an RW on the same key of the same backend: it is held by any number of
// readers or by one writer. NewRW makes one; unlike that of sync.RWMutex its
// zero value is not usable. It must not be copied. An RW and a Mutex of one key
// do not exclude each other.
//
// It is safe for concurrent use. Goroutines that share an RW exclude each other
// as those of different processes do, and as with sync.RWMutex any goroutine may
// unlock it.
//
// Everybody is served in the order in which they came, over all processes: a
// writer who waits holds back the readers that come after it, so that readers
// never starve a writer, and readers that came together run together, so that
// writers do not starve them either. Each reader has a lease of its own: one
// who joined the lease of another could overtake a writer elsewhere.
//
// So, as with sync.RWMutex, nobody who reads may read again before they are
// done: a writer may have come in between, for whom the second waits while it
// waits for the first. Nor can a reader become a writer, or a writer a reader.
// Within Do and RDo that is the error ErrUpgrade, told by the context. Lock and
// RLock have no context, and wait for ever.
//
// In the terminology of the Go memory model, the n-th call of Unlock, if it was
// answered, synchronizes before each Lock and RLock of the key that is granted
// after it returns, and a call of RUnlock, if it was answered, before the next
// Lock returns, as for a Mutex; and with the same limits where a lease is lost.
//
// A writer has a fence. Readers have none, because no number could put those in
// order who hold the key together.
//
// RW needs a backend with weights. On the base protocol of dflockd a Lock fails
// at once, with an error that matches errors.ErrUnsupported.
type RW struct {
	// Writer is the lock of those who write. Its turn is shared by those who
	// read, and it does not queue: all wait at the backend, or else a reader
	// would overtake the writers who wait here.
	writer Mutex
	reader *locker.Acquirer // nil if writer.err is set

	// Readers are the leases of RLock, the oldest first. They are guarded by
	// writer.mu.
	readers []*locker.Lease
}

// NewRW returns an RW on the key, which has RWPrefix's length less than other
// keys may have. The options are its own defaults, over those of the client. It
// panics if the client is nil. A bad key or option is returned, or thrown, by
// the first use.
func NewRW(c *locker.Client, key string, opts ...locker.Option) *RW {
	if c == nil {
		panic("distributed: mutex.NewRW with a nil Client")
	}
	m := &RW{writer: Mutex{client: c, opts: slices.Clone(opts), direct: true}}
	if m.writer.err = checkRWKey(c, key); m.writer.err == nil {
		m.prepare(locker.Request{Kind: locker.Counting, Key: RWPrefix + key, Limit: RWLimit, Weight: RWLimit})
	}
	return m
}

// prepare prepares to lock, for writing by the given requests.
func (m *RW) prepare(req locker.Request) {
	if m.writer.prepare(req); m.writer.err != nil {
		return
	}
	req.Weight, req.Fences = 1, 0
	m.reader, m.writer.err = m.writer.client.Acquirer(req, m.writer.opts...)
}

// checkRWKey returns why a key is not one of an RW.
func checkRWKey(c *locker.Client, key string) error {
	err := locker.CheckKey(key)
	if most := locker.MaxKey - len(RWPrefix); err == nil && len(key) > most {
		err = fmt.Errorf("%w: key of %d bytes: that of an RW must have at most %d, as %q goes before it", locker.ErrInvalid, len(key), most, RWPrefix)
	}
	if err == nil {
		return nil
	}
	return &locker.Error{Op: "acquire", Key: key, Backend: c.Backend().String(), Err: err}
}

// Do calls f while it holds m for writing, and is the form to prefer. The one
// context bounds the wait and is the parent of the context of f, which is
// cancelled when f should end because the lease is about to be lost. To lock m
// with the context of f, or one that derives from it, is an error that matches
// ErrUpgrade until f has returned, also in another goroutine.
//
// Do returns f's error first, and an error that matches locker.ErrLost if the
// lease was lost while f ran, as Mutex.Do does. It unlocks if f panics, too.
func (m *RW) Do(ctx context.Context, f func(ctx context.Context) error) error {
	if err := m.check(ctx, "lock"); err != nil {
		return err
	}
	return m.writer.Do(ctx, m.visit(f))
}

// Lock locks m for writing. If it is held for reading or writing the calling
// goroutine blocks until it is its turn. Lock never returns without the lock,
// and panics on what can never succeed, as Mutex.Lock does.
func (m *RW) Lock() {
	m.mustBeReady()
	m.writer.Lock()
}

// LockContext locks m for writing, waiting until ctx ends at most. Ctx bounds
// the wait, not the hold. The errors are those of Mutex.LockContext, and
// ErrUpgrade.
func (m *RW) LockContext(ctx context.Context) error {
	if err := m.check(ctx, "lock"); err != nil {
		return err
	}
	return m.writer.LockContext(ctx)
}

// TryLock tries to lock m for writing and reports whether it succeeded. It
// returns false both if m is held and if the backend could not be reached;
// TryLockContext tells them apart. It panics as Lock does on a bad key.
func (m *RW) TryLock() bool {
	m.mustBeReady()
	return m.writer.TryLock()
}

// TryLockContext locks m for writing if that is possible at once. The errors
// are those of Mutex.TryLockContext, and ErrUpgrade.
func (m *RW) TryLockContext(ctx context.Context) error {
	if err := m.check(ctx, "try"); err != nil {
		return err
	}
	return m.writer.TryLockContext(ctx)
}

// Unlock unlocks m for writing. It panics if m is not locked for writing, and
// on nothing else: see Mutex.Unlock for losses and outages.
func (m *RW) Unlock() {
	m.mustBeReady()
	m.writer.Unlock()
}

// UnlockContext unlocks m for writing and says how that went, as
// Mutex.UnlockContext does.
func (m *RW) UnlockContext(ctx context.Context) error {
	if err := m.ready(); err != nil {
		return err
	}
	return m.writer.UnlockContext(ctx)
}

// Lease returns the writer's lease, and nil if m is not locked for writing. It
// means something to the writer only. Readers who need to know of a loss use
// RDo.
func (m *RW) Lease() *locker.Lease { return m.writer.Lease() }

// Lost returns a channel that is closed when the writer's lease is lost, and
// nil, which blocks for ever, if m is not locked for writing.
func (m *RW) Lost() <-chan struct{} { return m.writer.Lost() }

// ready returns what was wrong with the arguments of NewRW. It panics if there
// was no NewRW.
func (m *RW) ready() error {
	if m.reader == nil && m.writer.err == nil {
		panic("distributed: use of a zero RW: make one with NewRW")
	}
	return m.writer.err
}

// mustBeReady is ready for methods that return no error.
func (m *RW) mustBeReady() {
	if err := m.ready(); err != nil {
		panic(err)
	}
}
