package once

import "slices"

// A lane is what a Group knows of one key.
type lane[T any] struct {
	last      *flight[T] // the one that began last, until it has settled
	flights   int        // that have not settled
	wakes     []*wake    // of results that may be on their way to the backend
	forgotten bool       // a flight has to run its function first, by Forget
}

// A wake is what a flight leaves behind whose function has returned: who comes from
// then on must not get its result. It stays in the lane for as long as the backend
// may push that to who joins, and other flights begin and end meanwhile.
type wake struct {
	run     string        // of the record; set before the wake is in the lane
	settled chan struct{} // closed when the flight is over
}

// lane returns the lane of a key. The caller holds mu, and lets something be in it.
func (g *Group[T]) lane(key string) *lane[T] {
	k := g.lanes[key]
	if k == nil {
		k = new(lane[T])
		g.lanes[key] = k
	}
	return k
}

// tidy drops the lane of a key if nothing is in it. The caller holds mu.
func (g *Group[T]) tidy(key string, k *lane[T]) {
	if k.flights == 0 && len(k.wakes) == 0 && !k.forgotten {
		delete(g.lanes, key)
	}
}

// drop takes a wake out of the lane.
func (k *lane[T]) drop(w *wake) {
	k.wakes = slices.DeleteFunc(k.wakes, func(other *wake) bool { return other == w })
}

// dispel drops a wake whose result cannot come through any more.
func (g *Group[T]) dispel(key string, k *lane[T], w *wake) {
	g.mu.Lock()
	defer g.mu.Unlock()
	k.drop(w)
	g.tidy(key, k)
}
