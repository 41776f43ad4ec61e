package etcd

import (
	"testing"
	"time"

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
