package mutex

import (
	"context"

	"github.com/distributed-go/distributed/locker"
)

// A Ticket is a place in the queue for a Mutex: enqueue, tell somebody, wait.
// It is safe for concurrent use.
type Ticket struct {
	mutex  *Mutex
	ticket *locker.Ticket
}

// Enqueue takes a place in the queue of the key, without waiting for its turn.
// Goroutines that share m may each take one. The error matches
// errors.ErrUnsupported if the backend has no places.
func (m *Mutex) Enqueue(ctx context.Context) (*Ticket, error) {
	if err := m.ready(); err != nil {
		return nil, err
	}
	t, err := m.acquirer.Enqueue(ctx)
	if err != nil {
		return nil, err
	}
	return &Ticket{mutex: m, ticket: t}, nil
}

// Acquired says whether the key was free, so that Wait will not have to wait
// for other processes.
func (t *Ticket) Acquired() bool { return t.ticket.Acquired() }

// Wait waits for the turn and locks the Mutex; unlock it as after Lock. If it
// takes longer than the TTL until Wait is called the turn may have passed; Wait
// then queues again at the end. When it returns an error the place is gone. A
// second Wait returns an error that matches locker.ErrNotHeld.
//
// Tickets are served in the order of their Enqueues: who waits for a later one
// before an earlier one waits for the earlier one's turn to pass, too.
func (t *Ticket) Wait(ctx context.Context) error {
	ctx, stop := t.mutex.acquirer.Bound(ctx)
	defer stop()
	l, err := t.ticket.Wait(ctx)
	if err != nil {
		return err
	}
	return t.mutex.take(ctx, l, false)
}

// Cancel gives up the place. It is idempotent, and does nothing once Wait has
// returned.
func (t *Ticket) Cancel(ctx context.Context) error { return t.ticket.Cancel(ctx) }
