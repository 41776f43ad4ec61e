package session

import (
	"cmp"
	"slices"
	"time"

	"github.com/distributed-go/distributed/codec"
)

// nameWindow is how many renewals of a resume may be without an answer. A million
// holds take as many round trips then as there are windows in them, and a few
// megabytes instead of hundreds. When there is room again for one lot of
// nameLots, it is filled.
const (
	nameWindow = 8 << 10
	nameLots   = 32
)

// A naming is the part of a resume from welcome to sync.
type naming struct {
	under  bool      // sync was not sent
	window int       // how many renewals may be without an answer
	asked  int       // how many are
	claim  *claiming // not to go on with a session but to begin another one; else nil
	spare  list[Call, *Call]
}

// resume tells the server over a new connection what the client knows of: its
// holds, each by a renewal; its places and the requests that have no answer,
// under their old IDs; and, when all holds are named, sync, at which the server
// drops everything else. What is not said here is therefore given up, which is
// how requests that were taken back meanwhile end.
//
// Of very many holds the renewals go out by and by, as the first are answered.
func (c *Client) resume(now time.Duration) {
	// The beats so far count for the holds as they are; those from here on
	// count for what has been confirmed.
	c.holds.all(func(h *Hold) { h.stamp, h.confirmed = c.Since(h), false })
	if !c.faults.beatBeforeN {
		c.beaten = 0
	}
	if c.faults.reuseIDs {
		c.next = 0
	}
	again := c.sorted()
	if c.faults.beatBeforeN {
		c.Beat(now)
	}
	c.naming.under = true
	c.holds.walk()
	named := c.name(now)
	for ticket := c.places.head; ticket != nil; ticket = ticket.links.next {
		again = append(again, ticket)
	}
	slices.SortFunc(again, byID)
	for _, call := range again {
		if call.place {
			c.pending.add(call)
		} else {
			call.state = sent
		}
		if c.faults.forgetPending && !call.place {
			continue
		}
		c.sendAgain(now, call)
	}
	c.poison.sent(len(again), c.next)
	c.beginQueued(now)
	if named || c.faults.syncEarly {
		c.sync(now)
	}
}

// name names holds, as many as may be without an answer, and says whether it
// has come to the last. Those that are confirmed already were granted since.
func (c *Client) name(now time.Duration) (all bool) {
	for n := &c.naming; n.asked < n.window; {
		if n.claim.soon(now) {
			return false
		}
		h := c.holds.step()
		if h == nil {
			return true
		}
		switch {
		case h.confirmed:
			continue
		case c.claims && c.Deadline(h) <= now && !c.faults.claimLate:
			c.lose(h, codec.ReasonExpired) // it can be somebody else's by now
			continue
		}
		call := n.spare.head
		if call == nil {
			call = &Call{own: true, names: true}
		} else {
			n.spare.remove(call)
		}
		r := call.Ask(codec.Renew, h.Semaphore, h.Key)
		r.Token, r.TTL = h.Token, h.TTL()
		if c.claims {
			c.makeClaim(h, r)
		}
		call.Hold = h
		n.asked++
		c.Do(now, call)
	}
	return false
}

// named takes note that the renewal of a resume was answered, and goes on with
// the next ones.
func (c *Client) named(now time.Duration, call *Call) {
	n := &c.naming
	n.asked--
	call.Hold = nil
	switch {
	case n.under:
		n.spare.push(call)
		if n.asked <= n.window-max(n.window/nameLots, 1) && c.name(now) {
			c.endNaming(now)
		}
	case n.asked == 0:
		n.spare = list[Call, *Call]{}
		c.claims = false
	}
}

// endNaming ends what began with resume or reclaim.
func (c *Client) endNaming(now time.Duration) {
	if c.naming.claim != nil {
		c.reclaimed(now)
	} else {
		c.sync(now)
	}
}

// sync ends the resume, after which what was not to be asked before it is.
func (c *Client) sync(now time.Duration) {
	c.naming.under = false
	c.claims = c.claims && c.naming.asked > 0
	if !c.faults.noSync {
		c.Do(now, &Call{own: true, Request: codec.Request{Command: codec.Sync}})
	}
	c.beginQueued(now)
}

// beginQueued sends what waited for a connection and need not wait for the end
// of a resume, or does not have to any more.
func (c *Client) beginQueued(now time.Duration) {
	for call := c.queued.head; call != nil; {
		next := call.links.next
		if !c.waits(call) {
			c.queued.remove(call)
			c.begin(now, call)
		}
		call = next
	}
}

// waits says whether a call is to be sent only once the resume under way has
// come to its end. Until then the server may keep a key for this very session,
// which was granted it by an answer that was lost. What concerns leases and
// places that are known goes out at once: to release a hold that was not named
// yet after the sync would be to release nothing.
//
// After a restart of the server no lease or place is known before it was claimed
// or asked for again.
func (c *Client) waits(call *Call) bool {
	switch {
	case !c.naming.under || call.names:
		return false
	case c.claims && call.claimed():
		return true
	}
	return call.wants()
}

// unname ends a resume that was cut off.
func (c *Client) unname() {
	c.naming = naming{window: c.naming.window}
	c.holds.cursor = nil
}

// sorted returns the calls that were sent and not answered, in the order of their
// IDs.
func (c *Client) sorted() []*Call {
	calls := c.pending.all()
	slices.SortFunc(calls, byID)
	return calls
}

func byID(a, b *Call) int { return cmp.Compare(a.Request.ID, b.Request.ID) }
