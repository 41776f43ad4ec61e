package locker

import (
	"context"
	"fmt"
	"time"
)

// A leaseState says whether a lease may be believed in.
type leaseState uint8

const (
	held     leaseState = iota
	released            // by its holder
	lost                // a latch: a lost lease never comes back
)

// A Lease is one hold: the truth about whether work under it may go on. It is
// safe for concurrent use. Only a Client makes one; the zero value panics.
type Lease struct {
	acquirer *Acquirer
	session  *Session // what it depends on besides its TTL; nil if nothing
	token    Token
	fence    uint64 // 0 if none

	next, previous *Lease // of the same session; guarded by session.mu

	// The rest is guarded by keeper.mu.

	hold      hold
	heapPos   int32 // in keeper.heap; -1 outside
	state     leaseState
	attempts  uint8 // to renew it, since the last that was answered; it stays at its largest value
	listened  bool  // Lost or Context was called
	returning bool  // to be given back when the renewal under way is answered
	renewal   *renewal
	notice    *notice // nil until there is one
}

// A notice is what most leases never need: of a loss, or for those who asked to
// be told.
type notice struct {
	err  error           // why it was lost, or nil
	lost chan struct{}   // closed on loss; nil until asked for
	work context.Context // what Context derives from; nil until asked for, and from the stop instant on
	stop context.CancelCauseFunc
}

// noticeLocked returns the notice, and makes one if there is none.
func (l *Lease) noticeLocked() *notice {
	if l.notice == nil {
		l.notice = new(notice)
	}
	return l.notice
}

// errLocked returns why the lease was lost, or nil.
func (l *Lease) errLocked() error {
	if l.notice == nil {
		return nil
	}
	return l.notice.err
}

// takeStopLocked returns the function that ends what Context derives from, to be
// called when the lock is released, or nil if there is none. A later renewal may
// bring new work.
func (l *Lease) takeStopLocked() context.CancelCauseFunc {
	n := l.notice
	if n == nil || n.work == nil {
		return nil
	}
	stop := n.stop
	n.work, n.stop = nil, nil
	return stop
}

func (a *Acquirer) newLease(g Grant) *Lease {
	l := &Lease{acquirer: a, session: g.Session, token: g.Token, fence: g.Fence, heapPos: -1}
	if a.req.Weight < a.req.Limit {
		l.fence = 0 // holders that share a key cannot be ordered by one number
	}
	return l
}

// handle names the hold to the backend.
func (l *Lease) handle() Hold {
	return Hold{Kind: l.acquirer.req.Kind, Key: l.acquirer.req.Key, Token: l.token, Session: l.session}
}

// Format prints the key and the backend, whatever the verb: a dump of the fields
// would show the token.
func (l *Lease) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "lease of %q on %s", l.Key(), l.acquirer.client.name)
}

func (l *Lease) keeper() *keeper { return l.acquirer.client.keeper }

// Key returns the key that is held.
func (l *Lease) Key() string { return l.acquirer.req.Key }

// Token returns the token of the hold. It is a secret: whoever knows it can
// release the key.
func (l *Lease) Token() Token { return l.token }

// Fence returns a number that grows with every grant of the key, for the
// resource that the lock protects: it remembers the largest it has seen and
// refuses smaller ones, which come from holders who do not know yet that they
// lost the key. It is false where the backend has none, and where holders share
// the key, because the weight is less than the limit.
func (l *Lease) Fence() (uint64, bool) { return l.fence, l.fence != 0 }

// TTL returns the lease as the backend granted it last: it may answer a renewal
// with less than it was asked for.
func (l *Lease) TTL() time.Duration {
	k := l.keeper()
	k.mu.Lock()
	defer k.mu.Unlock()
	return l.hold.granted
}

// Deadline returns when belief in the lease ends unless a renewal is answered
// before. It moves with each renewal, and stays in the past after a loss.
func (l *Lease) Deadline() time.Time {
	k := l.keeper()
	k.mu.Lock()
	d := l.hold.deadline
	k.mu.Unlock()
	return time.Now().Add(d - k.clock())
}

// Check returns nil while the lease is held, an error matching ErrLost once it
// is lost, and one matching ErrNotHeld once it was released. It compares the
// clock on every call, so unlike Lost it is right at once after a pause of the
// process: check, then write, with the fence.
func (l *Lease) Check() error {
	noticeSleep()
	k := l.keeper()
	k.mu.Lock()
	state, err, expired := l.state, l.errLocked(), k.clock() >= l.hold.deadline
	k.mu.Unlock()
	switch {
	case state == released:
		return l.acquirer.Error("check", ErrNotHeld)
	case state == lost:
		return err
	case expired:
		// The keeper has not woken yet; what it will latch is known already.
		k.lose(l, nil)
		return l.Err()
	}
	return nil
}

// Lost returns a channel that is closed once, when the lease is lost, and never
// when it is released. After a pause of the process it closes late; Check does
// not.
func (l *Lease) Lost() <-chan struct{} {
	k := l.keeper()
	k.mu.Lock()
	defer k.mu.Unlock()
	l.listened = true
	n := l.noticeLocked()
	if n.lost == nil {
		n.lost = make(chan struct{})
		if l.state == lost {
			close(n.lost)
		}
	}
	return n.lost
}

// Err returns why the lease was lost, matching ErrLost and its cause, and nil
// if it was not.
func (l *Lease) Err() error {
	k := l.keeper()
	k.mu.Lock()
	defer k.mu.Unlock()
	return l.errLocked()
}

// Context derives a context for work under the lease. It is cancelled with a
// cause matching ErrLost at the stop instant, or when the lease is lost, and
// with one matching ErrNotHeld when it is released. Call the returned function
// when the work is done.
func (l *Lease) Context(parent context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	w := l.workContext()
	detach := context.AfterFunc(w, func() { cancel(context.Cause(w)) })
	if w.Err() != nil {
		cancel(context.Cause(w)) // at once: AfterFunc would take a goroutine's time
	}
	return ctx, func() {
		detach()
		cancel(nil)
	}
}

// workContext returns the context that ends at the stop instant. One that has
// ended is not kept: a renewal may still be answered, and bring new work.
func (l *Lease) workContext() context.Context {
	noticeSleep()
	k := l.keeper()
	k.mu.Lock()
	defer k.mu.Unlock()
	l.listened = true
	if why := l.whyNotWorkLocked(); why != nil {
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(why)
		return ctx
	}
	n := l.noticeLocked()
	if n.work == nil {
		n.work, n.stop = context.WithCancelCause(context.Background())
	}
	return n.work
}

// whyNotWorkLocked returns why no work should begin under the lease, or nil.
func (l *Lease) whyNotWorkLocked() error {
	switch {
	case l.state == released:
		return l.acquirer.Error("check", ErrNotHeld)
	case l.state == lost:
		return l.errLocked()
	case l.hold.stopped(l.keeper().clock()): // after a pause it may not have been announced yet
		return l.stopCause()
	}
	return nil
}

// stopCause is what contexts end with at the stop instant. The caller holds
// keeper.mu.
func (l *Lease) stopCause() error {
	t := &l.acquirer.settings.terms
	if l.hold.limited(t) {
		return l.acquirer.Error("renew", fmt.Errorf("%w in %v: %w", ErrLost, l.hold.margin(t), ErrMaxHold))
	}
	return l.acquirer.Error("renew", fmt.Errorf("%w in %v, unless a renewal is answered", ErrLost, l.hold.margin(t)))
}

// expiry is why a lease whose deadline has passed is lost. The caller holds
// keeper.mu.
func (l *Lease) expiry() error {
	if l.hold.limited(&l.acquirer.settings.terms) {
		return fmt.Errorf("%w: %w", ErrLost, ErrMaxHold)
	}
	return fmt.Errorf("%w: no renewal was answered in time", ErrLost)
}

// lose is called by the session that the lease depends on.
func (l *Lease) lose(cause error) { l.keeper().lose(l, cause) }
