package table

import (
	"cmp"
	"encoding/binary"
	"maps"
	"math"
	"slices"
	"time"
)

// A table can go on after another one, which had the same Config.Sign and is no
// more: see the package's comment. This is what it needs for that.

// maxTombs caps the tokens that were released in the grace without being claimed
// before: anybody may ask for that, and none of them can be forgotten early.
const maxTombs = 1 << 16

// A past is what a table knows of the leases of the one before.
type past struct {
	end   time.Duration // of the grace; 0 if it is over
	owner *Owner        // of what was restored and nobody has claimed yet

	// What has ended in the grace, and is not to be claimed any more: of a lock
	// all fences up to one, because a later grant means that the earlier ones
	// were over, and of a semaphore one token each. Both are for the grace alone.
	locks  map[string]uint64
	shares map[share]struct{}
}

// A share is a lease of a semaphore.
type share struct {
	key   string
	token Token
}

// A Record is all that is needed to go on with a lease in another table.
type Record struct {
	Kind   Kind
	Key    string
	Fence  uint64
	Limit  int
	Weight int
	TTL    time.Duration
}

// Recovering says whether there may be leases of the table before that nobody has
// claimed yet: in the grace, and as long as there are restored ones.
func (t *Table) Recovering() bool { return t.past.end != 0 || !t.past.owner.Idle() }

// Unclaimed says whether a lease was restored and nobody has claimed it yet.
func (t *Table) Unclaimed(l *Lease) bool { return l.owner == t.past.owner }

// GraceEnd returns the instant at which the grace ends, and 0 if there is none
// (any more), as of the latest instant of any call.
func (t *Table) GraceEnd() time.Duration { return t.past.end }

// Restore grants a lease of the table before its old fence and the whole TTL
// again. Nobody owns it until it is claimed, and it can be renewed, released and
// forced as any other. Of a lock the highest fence wins; false says that this
// one is not the highest, and so was over. It is for the time before the first
// request.
func (t *Table) Restore(now time.Duration, r Record) bool {
	t.Advance(now)
	e := t.keys[r.Kind].get([]byte(r.Key))
	if e != nil && !t.supersede(e, r.Fence) {
		return false
	}
	e = t.again(e, r.Kind, r.Key, r.Limit, r.Fence)
	l := &Lease{entry: e, owner: t.past.owner, ttl: r.TTL, weight: int32(r.Weight), marks: named} //nolint:gosec // it was granted
	l.number, l.mac = r.Fence, t.cfg.Sign(r.Kind, r.Key, r.Fence, r.Limit, r.Weight)
	t.past.owner.leases.push(byOwner, l)
	t.seat(l)
	return true
}

// Claim gives a lease of the table before to who knows its token, for as long as
// is asked for and could have been granted there, and returns it. It can be done
// again by the same owner, with the same outcome.
//
// A restored lease can be claimed as long as it lasts, another one in the grace.
// There the MAC proves that the lease existed, with this limit and weight. Of a
// lock the highest fence wins, and whoever claimed a lower one hears that it was
// revoked. Of a semaphore all are let in, even above the limit: not all of them
// can be genuine then, but nothing is granted before so many have ended that the
// rest fits. The error is ErrNotHeld, or one of ErrWeight and ErrTTL.
func (t *Table) Claim(now time.Duration, r Request, tok Token) (*Lease, error) {
	t.Heard(now, r.Owner)
	limit, err := r.check()
	if err != nil {
		return nil, err
	}
	e := t.keys[r.Kind].get(r.Key)
	if e != nil {
		if l := e.find(tok); l != nil {
			return t.adopt(l, &r)
		}
	}
	key := string(r.Key)
	if !t.claimable(r.Kind, key, tok) || t.cfg.Sign(r.Kind, key, tok.Fence, limit, r.Weight) != tok.MAC {
		return nil, ErrNotHeld
	}
	if e != nil && !t.supersede(e, tok.Fence) {
		return nil, ErrNotHeld
	}
	l := &Lease{
		Tag: r.Tag, entry: t.again(e, r.Kind, key, limit, tok.Fence), owner: r.Owner,
		ttl: r.TTL, weight: int32(r.Weight), marks: named, //nolint:gosec // it was checked
		number: tok.Fence, mac: tok.MAC,
	}
	if t.cfg.ClaimTTL > 0 {
		l.ttl = min(l.ttl, t.cfg.ClaimTTL)
	}
	r.Owner.leases.push(byOwner, l)
	t.seat(l)
	return l, nil
}

// adopt gives a lease that is there to who claims it.
func (t *Table) adopt(l *Lease, r *Request) (*Lease, error) {
	switch l.owner {
	case t.past.owner:
		l.owner.leases.remove(byOwner, l)
		r.Owner.leases.push(byOwner, l)
		l.owner, l.Tag = r.Owner, r.Tag
	case r.Owner: // its Tag stays: who asked for it may still look for it there
	default:
		return nil, ErrNotHeld
	}
	l.ttl = min(r.TTL, l.ttl)
	t.known(l)
	return l, nil
}

// claimable says whether a lease that is not there may be claimed, if its token
// is genuine.
func (t *Table) claimable(k Kind, key string, tok Token) bool {
	if t.past.end == 0 || tok.Fence > t.cfg.FirstFence {
		return false
	}
	if t.faults.noTombstone {
		return true
	}
	if k == Lock {
		return tok.Fence > t.past.locks[key]
	}
	_, over := t.past.shares[share{key, tok}]
	return !over
}

// supersede says whether there is room for a lease of the table before beside
// those that are there, and makes it: a lock that was granted again was over
// before.
func (t *Table) supersede(e *entry, fence uint64) bool {
	if e.kind != Lock || e.holders.first == nil {
		return true
	}
	l := e.holders.first
	if l.number > fence && !t.faults.lowerWins {
		return false
	}
	t.happened(EventRevoked, l)
	t.leave(l, Revoked)
	l.owner.leases.remove(byOwner, l)
	return true
}

// again returns the entry of a key of the table before, which is e if that is not
// nil. It counts as no new key: whoever holds it had it before all others came.
// For the same reason its limit is the key's, and who waits with another one does
// so no longer.
func (t *Table) again(e *entry, k Kind, key string, limit int, fence uint64) *entry {
	switch {
	case e == nil:
		return t.enter(k, key, limit)
	case e.limit == limit, slices.ContainsFunc(e.fences(), func(f uint64) bool { return f > fence }):
		return e
	}
	e.limit = limit
	for l := e.queue.first; l != nil; l = e.queue.first {
		t.happened(EventTimedOut, l)
		t.end(l, TimedOut)
	}
	return e
}

// fences returns those of the holders.
func (e *entry) fences() []uint64 {
	all := make([]uint64, 0, e.holding)
	for l := e.holders.first; l != nil; l = l.links[byKey].next {
		all = append(all, l.number)
	}
	return all
}

// releasePast takes note that a lease of the table before is not to be claimed
// any more, though nobody has claimed it. That is the last wish of a client that
// sent it to the server before, which can have died of anything meanwhile. For a
// lock the token must be genuine. For a semaphore nobody can tell without the
// limit and the weight, but a token that is not would not be claimed either.
func (t *Table) releasePast(k Kind, key []byte, tok Token) error {
	if t.past.end == 0 {
		return ErrNotHeld
	}
	name := string(key)
	switch {
	case !t.claimable(k, name, tok), k == Lock && t.cfg.Sign(Lock, name, tok.Fence, 1, 1) != tok.MAC:
		return ErrNotHeld
	case len(t.past.locks)+len(t.past.shares) >= maxTombs:
		return ErrTooManyReleases
	}
	if e := t.keys[k].get(key); k == Lock && e != nil && e.holders.first != nil && e.holders.first.number > tok.Fence {
		return ErrNotHeld
	}
	t.bury(k, name, tok)
	return nil
}

// bury sees to it that a lease that has ended in the grace is not claimed again.
func (t *Table) bury(k Kind, key string, tok Token) {
	if k == Lock {
		if t.past.locks == nil {
			t.past.locks = make(map[string]uint64)
		}
		t.past.locks[key] = max(t.past.locks[key], tok.Fence)
		return
	}
	if t.past.shares == nil {
		t.past.shares = make(map[share]struct{})
	}
	t.past.shares[share{key, tok}] = struct{}{}
}

// endGrace grants what had to wait for the end of the grace.
func (t *Table) endGrace() {
	t.past.end, t.past.locks, t.past.shares = 0, nil, nil
	t.settleAll()
}

// SetCeiling says up to which fence grants may go from here on; before the first
// call that is any. Who would be granted a higher one waits, and those who try are
// refused with ErrLocked.
func (t *Table) SetCeiling(now time.Duration, fence uint64) {
	t.Advance(now)
	t.ceiling = fence
	if t.wants != 0 {
		t.wants = 0
		t.settleAll()
	}
}

// Wants returns the highest fence that a grant needs which the ceiling has held
// back, and 0 if there is none.
func (t *Table) Wants() uint64 { return t.wants }

// may says whether a grant may be made that takes so many fences.
func (t *Table) may(fences uint64) bool {
	if t.past.end != 0 && !t.faults.grantInGrace {
		return false
	}
	if fences > t.ceiling-min(t.fence, t.ceiling) {
		t.wants = max(t.wants, t.fence+fences)
		return false
	}
	return true
}

// settleAll passes on all keys that somebody waits for, in the order in which the
// first in each queue came.
func (t *Table) settleAll() {
	var all []*entry
	for k := range t.keys {
		for e := range t.keys[k].all() {
			if e.waiting > 0 {
				all = append(all, e)
			}
		}
	}
	slices.SortFunc(all, func(a, b *entry) int {
		if a.queue.first.number < b.queue.first.number {
			return -1
		}
		return 1
	})
	for _, e := range all {
		t.settle(e)
	}
}

// Records returns the leases that are held at the instant now and of which
// somebody knows, so that another table can go on with them, in no order. Not
// among them are grants to tickets that were not collected: those ask again.
func (t *Table) Records(now time.Duration) []Record {
	t.Advance(now)
	all := make([]Record, 0, t.held)
	for k := range t.keys {
		for e := range t.keys[k].all() {
			for l := e.holders.first; l != nil; l = l.links[byKey].next {
				if l.marks&ticket == 0 {
					all = append(all, l.Record())
				}
			}
		}
	}
	return all
}

// Record returns what another table needs to go on with a granted lease.
func (l *Lease) Record() Record {
	return Record{Kind: l.Kind(), Key: l.Key(), Fence: l.number, Limit: l.Limit(), Weight: l.Weight(), TTL: l.ttl}
}

// LongestTTL returns the longest TTL up to most of all leases that are granted or
// queued, and calls pause as SnapshotInParts does. A lease that was there all the
// time counts, one that was not may do so.
func (t *Table) LongestTTL(now time.Duration, most time.Duration, part int, pause func() time.Duration) time.Duration {
	t.Advance(now)
	longest := time.Duration(0)
	look := func(l *Lease) {
		for ; l != nil; l = l.links[byKey].next {
			if l.ttl <= most {
				longest = max(longest, l.ttl)
			}
		}
	}
	for k := range t.keys {
		n := 0
		for e := range t.keys[k].all() {
			look(e.queue.first)
			look(e.holders.first)
			if n++; n%part == 0 {
				t.Advance(pause())
			}
		}
	}
	return longest
}

// AppendPast appends what decides what becomes of the leases of the table before,
// as Lease.AppendState does of one.
func (t *Table) AppendPast(dst []byte, now time.Duration) []byte {
	dst = binary.AppendVarint(dst, int64(max(t.past.end-now, 0)))
	for _, key := range slices.Sorted(maps.Keys(t.past.locks)) {
		dst = binary.AppendUvarint(append(dst, key...), t.past.locks[key])
	}
	shares := slices.SortedFunc(maps.Keys(t.past.shares), func(a, b share) int {
		return cmp.Or(cmp.Compare(a.key, b.key), cmp.Compare(a.token.Fence, b.token.Fence))
	})
	for _, s := range shares {
		dst = binary.AppendUvarint(append(dst, s.key...), s.token.Fence)
	}
	for l := t.past.owner.leases.first; l != nil; l = l.links[byOwner].next {
		dst = l.AppendState(append(dst, l.entry.key...), now)
	}
	return dst
}

// noCeiling lets all fences through.
const noCeiling = math.MaxUint64

// The faults are bugs planted to show that the tests find them. They are
// unexported and nothing but a test sets them.
type faults struct {
	lowerWins    bool // of two claims of a lock the lower fence can win
	noTombstone  bool // what has ended in the grace can be claimed
	grantInGrace bool // those who ask in the grace are granted what looks free
}
