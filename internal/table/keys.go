package table

import (
	"hash/maphash"
	"iter"
)

// A keyMap finds the entries of one kind by their keys. It is a map of hashes and
// not of strings, whose headers would stand in the map beside those in the
// entries: that is 12 bytes less for each key that is held. Make one with newKeys.
type keyMap struct {
	seed   maphash.Seed
	mask   uint64 // all ones, but in tests that want equal hashes
	byHash map[uint64]*entry
	twins  map[string]*entry // those that came when another had their hash; nearly always nil
	peak   int               // the most in byHash since it was made: maps never shrink
	remade int               // counts the maps made anew
}

func newKeys() keyMap {
	return keyMap{seed: maphash.MakeSeed(), mask: ^uint64(0), byHash: make(map[uint64]*entry)}
}

func (m *keyMap) hash(key string) uint64 { return maphash.String(m.seed, key) & m.mask }

// get returns the entry of a key, or nil.
func (m *keyMap) get(key []byte) *entry {
	e := m.byHash[maphash.Bytes(m.seed, key)&m.mask]
	if e != nil && e.key == string(key) {
		return e
	}
	return m.twins[string(key)]
}

// put adds an entry whose key is not there.
func (m *keyMap) put(e *entry) {
	h := m.hash(e.key)
	if m.byHash[h] == nil {
		m.byHash[h] = e
		m.peak = max(m.peak, len(m.byHash))
		return
	}
	if m.twins == nil {
		m.twins = make(map[string]*entry)
	}
	m.twins[e.key] = e
}

// remove takes out an entry that is there.
func (m *keyMap) remove(e *entry) {
	if h := m.hash(e.key); m.byHash[h] == e {
		delete(m.byHash, h)
	} else {
		delete(m.twins, e.key)
	}
	m.shrink()
}

// smallMap is a map not worth making anew.
const smallMap = 1024

// shrink makes the map anew when it holds an eighth of what it held at its peak:
// Go's maps keep the memory of their peak for ever. The copying is paid for by the
// many removals before it.
func (m *keyMap) shrink() {
	if m.peak <= smallMap || len(m.byHash) > m.peak/8 {
		return
	}
	anew := make(map[uint64]*entry, len(m.byHash))
	for h, e := range m.byHash {
		anew[h] = e
	}
	m.byHash, m.peak = anew, len(anew)
	m.remade++
}

func (m *keyMap) len() int { return len(m.byHash) + len(m.twins) }

// all returns the entries, in no order. They may come and go meanwhile, as in a
// range over a map; but once the map was made anew, entries that have gone are
// among them.
func (m *keyMap) all() iter.Seq[*entry] {
	return func(yield func(*entry) bool) {
		for _, e := range m.byHash {
			if !yield(e) {
				return
			}
		}
		for _, e := range m.twins {
			if !yield(e) {
				return
			}
		}
	}
}
