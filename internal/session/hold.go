package session

import (
	"math"
	"time"

	"github.com/distributed-go/distributed/codec"
)

// A Hold is one lease that the client has. The caller makes it, with its key
// and as a part of something larger where that saves an allocation. It may be
// granted something again once it is neither held nor waited for.
//
// Its size counts, because a program may have a million of them: it is 72
// bytes, and so 80 with one pointer of the caller's.
type Hold struct {
	// Key and Semaphore, which is further down, say what is held.
	Key string
	// Tag is the caller's own.
	Tag any

	// Token is what was granted.
	Token codec.Token

	stamp time.Duration // from which the lease counts, beats apart
	next  *Hold         // in the chain
	ttl   uint32        // in milliseconds

	// Semaphore says that Key is that of a semaphore.
	Semaphore bool
	held      bool
	chained   bool // in the chain, perhaps only because nobody has tidied it
	confirmed bool // since the latest resume began: beats count
}

// Held says whether the hold is neither released nor lost as far as the client
// was told. Whether it has run out its Deadline says.
func (h *Hold) Held() bool { return h.held }

// TTL returns the lease that was granted, in whole milliseconds, and 49 days at
// most: to believe in less than was granted harms nobody.
func (h *Hold) TTL() time.Duration { return time.Duration(h.ttl) * time.Millisecond }

func (h *Hold) setTTL(ttl time.Duration) {
	h.ttl = uint32(min(max(ttl/time.Millisecond, 0), math.MaxUint32)) //nolint:gosec // it was just seen to fit
}

// Since returns the instant from which the lease of the hold counts: before the
// latest request was sent that is known to have started its TTL.
func (c *Client) Since(h *Hold) time.Duration {
	if h.confirmed || c.faults.beatBeforeN {
		return max(h.stamp, c.beaten)
	}
	return h.stamp
}

// Deadline returns the instant until which the holder may believe in the hold.
func (c *Client) Deadline(h *Hold) time.Duration {
	if c.faults.noDrift {
		return c.Since(h) + h.TTL()
	}
	return Deadline(c.Since(h), h.TTL())
}

// hold begins a hold that counts from stamp.
func (c *Client) hold(h *Hold, token codec.Token, ttl, stamp time.Duration) {
	h.Token = token
	h.setTTL(ttl)
	c.confirm(h, stamp)
	h.held = true
	c.holds.push(h)
}

// confirm takes note that the lease counts from stamp on, and from the beats
// that are answered from here on.
func (c *Client) confirm(h *Hold, stamp time.Duration) { h.stamp, h.confirmed = stamp, true }

// drop ends a hold.
func (c *Client) drop(h *Hold) {
	if h.held {
		h.held = false
		c.holds.drop(h)
		delete(c.slots, h)
	}
}

// A chain is the holds of a client, in the order in which they were granted. A
// hold that has ended stays linked until there are more of those than of others,
// and is then taken out with them in one walk: so that a link back to the one
// before, which a million holds would pay for, is not needed.
type chain struct {
	head, tail *Hold
	held, dead int
	index      map[codec.Token]*Hold // of those held, while many are looked for; else nil
	cursor     *Hold                 // where the walk of step goes on; nil if there is none
}

// fewDead is how many ended holds are not worth a walk.
const fewDead = 32

func (s *chain) push(h *Hold) {
	s.held++
	if s.index != nil {
		s.index[h.Token] = h
	}
	if h.chained { // it keeps its place
		s.dead--
		return
	}
	h.chained = true
	if s.tail == nil {
		s.head = h
	} else {
		s.tail.next = h
	}
	s.tail = h
}

// drop says that a hold is not held any more.
func (s *chain) drop(h *Hold) {
	s.held--
	s.dead++
	if s.index != nil {
		delete(s.index, h.Token)
	}
	if s.dead > s.held+fewDead || s.held == 0 {
		s.tidy()
	}
}

// tidy takes out what is not held.
func (s *chain) tidy() {
	h := s.head
	s.head, s.tail, s.dead = nil, nil, 0
	for h != nil {
		next := h.next
		h.next, h.chained = nil, false
		if s.cursor == h && !h.held {
			s.cursor = next
		}
		if h.held {
			h.chained = true
			if s.tail == nil {
				s.head = h
			} else {
				s.tail.next = h
			}
			s.tail = h
		}
		h = next
	}
}

// all calls f for each hold, in order. F must not end any.
func (s *chain) all(f func(*Hold)) {
	for h := s.head; h != nil; h = h.next {
		if h.held {
			f(h)
		}
	}
}

// walk begins a walk over the holds, during which they may come and go.
func (s *chain) walk() { s.cursor = s.head }

// step returns the next hold of the walk, or nil at its end. Those that come
// meanwhile may be left out.
func (s *chain) step() *Hold {
	for h := s.cursor; h != nil; h = s.cursor {
		s.cursor = h.next
		if h.held {
			return h
		}
	}
	return nil
}

// nearFront is how far find walks.
const nearFront = 64

// find returns the hold with the token, or nil. Leases are mostly lost one by
// one, or in the order in which they were granted, and are then near the front.
// For any other order there is an index, but only while it is needed: to keep
// one would cost as much again as a hold.
func (s *chain) find(token codec.Token) *Hold {
	if s.index != nil {
		return s.index[token]
	}
	h := s.head
	for steps := 0; h != nil && steps < nearFront; steps++ {
		if h.held && h.Token == token {
			return h
		}
		h = h.next
	}
	if h == nil {
		return nil
	}
	s.index = make(map[codec.Token]*Hold, s.held)
	s.all(func(h *Hold) { s.index[h.Token] = h })
	return s.index[token]
}
