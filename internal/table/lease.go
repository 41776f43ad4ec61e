package table

import (
	"encoding/binary"
	"time"
)

// A Kind is a name space of keys: a lock and a semaphore of one name have
// nothing to do with each other.
type Kind uint8

const (
	// Lock keys have limit 1.
	Lock Kind = iota
	// Semaphore keys have the limit that their first holder asked for.
	Semaphore

	kinds = 2
)

// A State is where a lease is in its life, which goes one way only: queued or
// not, granted or not, ended.
type State uint8

const (
	// Queued leases wait for their turn.
	Queued State = iota
	// Granted leases are held, collected or not.
	Granted
	// Ended leases are in no list any more; their Reason says why.
	Ended
)

// A Reason says why a lease ended.
type Reason uint8

const (
	// Lasting is the reason of a lease that has not ended.
	Lasting Reason = iota
	// Released leases were given back by token, or cancelled after the grant.
	Released
	// Expired leases were held and not renewed for their TTL.
	Expired
	// TimedOut leases waited for as long as they wanted to.
	TimedOut
	// Cancelled leases gave up their place in the queue.
	Cancelled
	// Dropped leases ended with their owner, or were not named by the Sync of
	// its resume.
	Dropped
	// Abandoned leases were queued, and their session was silent for their TTL.
	Abandoned
	// Revoked leases were taken away by Force.
	Revoked
	// Answered leases were queued, and a put ended their wait with its value.
	Answered
)

// A Token names a grant. The fence orders it among all grants of the table,
// the MAC makes it unguessable.
type Token struct{ Fence, MAC uint64 }

// A Lease is one acquisition, from its request to its end. All but Tag belongs
// to the table; like the table it is not safe for concurrent use. It stays
// valid after its end for as long as the caller keeps it, but for Table.Reuse.
//
// It takes 112 bytes, which is one of the allocator's size classes; one word
// more costs 16 bytes a lease.
type Lease struct {
	// Tag is the caller's own, set from Request.Tag.
	Tag any

	entry *entry
	owner *Owner
	links [2]link // its neighbours by key and by owner

	// The number is the order of arrival while queued, the fence from the grant
	// on, and 0 if the lease ended without one: nothing needs two at once. In
	// the same way mac is how many fences the grant will take while queued.
	number uint64
	mac    uint64

	ttl      time.Duration
	deadline time.Duration // when it runs out by itself, or stops waiting; 0 is never

	weight int32 // of the limit
	slot   int32 // 1 + its index in the heap of deadlines; 0: not in it
	state  State
	reason Reason
	marks  marks

	// The instant of the grant in milliseconds, of which 40 bits last for 34
	// years. For longer there is no room.
	grantedHigh uint8
	grantedLow  uint32
}

// grantedAt takes note of the instant of the grant.
func (l *Lease) grantedAt(now time.Duration) {
	ms := uint64(now / time.Millisecond) //nolint:gosec // instants are not negative
	l.grantedHigh, l.grantedLow = uint8(ms>>32), uint32(ms)
}

// heldFor returns the time from the grant to the instant now, both of them rounded
// down to milliseconds.
func (l *Lease) heldFor(now time.Duration) time.Duration {
	granted := uint64(l.grantedHigh)<<32 | uint64(l.grantedLow)
	ms := (uint64(now/time.Millisecond) - granted) & (1<<40 - 1) //nolint:gosec // instants are not negative
	return time.Duration(ms) * time.Millisecond
}

// Marks are what else is to know of a lease, in one byte because there is no
// room for more.
type marks uint8

const (
	ticket marks = 1 << iota // a grant of it counts for nothing before Collect
	beaten                   // granted, and the beats of its session renew it
	named                    // its session has named it since the last Resume
	absent                   // queued, and passed over because its session is silent
	joins                    // queued, and a put answers it
)

// State says where the lease is in its life.
func (l *Lease) State() State { return l.state }

// Reason says why the lease ended, and Lasting while it has not.
func (l *Lease) Reason() Reason { return l.reason }

// Key returns the key, as it was asked for.
func (l *Lease) Key() string { return l.entry.key }

// Kind returns the name space of the key.
func (l *Lease) Kind() Kind { return l.entry.kind }

// Limit returns the limit of the key: 1 for a lock.
func (l *Lease) Limit() int { return l.entry.limit }

// Weight returns what the lease takes of the limit.
func (l *Lease) Weight() int { return int(l.weight) }

// TTL returns the length of the lease as asked for last.
func (l *Lease) TTL() time.Duration { return l.ttl }

// Owner returns whom the lease belongs to.
func (l *Lease) Owner() *Owner { return l.owner }

// Token returns what names the grant, also after its end, and zeros as long as
// or if there was none.
func (l *Lease) Token() Token {
	if l.state == Queued {
		return Token{}
	}
	return Token{Fence: l.number, MAC: l.mac}
}

// Absent says whether the lease is passed over for now.
func (l *Lease) Absent() bool { return l.marks&absent != 0 }

// Position returns the place of a queued lease in its queue, where 1 is the
// first, and 0 for any other. It takes no time for the last in the queue.
func (l *Lease) Position() int {
	switch q := l.entry.queue.first; {
	case l.state != Queued:
		return 0
	case q.links[byKey].prev == l:
		return int(l.entry.waiting)
	}
	n := 1
	for x := l.entry.queue.first; x != l; x = x.links[byKey].next {
		n++
	}
	return n
}

// AppendState appends all that decides what becomes of the lease by itself, with
// instants as distances from now, so that two leases of which the same comes
// look the same. It is for searches of all states.
func (l *Lease) AppendState(dst []byte, now time.Duration) []byte {
	dst = append(dst, byte(l.state), byte(l.marks))
	dst = binary.AppendVarint(dst, int64(l.due()-now))
	dst = binary.AppendVarint(dst, int64(l.deadline-now))
	dst = binary.AppendUvarint(dst, l.number)
	return binary.AppendVarint(dst, int64(l.weight))
}

// Remaining returns what is left of a granted lease at the instant now, and 0
// of any other.
func (l *Lease) Remaining(now time.Duration) time.Duration {
	if l.state != Granted {
		return 0
	}
	return max(l.due()-now, 0)
}

// due returns the instant at which something happens to the lease by itself; 0
// is never. It moves later, without a word to anybody, with each sign of life
// of a session.
func (l *Lease) due() time.Duration {
	switch {
	case l.state == Granted && l.marks&beaten != 0:
		return max(l.deadline, after(l.owner.beat, l.ttl))
	case l.state == Granted || !l.owner.session:
		return l.deadline
	}
	at := after(l.owner.heard, patience(l.ttl))
	if l.marks&absent != 0 {
		at = after(l.owner.heard, l.ttl)
	}
	if l.deadline != 0 {
		at = min(at, l.deadline)
	}
	return at
}
