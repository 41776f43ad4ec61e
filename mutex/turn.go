package mutex

import (
	"context"

	"github.com/distributed-go/distributed/locker"
)

// enter waits to be first of those that share m, until ctx ends. It returns false
// if that was before; and a lease if one was handed over, which then is that of m
// already.
func (m *Mutex) enter(ctx context.Context) (handed *locker.Lease, ok bool) {
	switch {
	case ctx.Err() != nil:
		return nil, false
	case m.direct:
		return nil, true
	}
	return m.join(ctx, &m.queue, false)
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

// join waits in a line until ctx ends. It returns false if it ended before, and
// with the turn a lease if one was handed over.
func (m *Mutex) join(ctx context.Context, l *line, shares bool) (handed *locker.Lease, ok bool) {
	m.mu.Lock()
	w := l.enter(shares, &m.waiters)
	m.mu.Unlock()
	if w == nil {
		return nil, true
	}
	handed, ok = m.waitFor(ctx, w, l)
	m.waiters.put(w)
	return handed, ok
}

// waitFor waits for the turn of a waiter until ctx ends, as join does.
func (m *Mutex) waitFor(ctx context.Context, w *waiter, l *line) (handed *locker.Lease, ok bool) {
	done := ctx.Done()
	if done == nil {
		return <-w.turn, true // for half the price of a select
	}
	select {
	case handed = <-w.turn:
		return handed, true
	case <-done:
	}
	m.mu.Lock()
	gone := l.giveUp(w)
	m.mu.Unlock()
	if gone {
		return nil, false
	}
	return <-w.turn, true // it came at the same time
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
	if _, ok := m.join(ctx, &m.turn, shares); !ok {
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
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.turn.tryEnter(false) {
		m.mu.Unlock()
		err := m.await(ctx, l, false)
		m.mu.Lock()
		if err != nil {
			return err
		}
	}
	m.holdLocked(holder{l, queued})
	return nil
}

// holdLocked makes h, whom the backend has just granted the lease, the holder.
func (m *Mutex) holdLocked(h holder) {
	m.holder = h
	m.handover.granted(h.lease)
}

// tryTake is take for those who do not wait.
func (m *Mutex) tryTake(l *locker.Lease) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.turn.tryEnter(false) {
		return false
	}
	m.holdLocked(holder{l, !m.direct})
	return true
}

// giveBack releases a lease that nobody was told of, in the background.
func giveBack(l *locker.Lease) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = l.Release(ctx) // a context that has ended bounds the waiting, not the release
}

// open unlocks m for the goroutines that share it, if it is locked, with the
// lease given unless that is nil. It returns the lease, and whether it was handed
// over; if not the caller releases it: after, so that the request of the next goroutine leaves right behind
// the release and the key passes on within one round trip. Nobody can hold two
// leases of it for that: the backend grants the next when it has released this
// one.
func (m *Mutex) open(only *locker.Lease) (l *locker.Lease, handed bool) {
	m.mu.Lock()
	h := m.holder
	if h.lease == nil || only != nil && h.lease != only {
		m.mu.Unlock()
		return nil, false
	}
	m.holder = holder{}
	var heir *waiter
	if h.queued && m.handover.may(h.lease) {
		heir = m.queue.shift()
	}
	if heir == nil {
		m.turn.leave()
		if h.queued {
			m.queue.leave()
		}
	}
	m.mu.Unlock()
	return h.lease, heir != nil && m.handOver(h.lease, heir)
}

// handOver gives the lease, and with it the queue and the turn, to a waiter that
// was taken out of the queue. If that fails, because the lease was lost or
// released, the waiter asks the backend.
func (m *Mutex) handOver(l *locker.Lease, heir *waiter) (handed bool) {
	next, err := l.HandOver()
	m.mu.Lock()
	if err == nil {
		m.holder = holder{next, true}
		m.handover.left--
	} else {
		next = nil
		m.turn.leave()
	}
	m.mu.Unlock()
	heir.turn <- next
	return next != nil
}
