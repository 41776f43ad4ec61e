package table

import "time"

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
	// the time for which the key has been held without a break: for a lock, the
	// time since its grant.
	Name    string
	HeldFor time.Duration
	// Owner is the number of the first holder's owner, and ExpiresIn what is
	// left of its lease; both are 0 for a key without holders.
	Owner     uint64
	ExpiresIn time.Duration
	// Idle is the time since the last holder of a key without any.
	Idle time.Duration
}

// Snapshot returns what the table knows at the instant now, in no order: who
// wants one can sort without holding up the table.
func (t *Table) Snapshot(now time.Duration) []KeyInfo {
	t.Advance(now)
	all := make([]KeyInfo, 0, t.Keys())
	for _, m := range t.keys {
		for _, e := range m {
			all = append(all, e.info(t.now))
		}
	}
	return all
}

// Lookup returns what Snapshot would about one key, and false if the table does
// not know it.
func (t *Table) Lookup(now time.Duration, k Kind, key []byte) (KeyInfo, bool) {
	t.Advance(now)
	e := t.keys[k][string(key)]
	if e == nil {
		return KeyInfo{}, false
	}
	return e.info(t.now), true
}

func (e *entry) info(now time.Duration) KeyInfo {
	i := KeyInfo{
		Kind: e.kind, Key: e.key, Limit: e.limit, Used: e.used,
		Holders: int(e.holding), Waiters: int(e.waiting), Absent: int(e.absent),
	}
	if first := e.holders.first; first != nil {
		i.Owner, i.ExpiresIn = first.owner.id, first.Remaining(now)
		i.Name, i.HeldFor = first.owner.Name, now-e.since
	}
	if e.idle {
		i.Idle = now - e.since
	}
	return i
}
