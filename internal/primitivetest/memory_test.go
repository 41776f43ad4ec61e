package primitivetest_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/distributed-go/distributed/internal/leaktest"
	"github.com/distributed-go/distributed/internal/primitivetest"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/memory"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// TestMemory runs the suite on the backend in memory, in virtual time.
func TestMemory(t *testing.T) {
	const ttl = 10 * time.Second
	primitivetest.Run(t, primitivetest.Harness{
		Bubble: true,
		TTL:    ttl,
		Start: func(t *testing.T) func() *locker.Client {
			s := memory.NewServer()
			return func() *locker.Client {
				c := locker.New(s.Backend(), locker.WithTTL(ttl), locker.WithLogger(slog.New(slog.DiscardHandler)))
				t.Cleanup(func() { c.Close() })
				return c
			}
		},
	})
}
