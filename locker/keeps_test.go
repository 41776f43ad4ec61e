package locker_test

import (
	"context"
	"sync"
	"time"

	"github.com/distributed-go/distributed/locker"
)

// A keeping fake keeps its holds alive by itself, with a beat for all of them.
type keeping struct {
	*fake

	kept     sync.Mutex
	clock    func() time.Duration       // guarded by kept
	holds    map[locker.Token]*fakeKept // those that it keeps alive; guarded by kept
	silent   bool                       // beats are not answered; guarded by kept
	beaten   time.Duration              // when the last beat was sent that was answered; guarded by kept
	stopBeat chan struct{}
}

// A fakeKept is a hold of a keeping fake.
type fakeKept struct {
	b     *keeping
	key   string
	since time.Duration // guarded by b.kept
	loser locker.Loser  // guarded by b.kept
	gone  error         // guarded by b.kept
}

// newKeeping returns a keeping fake that beats once a second until it is closed.
func newKeeping() *keeping {
	b := &keeping{fake: newFake(), holds: make(map[locker.Token]*fakeKept), stopBeat: make(chan struct{})}
	go func() {
		for {
			select {
			case <-time.After(time.Second):
				b.beat()
			case <-b.stopBeat:
				return
			}
		}
	}()
	return b
}

func (b *keeping) UseClock(now func() time.Duration) {
	b.kept.Lock()
	defer b.kept.Unlock()
	b.clock = now
}

// stamp reads the Client's clock.
func (b *keeping) stamp() time.Duration {
	b.kept.Lock()
	defer b.kept.Unlock()
	return b.clock()
}

func (b *keeping) Close() error {
	close(b.stopBeat)
	return b.fake.Close()
}

// beat renews everything, unless the server is silent.
func (b *keeping) beat() {
	b.kept.Lock()
	defer b.kept.Unlock()
	if b.silent {
		return
	}
	stamp := b.clock()
	b.beaten = stamp
	for t, k := range b.holds {
		b.fake.mu.Lock()
		for _, key := range b.keys {
			if h := key.holds[t]; h != nil {
				h.expires.Reset(ttl)
				k.since = stamp
			}
		}
		b.fake.mu.Unlock()
	}
}

func (b *keeping) silence(silent bool) {
	b.kept.Lock()
	defer b.kept.Unlock()
	b.silent = silent
}

func (b *keeping) Acquire(ctx context.Context, req locker.Request) (locker.Grant, error) {
	stamp := b.stamp()
	g, err := b.fake.Acquire(ctx, req)
	if err != nil {
		return g, err
	}
	b.kept.Lock()
	defer b.kept.Unlock()
	k := &fakeKept{b: b, key: req.Key, since: max(stamp, b.beaten)} // a session that waits beats, too
	b.holds[g.Token] = k
	g.Kept = k
	return g, nil
}

func (b *keeping) Renew(ctx context.Context, rs []locker.Renewal) {
	stamp := b.stamp()
	b.fake.Renew(ctx, rs)
	b.kept.Lock()
	defer b.kept.Unlock()
	for _, r := range rs {
		if r.Err == nil {
			r.Kept.(*fakeKept).since = stamp
		}
	}
}

// Release tells the server at once, as something that nobody waits for.
func (b *keeping) Release(ctx context.Context, h locker.Hold) error {
	b.kept.Lock()
	delete(b.holds, h.Token)
	b.kept.Unlock()
	if err := b.fake.Release(context.WithoutCancel(ctx), h); err != nil {
		return err
	}
	return ctx.Err()
}

// lose ends a hold as the server does.
func (b *keeping) lose(t locker.Token, cause error) {
	b.kept.Lock()
	k := b.holds[t]
	delete(b.holds, t)
	var tell locker.Loser
	if k != nil {
		k.gone, tell = cause, k.loser
	}
	b.kept.Unlock()
	b.fake.mu.Lock()
	for _, key := range b.keys {
		b.endLocked(key, t)
	}
	b.fake.mu.Unlock()
	if tell != nil {
		tell.Lose(cause)
	}
}

// alive counts the holds that are kept alive.
func (b *keeping) alive() int {
	b.kept.Lock()
	defer b.kept.Unlock()
	return len(b.holds)
}

func (k *fakeKept) Key() string { return k.key }

func (k *fakeKept) Since() time.Duration {
	k.b.kept.Lock()
	defer k.b.kept.Unlock()
	return k.since
}

func (k *fakeKept) Bind(l locker.Loser) error {
	k.b.kept.Lock()
	defer k.b.kept.Unlock()
	if k.gone != nil {
		return k.gone
	}
	k.loser = l
	return nil
}
