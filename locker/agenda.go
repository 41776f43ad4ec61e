package locker

import (
	"container/heap"
	"math"
	"time"
)

// An agenda says which lease needs something next. Leases whose instant is near
// are in a heap by that instant, exactly; those before them wait in no order,
// those of one second together. So a lease whose instant is moved on again and
// again, as that of one which its backend keeps is, never comes near the heap:
// a million of them cost a few steps each when their second comes, and not a
// walk through a heap of a million. Each lease knows its place, so that one
// that is released is taken out without a search.
//
// Keeper.mu guards it. A lease must be out while its hold changes, because its
// second is found by its instant.
type agenda struct {
	near  nearHeap
	later map[int64]*second
	last  *second // of later, that was looked for last: most leases are for as long as others
	first int64   // no second of later comes before it
	seen  int64   // what comes up to this second is near
	n     int
}

// A second is the leases that need something in one second of the clock.
type second struct {
	at     int64
	leases []*Lease
}

const noSecond = math.MaxInt64

func newAgenda() agenda { return agenda{later: make(map[int64]*second), first: noSecond} }

func secondOf(at time.Duration) int64 { return int64(at / time.Second) }

// second returns a second of later, or nil.
func (a *agenda) second(at int64) *second {
	if a.last == nil || a.last.at != at {
		a.last = a.later[at]
	}
	return a.last
}

// put puts a lease in that is not.
func (a *agenda) put(l *Lease) {
	a.n++
	at := l.next()
	sec := secondOf(at)
	if sec <= a.seen {
		a.near = append(a.near, slot{at, l})
		l.place = int32(len(a.near))
		heap.Fix(&a.near, len(a.near)-1)
		return
	}
	s := a.second(sec)
	if s == nil {
		s = &second{at: sec}
		a.later[sec] = s
	}
	a.first = min(a.first, sec)
	s.leases = append(s.leases, l)
	l.place = -int32(len(s.leases))
}

// remove takes a lease out, if it is in.
func (a *agenda) remove(l *Lease) {
	switch {
	case l.place == 0:
		return
	case l.place > 0:
		heap.Remove(&a.near, int(l.place-1))
	default:
		a.second(secondOf(l.next())).remove(l)
	}
	a.n--
}

// replace puts a lease in the place of another with the same hold.
func (a *agenda) replace(l, by *Lease) {
	switch by.place = l.place; {
	case l.place > 0:
		a.near[l.place-1].lease = by
	case l.place < 0:
		a.second(secondOf(l.next())).leases[-l.place-1] = by
	}
	l.place = 0
}

// due takes a lease out that may need something now, or nil. Those whose second
// has come are among them, so that some come too early, once.
func (a *agenda) due(now time.Duration) *Lease {
	if len(a.near) > 0 && a.near[0].at <= now {
		a.n--
		return heap.Pop(&a.near).(*Lease)
	}
	for a.seen = max(a.seen, secondOf(now)); a.first <= a.seen; a.first = a.earliest() {
		if s := a.second(a.first); s != nil && len(s.leases) > 0 {
			a.n--
			l := s.leases[len(s.leases)-1]
			s.remove(l)
			return l
		}
		delete(a.later, a.first)
		a.last = nil
	}
	return nil
}

// earliest looks for the first of the seconds: there are as many as the longest
// lease has, at most.
func (a *agenda) earliest() int64 {
	first := int64(noSecond)
	for sec := range a.later {
		first = min(first, sec)
	}
	return first
}

// next is the instant at which due may have something.
func (a *agenda) next() time.Duration {
	at := never
	if len(a.near) > 0 {
		at = a.near[0].at
	}
	if a.n > len(a.near) {
		at = min(at, time.Duration(a.first)*time.Second)
	}
	return at
}

// all returns the leases that are in.
func (a *agenda) all() []*Lease {
	all := make([]*Lease, 0, a.n)
	for _, s := range a.near {
		all = append(all, s.lease)
	}
	for _, s := range a.later {
		all = append(all, s.leases...)
	}
	return all
}

func (s *second) remove(l *Lease) {
	last := len(s.leases) - 1
	i := -l.place - 1
	s.leases[i], s.leases[last] = s.leases[last], nil
	if int(i) < last {
		s.leases[i].place = l.place
	}
	s.leases = s.leases[:last]
	l.place = 0
}

// A slot of the heap has the instant beside the lease, which is most likely in
// no cache.
type slot struct {
	at    time.Duration
	lease *Lease
}

// nearHeap implements container/heap.Interface.
type nearHeap []slot

func (h nearHeap) Len() int           { return len(h) }
func (h nearHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h nearHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].lease.place, h[j].lease.place = int32(i+1), int32(j+1)
}

// Push is not used: it would allocate what it is given.
func (h *nearHeap) Push(any) { panic("locker: put appends") }

func (h *nearHeap) Pop() any {
	last := len(*h) - 1
	l := (*h)[last].lease
	(*h)[last] = slot{}
	*h = (*h)[:last]
	l.place = 0
	return l
}
