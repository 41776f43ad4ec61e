package table

import (
	"math"
	"time"
)

// A KeyInfo is what the table knows of a key.
type KeyInfo struct {
	Kind    Kind
	Key     string
	Limit   int
	Used    int // the sum of the holders' weights
	Holders int
	Waiters int
	// Absent counts those of the waiters who are passed over at the moment.
	Absent int
	// Name is what the first holder's owner calls itself, if it does, and HeldFor
	// the time since that holder's grant, in whole milliseconds.
	Name    string
	HeldFor time.Duration
	// Shares are the first MaxShares of a semaphore's holders, in the order of
	// their grants.
	Shares []Share
	// Owner is the number of the first holder's owner, and ExpiresIn what is
	// left of its lease; both are 0 for a key without holders.
	Owner     uint64
	ExpiresIn time.Duration
	// Idle is the time since the last holder of a key without any; 0 if the table
	// has forgotten the key but for its value.
	Idle time.Duration
	// Valued says that a lock's key has a value, of so many bytes and that age.
	Valued     bool
	ValueBytes int
	ValueAge   time.Duration
}

// A Share is what the table knows of one holder of a semaphore.
type Share struct {
	Name    string // what its owner calls itself, if it does
	Weight  int
	HeldFor time.Duration // since the grant, in whole milliseconds
}

// MaxShares is how many holders of one semaphore a KeyInfo lists at most.
const MaxShares = 16

// Snapshot returns what the table knows at the instant now, in no order: who
// wants one can sort without holding up the table.
func (t *Table) Snapshot(now time.Duration) []KeyInfo {
	return t.SnapshotInParts(now, math.MaxInt, nil)
}

// SnapshotInParts does what Snapshot does, and calls pause after each so many
// keys, which may let others use the table and returns the instant at which it
// gives it back. What they change is in the snapshot or not: a key that was
// known all the time is in it once, as it was at some instant, and one that was
// not may be missing. Keys with a value are known, also those of which the table
// has forgotten all else; but one that got its first value and was forgotten
// otherwise meanwhile may be missing.
func (t *Table) SnapshotInParts(now time.Duration, part int, pause func() time.Duration) []KeyInfo {
	t.Advance(now)
	all := make([]KeyInfo, 0, t.Keys())
	all, valued := t.infoOfValues(all, part, pause)
	for k := range t.keys {
		m := &t.keys[k]
		remade, n := m.remade, 0
		for e := range m.all() {
			if m.remade == remade || m.get([]byte(e.key)) == e {
				if k != int(Lock) || !valued[e.key] {
					all = append(all, t.info(e))
				}
			}
			if n++; n%part == 0 {
				t.Advance(pause())
			}
		}
	}
	return all
}

// infoOfValues appends the keys with a value, and returns which they are.
func (t *Table) infoOfValues(all []KeyInfo, part int, pause func() time.Duration) ([]KeyInfo, map[string]bool) {
	if len(t.values.byKey) == 0 {
		return all, nil
	}
	valued := make(map[string]bool, len(t.values.byKey))
	n := 0
	for key := range t.values.byKey {
		if i, _ := t.Lookup(t.now, Lock, []byte(key)); i.Valued {
			all, valued[key] = append(all, i), true
		}
		if n++; n%part == 0 {
			t.Advance(pause())
		}
	}
	return all, valued
}

// info says of a value what there is to say.
func (v *Value) info(i KeyInfo, now time.Duration) KeyInfo {
	i.Valued, i.ValueBytes, i.ValueAge = true, len(v.Data), now-v.At
	return i
}

// Lookup returns what Snapshot would about one key, and false if the table does
// not know it.
func (t *Table) Lookup(now time.Duration, k Kind, key []byte) (KeyInfo, bool) {
	t.Advance(now)
	if e := t.keys[k].get(key); e != nil {
		return t.info(e), true
	}
	if s := t.values.byKey[string(key)]; s != nil && k == Lock {
		return s.info(KeyInfo{Kind: Lock, Key: s.key, Limit: 1}, t.now), true
	}
	return KeyInfo{}, false
}

// Holder returns what the first holder of a key calls itself, empty if it does
// not, and the time since its grant, at the latest instant of any call; and
// false if nobody holds the key.
func (t *Table) Holder(k Kind, key []byte) (name string, heldFor time.Duration, held bool) {
	e := t.keys[k].get(key)
	if e == nil || e.holders.first == nil {
		return "", 0, false
	}
	first := e.holders.first
	return first.owner.Name, first.heldFor(t.now), true
}

func (t *Table) info(e *entry) KeyInfo {
	now := t.now
	i := KeyInfo{
		Kind: e.kind, Key: e.key, Limit: e.limit, Used: e.used,
		Holders: int(e.holding), Waiters: int(e.waiting), Absent: int(e.absent),
	}
	if first := e.holders.first; first != nil {
		i.Owner, i.ExpiresIn = first.owner.id, first.Remaining(now)
		i.Name, i.HeldFor = first.owner.Name, first.heldFor(now)
		i.Shares = e.shares(now)
	}
	if e.idle {
		i.Idle = now - e.since
	}
	if s := t.values.byKey[e.key]; s != nil && e.kind == Lock {
		return s.info(i, now)
	}
	return i
}

// shares returns those of a semaphore's holders that a KeyInfo lists.
func (e *entry) shares(now time.Duration) []Share {
	if e.kind == Lock {
		return nil
	}
	all := make([]Share, 0, min(e.holding, MaxShares))
	for l := e.holders.first; l != nil && len(all) < MaxShares; l = l.links[byKey].next {
		all = append(all, Share{Name: l.owner.Name, Weight: int(l.weight), HeldFor: l.heldFor(now)})
	}
	return all
}
