package session

import (
	"time"

	"github.com/distributed-go/distributed/codec"
)

// A Hold is one lease that the client has. The caller makes it, with its key
// and as a part of something larger where that saves an allocation; the Client
// keeps a list of those that are held.
type Hold struct {
	// Key and Semaphore say what is held.
	Key string
	// Tag is the caller's own.
	Tag any

	// Token and TTL are what was granted.
	Token codec.Token
	TTL   time.Duration

	stamp time.Duration // from which the lease counts, beats apart
	links links[Hold]
	epoch uint32 // of the client when it was last confirmed
	// Semaphore is about Key; it stands here because a program may have a
	// million holds.
	Semaphore bool
	held      bool
}

func (h *Hold) at() *links[Hold] { return &h.links }

// Held says whether the hold is neither released nor lost as far as the client
// was told. Whether it has run out its Deadline says.
func (h *Hold) Held() bool { return h.held }

// Since returns the instant from which the lease of the hold counts: before the
// latest request was sent that is known to have started its TTL.
func (c *Client) Since(h *Hold) time.Duration {
	if h.epoch == c.epoch || c.faults.beatBeforeN {
		return max(h.stamp, c.beaten)
	}
	return h.stamp
}

// Deadline returns the instant until which the holder may believe in the hold.
func (c *Client) Deadline(h *Hold) time.Duration {
	if c.faults.noDrift {
		return c.Since(h) + h.TTL
	}
	return Deadline(c.Since(h), h.TTL)
}

// hold begins a hold that counts from stamp.
func (c *Client) hold(h *Hold, token codec.Token, ttl, stamp time.Duration) {
	h.Token, h.TTL = token, ttl
	c.confirm(h, stamp)
	h.held = true
	c.holds.push(h)
	c.held++
}

// confirm takes note that the lease counts from stamp on, and from the beats
// that are answered from here on.
func (c *Client) confirm(h *Hold, stamp time.Duration) { h.stamp, h.epoch = stamp, c.epoch }

// drop ends a hold.
func (c *Client) drop(h *Hold) {
	if h.held {
		h.held = false
		c.holds.remove(h)
		c.held--
	}
}

// find returns the hold with the token, or nil. It walks the list: leases are
// lost in the order in which they were granted, so that it is near the front,
// and a map would cost as much again as the node.
func (c *Client) find(token codec.Token) *Hold {
	h := c.holds.head
	for h != nil && h.Token != token {
		h = h.links.next
	}
	return h
}
