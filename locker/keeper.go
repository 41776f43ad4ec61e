package locker

import (
	"errors"
	"fmt"
	"sync"
	"time"
)

// A keeper keeps the leases of one Client: it renews them, announces their stop
// instants and ends them at their deadlines; at those that their backend keeps
// it only looks, when one of the two would come. One goroutine sleeps on one timer
// until the earliest instant at which any lease needs something, and for as long
// as the watchdog allows: after a suspend of the machine the clock is ahead of
// the timer. Renewals go to the backend in batches, from a goroutine that lives
// only while one is under way.
type keeper struct {
	client *Client
	clock  clock
	wary   clock // clock, with noticeSleep before

	nudge chan struct{} // capacity 1: something became due earlier

	mu      sync.Mutex
	agenda  agenda        // by Lease.next; guarded by mu
	sleeps  time.Duration // the instant until which run sleeps; guarded by mu
	used    bool          // something was added since run looked last; guarded by mu
	running bool          // run was started; guarded by mu
	closed  bool          // guarded by mu

	renewers map[class]*renewer // guarded by mu
}

func newKeeper(c *Client) *keeper {
	return &keeper{client: c, clock: c.settings.clock, wary: c.settings.wary, nudge: make(chan struct{}, 1), agenda: newAgenda(), sleeps: never, renewers: make(map[class]*renewer)}
}

// add keeps a new lease. The error says why it is lost already, or that the
// Client is closed; then the lease is not kept.
func (k *keeper) add(l *Lease) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		return ErrClosed
	}
	if !k.running {
		if !k.client.background(k.run) {
			return ErrClosed
		}
		k.running = true
	}
	// Last, because from here on the end of what it depends on is the lease's.
	if err := l.tie.Bind((*loser)(l)); err != nil {
		// Nobody has believed in this grant yet, so it is an outage and not a
		// loss: the acquisition begins anew.
		return fmt.Errorf("%w: connection ended with the grant: %v", ErrUnavailable, err)
	}
	k.agenda.put(l)
	k.used = true
	k.wakeLocked(l.next()) // not the agenda's: that may be a second of which all leases have gone
	return nil
}

// wakeLocked sees that run looks again if the earliest instant has moved forward,
// to next.
func (k *keeper) wakeLocked(next time.Duration) {
	if next < k.sleeps {
		k.sleeps = next
		select {
		case k.nudge <- struct{}{}:
		default:
		}
	}
}

// followLocked moves a lease on if its backend has kept it alive.
func (k *keeper) followLocked(l *Lease) {
	if l.state != held || l.upkeep() != nil {
		return
	}
	since := l.tie.Since()
	if !l.grows(since, l.terms()) {
		return
	}
	planned := l.place != 0
	k.agenda.remove(l)
	l.extend(since, l.granted, l.terms())
	if planned {
		k.agenda.put(l)
	}
}

// expireLocked loses a lease whose deadline has passed now, which it returns.
func (k *keeper) expireLocked(l *Lease, after *aftermath) (now time.Duration) {
	now = k.clock()
	k.expireAtLocked(l, now, after)
	return now
}

// expireAtLocked is expireLocked for who has just read the clock.
func (k *keeper) expireAtLocked(l *Lease, now time.Duration, after *aftermath) {
	if l.state != held || now < l.deadline {
		return
	}
	if k.followLocked(l); now >= l.deadline {
		k.loseLocked(l, nil, after)
	}
}

// run is the keeper's goroutine.
func (k *keeper) run() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		if next := k.tick(); next < never {
			timer.Reset(min(max(0, next-k.clock()), watchdog))
		} else {
			timer.Stop()
		}
		select {
		case <-timer.C:
		case <-k.nudge:
		case <-k.client.life.Done():
			return
		}
	}
}

// perTurn is how many leases are looked at under the lock at once: others wait
// for it.
const perTurn = 256

// tick does what is due and returns the next instant.
func (k *keeper) tick() time.Duration {
	noticeSleep()
	for {
		if next, done := k.turn(); done {
			return next
		}
	}
}

// turn does some of what is due. If that was all it returns the next instant.
func (k *keeper) turn() (next time.Duration, done bool) {
	var after aftermath
	defer after.run()
	k.mu.Lock()
	defer k.mu.Unlock()
	now := k.clock()
	for range perTurn {
		l := k.agenda.due(now)
		if l == nil {
			k.restLocked(now)
			return k.sleeps, true
		}
		k.doLocked(l, now, &after)
	}
	return 0, false
}

// restLocked says how long run sleeps. Where locks come and go it does so for the
// period of the watchdog, even if nothing is held at this moment: else it would be
// woken by each lock that is taken.
func (k *keeper) restLocked(now time.Duration) {
	k.sleeps = k.agenda.next()
	if k.used || k.sleeps < never {
		k.sleeps = min(k.sleeps, later(now, watchdog))
	}
	k.used = false
}

// doLocked does what a lease needs that is not in the agenda, and puts it in
// again.
func (k *keeper) doLocked(l *Lease, now time.Duration, after *aftermath) {
	k.followLocked(l)
	switch l.due(now, l.renewAt(), l.terms()) {
	case dueEnd:
		k.loseLocked(l, nil, after)
		return
	case dueStop:
		l.stopped = true
		if stop := l.takeStopLocked(); stop != nil {
			cause := l.stopCause()
			after.add(func() { stop(cause) })
		}
	case dueRenewal:
		u := l.upkeep()
		u.renewing()
		k.enqueueLocked(u)
	}
	k.agenda.put(l)
}

// lose ends a lease.
func (k *keeper) lose(l *Lease, cause error) {
	var after aftermath
	defer after.run()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.loseLocked(l, cause, &after)
}

// loseHeir ends the lease that has the upkeep now.
func (k *keeper) loseHeir(u *upkeep, cause error) {
	var after aftermath
	defer after.run()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.loseLocked(u.lease, cause, &after)
}

// loseLocked ends a lease. A nil cause stands for its deadline.
func (k *keeper) loseLocked(l *Lease, cause error, after *aftermath) {
	if l.state != held {
		return // the first reason stands
	}
	// Where its TTL still runs at the backend, and is not left to run out, the
	// next is let in before.
	unaware := cause == nil && (l.upkeep() == nil || l.limited(l.terms()))
	if cause == nil {
		cause = l.expiry()
	}
	n := l.noticeLocked()
	k.forgetLocked(l)
	l.state, n.err = lost, l.error("renew", cause)
	l.deadline = min(l.deadline, k.clock())
	if n.lost != nil {
		close(n.lost)
	}
	if stop := l.takeStopLocked(); stop != nil {
		after.add(func() { stop(n.err) })
	}
	after.add(func() { l.announce(cause, unaware) })
}

// announce reports a loss: to the backend if that is unaware of it, to the
// trace, and to the log if nobody listened.
func (l *Lease) announce(cause error, unaware bool) {
	k, s := l.keeper(), l.acquirer.settings
	if unaware {
		l.giveBack(later(k.clock(), l.TTL()))
	}
	k.mu.Lock()
	listened := l.notice.listened
	k.mu.Unlock()
	switch {
	case s.trace.Lost != nil:
		s.trace.Lost(LostInfo{Key: l.Key(), Err: l.Err()})
	case !listened && !errors.Is(cause, ErrClosed):
		s.logger.Warn("distributed: lease lost, and nobody listens", "key", l.Key(), "error", l.Err())
	}
}

// forgetLocked stops keeping a lease.
func (k *keeper) forgetLocked(l *Lease) {
	k.agenda.remove(l)
	if u := l.upkeep(); u != nil && u.session != nil {
		u.session.detach(u)
	}
}

// close loses every lease that is still held and returns their handles, for
// the Client to give back.
func (k *keeper) close() []Hold {
	var after aftermath
	defer after.run()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.closed = true
	all := k.agenda.all()
	left := make([]Hold, len(all))
	for i, l := range all {
		left[i] = l.handle()
		k.loseLocked(l, fmt.Errorf("%w: %w", ErrLost, ErrClosed), &after)
	}
	return left
}

// aftermath is what follows from a change of state and must not run under the
// lock: callbacks, and contexts whose children are the caller's code.
type aftermath []func()

func (a *aftermath) add(f func()) { *a = append(*a, f) }

func (a *aftermath) run() {
	for _, f := range *a {
		f()
	}
}
