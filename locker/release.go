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
	noticeSleep()
	k := l.keeper()
	k.mu.Lock()
	switch {
	case l.state == released:
		k.mu.Unlock()
		return nil
	case l.state == held && k.clock() >= l.hold.deadline:
		k.mu.Unlock()
		k.lose(l, nil)
		return l.Err()
	case l.state == lost:
		defer k.mu.Unlock()
		return l.errLocked()
	}
	l.state = released
	k.forgetLocked(l)
	running, until := l.renewal, l.hold.deadline
	stop := l.takeStopLocked()
	k.mu.Unlock()

	if stop != nil {
		stop(l.acquirer.Error("check", ErrNotHeld))
	}
	return l.send(ctx, running, until)
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

// send tells the backend about the release, at first in the caller's time, then
// in the background.
func (l *Lease) send(ctx context.Context, running *renewal, until time.Duration) error {
	ctx, cancel := l.bound(ctx, until)
	defer cancel()
	err := join(ctx, running)
	if err == nil {
		err = l.acquirer.client.backend.Release(ctx, l.handle())
	}
	switch {
	case err == nil:
		l.released(nil)
		return nil
	case errors.Is(err, ErrNotHeld):
		// The backend ended it before we did, and nobody had noticed yet.
		err = l.acquirer.Error("release", fmt.Errorf("%w: %w", ErrLost, err))
		l.released(err)
		return err
	case ctx.Err() != nil && !errors.Is(err, ctx.Err()):
		err = fmt.Errorf("%w: %w", ended(ctx), err)
	}
	l.giveBack(until)
	return l.acquirer.Error("release", fmt.Errorf("%w (going on in the background)", err))
}

// errRanOut is the cause of a context that ended with the lease.
var errRanOut = fmt.Errorf("%w: the lease ran out before its release was answered", ErrUnavailable)

// bound bounds a release by the lease: after that it has nothing to release.
func (l *Lease) bound(ctx context.Context, until time.Duration) (context.Context, context.CancelFunc) {
	left := until - l.keeper().clock()
	if d, ok := ctx.Deadline(); ok && time.Until(d) <= left {
		return ctx, func() {}
	}
	return context.WithTimeoutCause(ctx, left, errRanOut)
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
	l.returning = l.renewal != nil // then until is its deadline
	returning := l.returning
	k.mu.Unlock()
	if !returning {
		k.client.returner.add(giveBack{lease: l, until: until})
	}
}

// released reports the end of a release to the trace, unless the lease was a
// grant that nobody was told of.
func (l *Lease) released(err error) {
	if f := l.acquirer.settings.trace.Released; f != nil && l.hold.ttl > 0 {
		f(ReleasedInfo{Key: l.Key(), Held: l.keeper().clock() - l.hold.since, Err: err})
	}
}
