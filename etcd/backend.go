package etcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/singleflight"
	"google.golang.org/grpc"

	"github.com/distributed-go/distributed/locker"
)

var (
	_ locker.Releaser  = (*Backend)(nil)
	_ locker.Queuer    = (*Backend)(nil)
	_ locker.Inspector = (*Backend)(nil)
	_ locker.Forcer    = (*Backend)(nil)
)

// closeTimeout bounds how long Close waits for etcd to revoke the leases.
const closeTimeout = time.Second

// A Backend is a locker.Backend on an etcd cluster. Make one with New, Dial, or
// locker.Open. It is safe for concurrent use. Its holds depend on nothing but their
// TTL, and it keeps them alive by itself if it was given a clock; without one, by
// who calls it without a locker.Client, each hold has a lease of its own.
type Backend struct {
	url       string
	endpoints []string               // without schemes, for people
	trouble   atomic.Pointer[string] // what the way to etcd failed with last; nil since an answer
	keys      keys
	name      string // of this process
	values    int    // the largest value
	config    *clientv3.Config
	client    atomic.Pointer[clientv3.Client]
	flight    singleflight.Group // dials

	now     func() time.Duration
	clocked bool

	life    context.Context // ends with Close
	endLife context.CancelCauseFunc
	closing func() error
	unhook  func() bool // ends to wait for the end of the client's life
	sender  sender

	started sync.Mutex     // may be taken under mu
	closed  bool           // guarded by started
	wg      sync.WaitGroup // what runs in the background; Add only under started while not closed

	mu      sync.Mutex
	leases  map[time.Duration]*lease // by what was asked for; guarded by mu
	old     map[*lease]struct{}      // that take no new users; guarded by mu
	private map[*lease]struct{}      // guarded by mu
	entries entries                  // all whose names are in use; guarded by mu
	queues  map[subject]*queue       // that somebody here waits in; guarded by mu
	hub     hub                      // of deletions; guarded by mu
	warner  hub                      // of revocations; guarded by mu
	shelves map[string]*shelf        // that somebody here waits at; guarded by mu
	reader  hub                      // of what is published; guarded by mu
}

// New returns a Backend that uses a client, which the caller closes after the
// Backend: who closes it before has closed the Backend too, but the holds that it has
// then end at their deadlines, as if etcd were away. Its KV must be etcd's own: watches
// know nothing of a namespace, for which there is WithPrefix. New panics if the client is
// nil, and does no I/O.
func New(client *clientv3.Client, opts ...Option) (*Backend, error) {
	if client == nil {
		panic("distributed: etcd.New with a nil client")
	}
	if own := clientv3.NewKVFromKVClient(nil, nil); reflect.TypeOf(client.KV) != reflect.TypeOf(own) {
		return nil, fmt.Errorf("%w: the KV of the client of etcd is a %T: want a client without a namespace or the like, and WithPrefix", locker.ErrInvalid, client.KV)
	}
	b, err := newBackend(client.Endpoints(), opts)
	if err == nil {
		b.client.Store(client)
		b.endWith(client.Ctx())
	}
	return b, err
}

// Dial returns a Backend with a client of its own, made from cfg when it is first
// needed: Dial does no I/O. What it leaves open is chosen for locks.
func Dial(cfg clientv3.Config, opts ...Option) (*Backend, error) {
	if len(cfg.Endpoints) == 0 {
		return nil, fmt.Errorf("%w: no endpoints", locker.ErrInvalid)
	}
	b, err := newBackend(cfg.Endpoints, opts)
	if err == nil {
		b.config = withDefaults(cfg, b.life)
		b.config.DialOptions = append(slices.Clone(cfg.DialOptions), grpc.WithChainUnaryInterceptor(b.watchOver))
		if cfg.Context != nil {
			b.endWith(cfg.Context)
		}
	}
	return b, err
}

// errClientClosed is why a Backend is closed whose client is.
var errClientClosed = fmt.Errorf("%w: the client of etcd that it uses was closed", locker.ErrClosed)

// endWith closes the Backend, as far as that is possible then, when its client's life
// ends: nothing would be answered any more.
func (b *Backend) endWith(client context.Context) {
	b.unhook = context.AfterFunc(client, func() { b.endLife(errClientClosed) })
}

// closedFor is the error of a Backend whose life has ended.
func (b *Backend) closedFor() error { return cmp.Or(context.Cause(b.life), locker.ErrClosed) }

func newBackend(endpoints []string, opts []Option) (*Backend, error) {
	s, err := configure(opts)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	b := &Backend{
		url: nameOf(endpoints, s.prefix), endpoints: hostsOf(endpoints), keys: keys{s.prefix}, name: s.name, values: maxValue,
		now:    func() time.Duration { return time.Since(began) },
		leases: make(map[time.Duration]*lease), old: make(map[*lease]struct{}), private: make(map[*lease]struct{}),
		entries: newEntries(), queues: make(map[subject]*queue), shelves: make(map[string]*shelf),
	}
	b.sender.b = b
	b.life, b.endLife = context.WithCancelCause(context.Background())
	b.closing = sync.OnceValue(b.close)
	return b, nil
}

// connect returns the client, and makes it if there is none yet. With a user it
// asks etcd for a token then.
func (b *Backend) connect() (*clientv3.Client, error) {
	if c := b.client.Load(); c != nil {
		return c, nil
	}
	c, err, _ := b.flight.Do("", func() (any, error) {
		if c := b.client.Load(); c != nil {
			return c, nil
		}
		c, err := clientv3.New(*b.config)
		if err == nil {
			b.client.Store(c)
		}
		return c, err
	})
	if err != nil {
		return nil, err
	}
	return c.(*clientv3.Client), nil
}

// String returns the URL, without parameters.
func (b *Backend) String() string { return b.url }

// UseClock implements locker.Clocked.
func (b *Backend) UseClock(now func() time.Duration) { b.now, b.clocked = now, true }

// background runs f in a goroutine that Close waits for. It returns false, and does
// not run f, once Close has begun. It may be called with the lock held.
func (b *Backend) background(f func()) bool {
	b.started.Lock()
	defer b.started.Unlock()
	if !b.closed {
		b.wg.Go(f)
	}
	return !b.closed
}

// join lets Close wait for a caller, until it calls wg.Done. It returns false once
// Close has begun.
func (b *Backend) join() bool {
	b.started.Lock()
	defer b.started.Unlock()
	if !b.closed {
		b.wg.Add(1)
	}
	return !b.closed
}

// check returns why a request cannot be served.
func (b *Backend) check(ctx context.Context, req *locker.Request) error {
	switch {
	case b.life.Err() != nil:
		return b.closedFor()
	case ctx.Err() != nil:
		return ended(ctx)
	case req.Fences > 1:
		return fmt.Errorf("%w: etcd gives one fence with each grant, not %d", errors.ErrUnsupported, req.Fences)
	case req.Fences < 0:
		return fmt.Errorf("%w: fences must not be negative", locker.ErrInvalid)
	case req.Weight < 1 || req.Weight > req.Limit || req.Kind == locker.Exclusive && req.Limit != 1 || req.Kind > locker.Counting:
		return fmt.Errorf("%w: the weight must be from 1 to the limit, which is 1 for a lock", locker.ErrInvalid)
	case req.TTL < 0 || req.TTL > math.MaxInt32*time.Second:
		return fmt.Errorf("%w: the TTL must be from 0 to %d seconds", locker.ErrInvalid, math.MaxInt32)
	}
	return locker.CheckKey(req.Key)
}

// Acquire implements locker.Backend.
func (b *Backend) Acquire(ctx context.Context, req locker.Request) (locker.Grant, error) {
	if err := b.check(ctx, &req); err != nil {
		return locker.Grant{}, err
	}
	if req.Try {
		return b.try(ctx, &req)
	}
	e, ready, err := b.enter(ctx, &req, new(wait))
	if err != nil {
		return locker.Grant{}, err
	}
	return b.await(ctx, e, ready, b.now())
}

// longWait is how long a wait may take before its key is read again: half of etcd's
// default election timeout, so that no other leader came meanwhile.
const longWait = 500 * time.Millisecond

// await waits until an entry holds or is over. If ctx ends first it wins, and the
// entry is deleted. After a long wait, which began at an instant of the clock, its
// key is read once more: a leader that was frozen may have revoked its lease, which
// its successor had renewed meanwhile, and the deletion may still be on its way here.
func (b *Backend) await(ctx context.Context, e *entry, ready <-chan struct{}, began time.Duration) (locker.Grant, error) {
	g, err := b.awaitTurn(ctx, e, ready)
	if err != nil || b.now()-began < longWait {
		return g, err
	}
	if err := b.stillThere(ctx, e); err != nil {
		return locker.Grant{}, err
	}
	return g, nil
}

// stillThere reads the key of an entry that holds, and ends the entry if it is not
// there, or not known to be.
func (b *Backend) stillThere(ctx context.Context, e *entry) error {
	r, err := b.read(ctx, clientv3.OpGet(b.keys.entry(e.subject(), e.name()), clientv3.WithKeysOnly()))
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case err != nil:
		b.abandonLocked(e, nil)
		return err
	case e.state != holding:
		return fmt.Errorf("%w: the grant was lost on its way: %v", locker.ErrUnavailable, e.err())
	case len(r.Kvs) == 0 || r.Kvs[0].CreateRevision != e.rev:
		b.endLocked(e, errDeleted)
		return errDeleted
	}
	return nil
}

// awaitTurn is await without that look.
func (b *Backend) awaitTurn(ctx context.Context, e *entry, ready <-chan struct{}) (locker.Grant, error) {
	select {
	case <-ready:
	case <-ctx.Done():
	case <-b.life.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case e.state == over && errors.Is(e.err(), locker.ErrLost):
		// Nobody believed in it yet: an outage, not a loss.
		return locker.Grant{}, fmt.Errorf("%w: the grant was lost on its way: %v", locker.ErrUnavailable, e.err())
	case e.state == over:
		return locker.Grant{}, e.err()
	case b.life.Err() != nil:
		return locker.Grant{}, b.closedFor()
	case ctx.Err() != nil:
		b.abandonLocked(e, nil)
		return locker.Grant{}, ended(ctx)
	}
	return e.grant(), nil
}

// Close implements locker.Backend: it revokes the leases, and with them all that
// they hold, for which it takes at most a second. It always returns nil.
func (b *Backend) Close() error { return b.closing() }

func (b *Backend) close() error {
	b.started.Lock()
	b.closed = true
	b.started.Unlock()
	if b.unhook != nil {
		b.unhook()
	}
	b.endLife(locker.ErrClosed)
	if !errors.Is(b.closedFor(), errClientClosed) { // else etcd cannot be told
		b.revokeAll()
	}
	b.wg.Wait()
	if c := b.client.Load(); c != nil && b.config != nil {
		_ = c.Close() // what it says is that its context has ended
	}
	return nil
}

// revokeAll revokes all leases.
func (b *Backend) revokeAll() {
	b.mu.Lock()
	var leases []*lease
	for _, l := range b.leases {
		leases = append(leases, l)
	}
	for l := range b.old {
		leases = append(leases, l)
	}
	for l := range b.private {
		leases = append(leases, l)
	}
	b.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for _, l := range leases {
		wg.Go(func() {
			select {
			case <-l.granted:
				if l.id != 0 {
					l.revoke(ctx)
				}
			case <-ctx.Done():
			}
		})
	}
	wg.Wait()
}
