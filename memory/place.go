package memory

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/distributed-go/distributed/internal/table"
	"github.com/distributed-go/distributed/locker"
)

// A place is a locker.Place: a lease of the table, from its request on.
type place struct {
	session *session
	lease   *table.Lease

	acquired bool
	grant    locker.Grant  // set if acquired
	answer   answer        // of a join, or zero
	turn     chan struct{} // closed when the turn comes; nil if acquired
	used     bool          // Wait or Cancel was called
}

// Enqueue implements locker.Queuer.
func (b *Backend) Enqueue(ctx context.Context, req locker.Request) (locker.Place, error) {
	req.Try = false
	p, err := b.place(ctx, req, nil)
	if err != nil {
		return nil, err
	}
	return p, nil
}

// place asks for a lease; a join may get an answer instead.
// Fresh is nil unless it is for Join, whose argument it points to.
func (b *Backend) place(ctx context.Context, req locker.Request, fresh *time.Duration) (*place, error) {
	c, err := b.current()
	if err != nil {
		return nil, err
	}
	p := &place{session: c}
	err = c.do(ctx, func(now time.Duration) (err error) {
		if fresh != nil && b.server.freshLocked(now, req.Key, *fresh, &p.answer) {
			return nil
		}
		p.lease, err = b.server.table.Acquire(now, table.Request{
			Kind: kindOf(req.Kind), Key: []byte(req.Key), Owner: c.owner,
			TTL: ttlOf(req.TTL), Limit: req.Limit, Weight: req.Weight, Fences: req.Fences, Try: req.Try,
			Joins: fresh != nil,
		})
		switch {
		case errors.Is(err, table.ErrLocked):
			return b.server.inTheWayLocked(req)
		case err != nil:
			return lockerError(err)
		case p.lease.State() == table.Granted:
			p.acquired, p.grant = true, p.grantLocked()
		default:
			p.turn = make(chan struct{})
			p.lease.Tag = p
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// Acquired implements locker.Place.
func (p *place) Acquired() bool { return p.acquired }

// Wait implements locker.Place.
func (p *place) Wait(ctx context.Context) (locker.Grant, error) {
	if p.used {
		return locker.Grant{}, fmt.Errorf("%w: the place was used before", locker.ErrNotHeld)
	}
	p.used = true
	if !p.acquired {
		select {
		case <-p.turn:
		case <-p.session.over:
		case <-ctx.Done():
		}
	}
	// Whatever woke this goroutine, what counts is what the table says when it
	// is asked: exactly one of the two below ends up with a grant that came
	// meanwhile.
	var g locker.Grant
	err := p.session.do(ctx, func(now time.Duration) error {
		if v := p.lease.Published(); v != nil {
			p.answer = answer{v, now - v.At}
			return nil
		}
		err := p.session.server.table.Collect(now, p.lease)
		switch {
		case err != nil && p.lease.Reason() == table.Revoked:
			return locker.ErrPlaceExpired // nobody had it yet
		case err != nil:
			return lockerError(err)
		}
		g = p.grantLocked()
		return nil
	})
	if err != nil {
		p.giveUp()
	}
	return g, err
}

// Cancel implements locker.Place. It takes effect at once, whether the server
// answers or not, as closing a connection does, and always returns nil.
func (p *place) Cancel(context.Context) error {
	if !p.used {
		p.used = true
		p.giveUp()
	}
	return nil
}

// giveUp leaves the queue, or releases what the place became.
func (p *place) giveUp() {
	s := p.session.server
	s.mu.Lock()
	defer s.mu.Unlock()
	s.table.Cancel(s.nowLocked(), p.lease)
	s.settleLocked()
}

// grantLocked is the grant of a lease that is granted.
func (p *place) grantLocked() locker.Grant {
	tok := p.lease.Token()
	return locker.Grant{Token: lockerToken(tok), Fence: tok.Fence, TTL: p.lease.TTL(), Session: p.session.holds}
}
