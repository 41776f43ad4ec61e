package dflockd

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/locker"
)

// What the Backend does, in session mode.

// acquire asks once; whether it is a try or a wait is the server's business.
func (x *conversation) acquire(ctx context.Context, req *locker.Request) (locker.Grant, error) {
	g := x.newGrant(req)
	a := x.srv.b.newAsk(codec.Lock, req.Kind, req.Key)
	a.wants(req, g)
	a.bound(ctx)
	if err := x.do(ctx, a); err != nil {
		return locker.Grant{}, err
	}
	return x.conclude(ctx, req, g, a)
}

func (x *conversation) newGrant(req *locker.Request) *grant {
	g := &grant{x: x}
	g.Hold.Key, g.Semaphore = req.Key, req.Kind == locker.Counting
	return g
}

// conclude makes a Grant of a call that has ended, and recycles the ask.
func (x *conversation) conclude(ctx context.Context, req *locker.Request, g *grant, a *ask) (locker.Grant, error) {
	var err error
	ttl := a.call.TTL // the hold's own may change from now on: a resume renews it
	if req.TTL > 0 {
		ttl = min(ttl, req.TTL)
	}
	heard := a.call.Heard
	waited := a.call.Status == codec.Timeout && a.call.Request.Timeout > 0
	if a.call.Status != codec.OK || g.Token == (codec.Token{}) {
		err = x.refusal(req, a)
	}
	x.srv.b.recycle(a)
	switch {
	case waited:
		return locker.Grant{}, awaited(ctx, err)
	case err != nil:
		return locker.Grant{}, err
	}
	return locker.Grant{Token: locker.Token(g.Token), Fence: g.Token.Fence(), TTL: ttl.Truncate(time.Millisecond), Kept: g, Heard: heard}, nil
}

// refusal is the error for a call that ended without a grant.
func (x *conversation) refusal(req *locker.Request, a *ask) error {
	status := a.call.Status
	switch {
	case a.err != nil:
		return a.err
	case status == codec.ErrSession:
		return x.ended()
	case status == codec.LeaseExpired && a.call.Ticket == nil:
		return fmt.Errorf("%w: %v had not heard of this process for so long that it gave the request up", locker.ErrUnavailable, x.srv.addr)
	case status == codec.Timeout:
		return lockedBy(a)
	case status == codec.Failed:
		return ErrRefused
	case status == 0 || status == codec.Canceled:
		return fmt.Errorf("%w: %v cancelled the request", locker.ErrUnavailable, x.srv.addr)
	}
	return refusal(req, &codec.Answer{Status: status})
}

// lockedBy says who holds what a try did not get.
func lockedBy(a *ask) error {
	if a.call.Holder == "" && a.call.HeldFor == 0 {
		return locker.ErrLocked
	}
	return &locker.HeldError{Holder: a.call.Holder, For: a.call.HeldFor}
}

// ended returns why the conversation is over.
func (x *conversation) ended() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.over == nil {
		return fmt.Errorf("%w: %v refused the session", locker.ErrUnavailable, x.srv.addr)
	}
	return x.over
}

// release ends a hold. It waits for a connection if there is none: for the
// server the hold ends when one is there, or when its lease has run out.
func (x *conversation) release(ctx context.Context, g *grant) error {
	a := x.sendRelease(x.clock(), 0, g)
	if err := x.wait(ctx, a); err != nil {
		return err
	}
	return x.released(a)
}

// releaseWithin is release for a time, with an instant from before.
func (x *conversation) releaseWithin(now, d time.Duration, g *grant) error {
	a := x.sendRelease(now, now+min(max(d, 1), math.MaxInt64-now), g)
	if err := x.waitLimited(a); err != nil {
		return err
	}
	return x.released(a)
}

// sendRelease sends a release, which is waited for until an instant, or if that is
// 0 for as long as a context lasts.
func (x *conversation) sendRelease(now, until time.Duration, g *grant) *ask {
	a := x.srv.b.blankAsk() // the Client sets the request
	x.mu.Lock()
	x.sentLocked(a)
	if until != 0 {
		x.limitLocked(a, now, until)
	}
	if !g.lost() {
		g.Tag = nil
	}
	x.client.Release(now, &g.Hold, &a.call)
	x.leave(now)
	return a
}

// released concludes a release, and recycles the ask.
func (x *conversation) released(a *ask) error {
	var err error
	switch {
	case a.err != nil:
		err = a.err
	case a.call.Status == codec.ErrSession:
		err = fmt.Errorf("%w: %w", locker.ErrNotHeld, x.ended())
	case a.call.Status == codec.OK:
	case a.moved:
		// The resume released the hold if it was there, because it did not
		// name it; nobody can say any more which it was.
	default:
		err = fmt.Errorf("%w: the server knows no such hold (%v)", locker.ErrNotHeld, a.call.Status)
	}
	x.srv.b.recycle(a)
	return err
}

// renewKept asks for the renewal of all kept holds, and returns what waits for
// the answers.
func renewKept(ctx context.Context, renewals []*locker.Renewal) (wait func()) {
	var wg sync.WaitGroup
	for _, r := range renewals {
		if g, ok := r.Kept.(*grant); ok {
			wg.Go(func() { r.Granted, r.Err = g.x.renew(ctx, g, r.TTL) })
		}
	}
	return wg.Wait
}

// renew renews a hold by its token, which is how a grant that was waited for is
// confirmed. A renewal that a broken connection swallowed is sent again.
func (x *conversation) renew(ctx context.Context, g *grant, ttl time.Duration) (granted time.Duration, err error) {
	if ttl <= 0 {
		return 0, fmt.Errorf("%w: renewal for %v", locker.ErrInvalid, ttl)
	}
	for ctx.Err() == nil {
		a := x.srv.b.newAsk(codec.Renew, locker.Exclusive, g.Key())
		now := x.clock()
		x.mu.Lock()
		if gone, lost := g.Tag.(gone); lost {
			x.mu.Unlock()
			return 0, gone.cause
		}
		x.sentLocked(a)
		r := &a.call.Request
		r.Semaphore, r.Token, r.TTL = g.Semaphore, g.Token, ttl
		a.call.Hold = &g.Hold
		x.client.Do(now, &a.call)
		x.leave(now)
		if err := x.wait(ctx, a); err != nil {
			return 0, err
		}
		status, granted, failure := a.call.Status, a.call.TTL, a.err
		x.srv.b.recycle(a)
		switch {
		case failure != nil:
			return 0, failure
		case status == codec.OK:
			return min(granted, ttl), nil
		case status != 0:
			return 0, fmt.Errorf("%w: the server refused to renew it (%v)", locker.ErrLost, status)
		}
	}
	return 0, context.Cause(ctx)
}

// lost says whether the hold was lost, with the mutex held.
func (g *grant) lost() bool {
	_, lost := g.Tag.(gone)
	return lost
}

// inspect asks for the statistics.
func (x *conversation) inspect(ctx context.Context) (locker.Report, error) {
	a := x.srv.b.newAsk(codec.Stats, locker.Exclusive, "")
	if err := x.do(ctx, a); err != nil {
		return locker.Report{}, err
	}
	json := a.call.JSON
	var err error
	if a.call.Status != codec.OK || json == nil {
		err = x.refusal(new(locker.Request), a)
	}
	x.srv.b.recycle(a)
	if err != nil {
		return locker.Report{}, err
	}
	return x.srv.report(json)
}

// force asks for the end of all holds of a key.
func (x *conversation) force(ctx context.Context, kind locker.Kind, key string) (int, error) {
	a := x.srv.b.newAsk(codec.Force, kind, key)
	if err := x.do(ctx, a); err != nil {
		return 0, err
	}
	count := a.call.Count
	var err error
	if a.call.Status != codec.OK {
		err = x.refusal(new(locker.Request), a)
	}
	x.srv.b.recycle(a)
	return count, err
}

// byeTimeout is how long Close waits for servers to release everything.
const byeTimeout = time.Second

// sayBye ends all conversations.
func (b *Backend) sayBye() {
	var wg sync.WaitGroup
	for _, s := range b.servers {
		if x := s.talk.Load(); x != nil {
			wg.Go(func() { x.bye(byeTimeout) })
		}
	}
	wg.Wait()
}
