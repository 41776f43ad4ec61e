package table

import (
	"encoding/binary"
	"maps"
	"slices"
	"time"
)

// A Value is what a holder of a lock published under its key. It is never
// changed, only replaced, so a caller may keep it for as long as it likes.
type Value struct {
	Data []byte
	// Fence is that of the put: larger than that of the hold which put it, and
	// smaller than that of the next grant.
	Fence uint64
	// At is the instant of the put. It is negative if that was before the origin,
	// in a table before this one.
	At time.Duration
	// Until is the instant at which the value goes by itself; 0 is never.
	Until time.Duration
	// Volatile says that it was put by PublishVolatile.
	Volatile bool
}

const (
	// DefaultMaxValue is the most bytes of one value, if Config.MaxValue is 0.
	DefaultMaxValue = 64 << 10
	// DefaultMaxValues is the most bytes of all values, if Config.MaxValues is 0.
	DefaultMaxValues = 256 << 20
	// ValueOverhead is what a value counts for besides its key and its data: its
	// share of maps and heaps. The allocator may round up data by an eighth.
	ValueOverhead = 192
)

// A shelf is a value and where it is kept.
type shelf struct {
	Value
	key  string
	slot int // 1 + its index in the heap of what expires; 0: not in it
}

// size is what the value counts for.
func (s *shelf) size() int {
	if s == nil {
		return 0
	}
	return len(s.key) + len(s.Data) + ValueOverhead
}

// Values are what was published under the keys of locks. They have a map of their
// own, so that a key without one costs nothing, and one with a value keeps it when
// the table forgets the key.
//
// A change is pending while nobody knows whether it will be there after a crash.
// It is not visible then, and its entry, which is marked, grants to nobody.
type values struct {
	byKey   map[string]*shelf   // what counts
	pending map[string][]*shelf // what does not count yet, in order; nil is a removal
	expires valueHeap           // those of byKey that go by themselves
	size    int                 // of all in byKey and in pending
	peak    int                 // the most in byKey since it was made: maps never shrink
}

// latest returns what will be there when all that is pending counts, or nil.
func (v *values) latest(key string) *shelf {
	if p := v.pending[key]; len(p) > 0 {
		return p[len(p)-1]
	}
	return v.byKey[key]
}

// set puts a value, whose size is counted already, in the place of what was there.
func (v *values) set(s *shelf) {
	v.remove(s.key)
	if v.byKey == nil {
		v.byKey = make(map[string]*shelf)
	}
	v.byKey[s.key] = s
	v.peak = max(v.peak, len(v.byKey))
	if s.Until != 0 {
		v.expires.add(s)
	}
}

// remove takes away the value of a key, if there is one.
func (v *values) remove(key string) {
	s := v.byKey[key]
	if s == nil {
		return
	}
	v.size -= s.size()
	v.expires.remove(s)
	delete(v.byKey, key)
	if v.peak > smallMap && len(v.byKey) <= v.peak/8 {
		anew := make(map[string]*shelf, len(v.byKey))
		maps.Copy(anew, v.byKey)
		v.byKey, v.peak = anew, len(anew)
	}
}

// pend takes note of a change that does not count yet.
func (v *values) pend(key string, s *shelf) {
	if v.pending == nil {
		v.pending = make(map[string][]*shelf)
	}
	v.pending[key] = append(v.pending[key], s)
}

// settled returns the first change that is pending for a key, and forgets it.
func (v *values) settled(key string) *shelf {
	p := v.pending[key]
	if len(p) == 1 {
		delete(v.pending, key)
		if len(v.pending) == 0 {
			v.pending = nil // it may have been large
		}
	} else {
		v.pending[key] = p[1:]
	}
	return p[0]
}

// MaxValue returns the most bytes that a value may have.
func (t *Table) MaxValue() int {
	if t.cfg.MaxValue == 0 {
		return DefaultMaxValue
	}
	return t.cfg.MaxValue
}

// maxValues returns what all values may count for.
func (t *Table) maxValues() int {
	if t.cfg.MaxValues == 0 {
		return DefaultMaxValues
	}
	return t.cfg.MaxValues
}

// Values returns how many keys have a value, and what all values count for of
// Config.MaxValues, those that are pending included.
func (t *Table) Values() (keys, size int) { return len(t.values.byKey), t.values.size }

// Publish stores a copy of data under the key that the token holds as a lock, in
// place of what was there, and takes the next fence. It goes by itself after the
// ttl; 0 is never. The put counts at once: it answers every queued lease of a
// Request that Joins. With pending it does so at Settle, and until then the key
// grants to nobody, even if the lease ends. Changes of a key that are pending
// settle in their order, each by a call of its own.
//
// The error is ErrNotHeld, ErrTTL, ErrValueTooLarge or ErrValuesFull; or ErrNoFence,
// which passes when SetCeiling allows what Wants says. Nothing was stored then.
func (t *Table) Publish(now time.Duration, key []byte, token Token, data []byte, ttl time.Duration, pending bool) (fence uint64, err error) {
	return t.publish(now, key, token, Value{Data: data}, ttl, pending)
}

// PublishVolatile is Publish without pending, of a value that nobody writes down. So
// whoever does that with others must see to it that none of those is in its place
// after a restart: it is for keys that are Unwritten.
func (t *Table) PublishVolatile(now time.Duration, key []byte, token Token, data []byte, ttl time.Duration) (fence uint64, err error) {
	return t.publish(now, key, token, Value{Data: data, Volatile: true}, ttl, false)
}

// Unwritten says that nobody was to write down what is under a key: there is nothing,
// or what PublishVolatile put there, and no change is pending.
func (t *Table) Unwritten(now time.Duration, key []byte) bool {
	v, pending := t.LookupValue(now, key)
	return !pending && (v == nil || v.Volatile)
}

func (t *Table) publish(now time.Duration, key []byte, token Token, v Value, ttl time.Duration, pending bool) (fence uint64, err error) {
	l := t.Find(now, Lock, key, token)
	if l == nil {
		return 0, ErrNotHeld
	}
	data := v.Data
	s := &shelf{key: l.entry.key, Value: v}
	s.At = t.now
	switch room := t.maxValues() - t.values.size + t.values.latest(s.key).size(); {
	case ttl < 0:
		return 0, ErrTTL
	case len(data) > t.MaxValue():
		return 0, ErrValueTooLarge
	case s.size() > room:
		return 0, ErrValuesFull
	case t.fence >= t.ceiling:
		t.wants = max(t.wants, t.fence+1)
		return 0, ErrNoFence
	}
	if ttl > 0 {
		s.Until = after(t.now, ttl)
	}
	t.fence++
	s.Fence = t.fence
	s.Data = make([]byte, len(data)) // no more, as slices.Clone might
	copy(s.Data, data)
	t.values.size += s.size()
	if pending {
		t.pend(l.entry, s)
	} else {
		t.counts(l.entry, s)
	}
	return s.Fence, nil
}

// Unpublish removes the value under the key that the token holds as a lock, and
// says whether there was one: if not, nothing changes and nothing is pending.
// Pending is as for Publish. The error is ErrNotHeld.
func (t *Table) Unpublish(now time.Duration, key []byte, token Token, pending bool) (had bool, err error) {
	l := t.Find(now, Lock, key, token)
	switch {
	case l == nil:
		return false, ErrNotHeld
	case t.values.latest(l.entry.key) == nil:
		return false, nil
	case pending:
		t.pend(l.entry, nil)
	default:
		t.values.remove(l.entry.key)
	}
	return true, nil
}

// Settle ends the first change of a key that is pending, if one is: from here on
// it counts, or, if not ok, it never was. The key is passed on once nothing is
// pending any more.
func (t *Table) Settle(now time.Duration, key []byte, ok bool) {
	t.Advance(now)
	e := t.keys[Lock].get(key)
	if e == nil || !e.pending {
		return
	}
	switch s := t.values.settled(e.key); {
	case s == nil && ok:
		t.values.remove(e.key)
	case s != nil && ok:
		t.counts(e, s)
	case s != nil:
		t.values.size -= s.size()
	}
	if e.pending = len(t.values.pending[e.key]) > 0; !e.pending {
		t.settle(e)
	}
}

// LookupValue returns the value under a key, nil if there is none, and whether a
// change of it is pending. What was there before the change is returned then.
func (t *Table) LookupValue(now time.Duration, key []byte) (v *Value, pending bool) {
	t.Advance(now)
	if s := t.values.byKey[string(key)]; s != nil {
		v = &s.Value
	}
	return v, len(t.values.pending[string(key)]) > 0
}

// RestoreValue puts back a value of the table before, whose fence must not be
// above Config.FirstFence, and whose data are the table's from here on. Caps do
// not count: it was promised. One whose time is over goes at once, as it would
// have by itself. It is for the time before the first request.
func (t *Table) RestoreValue(now time.Duration, key string, v Value) {
	t.Advance(now)
	s := &shelf{Value: v, key: key}
	t.values.size += s.size()
	t.values.set(s)
	t.expireValues()
}

// pend keeps the key to itself until the change settles.
func (t *Table) pend(e *entry, s *shelf) {
	t.values.pend(e.key, s)
	e.pending = true
}

// counts lets everybody know of a put.
func (t *Table) counts(e *entry, s *shelf) {
	t.values.set(s)
	t.answer(e, &s.Value)
	t.expireValues() // it may have been pending for longer than it was to last
}

// answer ends the wait of all who are queued by a Request that Joins.
func (t *Table) answer(e *entry, v *Value) {
	var carrier *Lease
	for l := e.queue.first; l != nil; {
		next := l.links[byKey].next
		if l.marks&joins != 0 {
			if carrier == nil {
				carrier = &Lease{Tag: v}
			}
			t.happened(EventValue, l)
			t.leave(l, Answered)
			l.owner.leases.remove(byOwner, l)
			l.links[byKey].next = carrier
		}
		l = next
	}
}

// Published returns the value that ended the lease's wait, and nil if that ended
// otherwise or has not. It goes by what was a link in the queue, because a lease
// has no room for it: all who were answered share one carrier.
func (l *Lease) Published() *Value {
	if l.reason != Answered {
		return nil
	}
	return l.links[byKey].next.Tag.(*Value)
}

// expireValues takes away the values whose time is over.
func (t *Table) expireValues() {
	for s := t.values.expires.first(); s != nil && s.Until <= t.now; s = t.values.expires.first() {
		t.values.remove(s.key)
		if t.cfg.ValueExpired != nil {
			t.cfg.ValueExpired(s.key, &s.Value)
		}
	}
}

// AppendValues appends what decides what becomes of the values, as
// Lease.AppendState does of one lease. Their ages, which decide nothing in the
// table, are not among it.
func (t *Table) AppendValues(dst []byte, now time.Duration) []byte {
	add := func(s *shelf) {
		if s == nil {
			dst = append(dst, 0)
			return
		}
		kind := byte(1)
		if s.Volatile {
			kind = 2
		}
		dst = binary.AppendUvarint(append(dst, kind), uint64(len(s.Data)))
		dst = binary.AppendUvarint(append(dst, s.Data...), s.Fence)
		left := time.Duration(0)
		if s.Until != 0 {
			left = s.Until - now
		}
		dst = binary.AppendVarint(dst, int64(left))
	}
	for _, key := range slices.Sorted(maps.Keys(t.values.byKey)) {
		dst = append(binary.AppendUvarint(dst, uint64(len(key))), key...)
		add(t.values.byKey[key])
	}
	for _, key := range slices.Sorted(maps.Keys(t.values.pending)) {
		dst = append(binary.AppendUvarint(dst, uint64(len(key))), key...)
		for _, s := range t.values.pending[key] {
			add(s)
		}
	}
	return dst
}
