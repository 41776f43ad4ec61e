package dflockd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/shard"
)

// A Backend grants the leases of one dflockd server, or of several that share
// the keys. It is safe for concurrent use. New makes one; Close it when done.
type Backend struct {
	name    string
	servers []*server
	cfg     config
	clock   func() time.Duration // nil: UseClock was not called, so there is no session mode
	log     *slog.Logger         // discards unless UseLogger was called

	calls sync.Pool // of *call
	asks  sync.Pool // of *ask

	// ticks counts the rounds of tend. It is the clock for what may be coarse
	// and must not advance while the process is paused: an answer that
	// arrived during the pause is not overdue.
	ticks atomic.Int64

	// life ends when Close begins.
	life    context.Context
	endLife context.CancelFunc

	mu      sync.Mutex
	closed  bool           // nothing new may start; guarded by mu
	conns   int            // open connections; guarded by mu
	tending bool           // tend runs; guarded by mu
	wg      sync.WaitGroup // all goroutines; Add only under mu while not closed, or by one that is counted
}

var (
	_ locker.Queuer    = (*Backend)(nil)
	_ locker.Inspector = (*Backend)(nil)
	_ locker.Releaser  = (*Backend)(nil)
	_ locker.Forcer    = (*Backend)(nil)
	_ locker.Logging   = (*Backend)(nil)
)

// New returns a Backend for the servers, each "host" or "host:port", where IPv6
// addresses are written in brackets. It does no I/O: connections are made when
// they are needed. The errors match locker.ErrInvalid.
func New(servers []string, opts ...Option) (*Backend, error) {
	if len(servers) == 0 {
		return nil, fmt.Errorf("distributed: %w: no servers", locker.ErrInvalid)
	}
	addrs := make([]address, len(servers))
	for i, s := range servers {
		var err error
		if addrs[i], err = parseAddress(s); err != nil {
			return nil, fmt.Errorf("distributed: %w: %w", locker.ErrInvalid, err)
		}
	}
	cfg, err := configure(addrs, opts)
	if err != nil {
		return nil, fmt.Errorf("distributed: %w", err)
	}
	b := &Backend{cfg: cfg, name: nameOf(addrs, &cfg), log: slog.New(slog.DiscardHandler)}
	b.life, b.endLife = context.WithCancel(context.Background())
	for _, a := range addrs {
		b.servers = append(b.servers, newServer(b, a))
	}
	return b, nil
}

func nameOf(addrs []address, cfg *config) string {
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.String()
	}
	scheme := "dflockd://"
	if cfg.tls != nil {
		scheme = "dflockds://"
	}
	return scheme + strings.Join(texts, ",")
}

// String returns the servers as a URL, without secrets.
func (b *Backend) String() string { return b.name }

// UseClock implements locker.Clocked: with a clock, servers are asked for session
// mode. It must be called before anything else, or not at all.
func (b *Backend) UseClock(now func() time.Duration) { b.clock = now }

// UseLogger implements locker.Logging: in session mode it is told of each connection
// that something depends on and that is lost, and when it is back. It must be called
// before anything else, or not at all.
func (b *Backend) UseLogger(l *slog.Logger) { b.log = l }

// Acquire waits for a lease in FIFO order; see locker.Backend. On the base
// protocol a request for a weight above 1, or for several fences, fails with
// errors.ErrUnsupported: it has none. If the server refuses a request without a
// reason, as servers without semaphores do, the error matches ErrRefused.
func (b *Backend) Acquire(ctx context.Context, req locker.Request) (locker.Grant, error) {
	s, err := b.serverOf(ctx, &req)
	if err != nil {
		return locker.Grant{}, err
	}
	return s.acquire(ctx, &req)
}

// Enqueue takes a place in the queue of the key, or the lease itself if it is
// free; see locker.Queuer. On the base protocol the place has a connection of
// its own, and so belongs to the WithMaxConns.
func (b *Backend) Enqueue(ctx context.Context, req locker.Request) (locker.Place, error) {
	s, err := b.serverOf(ctx, &req)
	if err != nil {
		return nil, err
	}
	return s.enqueue(ctx, &req)
}

// Renew renews all the given holds; see locker.Backend. It asks all servers at
// the same time, so that one that does not answer delays no other's renewals.
func (b *Backend) Renew(ctx context.Context, renewals []locker.Renewal) {
	if len(b.servers) == 1 {
		all := make([]*locker.Renewal, len(renewals))
		for i := range renewals {
			all[i] = &renewals[i]
		}
		b.servers[0].renew(ctx, all)
		return
	}
	byServer := make(map[*server][]*locker.Renewal)
	for i := range renewals {
		s, err := b.serverOfKey(renewals[i].Key)
		if err != nil {
			renewals[i].Err = err
			continue
		}
		byServer[s] = append(byServer[s], &renewals[i])
	}
	var wg sync.WaitGroup
	for s, part := range byServer {
		wg.Go(func() { s.renew(ctx, part) })
	}
	wg.Wait()
}

// Release ends a hold; see locker.Backend. It is sent even if the hold's
// connection has ended: the server may not have noticed. In session mode ctx
// bounds the waiting alone: the hold is released whatever becomes of ctx, and
// of the connection.
func (b *Backend) Release(ctx context.Context, h locker.Hold) error {
	if g, ok := h.Kept.(*grant); ok {
		return g.x.release(ctx, g)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s, err := b.serverOfKey(h.Key)
	if err != nil {
		return err
	}
	return s.release(ctx, h)
}

// ReleaseWithin implements locker.Releaser.
func (b *Backend) ReleaseWithin(now, d time.Duration, h locker.Hold) error {
	if g, ok := h.Kept.(*grant); ok {
		return g.x.releaseWithin(now, d, g)
	}
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	return b.Release(ctx, h)
}

// Close ends all connections and calls in flight, and waits for the backend's
// goroutines. What was held is lost. In session mode the server is told to
// release it, for which it has a second. It is idempotent and returns nil.
func (b *Backend) Close() error {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.sayBye()
	b.endLife()
	for _, s := range b.servers {
		s.close()
	}
	b.wg.Wait()
	return nil
}

// serverOf checks a request and returns the server that owns its key.
func (b *Backend) serverOf(ctx context.Context, req *locker.Request) (*server, error) {
	switch {
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case req.Kind == locker.Counting && req.Limit < 1:
		return nil, fmt.Errorf("%w: limit %d is below 1", locker.ErrInvalid, req.Limit)
	case req.TTL < 0:
		return nil, fmt.Errorf("%w: TTL %v is negative", locker.ErrInvalid, req.TTL)
	}
	return b.serverOfKey(req.Key)
}

func (b *Backend) serverOfKey(key string) (*server, error) {
	// The Client checks keys too, but here a line feed would be an injection.
	if err := codec.CheckKey(key); err != nil {
		return nil, fmt.Errorf("%w: %w", locker.ErrInvalid, err)
	}
	if b.life.Err() != nil {
		return nil, locker.ErrClosed
	}
	if len(b.servers) == 1 {
		return b.servers[0], nil
	}
	i, err := shard.Pick(b.cfg.shard, key, len(b.servers))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", locker.ErrInvalid, err)
	}
	return b.servers[i], nil
}

// inBase returns why a request cannot be made on the base protocol.
func inBase(req *locker.Request) error {
	switch {
	case req.Weight > 1:
		return fmt.Errorf("%w: dflockd's base protocol knows no weights, and %d were asked for", errors.ErrUnsupported, req.Weight)
	case req.Fences > 1:
		return fmt.Errorf("%w: dflockd's base protocol knows one fence for each grant, and %d were asked for", errors.ErrUnsupported, req.Fences)
	}
	return nil
}

// background runs f in a goroutine that Close waits for; f must end soon after
// life. It returns false, and does not run f, once Close has begun.
func (b *Backend) background(f func()) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.wg.Go(f)
	return true
}

// opened counts a connection and starts its reader, and tend with the first.
// It returns false once Close has begun.
func (b *Backend) opened(read func()) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conns++ // in any case: it will be gone once
	if b.closed {
		return false
	}
	b.wg.Go(read)
	if !b.tending {
		b.tending = true
		b.wg.Go(b.tend)
	}
	return true
}

func (b *Backend) gone() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.conns--
}
