package session

import (
	"time"

	"github.com/distributed-go/distributed/codec"
)

// Line takes a line that came over the connection, the first of which answers
// hello. Lines of other connections than the present one are ignored: what they
// say may be old, and will be said again.
//
// False means that the other end does not keep to the protocol, and that the
// connection is to be closed; or that it was restarted, and Greet goes on.
func (c *Client) Line(now time.Duration, conn uint64, a *codec.Answer) bool {
	switch {
	case conn != c.conn && !c.faults.lateAnswers || c.state == over:
		return true
	case c.state == greeting && conn == c.conn:
		return c.welcome(now, a)
	case a.Notice != 0:
		return c.notice(a)
	}
	c.poison.answered(a.ID)
	call := c.pending.get(a.ID)
	if call == nil || call.state != sent && !call.place {
		return true // its place was given up, or its connection
	}
	if call.place { // it was only named again
		c.pending.remove(a.ID)
		return true
	}
	c.answered(now, call, a)
	return true
}

func (c *Client) notice(a *codec.Answer) bool {
	switch a.Notice {
	case codec.NoticeLost:
		if h := c.holds.find(a.Token); h != nil {
			c.drop(h)
			c.caller.Lost(h, a.Reason)
		}
	case codec.NoticeDisplaced:
		c.end(ReasonDisplaced)
	case codec.NoticeError:
		return false
	}
	return true
}

// answered concludes a call with its answer.
func (c *Client) answered(now time.Duration, call *Call, a *codec.Answer) {
	stamp := call.stamp
	if c.faults.fromReceipt {
		stamp = now
	}
	call.TTL, call.Position, call.Count, call.JSON = a.TTL, a.Position, a.Count, a.JSON
	call.Holder, call.HeldFor = a.Holder, a.HeldFor
	call.Fence, call.Age, call.Value = a.Fence, a.Age, a.Value
	call.Heard = now
	status := a.Status
	switch {
	case call.Request.Command == codec.Beat && status == codec.OK:
		c.beaten = max(c.beaten, stamp)
		c.holds.index = nil // whatever brought many losses is over
	case call.Request.Command == codec.Renew, call.Request.Command == codec.Claim:
		c.renewed(call, a, stamp)
	case call.Request.Command == codec.Sync:
		c.orphans = 0
	case call.Request.Command == codec.Enqueue && (status == codec.Queued || status == codec.Acquired):
		if !call.taken {
			call.place = true
			c.places.push(call)
		}
	case call.acquires() && status == codec.OK && a.HasToken:
		ttl := a.TTL
		if asked := call.Request.TTL; asked > 0 {
			ttl = min(asked, ttl)
		}
		c.hold(call.Hold, a.Token, ttl, stamp)
		c.noteSlots(call)
		c.shortest = min(c.shortest, ttl)
		if call.taken {
			status = codec.Canceled
			c.giveBack(now, call.Hold)
		}
	}
	if call.taken && !call.acquires() {
		status = codec.Canceled
	}
	bye := call.Request.Command == codec.Bye
	c.finish(call, status)
	switch {
	case bye:
		c.end(ReasonBye)
	case call.names:
		c.named(now, call)
	}
}

// giveBack releases a hold that nobody waits for any more.
func (c *Client) giveBack(now time.Duration, h *Hold) {
	if c.faults.keepGrants {
		c.drop(h)
		return
	}
	given := *h // the caller may use h again at once
	c.drop(h)
	given.next, given.chained, given.held = nil, false, false
	c.Release(now, &given, &Call{own: true})
}

// renewed confirms a hold that was renewed by token or claimed, or loses it.
func (c *Client) renewed(call *Call, a *codec.Answer, stamp time.Duration) {
	h := call.Hold
	switch {
	case h == nil || !h.held || h.Token != call.Request.Token:
	case a.Status == codec.OK && a.HasTTL:
		h.setTTL(min(call.Request.TTL, a.TTL))
		c.confirm(h, stamp)
	case call.Request.Command == codec.Claim:
		c.lose(h, ReasonGone)
	default:
		c.lose(h, codec.ReasonExpired)
	}
}

func (c *Client) lose(h *Hold, reason string) {
	c.drop(h)
	c.caller.Lost(h, reason)
}

// welcome takes the answer to hello.
func (c *Client) welcome(now time.Duration, a *codec.Answer) bool {
	resuming := c.greeting.Resuming
	switch {
	case a.Status == codec.ErrSession && a.Claim && resuming && !c.faults.noClaims:
		c.greeting.Resuming, c.claims = false, true
		return false
	case a.Status == codec.ErrSession && resuming:
		c.end(ReasonGone)
		return true
	case a.Status != codec.OK || a.Version != Version || resuming && a.Session != c.greeting.Resume:
		return false
	}
	c.greeting.Resume, c.greeting.Resuming = a.Session, true
	_, c.durable = a.Offer(codec.OfferDurable)
	c.maxValue = a.MaxValue()
	c.state = up
	switch {
	case resuming:
		c.resume(now)
	case c.claims:
		c.reclaim(now)
	default:
		c.beginQueued(now)
	}
	return true
}
