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

func (e *entry) info(now time.Duration) KeyInfo {
	i := KeyInfo{
		Kind: e.kind, Key: e.key, Limit: e.limit, Used: e.used,
		Holders: int(e.holding), Waiters: int(e.waiting),
	}
	if first := e.holders.first; first != nil {
		i.Owner, i.ExpiresIn = first.owner.id, first.Remaining(now)
	}
	if e.idle {
		i.Idle = now - e.since
	}
	return i
}
