package locker

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// releaseTimeout bounds one attempt to release in the background, and how long
// Do waits for its release.
const releaseTimeout = time.Second

// Release ends the hold. It waits for a renewal that is under way, goes by
// token, and cannot free anybody else's hold. It is idempotent: releasing again
// returns nil at once.
//
// Ctx bounds how long the caller waits, not the release: when it ends first, or
// the backend cannot be reached, Release returns the error and goes on in the
// background until it is answered or the lease has run out. So a context that
// was cancelled still frees the key. One of Lease.Context is cancelled by the
// release itself: give another, or context.WithoutCancel of it.
//
// The error matches ErrLost if the lease was lost before; then nothing is sent.
func (l *Lease) Release(ctx context.Context) error {
	switch e, err := l.endHold(); {
	case err != nil:
		return notBefore(err)
	case ctx.Done() == nil:
		return l.sendWithin(e.left, e)
	default:
		return l.send(ctx, e)
	}
}

// ReleaseWithin is Release for who has no context, and does without the price of
// one: it waits for d at most. The error matches context.DeadlineExceeded where
// that was not enough.
func (l *Lease) ReleaseWithin(d time.Duration) error {
	e, err := l.endHold()
	if err != nil {
		return notBefore(err)
	}
	return l.sendWithin(d, e)
}

// notBefore is what a release returns of a hold that is over: it is idempotent.
func notBefore(err error) error {
	if errors.Is(err, ErrLost) {
		return err
	}
	return nil
}

// An ending is what is left to do for a lease that its holder has released.
type ending struct {
	running *renewal      // to be waited for; nil if none is under way
	now     time.Duration // an instant from before
	left    time.Duration // of the lease
}

// endHold ends a lease that is held, as far as this side goes, and the work under
// it, or says why it is not held.
func (l *Lease) endHold() (ending, error) {
	now := l.keeper().wary() // whoever releases hears of a loss, also of one while the machine slept
	e, stop, err := l.endHoldAt(now)
	if stop != nil {
		stop(l.error("check", ErrNotHeld))
	}
	return e, err
}

func (l *Lease) endHoldAt(now time.Duration) (ending, context.CancelCauseFunc, error) {
	k := l.keeper()
	var after aftermath
	defer after.run()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.expireAtLocked(l, now, &after)
	switch l.state {
	case released:
		return ending{}, nil, ErrNotHeld
	case lost:
		return ending{}, nil, l.errLocked()
	}
	k.forgetLocked(l)
	l.state = released
	e := ending{now: now, left: l.deadline - now}
	if u := l.upkeep(); u != nil {
		e.running = u.renewal
	}
	return e, l.takeStopLocked(), nil
}

// Do calls f while the lease is held and then releases it, also if f panics.
// The context of f derives from ctx as that of Context does. Do returns f's
// error first, and one that matches ErrLost if the lease was lost while f ran,
// even if f returned nil, because somebody else may have worked at the same
// time; or if f failed after its context was cancelled for fear of that.
//
// Do waits for at most a second for the release to be confirmed; where it was
// not, the release goes on in the background, and that is no error.
func (l *Lease) Do(ctx context.Context, f func(ctx context.Context) error) (err error) {
	work, cancel := l.Context(ctx)
	defer func() {
		lost := l.Err()
		if lost == nil && err != nil && errors.Is(context.Cause(work), ErrLost) {
			lost = context.Cause(work) // f was told to end, and may not know why
		}
		cancel()
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
		defer cancel()
		if e := l.Release(ctx); lost == nil && errors.Is(e, ErrLost) {
			lost = e
		}
		if lost != nil && !errors.Is(err, ErrLost) {
			err = errors.Join(err, lost)
		}
	}()
	return f(work)
}

// send tells the backend about the release, and waits for the answer until ctx
// ends, or the lease: after that there is nothing to release.
func (l *Lease) send(ctx context.Context, e ending) error {
	if d, ok := ctx.Deadline(); !ok || time.Until(d) > e.left {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, e.left, errRanOut)
		defer cancel()
	}
	return l.tell(ctx, e.running)
}

// sendWithin is send for a time.
func (l *Lease) sendWithin(d time.Duration, e ending) error {
	c := l.acquirer.settings.client
	if r := c.releaser; r != nil && l.upkeep() == nil {
		err := r.ReleaseWithin(e.now, min(d, e.left), l.handle())
		if d >= e.left && errors.Is(err, context.DeadlineExceeded) {
			err = errLimit
		}
		return l.told(err)
	}
	limit := c.limits.start(min(d, e.left))
	defer c.limits.stop(limit)
	return l.tell(limit, e.running)
}

// tell tells the backend about the release, at first in the caller's time, then
// in the background. Of a hold that it keeps the backend is told once, in either.
func (l *Lease) tell(ctx context.Context, running *renewal) error {
	err := join(ctx, running)
	if err == nil || l.upkeep() == nil {
		err = l.acquirer.settings.client.backend.Release(ctx, l.handle())
	}
	if err != nil && ctx.Err() != nil && !errors.Is(err, ErrNotHeld) && !errors.Is(err, ctx.Err()) {
		err = fmt.Errorf("%w: %w", ended(ctx), err)
	}
	return l.told(err)
}

// told concludes what the backend was told in the caller's time.
func (l *Lease) told(err error) error {
	kept := l.upkeep() == nil
	switch {
	case err == nil:
		l.released(nil)
		return nil
	case errors.Is(err, ErrNotHeld):
		// The backend ended it before we did, and nobody had noticed yet.
		err = l.error("release", fmt.Errorf("%w: %w", ErrLost, err))
		l.released(err)
		return err
	}
	if err = l.error("release", fmt.Errorf("%w (going on in the background)", err)); kept {
		l.released(err)
	} else {
		l.giveBack(l.deadline)
	}
	return err
}

// join waits for a renewal that is under way, so that nothing about the lease
// is sent after its release.
func join(ctx context.Context, running *renewal) error {
	if running != nil {
		select {
		case <-running.done:
		case <-ctx.Done():
		}
	}
	if ctx.Err() != nil {
		return ended(ctx)
	}
	return nil
}

// giveBack releases the hold in the background, after the renewal that is under
// way.
func (l *Lease) giveBack(until time.Duration) {
	k := l.keeper()
	k.mu.Lock()
	u := l.upkeep()
	returns := u != nil && u.renewal != nil // then until is its deadline
	if returns {
		u.returns = true
	}
	k.mu.Unlock()
	if !returns {
		k.client.returner.add(giveBack{lease: l, until: until})
	}
}

// released reports the end of a release to the trace, unless the lease was a
// grant that nobody was told of.
func (l *Lease) released(err error) {
	if f := l.acquirer.settings.trace.Released; f != nil && l.granted > 0 {
		f(ReleasedInfo{Key: l.Key(), Held: l.keeper().clock() - l.since, Err: err})
	}
}
