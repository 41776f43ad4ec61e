package table

import "time"

// An entry is what the table knows of a key that has holders or waiters, or had
// some not long ago. If it has waiters but no holders then all who wait are
// absent, because a weight is never above the limit; or it is the grace, the
// ceiling has been reached, or a change of its value is pending. It takes 96
// bytes, one of the allocator's size classes.
type entry struct {
	key   string
	limit int
	used  int // the sum of the holders' weights, above the limit only by claims

	queue   list // those who wait, in order of arrival
	holders list // those who hold, in order of their fences but for claims

	// The index finds holders by fence, once there are many of them.
	index map[uint64]*Lease

	// The neighbours in the list of entries that nobody holds or waits for.
	older, newer *entry

	since time.Duration // if it is idle: nobody has held or waited for it since

	waiting int32
	absent  int32 // of those who wait, the ones to be passed over
	holding int32
	kind    Kind
	idle    bool
	pending bool // a change of its value is, which keeps all from it
}

// fits says whether the weight can be granted beside the holders.
func (e *entry) fits(weight int) bool { return weight <= e.limit-e.used && !e.pending }

// present returns the first of l and those behind it in the queue who is there.
func present(l *Lease) *Lease {
	for l != nil && l.marks&absent != 0 {
		l = l.links[byKey].next
	}
	return l
}

// manyHolders is the number of holders from which on an index is worth its
// memory: below, walking a list takes as long as a look-up.
const manyHolders = 16

// hold adds a granted lease to the holders.
func (e *entry) hold(l *Lease) {
	e.used += int(l.weight)
	e.holding++
	e.holders.push(byKey, l)
	switch {
	case e.index != nil:
		e.index[l.number] = l
	case e.holding == manyHolders:
		e.index = make(map[uint64]*Lease, 2*manyHolders)
		for h := e.holders.first; h != nil; h = h.links[byKey].next {
			e.index[h.number] = h
		}
	}
}

// unhold takes a lease out of the holders.
func (e *entry) unhold(l *Lease) {
	e.used -= int(l.weight)
	e.holding--
	e.holders.remove(byKey, l)
	switch {
	case e.index == nil:
	case e.holding == 0:
		e.index = nil
	default:
		delete(e.index, l.number)
	}
}

// find returns the holder that the token names, and nil if there is none. The
// MACs are compared as one machine word, in constant time.
func (e *entry) find(tok Token) *Lease {
	l := e.index[tok.Fence]
	if e.index == nil {
		l = e.holders.first
		for l != nil && l.number != tok.Fence {
			l = l.links[byKey].next
		}
	}
	if l == nil || l.mac != tok.MAC {
		return nil
	}
	return l
}

// An idleList keeps the entries without holders, longest idle first.
type idleList struct{ oldest, newest *entry }

// push appends an entry that is idle from now on.
func (s *idleList) push(e *entry, now time.Duration) {
	e.idle, e.since = true, now
	e.older, e.newer = s.newest, nil
	if s.newest == nil {
		s.oldest = e
	} else {
		s.newest.newer = e
	}
	s.newest = e
}

// remove takes out an entry that is idle.
func (s *idleList) remove(e *entry) {
	if e.older == nil {
		s.oldest = e.newer
	} else {
		e.older.newer = e.newer
	}
	if e.newer == nil {
		s.newest = e.older
	} else {
		e.newer.older = e.older
	}
	e.older, e.newer, e.idle = nil, nil, false
}
