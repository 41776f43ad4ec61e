package etcd

import (
	"hash/maphash"
	"iter"
	"maps"
	"math/rand/v2"
)

// entries are those whose names are in use: until their keys are known to be deleted.
// They are found by a hash, which takes a third of the bytes of a map by the name; no
// two of them have the same, because an entry is given another name then. Guarded by
// Backend.mu.
//
// An entry has one of the first few names of its lease, so that they are used again and
// again. Etcd remembers each key that was ever there until it is compacted, and finds
// out anew which of them are no more whenever it looks below their subject: with new
// names each acquisition would be slower than the last.
type entries struct {
	seed   maphash.Seed
	byHash map[uint64]*entry
}

func newEntries() entries { return entries{maphash.MakeSeed(), make(map[uint64]*entry)} }

func (es *entries) hash(id ident) uint64 { return maphash.Comparable(es.seed, id) }

// addLocked gives an entry a name, and adds it.
func (es *entries) addLocked(e *entry) {
	for first, n := uint32(0), uint32(1); ; first, n = first+n, 2*n {
		e.slot = first + rand.Uint32N(n) //nolint:gosec // no secret
		if h := es.hash(e.ident()); es.byHash[h] == nil {
			es.byHash[h] = e
			return
		}
	}
}

// get returns the entry of a name, or nil.
func (es *entries) get(id ident) *entry {
	if e := es.byHash[es.hash(id)]; e != nil && e.ident() == id {
		return e
	}
	return nil
}

// dropLocked takes an entry out, and says whether it was there.
func (es *entries) dropLocked(e *entry) bool {
	h := es.hash(e.ident())
	if es.byHash[h] != e {
		return false
	}
	delete(es.byHash, h)
	return true
}

func (es *entries) len() int { return len(es.byHash) }

func (es *entries) all() iter.Seq[*entry] { return maps.Values(es.byHash) }
