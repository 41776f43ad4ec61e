package memory_test

import (
	"testing"
	"time"

	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/locker/lockertest"
	"github.com/distributed-go/distributed/memory"
)

// TestBackend runs the suite of all backends, in virtual time: in real time a
// busy machine would decide whether leases of a second are renewed in time.
func TestBackend(t *testing.T) {
	lockertest.Run(t, lockertest.Harness{
		Start:  start,
		Bubble: true,
		TTL:    time.Second,
		Fences: true, Semaphores: true, Weights: true, Queue: true,
		HandOver: true, Force: true, Holders: true, Values: true,
	})
}

func start(*testing.T) lockertest.Env {
	s := memory.NewServer()
	return lockertest.Env{
		Backend:    func() locker.Backend { return s.Backend() },
		Disconnect: func(b locker.Backend) { b.(*memory.Backend).Disconnect() },
		Freeze:     s.Freeze,
		Thaw:       s.Thaw,
	}
}
