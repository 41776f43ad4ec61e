package etcd

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/locker/lockertest"
)

// TestBackend runs the suite of all backends: each case below a prefix of its own,
// on one etcd, which each reaches through a proxy of its own that can freeze. In
// real time, with a lease that bears a busy machine.
func TestBackend(t *testing.T) {
	s := startEtcd(t)
	var cases atomic.Int32
	lockertest.Run(t, lockertest.Harness{
		Start: func(t *testing.T) lockertest.Env {
			prefix := WithPrefix(fmt.Sprintf("test/%d/", cases.Add(1)))
			p := newProxy(t, s.addr)
			observer := dialTo(t, s.addr, prefix)
			t.Cleanup(func() { observer.Close() })
			return lockertest.Env{
				Backend: func() locker.Backend { return dialTo(t, p.at, prefix) },
				Freeze:  p.freeze, Thaw: p.thaw,
				Residue: func() (holders, waiters int) { return census(t, observer) },
			}
		},
		TTL:    3 * time.Second,
		Fences: true, Semaphores: true, Weights: true, Queue: true, Keeps: true,
		Force: true, Holders: true, Values: true,
	})
}
