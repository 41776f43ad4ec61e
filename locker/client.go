package locker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// closeTimeout bounds how long Close gives back what is still held.
	closeTimeout = time.Second

	// releasers is how many leases are given back at the same time.
	releasers = 64
)

// A Client acquires leases from a backend and keeps them alive: one goroutine
// and one timer for all of them. It is safe for concurrent use; the zero value
// is not usable, New makes one. Close it when done.
type Client struct {
	backend  Backend
	releaser Releaser // the backend, or nil if it is none
	name     string   // of the backend, which is not asked for it under a lock
	settings settings
	nameless *Acquirer // of the exclusive lease without options, on no key: for Acquirer.lasting
	keeper   *keeper
	returner returner
	limits   limits

	// life ends when Close begins, and with it renewals and waits; afterlife
	// up to closeTimeout later, and with it what is still given back.
	life, afterlife context.Context
	endLife         context.CancelCauseFunc
	endAfterlife    context.CancelFunc

	closeOnce func() error

	mu   sync.Mutex
	done bool           // nothing new may start; guarded by mu
	wg   sync.WaitGroup // what runs in the background; Add only under mu while not done
}

// New returns a Client of the backend, which it owns from now on. The options
// are the defaults of everything acquired through it. It panics if the backend
// is nil: a forgotten assignment must not become a lock on some default.
func New(b Backend, opts ...Option) *Client {
	if b == nil {
		panic("distributed: locker.New with a nil Backend")
	}
	settings := defaults().with(opts).kept()
	if clocked, ok := b.(Clocked); ok {
		clocked.UseClock(settings.wary)
	}
	if logging, ok := b.(Logging); ok {
		logging.UseLogger(settings.logger)
	}
	c := &Client{backend: b, name: b.String(), settings: settings}
	c.releaser, _ = b.(Releaser)
	c.settings.client = c
	c.nameless = &Acquirer{req: exclusive(""), settings: &c.settings}
	c.nameless.req.TTL = c.settings.ttl
	c.life, c.endLife = context.WithCancelCause(context.Background())
	c.afterlife, c.endAfterlife = context.WithCancel(context.Background())
	c.keeper = newKeeper(c)
	c.returner.client = c
	c.closeOnce = sync.OnceValue(c.close)
	return c
}

// Backend returns what New was given.
func (c *Client) Backend() Backend { return c.backend }

// Acquire waits, in FIFO order, for the exclusive lease on the key until ctx
// ends, and rides out outages of the backend meanwhile. Ctx bounds the waiting,
// not the hold. Release the lease when done.
func (c *Client) Acquire(ctx context.Context, key string, opts ...Option) (*Lease, error) {
	a, err := c.exclusive(key, opts)
	if err != nil {
		return nil, err
	}
	return a.Acquire(ctx)
}

// TryAcquire is Acquire without waiting: the error matches ErrLocked if
// somebody else holds the key or waits for it, and ErrUnavailable if the
// backend could not be reached.
func (c *Client) TryAcquire(ctx context.Context, key string, opts ...Option) (*Lease, error) {
	a, err := c.exclusive(key, opts)
	if err != nil {
		return nil, err
	}
	return a.Try(ctx)
}

// Enqueue takes a place in the queue for the exclusive lease on the key, to be
// waited for later. The error matches errors.ErrUnsupported if the backend
// cannot.
func (c *Client) Enqueue(ctx context.Context, key string, opts ...Option) (*Ticket, error) {
	a, err := c.exclusive(key, opts)
	if err != nil {
		return nil, err
	}
	return a.Enqueue(ctx)
}

func (c *Client) exclusive(key string, opts []Option) (*Acquirer, error) {
	return c.Acquirer(exclusive(key), opts...)
}

func exclusive(key string) Request { return Request{Kind: Exclusive, Key: key, Limit: 1, Weight: 1} }

// Acquirer prepares acquisitions of one kind, so that a primitive checks its
// request and options once and not at each Lock. Request.TTL and Request.Try
// are ignored: WithTTL and the method called say them. The error matches
// ErrInvalid.
func (c *Client) Acquirer(req Request, opts ...Option) (*Acquirer, error) {
	a := &Acquirer{req: req, settings: &c.settings}
	if len(opts) > 0 {
		s := c.settings.with(opts).kept()
		a.settings = &s
	}
	a.req.TTL, a.req.Try = a.settings.ttl, false
	if err := errors.Join(req.check(), a.settings.check()); err != nil {
		return nil, &Error{Op: "acquire", Key: req.Key, Backend: c.name, Err: err}
	}
	same := c.nameless.req
	if same.Key = req.Key; a.req == same && a.settings == c.nameless.settings {
		a.nameless = c.nameless
	}
	return a, nil
}

// Inspect reports who holds and who waits, for all clients of the backend. The
// error matches errors.ErrUnsupported if the backend cannot say.
func (c *Client) Inspect(ctx context.Context) (Report, error) {
	i, ok := c.backend.(Inspector)
	if !ok {
		return Report{}, fmt.Errorf("distributed: inspect %s: %w", c.name, errors.ErrUnsupported)
	}
	r, err := i.Inspect(ctx)
	if err != nil {
		return Report{}, fmt.Errorf("distributed: inspect %s: %w", c.name, err)
	}
	return r, nil
}

// Force ends the leases that anybody holds on the key, whichever client it is of,
// and returns how many there were. Their holders lose them with ErrRevoked, at
// once where their backend can tell them; one that has no contact works on until
// its deadline, and only fences stop what it writes meanwhile. The error matches
// errors.ErrUnsupported if the backend cannot.
func (c *Client) Force(ctx context.Context, kind Kind, key string) (int, error) {
	n, err := c.force(ctx, kind, key)
	if err != nil {
		return n, &Error{Op: "force", Key: key, Backend: c.name, Err: err}
	}
	return n, nil
}

func (c *Client) force(ctx context.Context, kind Kind, key string) (int, error) {
	f, ok := c.backend.(Forcer)
	if !ok {
		return 0, errors.ErrUnsupported
	}
	r := Request{Kind: kind, Key: key, Limit: 1, Weight: 1}
	if err := r.check(); err != nil {
		return 0, err
	}
	return f.Force(ctx, kind, key)
}

// Close ends the Client: every lease that it still holds is lost with ErrClosed
// and then given back, for which it takes at most a second; calls in flight
// return ErrClosed; background work ends before Close returns. It is
// idempotent.
func (c *Client) Close() error { return c.closeOnce() }

func (c *Client) close() error {
	c.mu.Lock()
	c.done = true
	c.mu.Unlock()
	c.endLife(ErrClosed)
	limit := time.AfterFunc(closeTimeout, c.endAfterlife)
	defer limit.Stop()

	var g errgroup.Group
	g.SetLimit(releasers)
	for _, h := range c.keeper.close() {
		g.Go(func() error {
			if c.afterlife.Err() != nil {
				return nil
			}
			return c.backend.Release(c.afterlife, h)
		})
	}
	_ = g.Wait() // what could not be given back runs out; the leases are lost either way
	c.wg.Wait()
	err := c.backend.Close()
	c.endAfterlife()
	return err
}

// background runs f in a goroutine that Close waits for: f must end with life
// or afterlife. It returns false, and does not run f, once Close has begun.
func (c *Client) background(f func()) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done {
		return false
	}
	c.wg.Go(f)
	return true
}
