package table

// The two lists that a lease is in for as long as it has not ended.
const (
	byKey   = iota // the queue or the holders of its key
	byOwner        // the leases of its owner
)

// A link holds the neighbours of a lease in one list. The next of the last is
// nil; the prev of the first is the last, which saves the list a word.
type link struct{ prev, next *Lease }

// A list is a queue of leases linked through themselves: container/list would
// cost an allocation and 48 bytes more for each. The argument by says which of
// a lease's links the list uses.
type list struct{ first *Lease }

// push appends a lease.
func (s *list) push(by int, l *Lease) {
	if s.first == nil {
		s.first = l
		l.links[by] = link{prev: l}
		return
	}
	last := s.first.links[by].prev
	last.links[by].next = l
	l.links[by] = link{prev: last}
	s.first.links[by].prev = l
}

// remove takes out a lease that is in the list.
func (s *list) remove(by int, l *Lease) {
	at := l.links[by]
	if s.first == l {
		s.first = at.next
	} else {
		at.prev.links[by].next = at.next
	}
	if at.next != nil {
		at.next.links[by].prev = at.prev
	} else if s.first != nil {
		s.first.links[by].prev = at.prev
	}
	l.links[by] = link{}
}
