package etcd

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
)

// creations returns how often each key below a prefix of etcd's was created, from a
// revision on.
func creations(t *testing.T, c *clientv3.Client, prefix string, from int64) map[string]int {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	end, err := c.Put(ctx, prefix+"end", "")
	must(t, err)
	all := make(map[string]int)
	for r := range c.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(from)) {
		must(t, r.Err())
		for _, ev := range r.Events {
			switch {
			case ev.Kv.ModRevision == end.Header.Revision:
				return all
			case ev.IsCreate():
				all[string(ev.Kv.Key)]++
			}
		}
	}
	t.Fatal("the watch has ended")
	return nil
}

func now(t *testing.T, c *clientv3.Client) int64 {
	t.Helper()
	r, err := c.Get(t.Context(), "x")
	must(t, err)
	return r.Header.Revision + 1
}

// TestNamesAreUsedAgain: however often a key is acquired there are no more names of
// it than it takes for those who want it at a time. Etcd reads them all for each.
func TestNamesAreUsedAgain(t *testing.T) {
	s := startEtcd(t)
	ctl, c := s.etcdctl(), s.locker(silent)
	lockUnlock := func(key string) {
		l, err := c.Acquire(t.Context(), key)
		if err == nil {
			err = l.Release(t.Context())
		}
		if err != nil {
			t.Error(err)
		}
	}
	from := now(t, ctl)
	for range 100 {
		lockUnlock("alone")
	}
	if got := creations(t, ctl, DefaultPrefix+"l/alone", from); len(got) != 1 {
		t.Errorf("%d names of a key that one goroutine acquired a hundred times", len(got))
	}
	from = now(t, ctl)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 30 {
				lockUnlock("shared")
			}
		})
	}
	wg.Wait()
	got := creations(t, ctl, DefaultPrefix+"l/shared", from)
	sum := 0
	for _, n := range got {
		sum += n
	}
	// Those of 8 goroutines, and of as many whose deletion has no answer yet.
	if len(got) > 31 || sum != 240 {
		t.Errorf("%d names of a key that 8 goroutines acquired %d times", len(got), sum)
	}
}

// TestUnansweredNameIsNotUsedAgain: a deletion by name that some member has kept may
// still come.
func TestUnansweredNameIsNotUsedAgain(t *testing.T) {
	s := startEtcd(t)
	p := newProxy(t, s.addr)
	ctl := s.etcdctl()
	c := locker.New(dialTo(t, p.at), silent, locker.WithTTL(time.Minute))
	defer c.Close()
	from := now(t, ctl)
	l, err := c.Acquire(t.Context(), "k")
	must(t, err)
	p.freeze()
	err = l.ReleaseWithin(50 * time.Millisecond)
	assert.Matches(t, err, context.DeadlineExceeded)
	p.thaw()
	l, err = c.Acquire(t.Context(), "k")
	must(t, err)
	must(t, l.Release(t.Context()))
	if got := creations(t, ctl, DefaultPrefix+"l/k", from); len(got) != 2 {
		t.Errorf("%v, want two names: the deletion of the first had no answer", got)
	}
}

// TestReleaseOfWhatWasDeletedByHand: nobody else's hold is deleted in its place.
func TestReleaseOfWhatWasDeletedByHand(t *testing.T) {
	s := startEtcd(t)
	ctl, c, other := s.etcdctl(), s.locker(silent, locker.WithTTL(time.Minute)), s.locker(silent)
	l, err := c.Acquire(t.Context(), "k")
	must(t, err)
	_, err = ctl.Delete(t.Context(), DefaultPrefix+"l/k", clientv3.WithPrefix())
	must(t, err)
	heir, err := other.Acquire(t.Context(), "k")
	must(t, err)
	assert.Matches(t, l.ReleaseWithin(time.Minute), locker.ErrNotHeld)
	if h, _ := census(t, s.opened()); h != 1 {
		t.Errorf("%d holders after the release of who does not hold", h)
	}
	must(t, heir.Check())
	must(t, heir.Release(t.Context()))
}

// TestTryThatNobodyAnswers ends with its context, and without one after a while.
func TestTryThatNobodyAnswers(t *testing.T) {
	s := startEtcd(t)
	p := newProxy(t, s.addr)
	frozen, dead := dialTo(t, p.at), dialTo(t, "127.0.0.1:1")
	defer frozen.Close()
	defer dead.Close()
	req := locker.Request{Key: "k", Limit: 1, Weight: 1, TTL: time.Minute, Try: true}
	for name, b := range map[string]*Backend{"frozen": frozen, "dead": dead} {
		if b == frozen { // once it is connected, and once it is not
			p.freeze()
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, err := b.Acquire(ctx, req)
		cancel()
		assert.Matches(t, fmt.Errorf("%s: %w", name, err), context.DeadlineExceeded)
		began := time.Now()
		_, err = b.Acquire(t.Context(), req)
		assert.Matches(t, err, locker.ErrUnavailable)
		t.Logf("%s: a try without a deadline took %v", name, time.Since(began))
	}
}
