package etcd

import (
	"context"
	"fmt"
	"time"

	"github.com/distributed-go/distributed/locker"
)

// Release implements locker.Backend. A deletion that has no answer by the end of
// ctx goes on in the background, for as long as the lease could keep the key alive.
func (b *Backend) Release(ctx context.Context, h locker.Hold) error {
	c, released, err := b.releasing(h)
	if err != nil {
		return err
	}
	b.sender.carry(ctx, requestTimeout, b.deletion(c))
	select {
	case err := <-released:
		return err
	case <-b.life.Done():
		return b.closedFor()
	case <-ctx.Done():
		return b.unanswered(ctx)
	}
}

// ReleaseWithin implements locker.Releaser.
func (b *Backend) ReleaseWithin(now, d time.Duration, h locker.Hold) error {
	c, released, err := b.releasing(h)
	if err != nil {
		return err
	}
	c.plain = c.entry != nil
	b.sender.carry(context.Background(), max(0, min(d, requestTimeout)), b.deletion(c))
	select { // the answer is there, unless there was none or others are waited for
	case err := <-released:
		return err
	default:
	}
	rest := time.NewTimer(now + d - b.now())
	defer rest.Stop()
	select {
	case err := <-released:
		return err
	case <-b.life.Done():
		return b.closedFor()
	case <-rest.C:
		e := b.noAnswer()
		e.ended = context.DeadlineExceeded
		return e
	}
}

// releasing ends a hold here, and returns what deletes its key, and tells whether it
// did.
func (b *Backend) releasing(h locker.Hold) (*chore, <-chan error, error) {
	rev, name := readToken(h.Token)
	if rev <= 0 {
		return nil, nil, errNoSuchHold
	}
	released := make(chan error, 1)
	c := &chore{ident: ident{subject{h.Kind, h.Key}, name}, rev: rev, done: func(found bool, err error) {
		if err == nil && !found {
			err = errNoSuchHold
		}
		released <- err
	}}
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entryLocked(h)
	switch {
	case b.life.Err() != nil:
		return nil, nil, b.closedFor()
	case e != nil && e.state == over:
		return nil, nil, fmt.Errorf("%w: %w", locker.ErrNotHeld, e.err())
	case e != nil:
		e.state, e.end = over, errReleased
		c.entry = e
	}
	return c, released, nil
}

// entryLocked returns the entry of a hold; nil if it is none of this Backend.
func (b *Backend) entryLocked(h locker.Hold) *entry {
	if e, ok := h.Kept.(*entry); ok && e.lease.b == b {
		return e
	}
	rev, name := readToken(h.Token)
	if e := b.entries.get(ident{subject{h.Kind, h.Key}, name}); e != nil && e.rev == rev {
		return e
	}
	return nil
}
