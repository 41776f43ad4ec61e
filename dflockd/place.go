package dflockd

import (
	"context"
	"fmt"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/locker"
)

// A place is a place in a queue, or an uncollected lease. The server keeps it
// for the connection, which is therefore the place's own until it is used up.
type place struct {
	c     *conn
	req   locker.Request
	grant codec.Answer // what Enqueue got at once; HasToken says whether it did
	done  bool         // Wait or Cancel has used it up
}

// enqueue takes a place in the server's way.
func (s *server) enqueue(ctx context.Context, req *locker.Request) (locker.Place, error) {
	for {
		x, err := s.way(ctx)
		if x == nil && err == nil {
			if err = inBase(req); err == nil {
				return s.enqueueBase(ctx, req)
			}
		}
		if err != nil {
			return nil, err
		}
		if p, err := x.enqueue(ctx, req); err != errTooLate {
			return p, err
		}
	}
}

// enqueueBase takes a place on a connection of its own.
func (s *server) enqueueBase(ctx context.Context, req *locker.Request) (locker.Place, error) {
	wire := request{command: codec.Enqueue, kind: req.Kind, key: req.Key, ttl: req.TTL, limit: req.Limit}
	for fresh := false; ; fresh = true {
		c, err := s.checkout(ctx, fresh)
		if err != nil {
			return nil, err
		}
		stale := c.used()
		a, err := c.roundTrip(ctx, &wire, nil)
		if err != nil {
			c.cancel()
		} else {
			if req.Kind == locker.Counting && a.Status != codec.Failed {
				s.semaphores.Store(true)
			}
			if a.Status == codec.Acquired || a.Status == codec.Queued {
				return &place{c: c, req: *req, grant: a}, nil
			}
			s.put(c)
			err = refusal(req, &a)
		}
		if fresh || !stale || !s.worthRepeating(err) {
			return nil, err
		}
	}
}

// Acquired says whether Enqueue got the lease at once.
func (p *place) Acquired() bool { return p.grant.HasToken }

// Wait collects the lease; see locker.Place. If the server ends the wait before
// ctx does, or does not know the place any more, the error matches
// locker.ErrPlaceExpired.
func (p *place) Wait(ctx context.Context) (locker.Grant, error) {
	if p.done {
		return locker.Grant{}, fmt.Errorf("%w: the place was used before", locker.ErrNotHeld)
	}
	p.done = true
	if ctx.Err() != nil {
		p.c.cancel()
		return locker.Grant{}, context.Cause(ctx)
	}
	wire := request{command: codec.Wait, kind: p.req.Kind, key: p.req.Key, timeout: waitOf(ctx)}
	a, err := p.c.roundTrip(ctx, &wire, nil)
	if err != nil {
		p.c.cancel()
		return locker.Grant{}, err
	}
	g, err := p.c.conclude(ctx, &p.req, &a)
	if err != nil && ctx.Err() == nil && (a.Status == codec.Timeout || a.Status == codec.Failed) {
		// Servers before 1.9 say no more than this about a place that is gone.
		err = fmt.Errorf("%w: the server answered %v", locker.ErrPlaceExpired, &a)
	}
	return g, err
}

// Cancel gives up the place; see locker.Place. If it cannot tell the server so
// before ctx ends, the end of the connection does.
func (p *place) Cancel(ctx context.Context) error {
	if p.done {
		return nil
	}
	p.done = true
	if !p.grant.HasToken {
		// No wait: either the place is left or its turn has come.
		wire := request{command: codec.Wait, kind: p.req.Kind, key: p.req.Key}
		a, err := p.c.roundTrip(ctx, &wire, nil)
		if err != nil {
			p.c.cancel()
			return err
		}
		if !a.HasToken {
			p.c.srv.put(p.c)
			return nil // also where the server knew no place: it is gone
		}
		p.grant = a
	}
	wire := request{command: codec.Release, kind: p.req.Kind, key: p.req.Key, token: p.grant.Token}
	_, err := p.c.roundTrip(ctx, &wire, p.c.tie)
	if err != nil {
		p.c.srv.giveBack(wire)
		p.c.cancel()
		return err
	}
	p.c.srv.put(p.c) // also if the lease had run out
	return nil
}
