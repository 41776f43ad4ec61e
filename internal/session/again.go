package session

import (
	"cmp"
	"slices"
	"time"

	"github.com/distributed-go/distributed/codec"
)

// resume tells the server over a new connection what the client knows of, in
// this order: its holds, each by a renewal; its places and the requests that
// have no answer, under their old IDs; and sync, at which the server drops
// everything else. What is not said here is therefore given up, which is how
// requests that were taken back meanwhile end.
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
	c.holds.all(func(h *Hold) {
		c.Do(now, &Call{Hold: h, own: true, Request: codec.Request{
			Command: codec.Renew, Semaphore: h.Semaphore, Key: []byte(h.Key), Token: h.Token, TTL: h.TTL(),
		}})
	})
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
		c.send(now, call)
	}
	if !c.faults.noSync {
		c.Do(now, &Call{own: true, Request: codec.Request{Command: codec.Sync}})
	}
}

// sorted returns the calls that were sent and not answered, in the order of their
// IDs.
func (c *Client) sorted() []*Call {
	calls := c.pending.all()
	slices.SortFunc(calls, byID)
	return calls
}

func byID(a, b *Call) int { return cmp.Compare(a.Request.ID, b.Request.ID) }
