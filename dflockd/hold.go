package dflockd

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/locker"
)

// A renewing is one renewal under way.
type renewing struct {
	r  *locker.Renewal
	cl *call
}

// renew renews holds of this server. All requests are sent before the first
// answer is waited for. Those that go over the connections that they depend on
// are sent first: the others may have to wait for one to be dialled.
func (s *server) renew(ctx context.Context, renewals []*locker.Renewal) {
	defer renewKept(ctx, renewals)()
	var sent []renewing
	var detours []*locker.Renewal
	touched := make(map[*conn]struct{})
	for _, r := range renewals {
		if r.Kept != nil {
			continue
		}
		r.Err = s.refuseRenewal(ctx, r)
		if r.Err != nil {
			continue
		}
		if c := s.direct(r); c == nil {
			detours = append(detours, r)
		} else if cl := c.sendRenewal(r); cl != nil {
			sent = append(sent, renewing{r, cl})
			touched[c] = struct{}{}
		}
	}
	flushAll(touched)
	sent = append(sent, s.renewElsewhere(ctx, detours)...)
	for _, n := range sent {
		a, err := n.cl.wait(ctx)
		n.r.Granted, n.r.Err = renewed(n.r, &a, err)
	}
}

// refuseRenewal returns why a renewal need not, or cannot, be sent. A hold
// whose connection has ended was released by the server: renewing its token
// over another connection would at best find out.
func (s *server) refuseRenewal(ctx context.Context, r *locker.Renewal) error {
	switch {
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case s.b.life.Err() != nil:
		return locker.ErrClosed
	case r.TTL <= 0:
		return fmt.Errorf("%w: renewal for %v", locker.ErrInvalid, r.TTL)
	}
	if err := codec.CheckKey(r.Key); err != nil {
		return fmt.Errorf("%w: %w", locker.ErrInvalid, err)
	}
	if r.Session != nil {
		return r.Session.Err()
	}
	return nil
}

// direct returns the connection that a hold depends on, if a renewal should go
// that way. A second attempt should not if the connection still owes an
// answer, presumably that to the first. If it is the shared one, another takes
// its place: it stays open, as closing it would release what it holds.
func (s *server) direct(r *locker.Renewal) *conn {
	t := tieOf(r.Session)
	if t == nil {
		return nil
	}
	if !t.c.owes(r.Attempt > 1) {
		return t.c
	}
	s.retire(t.c)
	return nil
}

// owes says whether a request should not be sent on this connection: because
// it is stalled, or, to a caller whose request was not answered in time before,
// because such a request is still unanswered.
func (c *conn) owes(before bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stalled || c.lingering || before && c.deserted.Load() > 0
}

// quiet says whether the next answer on this connection would be the caller's.
func (c *conn) quiet() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.lingering && c.pending.len() == 0
}

// sendRenewal sends without flushing. It returns nil if the connection has
// ended, and says so in r.
func (c *conn) sendRenewal(r *locker.Renewal) *call {
	req := holdRequest(codec.Renew, &r.Hold)
	req.ttl = r.TTL
	cl := c.newCall(&req, tieOf(r.Session))
	if err := c.send(cl); err != nil {
		cl.free()
		r.Err = err
		if r.Session != nil && r.Session.Err() != nil {
			r.Err = r.Session.Err()
		}
		return nil
	}
	return cl
}

// renewElsewhere sends renewals over the shared connection.
func (s *server) renewElsewhere(ctx context.Context, renewals []*locker.Renewal) (sent []renewing) {
	if len(renewals) == 0 {
		return nil
	}
	if slices.ContainsFunc(renewals, func(r *locker.Renewal) bool { return r.Attempt > 1 }) {
		s.retireIfOwing()
	}
	c, err := s.shared(ctx)
	for _, r := range renewals {
		if r.Err = err; err != nil {
			continue
		}
		if cl := c.sendRenewal(r); cl != nil {
			sent = append(sent, renewing{r, cl})
		}
	}
	if c != nil {
		c.flush()
	}
	return sent
}

// retireIfOwing makes place for another shared connection if the present one
// has left a request unanswered for longer than its caller would wait.
func (s *server) retireIfOwing() {
	s.mu.Lock()
	c := s.main
	s.mu.Unlock()
	if c != nil && c.owes(true) {
		s.retire(c)
	}
}

func flushAll(conns map[*conn]struct{}) {
	for c := range conns {
		c.flush()
	}
}

// renewed reads the answer to a renewal. Servers say what is left of the lease,
// and the first of them a second less than they granted, so that 0 may be a
// success.
func renewed(r *locker.Renewal, a *codec.Answer, err error) (granted time.Duration, _ error) {
	asked := seconds(r.TTL)
	switch {
	case err != nil:
		return 0, err
	case a.Status != codec.OK:
		if a.Text != "" {
			return 0, fmt.Errorf("%w: the server answered %s", locker.ErrLost, a.Text)
		}
		return 0, fmt.Errorf("%w: the server refused to renew it (%v)", locker.ErrLost, a.Status)
	case a.TTL >= asked-time.Second:
		return asked, nil
	case a.TTL <= 0:
		return 0, fmt.Errorf("%w: the server renewed it for no time", locker.ErrLost)
	}
	return a.TTL, nil
}

// release ends a hold: over the connection that it depends on if that is free,
// else by token over the shared one.
func (s *server) release(ctx context.Context, h locker.Hold) error {
	req := holdRequest(codec.Release, &h)
	t := tieOf(h.Session)
	var a codec.Answer
	var err error
	if t != nil && t.c.own && t.c.quiet() {
		a, err = t.c.roundTrip(ctx, &req, t)
	} else {
		a, _, err = s.ask(ctx, &req, t, false)
	}
	if err != nil {
		return err
	}
	if t != nil && t.c.own && t.finish() {
		s.put(t.c)
	}
	if a.Status != codec.OK {
		return fmt.Errorf("%w: the server knows no such hold (%v)", locker.ErrNotHeld, a.Status)
	}
	return nil
}

func holdRequest(command codec.Command, h *locker.Hold) request {
	return request{command: command, kind: h.Kind, key: h.Key, token: codec.Token(h.Token)}
}
