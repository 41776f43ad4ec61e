//go:build unix

package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/distributed-go/distributed"
	"github.com/distributed-go/distributed/e2e/internal/overlap"
	"github.com/distributed-go/distributed/e2e/internal/proxy"
	"github.com/distributed-go/distributed/locker"
)

const (
	// cutTTL is the TTL of everything whose connections are cut, and half of it
	// is more than any cut takes.
	cutTTL = 10 * time.Second

	// stuck is what nothing takes that works, and less than the TTL, so that
	// what only ends with it is found out.
	stuck = cutTTL * 2 / 3
)

// A cutLane is two clients on keys of their own. The connection of a is cut, that
// of b is not. Each round does the same, so that it is known before which bytes
// go over, and afterwards all must be as if nothing had been cut.
type cutLane struct {
	name     string
	proxy    *proxy.Proxy
	a, b     *distributed.Client
	observer *distributed.Client

	// From the first round to the last a holds "kept", which b waits for, and
	// b holds "theirs", which a and then b wait for.
	kept, theirs *distributed.Lease
	forever      errgroup.Group

	mu         sync.Mutex
	order      map[string][]string       // who held, by key; guarded by mu
	holds      map[string][]overlap.Hold // by key; guarded by mu
	unanswered int                       // releases; guarded by mu
}

func newCutLane(t testing.TB, s *lockServer, name string, opts ...locker.Option) *cutLane {
	t.Helper()
	p := proxy.Start(t, s.addr)
	opts = append([]locker.Option{locker.WithTTL(cutTTL)}, opts...)
	return &cutLane{
		name: name, proxy: p,
		a:        open(t, fmt.Sprintf("dflockd://%s?fences=1", p.Addr()), opts...),
		b:        open(t, s.url(), opts...),
		observer: open(t, s.url()),
		order:    make(map[string][]string), holds: make(map[string][]overlap.Hold),
	}
}

func (l *cutLane) key(name string) string { return l.name + "/" + name }

// begin takes what is held and waited for through all rounds.
func (l *cutLane) begin(ctx context.Context) (err error) {
	if l.kept, err = l.a.Acquire(ctx, l.key("kept")); err != nil {
		return err
	}
	if l.theirs, err = l.b.Acquire(ctx, l.key("theirs")); err != nil {
		return err
	}
	return errors.Join(
		l.queue(ctx, &l.forever, l.b, "kept", "b", 1),
		l.queue(ctx, &l.forever, l.a, "theirs", "a", 1),
		l.queue(ctx, &l.forever, l.b, "theirs", "b", 2),
	)
}

// end gives up what was held through all rounds, and sees that those who waited
// get it, and that nothing is left.
func (l *cutLane) end(ctx context.Context) error {
	err := errors.Join(l.hold(ctx, l.kept, "kept", "a"), l.hold(ctx, l.theirs, "theirs", "b"), l.forever.Wait())
	return errors.Join(err,
		l.wasServed("kept", "a", "b"), l.wasServed("theirs", "b", "a", "b"),
		l.until(ctx, "kept", 0, 0), l.until(ctx, "theirs", 0, 0))
}

// round acquires, waits, tries, takes a place, cancels and releases.
func (l *cutLane) round(ctx context.Context) (err error) {
	whole, cancel := context.WithTimeoutCause(ctx, 2*cutTTL, errors.New("the round is stuck"))
	defer cancel()
	g, ctx := errgroup.WithContext(whole)
	defer func() {
		if err != nil {
			cancel()
		}
		err = errors.Join(err, g.Wait())
	}()
	x, err := l.a.Acquire(ctx, l.key("x"))
	if err != nil {
		return err
	}
	y, err := l.b.Acquire(ctx, l.key("y"))
	if err != nil {
		return err
	}
	err = errors.Join(
		l.queue(ctx, g, l.b, "x", "b1", 1), l.queue(ctx, g, l.a, "x", "a2", 2), l.queue(ctx, g, l.b, "x", "b2", 3),
		l.try(ctx), l.enqueue(ctx, g), l.queue(ctx, g, l.b, "y", "b4", 2), l.changeMind(ctx),
		l.hold(ctx, x, "x", "a1"), l.hold(ctx, y, "y", "b3"))
	if err != nil {
		return err
	}
	if err := g.Wait(); err != nil {
		return err
	}
	return errors.Join(
		l.wasServed("x", "a1", "b1", "a2", "b2"), l.wasServed("y", "b3", "a3", "b4"), l.kept.Check(), l.theirs.Check(),
		l.until(whole, "x", 0, 0), l.until(whole, "y", 0, 0), l.until(whole, "kept", 1, 1), l.until(whole, "theirs", 1, 2))
}

// queue has somebody wait for a key, and returns when that is known to the
// server, which has so many waiters then.
func (l *cutLane) queue(ctx context.Context, g *errgroup.Group, c *distributed.Client, key, who string, waiters int) error {
	g.Go(func() error {
		lease, err := c.Acquire(ctx, l.key(key))
		if err != nil {
			return fmt.Errorf("%s waits for %s: %w", who, key, err)
		}
		return l.hold(ctx, lease, key, who)
	})
	return l.until(ctx, key, 1, waiters)
}

// try tries in vain. It may be told that there is no connection just then.
func (l *cutLane) try(ctx context.Context) error {
	for {
		_, err := l.a.TryAcquire(ctx, l.key("y"))
		switch {
		case errors.Is(err, locker.ErrLocked):
			return nil
		case !errors.Is(err, locker.ErrUnavailable) || ctx.Err() != nil:
			return fmt.Errorf("a tries what b holds: %v, want ErrLocked", err)
		}
	}
}

// enqueue takes a place and waits for it later.
func (l *cutLane) enqueue(ctx context.Context, g *errgroup.Group) error {
	ticket, err := l.a.Enqueue(ctx, l.key("y"))
	for errors.Is(err, locker.ErrUnavailable) && ctx.Err() == nil {
		ticket, err = l.a.Enqueue(ctx, l.key("y"))
	}
	if err != nil {
		return fmt.Errorf("a takes a place: %w", err)
	}
	g.Go(func() error {
		lease, err := ticket.Wait(ctx)
		if err != nil {
			return fmt.Errorf("a waits with its ticket: %w", err)
		}
		return l.hold(ctx, lease, "y", "a3")
	})
	return l.until(ctx, "y", 1, 1)
}

// changeMind cancels a wait.
func (l *cutLane) changeMind(ctx context.Context) error {
	waitCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		_, err := l.a.Acquire(waitCtx, l.key("y"))
		ended <- err
	}()
	err := l.until(ctx, "y", 1, 3)
	cancel()
	if got := <-ended; !errors.Is(got, context.Canceled) {
		err = errors.Join(err, fmt.Errorf("a changes its mind: %v, want %v", got, context.Canceled))
	}
	return errors.Join(err, l.until(ctx, "y", 1, 2))
}

// hold notes that somebody holds, and ends that.
func (l *cutLane) hold(ctx context.Context, lease *distributed.Lease, key, who string) error {
	h := overlap.Hold{Who: who, Enter: monotonic()}
	h.Fence, _ = lease.Fence()
	err := lease.Check()
	h.Exit = monotonic()
	l.mu.Lock()
	l.order[key] = append(l.order[key], who)
	l.holds[key] = append(l.holds[key], h)
	l.mu.Unlock()
	if err == nil {
		err = lease.Release(context.WithoutCancel(ctx))
	}
	if errors.Is(err, locker.ErrUnavailable) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.unanswered++ // and goes on in the background, or else the next one waits in vain
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s holds %s: %w", who, key, err)
	}
	return nil
}

// wasServed sees in which order a key was held, and forgets it.
func (l *cutLane) wasServed(key string, want ...string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	got := l.order[key]
	delete(l.order, key)
	if !slices.Equal(got, want) {
		return fmt.Errorf("%s was held by %v, want %v", key, got, want)
	}
	return nil
}

// until returns once the server reports so many holders and waiters of a key.
func (l *cutLane) until(ctx context.Context, key string, holders, waiters int) error {
	ctx, cancel := context.WithTimeout(ctx, stuck)
	defer cancel()
	for {
		h, w, err := usersOf(ctx, l.observer, l.key(key))
		switch {
		case err == nil && h == holders && w == waiters:
			return nil
		case err != nil || ctx.Err() != nil:
			return fmt.Errorf("%s has %d holders and %d waiters, %w; want %d and %d", key, h, w, errors.Join(err, ctx.Err()), holders, waiters)
		}
		time.Sleep(time.Millisecond) // real time, as all of this
	}
}

// usersOf counts what a server's report shows of one key.
func usersOf(ctx context.Context, c *distributed.Client, key string) (holders, waiters int, err error) {
	r, err := c.Inspect(ctx)
	if err != nil {
		return 0, 0, err
	}
	for _, k := range r.Keys {
		if k.Key == key {
			holders, waiters = holders+k.Holders, waiters+k.Waiters
		}
	}
	return holders, waiters, nil
}

// conflicts returns what holds contradict exclusion or the growth of fences.
func (l *cutLane) conflicts() (found []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key, holds := range l.holds {
		for _, c := range overlap.Find(holds) {
			found = append(found, fmt.Sprintf("%s: %v", l.key(key), c))
		}
	}
	return found
}
