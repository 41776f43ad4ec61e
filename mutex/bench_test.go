package mutex_test

import (
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/distributed-go/distributed/dflockd"
	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/memory"
	"github.com/distributed-go/distributed/mutex"
	"github.com/distributed-go/distributed/server"
)

// backends are what the benchmarks run on. Open returns one, and how many
// connections were made for it.
var backends = []struct {
	name string
	open func(b *testing.B) (_ locker.Backend, conns *atomic.Int32)
}{
	{"memory", func(*testing.B) (locker.Backend, *atomic.Int32) { return memory.New(), new(atomic.Int32) }},
	{"dflockd", dial},
}

// dial returns a backend on a server of its own, over loopback.
func dial(b *testing.B) (locker.Backend, *atomic.Int32) {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	assert.Sure(b, err)
	s, err := server.New(server.Config{Logger: slog.New(slog.DiscardHandler)})
	assert.Sure(b, err)
	c := &counter{Listener: l}
	served := make(chan error, 1)
	go func() { served <- s.Serve(c) }()
	b.Cleanup(func() {
		assert.Sure(b, s.Close())
		<-served
	})
	d, err := dflockd.New([]string{l.Addr().String()})
	assert.Sure(b, err)
	return d, &c.accepted
}

// A counter counts the connections that it accepts.
type counter struct {
	net.Listener
	accepted atomic.Int32
}

func (c *counter) Accept() (net.Conn, error) {
	nc, err := c.Listener.Accept()
	if err == nil {
		c.accepted.Add(1)
	}
	return nc, err
}

// BenchmarkPair is Lock and Unlock by one goroutine.
func BenchmarkPair(b *testing.B) {
	for _, backend := range backends {
		b.Run(backend.name, func(b *testing.B) {
			d, _ := backend.open(b)
			c := locker.New(d)
			defer c.Close()
			mu := mutex.New(c, "k")
			b.ReportAllocs()
			for b.Loop() {
				mu.Lock()
				mu.Unlock() //lint:ignore SA2001 there is nothing to guard
			}
		})
	}
}

// BenchmarkShared is Lock and Unlock by 16 goroutines that share one Mutex.
func BenchmarkShared(b *testing.B) {
	for _, backend := range backends {
		b.Run(backend.name, func(b *testing.B) {
			d, conns := backend.open(b)
			c := locker.New(d)
			defer c.Close()
			contend(b, mutex.New(c, "k"))
			b.ReportMetric(float64(conns.Load()), "conns")
		})
	}
}

// contend locks in 16 goroutines, b.N times in all.
func contend(b *testing.B, mu sync.Locker) {
	const goroutines = 16
	b.ReportAllocs()
	var wg sync.WaitGroup
	for range goroutines {
		wg.Go(func() {
			for range b.N / goroutines {
				mu.Lock()
				mu.Unlock() //lint:ignore SA2001 there is nothing to guard
			}
		})
	}
	wg.Wait()
}

// BenchmarkLocalHandover is Lock and Unlock by 16 goroutines that share one
// Mutex, or the writing side of one RW, with local hand-over: a round trip for
// every 65 holds, or every 10,001.
func BenchmarkLocalHandover(b *testing.B) {
	for _, backend := range backends {
		for _, n := range []int{64, 10000} {
			b.Run(fmt.Sprintf("%s/Mutex/%d", backend.name, n), func(b *testing.B) {
				d, _ := backend.open(b)
				c := locker.New(d)
				defer c.Close()
				contend(b, mutex.New(c, "k").WithLocalHandover(n))
			})
			b.Run(fmt.Sprintf("%s/RW/%d", backend.name, n), func(b *testing.B) {
				d, _ := backend.open(b)
				c := locker.New(d)
				defer c.Close()
				contend(b, mutex.NewRW(c, "k").WithLocalHandover(n))
			})
		}
	}
}

// BenchmarkReaders is RLock and RUnlock by 16 goroutines that share one RW, each
// with a lease of its own.
func BenchmarkReaders(b *testing.B) {
	for _, backend := range backends {
		b.Run(backend.name, func(b *testing.B) {
			d, _ := backend.open(b)
			c := locker.New(d)
			defer c.Close()
			contend(b, mutex.NewRW(c, "k").RLocker())
		})
	}
}
