package etcd

import (
	"fmt"
	"testing"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
)

// TestInspectValues: those of keys that are held, and of others, in more than one page;
// what is none of this project's is passed over.
func TestInspectValues(t *testing.T) {
	s := startEtcd(t)
	ctl, c := s.etcdctl(), s.locker(silent)
	const n = 2*maxPage + 3
	put := func(key string, bytes int) *locker.Lease {
		t.Helper()
		l, err := c.Acquire(t.Context(), key)
		must(t, err)
		_, err = l.Put(t.Context(), make([]byte, bytes), 0)
		must(t, err)
		return l
	}
	for i := range n {
		must(t, put(fmt.Sprintf("k%03d", i), i).Release(t.Context()))
	}
	held := put("k000/held", 1000)
	b := c.Backend().(*Backend)
	shared, err := b.Acquire(t.Context(), locker.Request{Kind: locker.Counting, Key: "k001", Limit: 2, Weight: 1})
	must(t, err)
	_, err = ctl.Put(t.Context(), DefaultPrefix+"v/by-hand", "nothing of ours")
	must(t, err)
	r, err := b.Inspect(t.Context())
	must(t, err)
	assert.Exactly(t, "keys", len(r.Keys), n+2)
	values := 0
	for _, k := range r.Keys {
		switch v := k.Value; {
		case k.Kind == locker.Counting.String():
			if v != nil {
				t.Errorf("a semaphore with a value: %+v", k)
			}
		case v == nil:
			t.Errorf("no value in %+v", k)
		default:
			want, holders := 1000, 1
			if k.Key != "k000/held" {
				_, err := fmt.Sscanf(k.Key, "k%d", &want)
				must(t, err)
				holders = 0
			}
			assert.Exactly(t, "bytes of "+k.Key, v.Bytes, want)
			assert.Exactly(t, "holders of "+k.Key, k.Holders, holders)
			assert.Exactly(t, "limit of "+k.Key, k.Limit, 1)
			if v.Age <= 0 || v.Age > time.Hour {
				t.Errorf("age %v of %s", v.Age, k.Key)
			}
			values++
		}
	}
	assert.Exactly(t, "values", values, n+1)
	must(t, held.Release(t.Context()))
	must(t, b.Release(t.Context(), locker.Hold{Kind: locker.Counting, Key: "k001", Token: shared.Token}))
}
