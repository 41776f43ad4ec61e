package guard

import (
	"context"
	"sync"
)

// A gate lets work of one fence at a time through for each key: a larger fence
// waits until all work of a smaller one is done, and a smaller one is refused
// as soon as a larger has come. The zero value is ready.
type gate struct {
	mu   sync.Mutex
	keys map[string]*turn // guarded by mu; only keys with work under way
}

// A turn is the work under way for one key. Its fields are guarded by gate.mu.
type turn struct {
	fence   uint64        // of the work under way
	largest uint64        // that has come, which may be waiting
	running int           // how much work is under way, at least 1
	over    chan struct{} // closed when none is left
}

// enter waits until work with the fence may begin. The caller calls leave when
// it is done. It returns a *StaleError, or why ctx ended.
func (g *gate) enter(ctx context.Context, key string, fence uint64) error {
	for {
		wait, err := g.try(key, fence)
		if wait == nil {
			return err
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return failed(key, "wait for an earlier holder's request", context.Cause(ctx))
		}
	}
}

// try returns nil if work may begin or never may, and else a channel that is
// closed when it is worth another try.
func (g *gate) try(key string, fence uint64) (<-chan struct{}, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.keys[key]
	if t == nil {
		if g.keys == nil {
			g.keys = make(map[string]*turn)
		}
		g.keys[key] = &turn{fence: fence, largest: fence, running: 1, over: make(chan struct{})}
		return nil, nil
	}
	if err := judge(key, fence, t.largest); err != nil {
		return nil, err
	}
	t.largest = fence
	if fence == t.fence {
		t.running++
		return nil, nil
	}
	return t.over, nil
}

// leave ends what enter began.
func (g *gate) leave(key string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t := g.keys[key]
	if t.running--; t.running == 0 {
		delete(g.keys, key)
		close(t.over)
	}
}
