package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/namespace"
	"go.etcd.io/etcd/server/v3/embed"

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

// TestAllDeletedByHand: who holds more than are looked for after a renewal is told of all
// that are gone together.
func TestAllDeletedByHand(t *testing.T) {
	s := startEtcd(t)
	ctl, c := s.etcdctl(), s.locker(silent, locker.WithTTL(20*time.Second))
	const n = 10 * checked
	var wg sync.WaitGroup
	all := make([]*locker.Lease, n)
	for i := range all {
		wg.Go(func() {
			var err error
			if all[i], err = c.Acquire(t.Context(), fmt.Sprint("k", i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	other, err := s.locker(silent).Acquire(t.Context(), "other")
	must(t, err)
	_, err = ctl.Delete(t.Context(), DefaultPrefix+"l/k", clientv3.WithPrefix())
	must(t, err)
	b := c.Backend().(*Backend)
	b.mu.Lock()
	l := b.leases[20*time.Second]
	b.mu.Unlock()
	b.checkHolds(t.Context(), l) // as after a renewal
	for _, l := range all {
		<-l.Lost()
		assert.Matches(t, l.Err(), locker.ErrRevoked)
	}
	must(t, other.Check())
	must(t, other.Release(t.Context()))
}

// TestNoSpace: an etcd whose quota is used up takes nothing new, says so, and those who
// hold go on, and can release.
func TestNoSpace(t *testing.T) {
	s := startEtcdWith(t, func(cfg *embed.Config) {
		cfg.UnsafeNoFsync = true
		cfg.QuotaBackendBytes = 1 << 20
	})
	ctl, c := s.etcdctl(), s.locker(silent)
	l, err := c.Acquire(t.Context(), "k")
	must(t, err)
	eventually(t, "the quota is used up", func() bool {
		_, err := ctl.Put(t.Context(), "other", strings.Repeat("x", 100<<10))
		return errors.Is(err, rpctypes.ErrNoSpace)
	})
	_, err = l.Put(t.Context(), []byte("v"), 0)
	assert.Matches(t, err, locker.ErrNotStored, rpctypes.ErrNoSpace)
	_, err = l.Put(t.Context(), []byte("v"), time.Hour)
	assert.Matches(t, err, locker.ErrNotStored, rpctypes.ErrNoSpace)
	_, err = c.TryAcquire(t.Context(), "another")
	assert.Matches(t, err, locker.ErrUnavailable, rpctypes.ErrNoSpace)
	assert.MatchesNot(t, err, locker.ErrNotStored)
	must(t, l.Renew(t.Context()))
	must(t, l.Release(t.Context()))
}

// TestNamespacedClient is refused: who waits would hear of no release.
func TestNamespacedClient(t *testing.T) {
	client := startEtcd(t).etcdctl()
	client.KV = namespace.NewKV(client.KV, "app/")
	client.Watcher = namespace.NewWatcher(client.Watcher, "app/")
	_, err := New(client)
	assert.Matches(t, err, locker.ErrInvalid)
}
