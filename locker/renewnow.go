package locker

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Renew asks the backend to start the TTL anew now, and waits for the answer
// until ctx ends; the renewal goes on then. The Client renews leases, or their
// backend does, without being asked: this is for who needs to know that the
// backend is there, or a whole TTL. It joins a renewal that is under way.
//
// The error matches ErrLost or ErrNotHeld if the lease is not held any more,
// and ErrUnavailable if there was no answer: the lease is held on then, as
// Check says.
func (l *Lease) Renew(ctx context.Context) error {
	noticeSleep()
	done, err := l.renewNow()
	if err != nil {
		return err
	}
	select {
	case err := <-done:
		if errors.Is(err, ErrUnavailable) && l.acquirer.settings.client.life.Err() != nil {
			err = l.error("renew", ErrClosed)
		}
		return err
	case <-ctx.Done():
		return l.error("renew", ended(ctx))
	}
}

// renewNow begins a renewal, or joins one. The channel has its outcome once.
func (l *Lease) renewNow() (<-chan error, error) {
	k := l.keeper()
	var after aftermath
	defer after.run()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.expireLocked(l, &after)
	if l.state != held {
		return nil, l.whyNotLocked()
	}
	done := make(chan error, 1)
	u := l.upkeep()
	if u == nil {
		l.noticeLocked().renewing++
		return done, l.beginLocked(func() { done <- k.confirm(l) })
	}
	if running := u.renewal; running != nil {
		return done, l.beginLocked(func() {
			<-running.done
			done <- l.outcome(u)
		})
	}
	b := k.newBatch()
	b.addLocked(u)
	k.agenda.remove(l)
	u.renewing()
	k.agenda.put(l)
	err := l.beginLocked(func() {
		k.send(b)
		done <- l.outcome(u)
	})
	if err != nil {
		u.renewal = nil
	}
	return done, err
}

// beginLocked runs a part of Renew in the background, if the Client is not
// closing; then it is about to lose the lease.
func (l *Lease) beginLocked(run func()) error {
	if !l.acquirer.settings.client.background(run) {
		return l.error("renew", ErrClosed)
	}
	return nil
}

// outcome says how the renewal went that was answered last.
func (l *Lease) outcome(u *upkeep) error {
	k := l.keeper()
	k.mu.Lock()
	defer k.mu.Unlock()
	if u.lease.state == lost {
		return u.lease.errLocked()
	}
	if u.attempts > 0 {
		return l.error("renew", fmt.Errorf("%w: the renewal was not answered", ErrUnavailable))
	}
	return nil
}

// confirm renews a lease that its backend keeps, once.
func (k *keeper) confirm(l *Lease) error {
	k.mu.Lock()
	ttl, timeout := l.granted, l.attempt()
	k.mu.Unlock()

	ctx, cancel := context.WithTimeout(k.client.life, timeout)
	defer cancel()
	r := []Renewal{{Hold: l.handle(), TTL: ttl, Attempt: 1}}
	stamp := k.clock()
	k.client.backend.Renew(ctx, r)
	err := r[0].Err
	if err == nil && r[0].Granted <= 0 {
		err = fmt.Errorf("%w: no answer within %v", ErrUnavailable, timeout)
	}
	noticeSleep()
	if f := l.acquirer.settings.trace.Renewed; f != nil {
		f(RenewedInfo{Key: l.Key(), Attempt: 1, Took: k.clock() - stamp, Err: err})
	}
	return k.confirmed(l, grantedTTL(ttl, r[0].Granted), err)
}

// confirmed applies the outcome to the lease, or to the last of those that it was
// handed over to meanwhile.
func (k *keeper) confirmed(l *Lease, granted time.Duration, err error) error {
	var after aftermath
	defer after.run()
	k.mu.Lock()
	defer k.mu.Unlock()
	for l.notice.heir != nil {
		l = l.notice.heir
	}
	l.notice.renewing--
	k.expireLocked(l, &after)
	switch {
	case l.state != held:
		return l.whyNotLocked()
	case errors.Is(err, ErrLost):
		k.loseLocked(l, err, &after)
		return l.errLocked()
	case err != nil:
		return l.error("renew", err)
	}
	k.agenda.remove(l)
	l.extend(l.tie.Since(), granted, l.terms())
	k.agenda.put(l)
	return nil
}
