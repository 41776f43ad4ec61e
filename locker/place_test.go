package locker_test

import (
	"context"
	"testing"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
)

// A queuer is a fake that can queue in two phases.
type queuer struct {
	*fake
	enqueue func(ctx context.Context, req locker.Request) (locker.Place, error) // a script
	waits   func(ctx context.Context, p *fakePlace) (locker.Grant, error)       // a script
	cancels func(ctx context.Context, p *fakePlace) error                       // a script
}

// A fakePlace is a place in a fake's queue, or a hold that nobody collected.
type fakePlace struct {
	q     *queuer
	key   *fakeKey
	w     *fakeWaiter
	grant *locker.Grant // nil until it is known here
	got   bool          // at once
}

func (q *queuer) Enqueue(ctx context.Context, req locker.Request) (locker.Place, error) {
	q.mu.Lock()
	q.recordLocked(call{op: "enqueue", key: req.Key, ttl: req.TTL})
	q.mu.Unlock()
	if q.enqueue != nil {
		return q.enqueue(ctx, req)
	}
	return q.place(req), nil
}

// place is the server's Enqueue.
func (q *queuer) place(req locker.Request) *fakePlace {
	q.mu.Lock()
	defer q.mu.Unlock()
	k := q.keyLocked(req)
	p := &fakePlace{q: q, key: k}
	if len(k.queue) == 0 && k.used+req.Weight <= k.limit {
		g := q.grantLocked(k, req)
		p.grant, p.got = &g, true
		return p
	}
	p.w = &fakeWaiter{req: req, granted: make(chan locker.Grant, 1)}
	k.queue = append(k.queue, p.w)
	return p
}

func (p *fakePlace) Acquired() bool { return p.got }

func (p *fakePlace) Wait(ctx context.Context) (locker.Grant, error) {
	p.q.mu.Lock()
	p.q.recordLocked(call{op: "wait"})
	p.q.mu.Unlock()
	if p.q.waits != nil {
		return p.q.waits(ctx, p)
	}
	return p.collect(ctx)
}

// collect is the server's Wait.
func (p *fakePlace) collect(ctx context.Context) (locker.Grant, error) {
	if p.grant == nil {
		g, err := p.q.wait(ctx, p.key, p.w)
		if err != nil {
			return g, err
		}
		p.grant = &g
	}
	p.q.mu.Lock()
	defer p.q.mu.Unlock()
	h := p.key.holds[p.grant.Token]
	if h == nil {
		return locker.Grant{}, locker.ErrPlaceExpired
	}
	h.expires.Reset(p.grant.TTL)
	return *p.grant, nil
}

func (p *fakePlace) Cancel(ctx context.Context) error {
	p.q.mu.Lock()
	p.q.recordLocked(call{op: "cancel"})
	p.q.mu.Unlock()
	if p.q.cancels != nil {
		return p.q.cancels(ctx, p)
	}
	if ctx.Err() != nil {
		return ctx.Err() // nothing was sent
	}
	p.q.mu.Lock()
	defer p.q.mu.Unlock()
	if p.grant == nil {
		select {
		case g := <-p.w.granted:
			p.grant = &g
		default:
			for i, w := range p.key.queue {
				if w == p.w {
					p.key.queue = append(p.key.queue[:i:i], p.key.queue[i+1:]...)
					break
				}
			}
			return nil
		}
	}
	p.q.endLocked(p.key, p.grant.Token)
	return nil
}

// waiting counts those who queue.
func (f *fake) waiting() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, k := range f.keys {
		n += len(k.queue)
	}
	return n
}

func newQueuer() *queuer { return &queuer{fake: newFake()} }

func enqueue(t testing.TB, c *locker.Client, key string) *locker.Ticket {
	t.Helper()
	ticket, err := c.Enqueue(context.Background(), key)
	assert.Sure(t, err)
	return ticket
}
