package table

import (
	heaps "container/heap" // the tests have a heap of their own
	"time"
)

// A valueHeap is the values that go by themselves, the first of them on top. It
// is far from the hot path, so it is not lazy as deadlines is.
type valueHeap struct{ all byUntil }

// first returns what goes first, or nil.
func (h *valueHeap) first() *shelf {
	if len(h.all) == 0 {
		return nil
	}
	return h.all[0]
}

// next returns the instant at which the first goes, and false without any.
func (h *valueHeap) next() (time.Duration, bool) {
	if len(h.all) == 0 {
		return 0, false
	}
	return h.all[0].Until, true
}

func (h *valueHeap) add(s *shelf) { heaps.Push(&h.all, s) }

// remove forgets a value, if it is in the heap, and gives memory back after a peak.
func (h *valueHeap) remove(s *shelf) {
	if s.slot == 0 {
		return
	}
	heaps.Remove(&h.all, s.slot-1)
	if c := cap(h.all); c > smallHeap && len(h.all) < c/4 {
		h.all = append(make(byUntil, 0, c/2), h.all...)
	}
}

// ByUntil implements heap.Interface. Of two that go at one instant the earlier
// put is first.
type byUntil []*shelf

func (b byUntil) Len() int { return len(b) }

func (b byUntil) Less(i, j int) bool {
	if b[i].Until != b[j].Until {
		return b[i].Until < b[j].Until
	}
	return b[i].Fence < b[j].Fence
}

func (b byUntil) Swap(i, j int) {
	b[i], b[j] = b[j], b[i]
	b[i].slot, b[j].slot = i+1, j+1
}

func (b *byUntil) Push(x any) {
	s := x.(*shelf)
	*b = append(*b, s)
	s.slot = len(*b)
}

func (b *byUntil) Pop() any {
	last := len(*b) - 1
	s := (*b)[last]
	(*b)[last] = nil
	*b = (*b)[:last]
	s.slot = 0
	return s
}
