package dflockd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/internal/session"
	"github.com/distributed-go/distributed/locker"
)

// A conversation is session mode with one server: one session, over one link
// after the other. What is said and believed is the business of a
// session.Client; here are its mutex, its clock and its goroutines.
//
// There are two of these while nothing happens: run, which beats and connects
// again, and read of the link. No lock of another kind is taken with mu held,
// and nobody is called: who is to be woken or told is collected until leave.
type conversation struct {
	srv   *server
	clock func() time.Duration
	kick  chan struct{} // capacity 1: run should look again

	mu      sync.Mutex // guards everything below
	client  *session.Client
	link    *link         // nil while there is none
	attempt *attempt      // to have a link again, under way; nil if there is none
	failure error         // of the latest attempt; nil while there is a link, and during the first attempt
	down    time.Duration // when the link ended
	why     error         // it ended
	over    error         // why the session ended; nil while it lasts
	beatAt  time.Duration // when the latest beat was sent, or the link began
	lookAt  time.Duration // when run looks next

	first, last *ask // those that have ended since leave
	lost        []loss
	limits      limits
	reason      string // of the latest loss
	cause       error  // what it became
}

// An attempt is one to connect again, for which callers wait.
type attempt struct {
	done chan struct{}
	err  error // set before done is closed
}

func newConversation(s *server, process string) *conversation {
	x := &conversation{srv: s, clock: s.b.clock, kick: make(chan struct{}, 1)}
	x.client = session.NewClient(x, codec.Greeting{Name: s.b.cfg.name, Process: process, ReleaseOnClose: s.b.cfg.releaseOnClose})
	x.client.SpreadClaims(claimSpread)
	x.attempt = &attempt{done: make(chan struct{})}
	return x
}

// Send implements session.Caller.
func (x *conversation) Send(r *codec.Request) { x.link.append(r) }

// Done implements session.Caller.
func (x *conversation) Done(c *session.Call) {
	a, ok := c.Tag.(*ask)
	switch {
	case !ok:
		return
	case a.left:
		x.srv.b.recycle(a)
		return
	}
	a.moved = x.link == nil || a.number != x.link.number
	x.limits.remove(a)
	if a.overdue {
		return // whoever waited was woken, and is about to find this
	}
	if x.first == nil {
		x.first = a
	} else {
		x.last.next = a
	}
	x.last = a
}

// Lost implements session.Caller.
func (x *conversation) Lost(h *session.Hold, reason string) {
	if reason != x.reason || x.cause == nil { // a million may have the same
		x.reason, x.cause = reason, x.lossOf(reason)
	}
	cause := x.cause
	if l, ok := h.Tag.(locker.Loser); ok {
		x.lost = append(x.lost, loss{l, cause})
	}
	h.Tag = gone{cause}
}

// Over implements session.Caller.
func (x *conversation) Over(reason string) {
	x.over = x.endOf(reason)
	x.srv.talk.CompareAndSwap(x, nil)
	if t := x.limits.timer; t != nil {
		t.Stop() // nobody waits any more
	}
	x.concludeLocked(errTooLate) // nothing was asked of those who wait for it
	if l := x.link; l != nil {
		x.link = nil
		close(l.gone)
	}
}

// concludeLocked ends the attempt under way.
func (x *conversation) concludeLocked(err error) {
	if t := x.attempt; t != nil {
		t.err, x.attempt = err, nil
		close(t.done)
	}
}

// leave unlocks, writes what is to be written, and wakes and tells whom it
// concerns: of losses first, because the next holder may be among those woken.
func (x *conversation) leave(now time.Duration) {
	l := x.link
	if l != nil && x.client.Busy() && x.lookAt > now+x.client.BeatEvery() {
		x.look(now)
	}
	mine := l != nil && x.claimLocked(l)
	first, lost := x.first, x.lost
	x.first, x.last, x.lost = nil, nil, nil
	x.mu.Unlock()
	for _, lost := range lost {
		lost.loser.Lose(lost.cause)
	}
	for a := first; a != nil; {
		next := a.next
		a.next = nil
		a.done <- struct{}{}
		a = next
	}
	if mine {
		x.flush(l)
	}
}

// look makes run look again.
func (x *conversation) look(now time.Duration) {
	x.lookAt = now
	select {
	case x.kick <- struct{}{}:
	default:
	}
}

// errTooLate says that the session had ended before anything was asked: there
// may be another one.
var errTooLate = errors.New("session ended before")

// ready waits until requests can be sent, and returns with the mutex held and
// an instant from before. While there is no link it waits for the attempt to
// have one; if that fails, so does everybody who waits for it, and everybody
// who comes before the next: waiting longer is the Client's business. The stamp
// is such an instant, or 0 if there is none yet.
func (x *conversation) ready(ctx context.Context, stamp time.Duration) (now time.Duration, err error) {
	for now = stamp; ; now = 0 {
		if now == 0 {
			now = x.clock()
		}
		x.mu.Lock()
		t, failure := x.attempt, x.failure
		switch {
		case x.over != nil:
			x.mu.Unlock()
			return 0, errTooLate
		case x.client.Up():
			return now, nil
		}
		x.mu.Unlock()
		if t == nil {
			return 0, fmt.Errorf("%w (tried a moment ago)", failure)
		}
		select {
		case <-t.done:
			if t.err != nil {
				return 0, t.err
			}
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
}

// end ends the conversation from this side.
func (x *conversation) end(reason string) {
	now := x.clock()
	x.mu.Lock()
	x.client.End(reason)
	x.leave(now)
}

// bye lets the server release everything, and waits for its answer for at most
// as long as given.
func (x *conversation) bye(limit time.Duration) {
	a := x.srv.b.newAsk(codec.Bye, locker.Exclusive, "")
	now := x.clock()
	x.mu.Lock()
	if !x.client.Up() {
		x.client.End(reasonClosed)
		x.leave(now)
		return
	}
	x.client.Bye(now, &a.call)
	x.leave(now)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if x.wait(ctx, a) != nil {
		x.end(reasonClosed)
	}
}
