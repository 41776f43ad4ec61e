package locker_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/distributed-go/distributed/locker"
)

// A call is one call of a fake, as it was recorded when it began.
type call struct {
	op      string        // the method, in lower case; "renew" once for each renewal of a batch
	at      time.Duration // since the fake was made
	key     string
	token   locker.Token
	ttl     time.Duration
	attempt int
	batch   int // which call of Renew it was part of
}

// A fake is a backend over a small lock server with FIFO queues and leases that
// run out. Each method can be replaced by a script, which may call the server's
// own: serve, extend and free. It records calls with the time, which is virtual
// in a synctest bubble.
type fake struct {
	start time.Time

	// Scripts; nil stands for the server's own. Once the fake is in use they
	// are changed with set. Guarded by mu.
	acquire func(ctx context.Context, req locker.Request) (locker.Grant, error)
	renew   func(ctx context.Context, rs []locker.Renewal)
	release func(ctx context.Context, h locker.Hold) error
	shut    func() error
	session *locker.Session // of every grant; nil for none

	mu      sync.Mutex
	calls   []call
	batches int
	tokens  uint64
	keys    map[string]*fakeKey
	closed  chan struct{}
}

// A fakeKey is what the server knows of a key.
type fakeKey struct {
	limit, used int
	holds       map[locker.Token]*fakeHold
	queue       []*fakeWaiter
}

type fakeHold struct {
	weight  int
	expires *time.Timer
}

type fakeWaiter struct {
	req     locker.Request
	granted chan locker.Grant // capacity 1
}

func newFake() *fake {
	return &fake{start: time.Now(), keys: make(map[string]*fakeKey), closed: make(chan struct{})}
}

func (f *fake) String() string { return "fake://" }

func (f *fake) now() time.Duration { return time.Since(f.start) }

// set changes scripts while the fake is in use.
func (f *fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fake) recordLocked(c call) {
	c.at = f.now()
	f.calls = append(f.calls, c)
}

// of returns the calls of one method.
func (f *fake) of(op string) []call {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(f.calls), func(c call) bool { return c.op != op })
}

// count counts all calls.
func (f *fake) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.calls)
}

func (f *fake) Acquire(ctx context.Context, req locker.Request) (locker.Grant, error) {
	f.mu.Lock()
	f.recordLocked(call{op: "acquire", key: req.Key, ttl: req.TTL})
	script := f.acquire
	f.mu.Unlock()
	if script != nil {
		return script(ctx, req)
	}
	return f.serve(ctx, req)
}

func (f *fake) Renew(ctx context.Context, rs []locker.Renewal) {
	f.mu.Lock()
	f.batches++
	for _, r := range rs {
		f.recordLocked(call{op: "renew", key: r.Key, token: r.Token, ttl: r.TTL, attempt: r.Attempt, batch: f.batches})
	}
	script := f.renew
	f.mu.Unlock()
	if script != nil {
		script(ctx, rs)
		return
	}
	if ctx.Err() != nil {
		frozenRenew(ctx, rs) // nothing was sent
		return
	}
	f.extend(rs)
}

func (f *fake) Release(ctx context.Context, h locker.Hold) error {
	f.mu.Lock()
	f.recordLocked(call{op: "release", key: h.Key, token: h.Token})
	script := f.release
	f.mu.Unlock()
	if script != nil {
		return script(ctx, h)
	}
	if ctx.Err() != nil {
		return ctx.Err() // nothing was sent
	}
	return f.free(h)
}

func (f *fake) Close() error {
	f.mu.Lock()
	f.recordLocked(call{op: "close"})
	if !closed(f.closed) {
		close(f.closed)
	}
	for _, k := range f.keys {
		for _, h := range k.holds {
			h.expires.Stop() // it would fire in another test, ten real seconds later
		}
	}
	script := f.shut
	f.mu.Unlock()
	if script != nil {
		return script()
	}
	return nil
}

// serve is the server's Acquire.
func (f *fake) serve(ctx context.Context, req locker.Request) (locker.Grant, error) {
	f.mu.Lock()
	k := f.keyLocked(req)
	if len(k.queue) == 0 && k.used+req.Weight <= k.limit {
		defer f.mu.Unlock()
		return f.grantLocked(k, req), nil
	}
	if req.Try {
		f.mu.Unlock()
		return locker.Grant{}, locker.ErrLocked
	}
	w := &fakeWaiter{req: req, granted: make(chan locker.Grant, 1)}
	k.queue = append(k.queue, w)
	f.mu.Unlock()
	return f.wait(ctx, k, w)
}

// wait waits for a turn. When ctx ends first a grant on its way is given back.
func (f *fake) wait(ctx context.Context, k *fakeKey, w *fakeWaiter) (locker.Grant, error) {
	err := locker.ErrClosed
	select {
	case g := <-w.granted:
		return g, nil
	case <-f.closed:
	case <-ctx.Done():
		err = ctx.Err()
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case g := <-w.granted:
		f.endLocked(k, g.Token)
	default:
		k.queue = slices.DeleteFunc(k.queue, func(o *fakeWaiter) bool { return o == w })
		f.handOverLocked(k)
	}
	return locker.Grant{}, err
}

func (f *fake) keyLocked(req locker.Request) *fakeKey {
	name := fmt.Sprint(req.Kind, " ", req.Key)
	if f.keys[name] == nil {
		f.keys[name] = &fakeKey{limit: req.Limit, holds: make(map[locker.Token]*fakeHold)}
	}
	return f.keys[name]
}

func (f *fake) grantLocked(k *fakeKey, req locker.Request) locker.Grant {
	g := locker.Grant{Fence: f.tokens + 1, TTL: req.TTL, Session: f.session}
	f.tokens += uint64(max(req.Fences, 1))
	if g.TTL == 0 {
		g.TTL = 33 * time.Second
	}
	binary.BigEndian.PutUint64(g.Token[:8], g.Fence)
	k.used += req.Weight
	k.holds[g.Token] = &fakeHold{weight: req.Weight, expires: time.AfterFunc(g.TTL, func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.endLocked(k, g.Token)
	})}
	return g
}

func (f *fake) endLocked(k *fakeKey, t locker.Token) bool {
	h := k.holds[t]
	if h == nil {
		return false
	}
	h.expires.Stop()
	delete(k.holds, t)
	k.used -= h.weight
	f.handOverLocked(k)
	return true
}

func (f *fake) handOverLocked(k *fakeKey) {
	for len(k.queue) > 0 && k.used+k.queue[0].req.Weight <= k.limit {
		w := k.queue[0]
		k.queue = k.queue[1:]
		w.granted <- f.grantLocked(k, w.req)
	}
}

// extend is the server's Renew.
func (f *fake) extend(rs []locker.Renewal) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range rs {
		r := &rs[i]
		k := f.keys[fmt.Sprint(r.Kind, " ", r.Key)]
		if k == nil || k.holds[r.Token] == nil {
			r.Err = locker.ErrLost
			continue
		}
		k.holds[r.Token].expires.Reset(r.TTL)
		r.Granted = r.TTL
	}
}

// free is the server's Release.
func (f *fake) free(h locker.Hold) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if k := f.keys[fmt.Sprint(h.Kind, " ", h.Key)]; k != nil && f.endLocked(k, h.Token) {
		return nil
	}
	return locker.ErrNotHeld
}

// holders counts the holds that the server knows of.
func (f *fake) holders() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, k := range f.keys {
		n += len(k.holds)
	}
	return n
}

// unavailable is what a backend returns that cannot reach its server.
func unavailable(context.Context, locker.Request) (locker.Grant, error) {
	return locker.Grant{}, fmt.Errorf("dial: %w", locker.ErrUnavailable)
}

// frozen is a Release that is never answered.
func frozen(ctx context.Context, _ locker.Hold) error {
	<-ctx.Done()
	return fmt.Errorf("%w: %w", locker.ErrUnavailable, ctx.Err())
}

// frozenRenew is a Renew that is never answered.
func frozenRenew(ctx context.Context, rs []locker.Renewal) {
	<-ctx.Done()
	for i := range rs {
		rs[i].Err = fmt.Errorf("%w: %w", locker.ErrUnavailable, ctx.Err())
	}
}
