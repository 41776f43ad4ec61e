package locker

import "container/heap"

// A leaseHeap is a binary min-heap of leases by the instant at which they need
// something next. Each lease knows its place, so that one that is released or
// renewed is moved without a search. Keeper.mu guards it and the leases' holds.
type leaseHeap []*Lease

func (h *leaseHeap) push(l *Lease) { heap.Push((*heapOps)(h), l) }

// fix moves a lease whose instant changed.
func (h *leaseHeap) fix(l *Lease) {
	if l.heapPos >= 0 {
		heap.Fix((*heapOps)(h), int(l.heapPos))
	}
}

// remove takes a lease out, if it is in.
func (h *leaseHeap) remove(l *Lease) {
	if l.heapPos >= 0 {
		heap.Remove((*heapOps)(h), int(l.heapPos))
	}
}

// heapOps are the operations of container/heap, kept apart from the methods
// that keep places right.
type heapOps []*Lease

func (h heapOps) Len() int           { return len(h) }
func (h heapOps) Less(i, j int) bool { return h[i].hold.next() < h[j].hold.next() }
func (h heapOps) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heapPos, h[j].heapPos = int32(i), int32(j)
}

func (h *heapOps) Push(x any) {
	l := x.(*Lease)
	l.heapPos = int32(len(*h))
	*h = append(*h, l)
}

func (h *heapOps) Pop() any {
	last := len(*h) - 1
	l := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	l.heapPos = -1
	return l
}
