package dflockd

import (
	"context"
	"errors"
	"fmt"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/locker"
)

// A ticket is a place in session mode. Any number of them share the link.
type ticket struct {
	x    *conversation
	req  locker.Request
	e    *ask // of the Enqueue; its own
	done bool // Wait or Cancel has used it up
}

// enqueue takes a place.
func (x *conversation) enqueue(ctx context.Context, req *locker.Request) (locker.Place, error) {
	a := x.srv.b.newAsk(codec.Enqueue, req.Kind, req.Key)
	a.wants(req, nil)
	a.call.Request.NoTimeout = false
	a.own = true
	if err := x.do(ctx, a); err != nil {
		return nil, err
	}
	switch a.call.Status {
	case codec.Acquired, codec.Queued:
		return &ticket{x: x, req: *req, e: a}, nil
	}
	return nil, x.refusal(req, a)
}

// Acquired says whether Enqueue got the lease at once.
func (p *ticket) Acquired() bool { return p.e.call.Status == codec.Acquired }

// Wait collects the lease; see locker.Place. If the session ended meanwhile, or
// the server does not know the place any more, the error matches
// locker.ErrPlaceExpired.
func (p *ticket) Wait(ctx context.Context) (locker.Grant, error) {
	if p.done {
		return locker.Grant{}, fmt.Errorf("%w: the place was used before", locker.ErrNotHeld)
	}
	p.done = true
	if ctx.Err() != nil {
		p.leave()
		return locker.Grant{}, context.Cause(ctx)
	}
	x, g := p.x, p.x.newGrant(&p.req)
	a := x.srv.b.newAsk(codec.Wait, p.req.Kind, p.req.Key)
	a.wants(&p.req, g)
	a.call.Request.NoTimeout = true
	a.bound(ctx)
	a.call.Ticket = &p.e.call
	if err := x.put(ctx, a); err != nil {
		return locker.Grant{}, err
	}
	if a.call.Status != codec.ErrSession {
		return x.conclude(ctx, &p.req, g, a)
	}
	x.srv.b.recycle(a)
	err := x.ended()
	if !errors.Is(err, locker.ErrClosed) {
		err = fmt.Errorf("%w: %w", locker.ErrPlaceExpired, err)
	}
	return locker.Grant{}, err
}

// Cancel gives up the place; see locker.Place. It does not wait for the answer:
// where there is no connection, the place goes when there is one again, or when
// its lease has run out.
func (p *ticket) Cancel(context.Context) error {
	if !p.done {
		p.done = true
		p.leave()
	}
	return nil
}

func (p *ticket) leave() {
	now := p.x.clock()
	p.x.mu.Lock()
	p.x.client.Cancel(now, &p.e.call)
	p.x.leave(now)
}
