package etcd

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distributed-go/distributed/internal/primitivetest"
	"github.com/distributed-go/distributed/locker"
)

// TestPrimitives runs what the primitives promise on one etcd, each case below a
// prefix of its own.
func TestPrimitives(t *testing.T) {
	s := startEtcd(t)
	const ttl = 3 * time.Second
	var cases atomic.Int32
	primitivetest.Run(t, primitivetest.Harness{
		TTL: ttl,
		Start: func(t *testing.T) func() *locker.Client {
			prefix := WithPrefix(fmt.Sprintf("test/%d/", cases.Add(1)))
			return func() *locker.Client {
				c := locker.New(dialTo(t, s.addr, prefix), silent, locker.WithTTL(ttl))
				t.Cleanup(func() { c.Close() })
				return c
			}
		},
	})
}
