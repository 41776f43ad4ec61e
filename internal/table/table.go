package table

import (
	"math"
	"time"
)

// A Config holds what a table needs to know from the start.
type Config struct {
	// FirstFence is the fence before the first grant, which gets the next one.
	FirstFence uint64
	// Sign returns the half of a token that cannot be guessed. It is called
	// once for each grant, before the caller of the table hears of it, and
	// must not call the table. It must not be nil.
	Sign func(kind Kind, key string, fence uint64, limit, weight int) uint64
	// MaxKeys caps the keys of both kinds together, MaxWaiters the queue of
	// each key; 0 is no cap.
	MaxKeys, MaxWaiters int
	// MaxIdle is how long a key without holders is remembered. At 0 it is
	// forgotten with the next call.
	MaxIdle time.Duration
	// PruneInterval is the least time between two prunings, so that keys that
	// become idle one by one do not wake the caller one by one.
	PruneInterval time.Duration
	// GraceEnd is the instant before which nothing is granted, because leases may
	// be out that an earlier table granted, with fences up to FirstFence and the
	// same Sign; 0 is no grace. ClaimTTL is the longest TTL that they can have,
	// but for those that are restored; 0 is any.
	GraceEnd, ClaimTTL time.Duration
	// MaxValue is the most bytes of one value, MaxValues what all values may count
	// for: their keys, their data, and ValueOverhead each. 0 is DefaultMaxValue
	// and DefaultMaxValues.
	MaxValue, MaxValues int
	// ValueExpired is told of each value that went by itself. It must not call the
	// table; nil is for nobody.
	ValueExpired func(key string, v *Value)
	// Ended is told of each lease that was granted and has ended, before any key
	// is passed on. It must not call the table; nil is for nobody.
	Ended func(*Lease)
}

// A Table is the lock table. It is not safe for concurrent use. Make one with
// New.
type Table struct {
	cfg Config
	now time.Duration // the latest instant of any call

	keys [kinds]keyMap
	idle idleList

	nextPrune time.Duration // no pruning before it
	deadlines deadlines

	fence   uint64 // the fence of the latest grant
	ceiling uint64 // no grant goes above it
	wants   uint64 // what the ceiling held back needs
	arrived uint64 // counts those who had to queue
	held    int
	waiting int

	spare []*Lease // what Reuse was given

	events []Event // what happened since the last call of Events
	handed []Event // what that call returned

	values values
	past   past
	faults faults
}

// New returns an empty table. It panics if the config has no Sign: tokens that
// can be guessed are no tokens.
func New(cfg Config) *Table {
	if cfg.Sign == nil {
		panic("table: Config.Sign is nil")
	}
	t := &Table{cfg: cfg, fence: cfg.FirstFence, ceiling: noCeiling, past: past{end: cfg.GraceEnd, owner: new(Owner)}}
	for k := range t.keys {
		t.keys[k] = newKeys()
	}
	return t
}

// NewOwner returns an owner without leases. The id is for the caller to tell
// owners apart; the table only hands it on.
func (t *Table) NewOwner(id uint64) *Owner { return &Owner{id: id} }

// NewSession returns an owner that is a session, without leases. It was heard
// when it first asks for one.
func (t *Table) NewSession(id uint64) *Owner { return &Owner{id: id, session: true} }

// Held counts the leases that are granted, collected or not.
func (t *Table) Held() int { return t.held }

// Waiting counts the leases that are queued.
func (t *Table) Waiting() int { return t.waiting }

// Keys counts the keys of both kinds, also those that are idle.
func (t *Table) Keys() int {
	n := 0
	for k := range t.keys {
		n += t.keys[k].len()
	}
	return n
}

// Fence returns the last fence that was given away, or Config.FirstFence.
func (t *Table) Fence() uint64 { return t.fence }

// Advance brings the table to the instant now: leases that ran out end and pass
// their keys on, waits that are over end, idle keys are pruned. What was due
// earlier happens earlier; a lease granted here runs from now, not from the
// instant at which it could have been granted, because its holder cannot have
// known of it before.
func (t *Table) Advance(now time.Duration) {
	t.now = max(t.now, now)
	if end := t.past.end; end != 0 && end <= t.now {
		t.fallUntil(end - 1)
		t.endGrace()
	}
	t.fallUntil(t.now)
	if at, ok := t.pruneAt(); ok && at <= t.now {
		t.prune()
	}
	if at, ok := t.values.expires.next(); ok && at <= t.now {
		t.expireValues()
	}
}

// Next says when to call Advance next, if nothing else happens before; false is
// never. It is no later than the instant at which Advance has something to do,
// but may be earlier, where a deadline has moved later since: then Advance finds
// that out, once for many leases. Every call that the caller makes meanwhile may
// change the answer.
func (t *Table) Next() (at time.Duration, ok bool) {
	at, ok = t.pruneAt()
	if end := t.past.end; end != 0 && (!ok || end < at) {
		at, ok = end, true
	}
	if goes, any := t.values.expires.next(); any && (!ok || goes < at) {
		at, ok = goes, true
	}
	if due, any := t.deadlines.next(); any && (!ok || due < at) {
		return due, true
	}
	return at, ok
}

// fallUntil does what is due up to an instant that is not in the future.
func (t *Table) fallUntil(at time.Duration) {
	for l := t.deadlines.first(at); l != nil; l = t.deadlines.first(at) {
		t.fall(l)
	}
}

// fall does what has become due with a lease.
func (t *Table) fall(l *Lease) {
	switch {
	case l.state == Granted:
		t.happened(EventExpired, l)
		t.end(l, Expired)
	case l.due() == l.deadline:
		t.happened(EventTimedOut, l)
		t.end(l, TimedOut)
	case l.marks&absent != 0:
		t.happened(EventAbandoned, l)
		t.end(l, Abandoned)
	default:
		t.passOver(l)
	}
}

// after returns the instant d after at; one beyond the end of time is its end.
func after(at, d time.Duration) time.Duration {
	if d > math.MaxInt64-at {
		return math.MaxInt64
	}
	return at + d
}

// pruneAt returns when the next pruning is due, and false without idle keys.
func (t *Table) pruneAt() (time.Duration, bool) {
	if t.idle.oldest == nil {
		return 0, false
	}
	return max(t.nextPrune, after(t.idle.oldest.since, t.cfg.MaxIdle)), true
}

// prune forgets the keys that have been idle for long enough.
func (t *Table) prune() {
	for e := t.idle.oldest; e != nil && after(e.since, t.cfg.MaxIdle) <= t.now; e = t.idle.oldest {
		t.forget(e)
	}
	t.nextPrune = after(t.now, t.cfg.PruneInterval)
}

// forget removes an idle entry.
func (t *Table) forget(e *entry) {
	t.idle.remove(e)
	t.keys[e.kind].remove(e)
}
