package mutex

import (
	"context"

	"github.com/distributed-go/distributed/locker"
)

// enter waits to be first of those that share m. It returns false if ctx ended
// before.
func (m *Mutex) enter(ctx context.Context) bool {
	return ctx.Err() == nil && (m.direct || m.join(ctx, &m.queue, false))
}

// tryEnter is enter for those who do not wait.
func (m *Mutex) tryEnter() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.direct || m.queue.tryEnter(false)
}

// exit ends what enter began.
func (m *Mutex) exit() {
	if !m.direct {
		m.leave(&m.queue)
	}
}

// join waits in a line until ctx ends. It returns false if it ended before.
func (m *Mutex) join(ctx context.Context, l *line, shares bool) bool {
	m.mu.Lock()
	w := l.enter(shares)
	m.mu.Unlock()
	if w == nil {
		return true
	}
	select {
	case <-w.turn:
		return true
	case <-ctx.Done():
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return !l.giveUp(w) // else its turn came at the same time
}

// leave lets the next in a line go on.
func (m *Mutex) leave(l *line) {
	m.mu.Lock()
	l.leave()
	m.mu.Unlock()
}

// await waits for the turn of one who holds a lease: for those to unlock who
// lost theirs and have not unlocked yet. The error matches locker.ErrLost if
// this one was lost meanwhile.
func (m *Mutex) await(ctx context.Context, l *locker.Lease, shares bool) error {
	if !m.join(ctx, &m.turn, shares) {
		giveBack(l)
		return m.acquirer.Interrupted(ctx, "lock")
	}
	if err := l.Err(); err != nil {
		m.leave(&m.turn)
		return err
	}
	return nil
}

// take waits for the turn and makes the lease that of m.
func (m *Mutex) take(ctx context.Context, l *locker.Lease, queued bool) error {
	if err := m.await(ctx, l, false); err != nil {
		return err
	}
	m.mu.Lock()
	m.holder = holder{l, queued}
	m.mu.Unlock()
	return nil
}

// tryTake is take for those who do not wait.
func (m *Mutex) tryTake(l *locker.Lease) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.turn.tryEnter(false) {
		return false
	}
	m.holder = holder{l, !m.direct}
	return true
}

// giveBack releases a lease that nobody was told of, in the background.
func giveBack(l *locker.Lease) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = l.Release(ctx) // a context that has ended bounds the waiting, not the release
}

// open unlocks m for the goroutines that share it, if it is locked, with the
// lease given unless that is nil. It returns the lease, which the caller
// releases: after, so that the request of the next goroutine leaves right behind
// the release and the key passes on within one round trip. Nobody can hold two
// leases of it for that: the backend grants the next when it has released this
// one.
func (m *Mutex) open(only *locker.Lease) *locker.Lease {
	m.mu.Lock()
	defer m.mu.Unlock()
	h := m.holder
	if h.lease == nil || only != nil && h.lease != only {
		return nil
	}
	m.holder = holder{}
	m.turn.leave()
	if h.queued {
		m.queue.leave()
	}
	return h.lease
}

// release releases a lease, waiting for the answer for unlockTimeout at most.
// What goes wrong goes on in the background, or needs no release any more.
func (m *Mutex) release(l *locker.Lease) {
	m.mu.Lock()
	c := m.limits.take()
	m.mu.Unlock()
	c = c.start()
	_ = l.Release(c)
	if c.stop() {
		m.mu.Lock()
		m.limits.put(c)
		m.mu.Unlock()
	}
}
