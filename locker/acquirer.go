package locker

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"
)

const (
	// firstPause and longestPause bound the pauses between attempts while a
	// backend cannot be reached.
	firstPause   = 20 * time.Millisecond
	longestPause = time.Second

	// fresh is how old the stamp of a grant is at most for which a backend that
	// keeps it alive need not be asked whether it knows of a later one.
	fresh = 50 * time.Millisecond

	// complainEvery is how often one acquisition logs what it rides out.
	complainEvery = 10 * time.Second
)

// errWaitOver is the cause of a context that WithWait ended.
var errWaitOver = errors.New("wait is over")

// errLapsed says that a grant ran out on its way: it is not a hold, and the
// acquisition begins anew.
var errLapsed = fmt.Errorf("grant ran out before it arrived: %w", ErrUnavailable)

// An Acquirer acquires leases for one request, again and again. It is safe for
// concurrent use.
type Acquirer struct {
	req      Request
	settings *settings // the Client's if there are no others
	nameless *Acquirer // the Client's if it asks for the same but for the key; else nil

	outage atomic.Pointer[error] // that an acquisition rides out, while it pauses; else nil
}

// Request returns what is asked for.
func (a *Acquirer) Request() Request { return a.req }

// Acquire waits for a lease until ctx ends, or WithWait's time is over. While
// the backend cannot be reached it tries again and again, with growing pauses.
// Errors that cannot pass, such as ErrAuth, return at once.
func (a *Acquirer) Acquire(ctx context.Context) (*Lease, error) {
	ctx, cancel := a.Bound(ctx)
	defer cancel()
	return a.AcquireBound(ctx)
}

// AcquireBound is Acquire with a context that Bound returned.
func (a *Acquirer) AcquireBound(ctx context.Context) (*Lease, error) { return a.acquire(ctx, outage) }

// acquire waits for a lease until ctx ends, over all errors that pass.
func (a *Acquirer) acquire(ctx context.Context, passes func(error) bool) (*Lease, error) {
	p := a.patience("acquire", passes)
	err := a.usable(ctx)
	for stamp := p.began; err == nil; stamp = a.settings.clock() {
		var l *Lease
		if l, err = a.once(ctx, a.req, stamp, p.began); err == nil {
			return l, nil
		}
		err = p.bear(ctx, err)
	}
	return nil, a.fail(p.op, p.began, err)
}

// Try acquires a lease if that is possible at once. The error matches ErrLocked
// if it is not, and ErrUnavailable if the backend could not be reached.
func (a *Acquirer) Try(ctx context.Context) (*Lease, error) {
	began := a.settings.clock()
	req := a.req
	req.Try = true
	err := a.usable(ctx)
	var l *Lease
	if err == nil {
		l, err = a.once(ctx, req, began, began)
	}
	if err != nil {
		return nil, a.fail("try", began, err)
	}
	return l, nil
}

// MustAcquire waits for a lease for as long as it takes, whatever WithWait says:
// who gives up a place in the queue again and again may never get a turn. It
// panics on what can never succeed: wrong credentials, a request that the
// backend cannot serve, a closed Client. It is for the Lock of sync.Locker,
// which can return no error.
func (a *Acquirer) MustAcquire() *Lease {
	l, err := a.acquire(context.Background(), mayPass)
	if err != nil {
		panic(err)
	}
	return l
}

// outage says whether an error is ridden out by a wait that has an end.
func outage(err error) bool { return errors.Is(err, ErrUnavailable) }

// mayPass says whether an error may go away by itself.
func mayPass(err error) bool {
	for _, e := range []error{ErrUnavailable, ErrLocked, ErrLeaseTooShort, ErrTooManyKeys, ErrTooManyWaiters, ErrTooManyConns} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// A patience is what an operation that waits has with errors that pass. It is
// no function that calls another, for which each acquisition would allocate.
type patience struct {
	acquirer *Acquirer
	op       string
	passes   func(error) bool
	began    time.Duration
	pauses   backoff.BackOff // nil before the first
	silent   time.Duration   // nothing is logged before this instant
}

func (a *Acquirer) patience(op string, passes func(error) bool) patience {
	return patience{acquirer: a, op: op, passes: passes, began: a.settings.clock()}
}

// bear takes what an attempt failed with. It pauses, and returns nil if there
// should be another, else why there should be none.
func (p *patience) bear(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return waitError(ctx, err)
	case !p.passes(err):
		return err
	}
	if p.pauses == nil {
		p.pauses = newPauses()
	}
	p.complain(err)
	p.acquirer.outage.Store(&err)
	defer p.acquirer.outage.Store(nil)
	switch {
	case p.acquirer.pause(ctx, err, p.pauses.NextBackOff()):
		return nil
	case p.acquirer.settings.client.life.Err() != nil:
		return ErrClosed
	}
	return waitError(ctx, err)
}

// complain logs what the operation bears: at once, and then now and again, for an
// outage of an hour is not four thousand stories.
func (p *patience) complain(err error) {
	now := p.acquirer.settings.clock()
	if now < p.silent {
		return
	}
	p.silent = now + complainEvery
	p.acquirer.settings.logger.Warn("distributed: cannot acquire, trying on",
		"key", p.acquirer.req.Key, "for", now-p.began, "error", err)
}

// Bound returns ctx bounded by WithWait, for a primitive that waits for
// something of its own before it calls AcquireBound with the same context.
func (a *Acquirer) Bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if a.settings.wait == 0 {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, a.settings.wait, errWaitOver)
}

// Interrupted returns the error of a primitive's own wait that ctx ended: what
// Acquire would have returned.
func (a *Acquirer) Interrupted(ctx context.Context, op string) error {
	return a.Error(op, waitError(ctx, a.busy()))
}

// Busy returns the error of a primitive's own try, where another acquisition of
// a stands in its way: it matches ErrLocked, or ErrUnavailable while that one
// rides out an outage.
func (a *Acquirer) Busy(op string) error { return a.Error(op, a.busy()) }

func (a *Acquirer) busy() error {
	if outage := a.outage.Load(); outage != nil {
		return *outage
	}
	return ErrLocked
}

// Error wraps an error of an operation with the key and the backend.
func (a *Acquirer) Error(op string, err error) error { return a.errorOf(op, a.req.Key, err) }

func (a *Acquirer) errorOf(op, key string, err error) error {
	return &Error{Op: op, Key: key, Backend: a.settings.client.name, Err: err}
}

// lasting returns the Acquirer that a lease remembers. Client.Acquire makes one
// for each lease: where the backend keeps the hold and knows its key, the Client's
// says all the rest, and what one lease costs falls from 265 bytes to 185.
func (a *Acquirer) lasting(k Kept) *Acquirer {
	if a.nameless != nil {
		if _, named := k.(Named); named {
			return a.nameless
		}
	}
	return a
}

// newPauses returns the pauses of one loop of attempts: 20 ms, doubling up to a
// second, each with half of it at random, without end.
func newPauses() backoff.BackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(firstPause),
		backoff.WithMaxInterval(longestPause),
		backoff.WithMultiplier(2),
		backoff.WithMaxElapsedTime(0),
	)
}

// usable returns why no acquisition can begin: a context that has ended loses
// even where the lease would be free, as in x/sync/semaphore.
func (a *Acquirer) usable(ctx context.Context) error {
	if a.settings.client.life.Err() != nil {
		return ErrClosed
	}
	if ctx.Err() != nil {
		return ended(ctx)
	}
	return nil
}

// ended returns what a context ended with: its error, and its cause where that
// says more.
func ended(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) {
		return cause
	}
	return fmt.Errorf("%w: %w", err, cause)
}

// waitError says why a wait ended without a lease: the context's error, unless
// it was WithWait that ended it, and beside it what the attempt in flight was
// answered, or ErrLocked if the context's end was all that it returned.
func waitError(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	var held *HeldError
	switch {
	case errors.As(err, &held):
		err = held
	case !errors.Is(err, ErrUnavailable) && (errors.Is(err, ctx.Err()) || errors.Is(err, cause)):
		err = ErrLocked
	}
	if cause == errWaitOver { //nolint:errorlint // the very value, not one that wraps it
		return fmt.Errorf("%w: %w", errWaitOver, err)
	}
	return fmt.Errorf("%w: %w", ended(ctx), err)
}

// pause waits before the next attempt. It returns false if there is none.
func (a *Acquirer) pause(ctx context.Context, err error, d time.Duration) bool {
	if f := a.settings.trace.Retrying; f != nil {
		f(RetryingInfo{Key: a.req.Key, Err: err, Pause: d})
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
	case <-a.settings.client.life.Done():
	}
	return false
}

// fail wraps the error of an acquisition and reports it.
func (a *Acquirer) fail(op string, began time.Duration, err error) error {
	err = a.Error(op, err)
	if f := a.settings.trace.Failed; f != nil {
		f(FailedInfo{Key: a.req.Key, Waited: a.settings.clock() - began, Err: err})
	}
	return err
}

// once asks the backend once, now, for an acquisition that may have begun before.
func (a *Acquirer) once(ctx context.Context, req Request, stamp, began time.Duration) (*Lease, error) {
	req.Stamp = stamp
	g, err := a.settings.client.backend.Acquire(ctx, req)
	if err != nil {
		return nil, err
	}
	return a.settle(ctx, g, stamp, began)
}

// settle makes a lease of a grant that was asked for at stamp, or gives the
// grant back. Began is when the acquisition did, for the trace.
func (a *Acquirer) settle(ctx context.Context, g Grant, stamp, began time.Duration) (*Lease, error) {
	l := a.newLease(g)
	confirmed, err := a.believe(ctx, l, stamp, &g)
	if err == nil {
		err = a.settings.client.keeper.add(l)
	}
	if err != nil {
		l.hold = hold{}
		l.giveBack(later(a.settings.clock(), max(a.req.TTL, g.TTL, releaseTimeout)))
		return nil, err
	}
	s := a.settings
	if f := s.trace.Acquired; f != nil {
		f(AcquiredInfo{Key: a.req.Key, Fence: l.fence, Waited: s.clock() - began, Confirmed: confirmed})
	}
	return l, nil
}

// believe starts the hold of a lease that was asked for at stamp, or says why
// nobody should believe in it. Where less than half of the lease would be left,
// because the request queued or the answer was late, one renewal confirms it
// first: only then is the stamp young, and a grant whose lease ran out unnoticed
// found out. An acquisition that did not wait never pays for that. A lease that is
// shared with other holds may count from before the stamp.
func (a *Acquirer) believe(ctx context.Context, l *Lease, stamp time.Duration, g *Grant) (confirmed bool, err error) {
	ttl, now := grantedTTL(a.req.TTL, g.TTL), g.Heard
	if now == 0 {
		now = a.settings.wary() // the machine may have slept since the stamp
	}
	asked, granted := stamp, ttl
	if l.upkeep() == nil && (g.Shared || now-stamp > fresh) {
		stamp = l.tie.Since()
	}
	if ttl > 0 && deadlineOf(stamp, ttl)-now < ttl/2 {
		h := l.handle()
		if stamp, granted, err = a.confirm(ctx, h, ttl); err != nil {
			return false, err
		}
		if h.Kept != nil {
			stamp = h.Kept.Since()
		}
		confirmed, now = true, a.settings.clock()
	}
	switch {
	case granted <= 0 || deadlineOf(stamp, granted)-now < granted/3:
		return false, fmt.Errorf("%w: granted for %v, and less than a third of it was left", ErrLeaseTooShort, granted)
	case ctx.Err() != nil:
		return false, ended(ctx)
	}
	l.hold = newHold(max(asked, stamp), granted, l.terms())
	if stamp < asked {
		l.extend(stamp, granted, l.terms())
	}
	if u := l.upkeep(); u != nil {
		u.began(&l.hold, ttl, l.terms(), rand.Float64())
	}
	return confirmed, nil
}

// confirm renews a grant once, and returns the stamp and the lease to count
// from.
func (a *Acquirer) confirm(ctx context.Context, h Hold, ttl time.Duration) (stamp, granted time.Duration, err error) {
	attempt, cancel := context.WithTimeout(ctx, ttl/3)
	defer cancel()
	r := []Renewal{{Hold: h, TTL: ttl, Attempt: 1}}
	stamp = a.settings.clock()
	a.settings.client.backend.Renew(attempt, r)
	err = r[0].Err
	switch {
	case err == nil:
		return stamp, grantedTTL(ttl, r[0].Granted), nil
	case errors.Is(err, ErrLost):
		err = fmt.Errorf("%w: %v", errLapsed, err) // nobody believed in it yet: an outage, not a loss
	case ctx.Err() != nil:
		err = ended(ctx)
	case attempt.Err() != nil:
		err = fmt.Errorf("%w: the grant was not confirmed within %v", ErrUnavailable, ttl/3)
	}
	return stamp, ttl, err
}
