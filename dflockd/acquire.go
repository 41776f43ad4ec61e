package dflockd

import (
	"context"
	"errors"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/locker"
)

// acquire acquires in the server's way.
func (s *server) acquire(ctx context.Context, req *locker.Request) (locker.Grant, error) {
	for {
		x, err := s.way(ctx)
		if x == nil && err == nil {
			if err = inBase(req); err == nil {
				return s.acquireBase(ctx, req)
			}
		}
		if err != nil {
			return locker.Grant{}, err
		}
		if g, err := x.acquire(ctx, req); err != errTooLate {
			return g, err
		}
	}
}

// acquireBase tries on the shared connection first, so that what is free costs
// one round trip and no connection, and then waits on one of its own.
func (s *server) acquireBase(ctx context.Context, req *locker.Request) (locker.Grant, error) {
	k := waiterKey{req.Kind, req.Key}
	// What an old server does not know makes it close the connection, and
	// with the shared one all its holds: so the first semaphore is asked for
	// elsewhere.
	shareable := req.Kind == locker.Exclusive || s.semaphores.Load()
	if shareable && (req.Try || !s.queued(k)) {
		g, err := s.try(ctx, req)
		switch {
		case errors.Is(err, ErrRefused):
			// Perhaps the line was the server's farewell to a connection that
			// was silent for too long. A fresh one will tell.
		case errors.Is(err, locker.ErrLocked) && !req.Try:
		default:
			return g, err
		}
	}
	if !req.Try {
		defer s.queue(k)()
	}
	return s.acquireAlone(ctx, req)
}

// try asks over the shared connection for an answer at once.
func (s *server) try(ctx context.Context, req *locker.Request) (locker.Grant, error) {
	wire := lockRequest(req, 0)
	// Closing a connection released what it was granted, so a try that may
	// have arrived can be repeated: unless holds survive connections.
	a, c, err := s.ask(ctx, &wire, nil, !s.b.cfg.keep)
	if err != nil {
		return locker.Grant{}, err
	}
	if a.Status != codec.OK {
		return locker.Grant{}, refusal(req, &a)
	}
	return s.grantOf(req, &a, c.session), nil
}

// acquireAlone asks over a connection of its own, which the lease keeps.
func (s *server) acquireAlone(ctx context.Context, req *locker.Request) (locker.Grant, error) {
	for fresh := false; ; fresh = true {
		c, err := s.checkout(ctx, fresh)
		if err != nil {
			return locker.Grant{}, err
		}
		stale := c.used()
		g, err := c.acquire(ctx, req)
		if err == nil || fresh || !stale || !s.worthRepeating(err) {
			return g, err
		}
	}
}

// worthRepeating says whether an acquisition that failed on a connection that
// had been idle should be repeated on a fresh one: the server may have closed
// the other, with or without the bare "error" of its farewell.
func (s *server) worthRepeating(err error) bool {
	return errors.Is(err, ErrRefused) || repeatable(err, !s.b.cfg.keep)
}

// acquire waits on a connection of own. The connection is disposed of.
func (c *conn) acquire(ctx context.Context, req *locker.Request) (locker.Grant, error) {
	for {
		var wait time.Duration
		if !req.Try {
			wait = waitOf(ctx)
		}
		wire := lockRequest(req, wait)
		a, err := c.roundTrip(ctx, &wire, nil)
		if err != nil {
			c.cancel()
			return locker.Grant{}, err
		}
		if a.Status == codec.Timeout && !req.Try && ctx.Err() == nil {
			continue // the server ended the wait before we did
		}
		return c.conclude(ctx, req, &a)
	}
}

// conclude makes a grant of the answer to an acquisition on a connection of
// own, or puts the connection back.
func (c *conn) conclude(ctx context.Context, req *locker.Request, a *codec.Answer) (locker.Grant, error) {
	s := c.srv
	if req.Kind == locker.Counting && a.Status != codec.Failed {
		s.semaphores.Store(true)
	}
	if a.HasToken {
		return s.grantOf(req, a, c.handOver()), nil
	}
	s.put(c)
	if a.Status == codec.Timeout && ctx.Err() != nil {
		return locker.Grant{}, context.Cause(ctx)
	}
	return locker.Grant{}, refusal(req, a)
}

// handOver leaves the connection to what was granted on it; or puts it back
// where holds do not depend on connections.
func (c *conn) handOver() *locker.Session {
	if c.srv.b.cfg.keep {
		c.srv.put(c)
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy = false
	return c.session
}

// used says whether the connection has been used before.
func (c *conn) used() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.proven
}

func lockRequest(req *locker.Request, wait time.Duration) request {
	return request{command: codec.Lock, kind: req.Kind, key: req.Key, timeout: wait, ttl: req.TTL, limit: req.Limit}
}

// waitOf is how long to ask the server to wait: as long as ctx allows. It is
// written in whole seconds, rounded up, so that it is ctx that ends the wait.
func waitOf(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return longestWait
	}
	return min(max(time.Until(deadline), time.Second), longestWait)
}
