package locker

import (
	"context"
	"errors"
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
// safe for concurrent use. Only a Client makes one; the zero value panics, but for
// Check.
//
// It takes 96 bytes, which is one of the allocator's size classes, and 160 with
// its upkeep; one word more costs 16 bytes a lease.
type Lease struct {
	acquirer *Acquirer
	tie      Kept // what keeps it alive: its backend, or an *upkeep
	token    Token
	fence    uint64 // 0 if none

	// The rest is guarded by keeper.mu.

	notice *notice // nil until there is one
	hold           // its state is a latch

	place int32 // in keeper.agenda: above 0 in its heap, below 0 in a second; 0 outside
	spare int32 // fences left to hand over with; never changed
}

// An upkept is a Lease with its upkeep, in one allocation.
type upkept struct {
	lease  Lease
	upkeep upkeep
}

// A loser is a Lease as it hears from its backend.
type loser Lease

// Lose implements Loser.
func (l *loser) Lose(cause error) {
	if !errors.Is(cause, ErrLost) {
		cause = fmt.Errorf("%w: %w", ErrLost, cause)
	}
	(*Lease)(l).lose(cause)
}

// A notice is what most leases never need: of a loss, or for those who asked to
// be told.
type notice struct {
	err      error           // why it was lost, or nil
	listened bool            // Lost or Context was called
	renewing int             // calls of Renew that are under way, if the backend keeps the lease
	heir     *Lease          // that the lease was handed over to meanwhile, or nil
	lost     chan struct{}   // closed on loss; nil until asked for
	work     context.Context // what Context derives from; nil until asked for, and from the stop instant on
	stop     context.CancelCauseFunc
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
	var l *Lease
	if g.Kept != nil {
		l = &Lease{tie: g.Kept}
	} else {
		both := &upkept{upkeep: upkeep{session: g.Session}}
		l = &both.lease
		l.tie = &both.upkeep
	}
	l.acquirer, l.token = a.lasting(g.Kept), g.Token
	if a.req.Weight == a.req.Limit { // holders that share a key cannot be ordered by one number
		l.fence = g.Fence
	}
	if l.fence != 0 {
		l.spare = int32(max(a.req.Fences, 1) - 1) //nolint:gosec // at most MaxFences
	}
	return l
}

// upkeep returns what the Client renews the lease with, nil if the backend keeps
// it.
func (l *Lease) upkeep() *upkeep {
	u, _ := l.tie.(*upkeep)
	return u
}

func (l *Lease) terms() *terms { return &l.acquirer.settings.terms }

// handle names the hold to the backend.
func (l *Lease) handle() Hold {
	h := Hold{Kind: l.acquirer.req.Kind, Key: l.Key(), Token: l.token}
	if u := l.upkeep(); u != nil {
		h.Session = u.session
	} else {
		h.Kept = l.tie
	}
	return h
}

// next is the instant at which the lease needs something.
func (l *Lease) next() time.Duration { return l.hold.next(l.renewAt(), l.terms()) }

// renewAt is the instant at which the Client renews the lease; never if it does
// not, or not now.
func (l *Lease) renewAt() time.Duration {
	if u := l.upkeep(); u != nil {
		return u.renewAt
	}
	return never
}

// Format prints the key and the backend, whatever the verb: a dump of the fields
// would show the token.
func (l *Lease) Format(f fmt.State, _ rune) {
	fmt.Fprintf(f, "lease of %q on %s", l.Key(), l.acquirer.settings.client.name)
}

func (l *Lease) keeper() *keeper { return l.acquirer.settings.client.keeper }

// error wraps an error of an operation with the key and the backend.
func (l *Lease) error(op string, err error) error { return l.acquirer.errorOf(op, l.Key(), err) }

// Key returns the key that is held.
func (l *Lease) Key() string {
	if key := l.acquirer.req.Key; key != "" {
		return key
	}
	return l.tie.(Named).Key() // see Acquirer.lasting
}

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
	return l.granted
}

// Deadline returns when belief in the lease ends unless a renewal is answered
// before. It moves with each renewal, and stays in the past after a loss.
func (l *Lease) Deadline() time.Time { return time.Now().Add(l.Left()) }

// Left returns the time until the Deadline, by the Client's clock: 0 or less
// once belief has ended.
func (l *Lease) Left() time.Duration {
	k := l.keeper()
	var after aftermath
	defer after.run()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.followLocked(l)
	now := k.expireLocked(l, &after) // who reads that it is over must not see it move on
	return l.deadline - now
}

// Held returns the time since the lease was granted, or rather since it was
// asked for; a lease that came by HandOver counts from the first of its line.
func (l *Lease) Held() time.Duration {
	k := l.keeper()
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.clock() - l.since
}

// Check returns nil while the lease is held, an error matching ErrLost once it
// is lost, and one matching ErrNotHeld once it was released. It compares the
// clock on every call, so unlike Lost it is right at once after a pause of the
// process: check, then write, with the fence. A nil or zero Lease is not held.
func (l *Lease) Check() error {
	if l == nil || l.acquirer == nil {
		return fmt.Errorf("distributed: check of a lease that nobody acquired: %w", ErrNotHeld)
	}
	k := l.keeper()
	k.mu.Lock()
	well := l.state == held && k.wary() < l.deadline // read here, because a wait for the lock may be a pause
	k.mu.Unlock()
	if well {
		return nil
	}
	return l.checkTwice()
}

// checkTwice is Check where a look was not enough.
func (l *Lease) checkTwice() error {
	k := l.keeper()
	var after aftermath
	defer after.run()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.expireLocked(l, &after) // the keeper may not have woken yet; what it will latch is known already
	return l.whyNotLocked()
}

// whyNotLocked returns why the lease is not held, or nil.
func (l *Lease) whyNotLocked() error {
	switch l.state {
	case released:
		return l.error("check", ErrNotHeld)
	case lost:
		return l.errLocked()
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
	n := l.noticeLocked()
	n.listened = true
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
	var after aftermath
	defer after.run()
	k.mu.Lock()
	defer k.mu.Unlock()
	n := l.noticeLocked()
	n.listened = true
	if why := l.whyNotWorkLocked(k.expireLocked(l, &after)); why != nil {
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(why)
		return ctx
	}
	if n.work == nil {
		n.work, n.stop = context.WithCancelCause(context.Background())
	}
	return n.work
}

// whyNotWorkLocked returns why no work should begin under the lease, or nil.
func (l *Lease) whyNotWorkLocked(now time.Duration) error {
	if l.state == held && l.over(now, l.terms()) { // after a pause it may not have been announced yet
		l.keeper().followLocked(l)
		if l.over(now, l.terms()) {
			return l.stopCause()
		}
	}
	return l.whyNotLocked()
}

// stopCause is what contexts end with at the stop instant. The caller holds
// keeper.mu.
func (l *Lease) stopCause() error {
	t := l.terms()
	if l.limited(t) {
		return l.error("renew", fmt.Errorf("%w in %v: %w", ErrLost, l.margin(t), ErrMaxHold))
	}
	return l.error("renew", fmt.Errorf("%w in %v, unless a renewal is answered", ErrLost, l.margin(t)))
}

// expiry is why a lease whose deadline has passed is lost. The caller holds
// keeper.mu.
func (l *Lease) expiry() error {
	if l.limited(l.terms()) {
		return fmt.Errorf("%w: %w", ErrLost, ErrMaxHold)
	}
	return fmt.Errorf("%w: no renewal was answered in time", ErrLost)
}

// lose is called by what the lease depends on.
func (l *Lease) lose(cause error) { l.keeper().lose(l, cause) }
