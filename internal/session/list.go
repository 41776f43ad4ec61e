package session

// A list is a queue of things that are linked through themselves, so that each
// can be taken out at no cost and none costs an allocation.
type list[T any, P linked[T]] struct{ head, tail *T }

// Linked things have a place for their neighbours.
type linked[T any] interface {
	*T
	at() *links[T]
}

type links[T any] struct {
	prev, next *T
	in         bool
}

// push appends a thing that is in no list.
func (s *list[T, P]) push(x *T) {
	*P(x).at() = links[T]{prev: s.tail, in: true}
	if s.tail == nil {
		s.head = x
	} else {
		P(s.tail).at().next = x
	}
	s.tail = x
}

// remove takes a thing out, if it is in the list.
func (s *list[T, P]) remove(x *T) {
	n := P(x).at()
	if !n.in {
		return
	}
	if n.prev == nil {
		s.head = n.next
	} else {
		P(n.prev).at().next = n.next
	}
	if n.next == nil {
		s.tail = n.prev
	} else {
		P(n.next).at().prev = n.prev
	}
	*n = links[T]{}
}

// touch moves a thing in the list to its end.
func (s *list[T, P]) touch(x *T) {
	if x != s.tail {
		s.remove(x)
		s.push(x)
	}
}
