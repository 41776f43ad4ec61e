package etcd

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
)

var silent = locker.WithLogger(slog.New(slog.DiscardHandler))

// leases counts those that etcd knows.
func leases(t *testing.T, c *clientv3.Client) int {
	t.Helper()
	r, err := c.Leases(t.Context())
	must(t, err)
	return len(r.Leases)
}

// TestOneLeaseForAllHolds: whatever is held with one TTL is on one lease, which
// goes with the Client; and so is what is renewed.
func TestOneLeaseForAllHolds(t *testing.T) {
	s := startEtcd(t)
	ctl := s.etcdctl()
	c := locker.New(s.backend(), silent)
	before := runtime.NumGoroutine()
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			if _, err := c.Acquire(t.Context(), fmt.Sprint("k", i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := leases(t, ctl); n != 1 {
		t.Errorf("%d leases for 200 holds", n)
	}
	if n := runtime.NumGoroutine() - before; n > 60 { // of gRPC and the etcd too, but not one each
		t.Errorf("%d goroutines more for 200 holds", n)
	}
	must(t, c.Close())
	if n := leases(t, ctl); n != 0 {
		t.Errorf("%d leases after Close", n)
	}
	r, err := ctl.Get(t.Context(), "", clientv3.WithPrefix(), clientv3.WithCountOnly())
	must(t, err)
	if r.Count != 0 {
		t.Errorf("%d keys after Close", r.Count)
	}
}

// TestSmallTTLIsReported: etcd raises it.
func TestSmallTTLIsReported(t *testing.T) {
	b := startEtcd(t).opened()
	g, err := b.Acquire(t.Context(), locker.Request{Key: "k", Limit: 1, Weight: 1, TTL: 100 * time.Millisecond})
	must(t, err)
	if g.TTL != 2*time.Second {
		t.Errorf("asked for 0.1 s, granted %v", g.TTL)
	}
}

// TestDeletedByHand: who holds is told with the next renewal, who waits queues again.
func TestDeletedByHand(t *testing.T) {
	s := startEtcd(t)
	ctl, c, b := s.etcdctl(), s.locker(silent, locker.WithTTL(3*time.Second)), s.opened()
	l, err := c.Acquire(t.Context(), "k")
	must(t, err)
	lost := l.Lost()
	waited := make(chan error, 1)
	go func() {
		l, err := c.Acquire(t.Context(), "k")
		if err == nil {
			err = l.Release(t.Context())
		}
		waited <- err
	}()
	eventually(t, "one waits", func() bool { h, w := census(t, b); return h == 1 && w == 1 })
	_, err = ctl.Delete(t.Context(), DefaultPrefix, clientv3.WithPrefix())
	must(t, err)
	<-lost
	assert.Matches(t, l.Err(), locker.ErrRevoked)
	must(t, <-waited)
}

// TestALongWaitLooksAgain: a key that was deleted, of which this process has not heard,
// is no grant after a long wait, and after a short one it is still believed in.
func TestALongWaitLooksAgain(t *testing.T) {
	s := startEtcd(t)
	ctl, b := s.etcdctl(), s.opened()
	req := locker.Request{Key: "k", Limit: 1, Weight: 1, TTL: 3 * time.Second}
	e, ready, err := b.enter(t.Context(), &req, new(wait))
	must(t, err)
	<-ready // it holds; who only holds hears of no deletion before the next renewal
	_, err = b.await(t.Context(), e, ready, b.now()-2*longWait)
	must(t, err)
	_, err = ctl.Delete(t.Context(), DefaultPrefix, clientv3.WithPrefix())
	must(t, err)
	_, err = b.await(t.Context(), e, ready, b.now())
	must(t, err)
	_, err = b.await(t.Context(), e, ready, b.now()-2*longWait)
	assert.Matches(t, err, locker.ErrUnavailable)
	g, err := b.Acquire(t.Context(), req)
	must(t, err)
	must(t, b.Release(t.Context(), locker.Hold{Key: "k", Token: g.Token, Kept: g.Kept}))
}

// TestLeaseRevokedByHand loses everything that is on it, and the next acquisition
// gets another.
func TestLeaseRevokedByHand(t *testing.T) {
	s := startEtcd(t)
	ctl, c := s.etcdctl(), s.locker(silent, locker.WithTTL(3*time.Second))
	l, err := c.Acquire(t.Context(), "k")
	must(t, err)
	r, err := ctl.Leases(t.Context())
	must(t, err)
	_, err = ctl.Revoke(t.Context(), clientv3.LeaseID(r.Leases[0].ID))
	must(t, err)
	<-l.Lost()
	l, err = c.Acquire(t.Context(), "k") // the lease is found out to be gone
	must(t, err)
	must(t, l.Release(t.Context()))
}

// TestCompaction: a watch that has missed deletions which etcd has compacted asks
// again, and finds who was deleted.
func TestCompaction(t *testing.T) {
	s := startEtcd(t)
	p := newProxy(t, s.addr)
	ctl, direct := s.etcdctl(), s.locker(silent)
	c := locker.New(dialTo(t, p.at), silent, locker.WithTTL(time.Minute))
	defer c.Close()
	victim, err := c.Acquire(t.Context(), "victim")
	must(t, err)
	first, err := direct.Acquire(t.Context(), "k")
	must(t, err)
	second := make(chan *locker.Lease, 1)
	go func() {
		l, err := c.Acquire(t.Context(), "k")
		if err != nil {
			t.Error(err)
		}
		second <- l
	}()
	b := s.opened()
	eventually(t, "one waits", func() bool { _, w := census(t, b); return w == 1 })
	p.freeze() // the watch hears nothing
	must(t, first.Release(t.Context()))
	n, err := direct.Force(t.Context(), locker.Exclusive, "victim")
	must(t, err)
	assert.Exactly(t, "forced", n, 1)
	r, err := ctl.Put(t.Context(), "other", "")
	must(t, err)
	_, err = ctl.Compact(t.Context(), r.Header.Revision)
	must(t, err)
	p.cut()
	p.thaw()
	if l := <-second; l != nil {
		must(t, l.Release(t.Context()))
	}
	<-victim.Lost()
	assert.Matches(t, victim.Err(), locker.ErrRevoked)
}

// TestOutage: nobody answers for a while, in which some hold and some wait: holds go
// on, whose lease lasts, and waits are served. (Members that are killed and started
// again are e2e's: an etcd in this process cannot be stopped in the middle.)
func TestOutage(t *testing.T) {
	s := startEtcd(t)
	p := newProxy(t, s.addr)
	through := func() *locker.Client {
		c := locker.New(dialTo(t, p.at), silent, locker.WithTTL(20*time.Second))
		t.Cleanup(func() { c.Close() })
		return c
	}
	c, other, observer := through(), through(), s.opened()
	l, err := c.Acquire(t.Context(), "k")
	must(t, err)
	waited := make(chan *locker.Lease, 1)
	go func() {
		l, err := other.Acquire(t.Context(), "k")
		if err != nil {
			t.Error(err)
		}
		waited <- l
	}()
	eventually(t, "one waits", func() bool { _, w := census(t, observer); return w == 1 })
	p.down()
	_, err = c.TryAcquire(t.Context(), "another")
	assert.Matches(t, err, locker.ErrUnavailable)
	p.up()
	must(t, l.Renew(t.Context()))
	must(t, l.Check())
	must(t, l.Release(t.Context()))
	if l := <-waited; l != nil {
		must(t, l.Release(t.Context()))
	}
	eventually(t, "nothing is left", func() bool { h, w := census(t, observer); return h+w == 0 })
}

// TestUnansweredIsDeleted: where the answer to an acquisition is lost its key does
// not stay.
func TestUnansweredIsDeleted(t *testing.T) {
	s := startEtcd(t)
	p := newProxy(t, s.addr)
	observer := s.opened()
	c := locker.New(dialTo(t, p.at), silent, locker.WithTTL(time.Minute))
	defer c.Close()
	kept, err := c.Acquire(t.Context(), "kept")
	must(t, err)
	for i := range 5 {
		p.freeze()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := c.Acquire(ctx, fmt.Sprint("k", i))
		cancel()
		assert.Matches(t, err, context.DeadlineExceeded)
		if i%2 == 0 {
			p.cut() // the answer will never come
		}
		p.thaw()
	}
	eventually(t, "only one is held", func() bool { h, w := census(t, observer); return h == 1 && w == 0 })
	must(t, kept.Check())
	must(t, kept.Release(t.Context()))
}

// TestWaitersShareOneWatch, and each is woken by the one before.
func TestWaitersShareOneWatch(t *testing.T) {
	s := startEtcd(t)
	c := s.locker(silent)
	l, err := c.Acquire(t.Context(), "k")
	must(t, err)
	before := runtime.NumGoroutine()
	const n = 50
	order := make(chan int, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			l, err := c.Acquire(t.Context(), "k")
			if err != nil {
				t.Error(err)
				return
			}
			order <- i
			if err := l.Release(t.Context()); err != nil {
				t.Error(err)
			}
		})
		b := c.Backend().(*Backend)
		eventually(t, "it waits", func() bool {
			b.mu.Lock()
			defer b.mu.Unlock()
			q := b.queues[subject{locker.Exclusive, "k"}]
			return q != nil && len(q.waiting) == i+1
		})
	}
	if more := runtime.NumGoroutine() - before - n; more > 20 {
		t.Errorf("%d goroutines more than callers", more)
	}
	must(t, l.Release(t.Context()))
	wg.Wait()
	close(order)
	i := 0
	for got := range order {
		if got != i {
			t.Fatalf("%d was served as number %d", got, i)
		}
		i++
	}
}

// TestIdleBackend ends its lease and its watch after a while.
func TestIdleBackend(t *testing.T) {
	s := startEtcd(t)
	ctl, b := s.etcdctl(), s.backend()
	c := locker.New(b, silent, locker.WithTTL(2*time.Second))
	defer c.Close()
	l, err := c.Acquire(t.Context(), "k")
	must(t, err)
	must(t, l.Release(t.Context()))
	eventually(t, "lease and watch end", func() bool {
		b.mu.Lock()
		running := b.hub.running || b.warner.running
		b.mu.Unlock()
		return !running && leases(t, ctl) == 0
	})
	l, err = c.Acquire(t.Context(), "k")
	must(t, err)
	must(t, l.Release(t.Context()))
}

// TestClientPassedIn is not closed.
func TestClientPassedIn(t *testing.T) {
	s := startEtcd(t)
	ctl := s.etcdctl()
	b, err := New(ctl, WithPrefix("mine"), WithName("me"))
	must(t, err)
	c := locker.New(b, silent)
	l, err := c.Acquire(t.Context(), "k")
	must(t, err)
	r, err := ctl.Get(t.Context(), "mine/l/k ", clientv3.WithPrefix())
	must(t, err)
	if len(r.Kvs) != 1 || !strings.HasSuffix(string(r.Kvs[0].Value), " me") {
		t.Errorf("in etcd: %v", r.Kvs)
	}
	if f, ok := l.Fence(); !ok || int64(f) != r.Kvs[0].CreateRevision { //nolint:gosec // a test
		t.Errorf("fence %d, %v", f, ok)
	}
	must(t, c.Close())
	if _, err := ctl.Get(t.Context(), "mine/"); err != nil {
		t.Error(err)
	}
}
