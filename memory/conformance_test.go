package memory_test

import (
	"testing"
	"time"

	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/locker/lockertest"
	"github.com/distributed-go/distributed/memory"
)

// TestBackend runs the suite of all backends twice: in virtual time, where
// every instant is exact, and in real time, where goroutines really race.
func TestBackend(t *testing.T) {
	for name, bubble := range map[string]bool{"virtual": true, "real": false} {
		t.Run(name, func(t *testing.T) {
			lockertest.Run(t, lockertest.Harness{
				Start:  start,
				Bubble: bubble,
				TTL:    time.Second,
				Fences: true, Semaphores: true, Weights: true, Queue: true,
			})
		})
	}
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
