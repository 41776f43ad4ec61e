package once

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/distributed-go/distributed/locker"
)

// Prefix goes before the key of a Once and of a Value, and what it makes is the
// key of a lock to the backend. So who holds a lock of that name, such as a Mutex on
// "once/migrate", excludes the Once on "migrate", and nothing runs meanwhile.
const Prefix = "once/"

const (
	// firstPause and longestPause bound the pauses between attempts to put.
	firstPause   = 20 * time.Millisecond
	longestPause = time.Second

	// lookTimeout bounds the look at what became of a put that had no answer.
	lookTimeout = time.Second
)

// A cell is what a Once and a Value have in common: a record that is put once.
type cell struct {
	client   *locker.Client // nil if there was no New
	acquirer *locker.Acquirer
	source   source
	settings settings
	err      error // what was wrong with the arguments of New

	// Turn is had by who goes to the backend: of a hundred goroutines that share
	// the cell one asks, and the others hear of it from that one. Capacity 1.
	turn chan struct{}

	mu    sync.Mutex
	seen  *record // the last that was seen; guarded by mu, as all below
	looks uint64  // how often one was seen
	ever  bool    // seen counts for ever
	epoch uint64  // how often Reset was called
}

func newCell(c *locker.Client, key string, opts []Option, known ...string) *cell {
	if c == nil {
		panic("distributed: once: a nil Client")
	}
	known = append(known, "WithExpiry", "WithFingerprint", "WithVolatile", "WithMarker", "WithLease")
	settings, err := newSettings(opts, known...)
	cell := &cell{client: c, settings: settings, source: sourceOf(c, settings.store, "once.WithMarker"), turn: make(chan struct{}, 1)}
	if err = errors.Join(checkKey(key, Prefix), err); err == nil {
		cell.acquirer, err = c.Acquirer(request(Prefix+key), settings.lease...)
	} else {
		err = &locker.Error{Op: "do", Key: key, Backend: c.Backend().String(), Err: err}
	}
	cell.err = err
	return cell
}

func request(key string) locker.Request {
	return locker.Request{Kind: locker.Exclusive, Key: key, Limit: 1, Weight: 1}
}

// checkKey returns why a key is not one that a prefix can go before.
func checkKey(key, prefix string) error {
	err := locker.CheckKey(key)
	if most := locker.MaxKey - len(prefix); err == nil && len(key) > most {
		err = fmt.Errorf("%w: key of %d bytes: must have at most %d, as %q goes before it (hash what is longer)", locker.ErrInvalid, len(key), most, prefix)
	}
	return err
}

// ready returns what was wrong with the arguments of New. It panics if there was
// no New.
func (c *cell) ready(ctx context.Context) error {
	switch {
	case c == nil:
		panic("distributed: use of a zero Once or Value: make one with New or NewValue")
	case c.err != nil:
		return c.err
	case ctx.Err() != nil:
		return c.fail(ended(ctx))
	}
	return nil
}

// fail wraps an error that does not say yet what it is about.
func (c *cell) fail(err error) error {
	if _, says := err.(*locker.Error); says { //nolint:errorlint // one that is wrapped does not say it first
		return err
	}
	return c.acquirer.Error("do", err)
}

// do returns the record that is put once: that of another, or else of what run
// returns.
func (c *cell) do(ctx context.Context, run func(context.Context) ([]byte, error)) (*record, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	r, looks, ever := c.remembered()
	if ever {
		return r, nil
	}
	wait, cancel := c.acquirer.Bound(ctx)
	defer cancel()
	select {
	case c.turn <- struct{}{}:
	case <-wait.Done():
		return nil, c.acquirer.Interrupted(wait, "do")
	}
	leave := sync.OnceFunc(func() { <-c.turn })
	defer leave()
	if r, now, _ := c.remembered(); now > looks && r != nil {
		return r, nil // somebody saw it since this call began
	}
	l, r, err := c.meet(wait)
	if err != nil || r != nil {
		return r, err
	}
	return c.lead(ctx, l, func(work context.Context) ([]byte, error) {
		// Another may have its turn as soon as this one should end, and
		// not when it cares to.
		defer context.AfterFunc(work, leave)()
		return run(withLease(work, l))
	})
}

// remembered returns the record that was seen last, and whether it counts for ever.
func (c *cell) remembered() (r *record, looks uint64, ever bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.seen, c.looks, c.ever
}

func (c *cell) now() (epoch uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.epoch
}

// remember notes a record that was looked for in an epoch.
func (c *cell) remember(r *record, epoch uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if epoch != c.epoch {
		return // it may have been removed since
	}
	c.seen, c.ever = r, c.settings.expiry == 0 && r.Expires.IsZero()
	c.looks++
}

// meet returns the record if it is there, or comes while this call waits, and else
// the lease to run under.
func (c *cell) meet(ctx context.Context) (*locker.Lease, *record, error) {
	epoch := c.now()
	r, err := c.look(ctx)
	switch {
	case err == nil:
		return nil, r, c.accept(r, epoch)
	case !errors.Is(err, ErrNotDone) && (!errors.Is(err, locker.ErrUnavailable) || ctx.Err() != nil): // the wait rides out an outage
		return nil, nil, c.fail(err)
	}
	if err := c.keepable(ctx); err != nil {
		return nil, nil, c.fail(err)
	}
	l, r, err := c.source.wait(ctx, c.acquirer, c.fresh())
	switch {
	case err != nil:
		return nil, nil, c.fail(err)
	case r != nil:
		return nil, r, c.accept(r, epoch)
	}
	return l, nil, nil
}

// look returns the record, or an error that matches ErrNotDone.
func (c *cell) look(ctx context.Context) (*record, error) {
	r, err := c.source.look(ctx, c.acquirer.Request().Key)
	switch {
	case err != nil:
		return nil, err
	case r.err != nil:
		return nil, r.err
	case r.age >= c.fresh():
		return nil, ErrNotDone
	}
	return r, nil
}

// fresh is the age that a record counts up to.
func (c *cell) fresh() time.Duration {
	if c.settings.expiry == 0 {
		return locker.AnyAge
	}
	return c.settings.expiry
}

// keepable returns an error if what is done would be forgotten, and the caller has
// not said that this will do, or if the mark is more than the backend takes.
func (c *cell) keepable(ctx context.Context) error {
	shelf, err := c.source.shelf(ctx, c.acquirer.Request().Key)
	if err != nil {
		return err
	}
	if !shelf.Durable && !c.settings.volatile && c.settings.expiry == 0 {
		return ErrVolatile
	}
	_, size, err := c.largest().bytes()
	if err == nil && size > shelf.MaxSize {
		err = fmt.Errorf("mark, with its fingerprint: %w", &locker.SizeError{Size: size, Max: shelf.MaxSize})
	}
	return err
}

// largest returns a record with the longest header that one of this cell may have.
func (c *cell) largest() *record {
	return c.record(math.MaxUint64, time.Now().Truncate(time.Second).Add(time.Second-1)) // all digits count
}

// record returns that of a run which succeeds.
func (c *cell) record(fence uint64, now time.Time) *record {
	r := newRecord(fence, now)
	r.Fingerprint = c.settings.fingerprint
	if c.settings.expiry > 0 {
		r.Expires = now.Add(c.settings.expiry)
	}
	return r
}

// accept notes a record that is there, unless it is not what the caller means.
func (c *cell) accept(r *record, epoch uint64) error {
	err := r.err
	if err == nil {
		err = c.same(r)
	}
	if err != nil {
		return c.fail(err)
	}
	c.remember(r, epoch)
	return nil
}

// same returns an error if the record is of another input.
func (c *cell) same(r *record) error {
	if want := c.settings.fingerprint; want != "" && r.Fingerprint != want {
		return &FingerprintError{Have: r.Fingerprint, Want: want}
	}
	return nil
}

// lead calls run under the lease, puts what it returns, and releases. What becomes
// of the lease after the put does not matter.
func (c *cell) lead(ctx context.Context, l *locker.Lease, run func(context.Context) ([]byte, error)) (done *record, err error) {
	epoch := c.now()
	err = l.Do(ctx, func(work context.Context) error {
		// The server may be another one than before the wait.
		if err := c.keepable(work); err != nil {
			return c.fail(err)
		}
		data, err := run(work)
		if err == nil {
			done, err = c.commit(ctx, l, data)
		}
		return err
	})
	if done == nil {
		return nil, err
	}
	c.remember(done, epoch)
	return done, nil
}

// commit puts the record of a run that succeeded. It does not end with ctx, as what
// was run cannot be taken back, but with the lease as it stands now.
func (c *cell) commit(ctx context.Context, l *locker.Lease, data []byte) (*record, error) {
	fence, _ := l.Fence()
	r := c.record(fence, time.Now())
	r.data = data
	ctx = context.WithoutCancel(ctx)
	open, err := c.put(ctx, l, r)
	switch {
	case err == nil:
		return r, nil
	case !open:
		return nil, c.fail(err)
	}
	return c.resolve(ctx, r, err)
}

// put puts the record, again and again while there is no answer, until the lease as
// it stands now would be over. Open says that an attempt had none.
func (c *cell) put(ctx context.Context, l *locker.Lease, r *record) (open bool, err error) {
	if err := l.Check(); err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, l.Left())
	defer cancel()
	pauses := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(firstPause), backoff.WithMaxInterval(longestPause), backoff.WithMaxElapsedTime(0))
	_ = backoff.Retry(func() error { // which returns less than err says
		err = c.source.put(ctx, l, r, c.settings.expiry, false)
		if err == nil {
			return nil
		}
		again := !lost(err) && c.source.retries(err)
		if open = open || !lost(err) && c.unanswered(err); !again {
			return backoff.Permanent(err)
		}
		return err
	}, backoff.WithContext(pauses, ctx))
	return open, err
}

// unanswered says whether an error leaves open what became of a put.
func (c *cell) unanswered(err error) bool {
	return c.source.retries(err) || c.settings.store != nil && !errors.Is(err, locker.ErrNotStored)
}

// resolve looks what became of a record whose put had no answer, and failed with
// err in the end.
func (c *cell) resolve(ctx context.Context, r *record, err error) (*record, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	is, lookErr := c.source.look(ctx, c.acquirer.Request().Key)
	switch {
	case lookErr == nil && is.Run == r.Run:
		return r, nil
	case (lookErr == nil || errors.Is(lookErr, ErrNotDone)) && (errors.Is(err, locker.ErrNotHeld) || errors.Is(err, ErrStale)):
		return nil, c.fail(err) // the answer says that no earlier attempt can come through any more
	}
	return nil, c.fail(fmt.Errorf("%w: %w", ErrInDoubt, err))
}

// done returns the record that is there.
func (c *cell) done(ctx context.Context) (*record, error) {
	if err := c.ready(ctx); err != nil {
		return nil, err
	}
	r, err := c.look(ctx)
	if err != nil {
		return nil, c.fail(err)
	}
	return r, nil
}

// reset waits for the lease and removes the record.
func (c *cell) reset(ctx context.Context) error {
	if err := c.ready(ctx); err != nil {
		return err
	}
	l, err := c.acquirer.Acquire(ctx)
	if err != nil {
		return c.fail(err)
	}
	err = l.Do(ctx, func(work context.Context) error {
		err := c.source.remove(work, l)
		c.mu.Lock()
		c.seen, c.ever = nil, false
		c.epoch++
		c.mu.Unlock()
		if err != nil {
			return c.fail(err)
		}
		return nil
	})
	return err
}
