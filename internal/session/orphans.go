package session

import (
	"time"

	"github.com/distributed-go/distributed/codec"
)

// Orphans says whether the server may have something for this session that was
// given up while there was no connection: a resume is worth it for that alone, or
// else it stays there for as long as its TTL.
func (c *Client) Orphans(now time.Duration) bool { return now < c.orphans }

// unknownTTL is how long a lease may last for which no TTL was asked.
const unknownTTL = time.Minute

// orphan takes note that nobody waits any more for what a call may have got.
func (c *Client) orphan(now time.Duration, call *Call) {
	switch call.Request.Command {
	case codec.Lock, codec.Join, codec.Enqueue, codec.Wait, codec.Cancel:
	default:
		return
	}
	ttl := call.Request.TTL
	if call.Ticket != nil {
		ttl = call.Ticket.Request.TTL
	}
	if ttl == 0 {
		ttl = unknownTTL
	}
	c.orphans = max(c.orphans, now+ttl)
}
