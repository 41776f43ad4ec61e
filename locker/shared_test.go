package locker_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
)

// A sharing fake grants on a lease that others hold already: it counts from its
// last beat, before the request.
type sharing struct{ *keeping }

func (b *sharing) Acquire(ctx context.Context, req locker.Request) (locker.Grant, error) {
	g, err := b.keeping.Acquire(ctx, req)
	if err != nil {
		return g, err
	}
	b.kept.Lock()
	defer b.kept.Unlock()
	g.Kept.(*fakeKept).since, g.Shared = b.beaten, true
	return g, nil
}

// TestShared: belief counts from the stamp of the lease, and the hold from that of
// the request.
func TestShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newKeeping()
		c := newClient(t, &sharing{b}, locker.WithMaxHold(time.Minute))
		time.Sleep(2*time.Second + 1)
		b.silence(true)
		time.Sleep(time.Second)
		asked := b.now()
		l := acquire(t, c, "k")
		assert.Exactly(t, "left", l.Left(), 2*time.Second+believed(ttl)-asked)
		time.Sleep(time.Second)
		assert.Exactly(t, "held", l.Held(), time.Second)
		<-l.Lost()
		assert.Exactly(t, "lost at", b.now(), 2*time.Second+believed(ttl))
		assert.Matches(t, l.Err(), locker.ErrLost)
		b.silence(false)
		time.Sleep(2 * time.Second)
		l = acquire(t, c, "k")
		asked = b.now()
		<-l.Lost()
		assert.Exactly(t, "lost at", b.now(), asked+time.Minute)
		assert.Matches(t, l.Err(), locker.ErrMaxHold)
	})
}
