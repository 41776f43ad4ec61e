package once

// Lanes returns how many keys a Group knows something of.
func (g *Group[T]) Lanes() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.lanes)
}
