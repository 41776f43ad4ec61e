package etcd

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
)

// TestAnotherLimitLetsNobodyIn: one who asks for a semaphore with another limit, and dies
// before its key is deleted, becomes the first of those that there are.
func TestAnotherLimitLetsNobodyIn(t *testing.T) {
	s := startEtcd(t)
	ctl, holder, others := s.etcdctl(), s.opened(), s.opened()
	req := locker.Request{Key: "k", Kind: locker.Counting, Limit: 1, Weight: 1, TTL: time.Minute}
	g, err := holder.Acquire(t.Context(), req)
	must(t, err)
	dead := DefaultPrefix + "s/k 00000000000000aa"
	_, err = ctl.Put(t.Context(), dead, record{weight: 1, limit: 100}.String())
	must(t, err)
	waiting := func() int {
		others.mu.Lock()
		defer others.mu.Unlock()
		if q := others.queues[subject{req.Kind, "k"}]; q != nil {
			return len(q.waiting)
		}
		return 0
	}
	held := make(chan locker.Grant)
	for range 3 {
		go func() {
			g, err := others.Acquire(t.Context(), req)
			if err != nil {
				t.Error(err)
			}
			held <- g
		}()
	}
	eventually(t, "they wait", func() bool { return waiting() == 3 })
	release := func(b *Backend, g locker.Grant) {
		t.Helper()
		must(t, b.Release(t.Context(), locker.Hold{Kind: req.Kind, Key: "k", Token: g.Token}))
	}
	release(holder, g)
	eventually(t, "the release is heard of", func() bool {
		others.mu.Lock()
		defer others.mu.Unlock()
		q := others.queues[subject{req.Kind, "k"}]
		return q == nil || len(q.line.members) == 4
	})
	if n := waiting(); n != 3 {
		t.Fatalf("%d wait beside another's key and a limit of 1, want all 3", n)
	}
	_, err = ctl.Delete(t.Context(), dead)
	must(t, err)
	for want := 2; want >= 0; want-- {
		g := <-held
		if n := waiting(); n != want {
			t.Errorf("%d wait, want %d", n, want)
		}
		release(others, g)
	}
}

// TestManyLargeValuesAtOnce: together they are more than etcd takes in a request, and
// than its client sends.
func TestManyLargeValuesAtOnce(t *testing.T) {
	c := startEtcd(t).locker(silent)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			l, err := c.Acquire(t.Context(), fmt.Sprint("k", i))
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := l.Put(t.Context(), make([]byte, maxValue), 0); err != nil {
				t.Error(err)
			}
			if err := l.Release(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// TestClientThatSendsLittle: etcd's client may be configured to send less than a value
// may have, which is no outage.
func TestClientThatSendsLittle(t *testing.T) {
	s := startEtcd(t)
	cfg := config(s.addr)
	cfg.MaxCallSendMsgSize = 64 << 10
	b, err := Dial(cfg)
	must(t, err)
	c := locker.New(b, silent)
	defer c.Close()
	l, err := c.Acquire(t.Context(), "k")
	must(t, err)
	_, err = l.Put(t.Context(), make([]byte, 100<<10), 0)
	assert.Matches(t, err, locker.ErrTooLarge)
	_, err = l.Put(t.Context(), make([]byte, 10<<10), 0)
	must(t, err)
	must(t, l.Release(t.Context()))
}

// TestCallersWhoGiveUpLeaveNothingToSend: what was not sent yet is not sent any more, so
// that a storm of callers with no time does not leave a queue of what nobody wants.
func TestCallersWhoGiveUpLeaveNothingToSend(t *testing.T) {
	s := startEtcd(t)
	p := newProxy(t, s.addr)
	b := dialTo(t, p.at)
	c := locker.New(b, silent, locker.WithTTL(time.Minute))
	defer c.Close()
	kept, err := c.Acquire(t.Context(), "kept")
	must(t, err)
	p.freeze()
	asks := []func(ctx context.Context, key string) error{
		func(ctx context.Context, key string) error { _, err := c.Acquire(ctx, key); return err },
		func(ctx context.Context, key string) error { _, err := c.TryAcquire(ctx, key); return err },
		func(ctx context.Context, key string) error { _, err := c.Enqueue(ctx, key); return err },
	}
	const callers = 300
	entries := func() int {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.entries.len()
	}
	ctx, cancel := context.WithCancel(t.Context())
	failed := make(chan error)
	for i := range callers {
		go func() { failed <- asks[i%len(asks)](ctx, "k") }()
	}
	eventually(t, "all ask", func() bool { return entries() == 1+callers })
	cancel()
	for range callers {
		assert.Matches(t, <-failed, context.Canceled)
	}
	if n := entries() - 1; n > maxLanes { // one of a key in a transaction, one transaction in a lane
		t.Errorf("%d that %d callers gave up are left", n, callers)
	}
	p.thaw()
	eventually(t, "only one is left", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return b.entries.len() == 1 && len(b.queues) == 0
	})
	holders, waiters := census(t, s.opened())
	assert.Exactly(t, "holders", holders, 1)
	assert.Exactly(t, "waiters", waiters, 0)
	must(t, kept.Release(t.Context()))
}

// TestOwnerClosesTheClient, or ends the context that it was made with, while others
// hold and wait: nobody waits for ever.
func TestOwnerClosesTheClient(t *testing.T) {
	s := startEtcd(t)
	other, observer := s.locker(silent), s.opened()
	theirs, err := other.Acquire(t.Context(), "theirs")
	must(t, err)
	client := s.etcdctl()
	passedIn, err := New(client)
	must(t, err)
	cfg := config(s.addr)
	var end context.CancelFunc
	cfg.Context, end = context.WithCancel(t.Context())
	dialed, err := Dial(cfg)
	must(t, err)
	for _, owned := range []struct {
		b     *Backend
		close func()
	}{{passedIn, func() { client.Close() }}, {dialed, end}} {
		c := locker.New(owned.b, silent, locker.WithTTL(2*time.Second))
		l, err := c.Acquire(t.Context(), "k")
		must(t, err)
		waited := make(chan error, 1)
		go func() {
			_, err := c.Acquire(context.Background(), "theirs")
			waited <- err
		}()
		eventually(t, "one waits", func() bool { _, w := census(t, observer); return w == 1 })
		owned.close()
		assert.Matches(t, <-waited, locker.ErrClosed, errClientClosed)
		_, err = c.Acquire(context.Background(), "new")
		assert.Matches(t, err, locker.ErrClosed, errClientClosed)
		_, err = c.TryAcquire(context.Background(), "new")
		assert.Matches(t, err, locker.ErrClosed)
		<-l.Lost()
		must(t, c.Close())
		eventually(t, "its lease has run out", func() bool { h, w := census(t, observer); return h == 1 && w == 0 })
	}
	must(t, theirs.Release(t.Context()))
}

// TestNobodyWaitsForAPrivateLease: who gives up before etcd has granted it leaves none.
func TestNobodyWaitsForAPrivateLease(t *testing.T) {
	s := startEtcd(t)
	ctl, p := s.etcdctl(), newProxy(t, s.addr)
	b := dialTo(t, p.at)
	defer b.Close()
	req := locker.Request{Key: "k", Limit: 1, Weight: 1, TTL: time.Hour}
	g, err := b.Acquire(t.Context(), req)
	must(t, err)
	for range 5 {
		p.freeze()
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error)
		go func() {
			_, err := b.Acquire(ctx, req)
			failed <- err
		}()
		eventually(t, "etcd has granted the lease", func() bool { return leases(t, ctl) == 2 })
		cancel()
		assert.Matches(t, <-failed, context.Canceled)
		p.thaw()
		eventually(t, "the lease is revoked", func() bool { return leases(t, ctl) == 1 })
	}
	must(t, b.Release(t.Context(), locker.Hold{Key: "k", Token: g.Token}))
}
