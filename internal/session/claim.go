package session

import (
	"math"
	"slices"
	"time"

	"github.com/distributed-go/distributed/codec"
)

// What a client does when its server was restarted and says that it can go on
// with what the session held: it begins another session and claims its holds
// there, before it asks for anything else. A hold is claimed only before its
// Deadline, and never once its release was sent; what the server refuses is lost.
// Until the new session has answered its claim, a hold counts from where it did.

// A claiming is the part from the welcome of the new session to the last claim.
type claiming struct {
	began  time.Duration
	spread time.Duration // over which the claims are sent; 0 is at once
	total  int
	sent   int
}

// claimStep is how often more claims are sent, where they are spread.
const claimStep = 10 * time.Millisecond

// Slots are what was asked of a semaphore.
type slots struct{ limit, weight int32 }

// SpreadClaims makes the client send its claims bit by bit over the given time, so
// that not all clients of a server come at once when it is back. ClaimAt says when
// Claim is due then. 0, as it is at first, is at once.
func (c *Client) SpreadClaims(over time.Duration) { c.spread = over }

// ClaimAt says when to call Claim next; false is not at all.
func (c *Client) ClaimAt() (at time.Duration, ok bool) {
	p := c.naming.claim
	if p == nil || p.spread == 0 {
		return 0, false
	}
	return p.began + time.Duration(p.sent)*p.spread/time.Duration(max(p.total, 1)), true
}

// Claim sends the claims that are due.
func (c *Client) Claim(now time.Duration) {
	if c.naming.claim != nil && c.state == up && c.name(now) {
		c.endNaming(now)
	}
}

// Greet says hello once more over a connection whose first answer was that the
// server was restarted, and returns true: the next line answers that hello. It is
// false in all other cases. To connect again instead comes to the same.
func (c *Client) Greet(conn uint64) bool {
	if conn != c.conn || c.state != greeting || !c.claims || c.greeting.Resuming {
		return false
	}
	c.hello()
	return true
}

// soon says whether the next claim is to be sent later, and if not counts it.
func (p *claiming) soon(now time.Duration) bool {
	switch {
	case p == nil:
		return false
	case p.spread > 0 && p.sent >= p.quota(now):
		return true
	}
	p.sent++
	return false
}

// quota is how many claims may have been sent.
func (p *claiming) quota(now time.Duration) int {
	passed := now - p.began + claimStep
	if passed >= p.spread {
		return math.MaxInt
	}
	return max(1, int(float64(p.total)*float64(passed)/float64(p.spread)))
}

// makeClaim makes a request the claim of a hold.
func (c *Client) makeClaim(h *Hold, r *codec.Request) {
	r.Command, r.Semaphore, r.Limit, r.Weight = codec.Claim, false, 1, 1
	if s, ok := c.slots[h]; ok {
		r.Limit, r.Weight = int(s.limit), int(s.weight)
	}
}

// noteSlots keeps in mind what a claim has to say of a hold.
func (c *Client) noteSlots(call *Call) {
	if !call.Hold.Semaphore {
		return
	}
	r := &call.Request
	if call.Ticket != nil {
		r = &call.Ticket.Request
	}
	if c.slots == nil {
		c.slots = make(map[*Hold]slots)
	}
	c.slots[call.Hold] = slots{int32(r.Limit), int32(max(r.Weight, 1))} //nolint:gosec // the wire takes no larger ones
}

// reclaim tells a new session what the client holds. What else it waits for comes
// when all that was said.
func (c *Client) reclaim(now time.Duration) {
	c.holds.all(func(h *Hold) { h.stamp, h.confirmed = c.Since(h), false })
	c.beaten = 0
	c.naming.under = true
	c.naming.claim = &claiming{began: now, spread: c.spread, total: c.holds.held}
	c.holds.walk()
	named := c.name(now)
	if c.faults.claimReleased {
		c.claimReleased(now)
	}
	c.beginQueued(now)
	if named {
		c.endNaming(now)
	}
}

// reclaimed begins everything that waits anew, in the order in which it was begun
// first: the places in queues are new ones.
func (c *Client) reclaimed(now time.Duration) {
	c.naming.under, c.naming.claim = false, nil
	c.claims = c.naming.asked > 0
	again := slices.DeleteFunc(c.sorted(), func(call *Call) bool { return call.state != waiting })
	for ticket := c.places.head; ticket != nil; ticket = ticket.links.next {
		again = append(again, ticket)
	}
	slices.SortFunc(again, byID)
	for _, call := range again {
		c.pending.remove(call.Request.ID)
		c.next++
		call.Request.ID = c.next
		if call.Ticket != nil {
			call.Request.Ticket = call.Ticket.Request.ID
		}
		c.pending.add(call)
		if !call.place {
			call.state = sent
		}
		c.sendAgain(now, call)
	}
	c.poison.sent(len(again), c.next)
	c.beginQueued(now)
}

// claimReleased is a planted bug.
func (c *Client) claimReleased(now time.Duration) {
	for _, call := range c.sorted() {
		if call.Request.Command != codec.Release || call.state != waiting {
			continue
		}
		claim := &Call{own: true, Request: codec.Request{Key: call.Request.Key, Token: call.Request.Token, TTL: 10 * time.Second}}
		c.makeClaim(call.Hold, &claim.Request)
		c.Do(now, claim)
		c.finish(call, codec.OK)
	}
}
