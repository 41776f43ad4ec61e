package etcd

import (
	"context"
	"flag"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/distributed-go/distributed/internal/figures"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/mutex"
)

var full = flag.Bool("full", false, "measure at full size")

// A rival is a way to lock on etcd, in the measurements.
type rival struct {
	name string
	// lockers makes n lockers: of keys of their own, or of one.
	lockers func(t *testing.T, s *server, n int, one bool) []func(context.Context) (unlock func() error, err error)
}

func keyOf(i int, one bool) string {
	if one {
		return "k"
	}
	return fmt.Sprint("k", i)
}

// ours are Mutexes with Lock and Unlock, each goroutine's its own, of one client or of a client each.
func ours(name string, clientEach bool) rival {
	prefix := WithPrefix(strings.ReplaceAll(name, " ", "-"))
	open := func(t *testing.T, s *server) *locker.Client {
		c := locker.New(s.backend(prefix), silent, locker.WithTTL(10*time.Second))
		t.Cleanup(func() { c.Close() })
		return c
	}
	return rival{name, func(t *testing.T, s *server, n int, one bool) (all []func(context.Context) (func() error, error)) {
		var c *locker.Client
		for i := range n {
			if c == nil || clientEach {
				c = open(t, s)
			}
			mu := mutex.New(c, keyOf(i, one))
			all = append(all, func(ctx context.Context) (func() error, error) {
				mu.Lock()
				return func() error { mu.Unlock(); return ctx.Err() }, nil
			})
		}
		return all
	}}
}

// stock is etcd's own package. Goroutines that fight for a key have a session
// each: those of one session do not exclude each other.
var stock = rival{"concurrency.Mutex", func(t *testing.T, s *server, n int, one bool) (all []func(context.Context) (func() error, error)) {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{s.addr}, Logger: zap.NewNop()})
	must(t, err)
	t.Cleanup(func() { client.Close() })
	var session *concurrency.Session
	for i := range n {
		if session == nil || one {
			session, err = concurrency.NewSession(client, concurrency.WithTTL(10))
			must(t, err)
			t.Cleanup(func() { session.Close() })
		}
		mu := concurrency.NewMutex(session, "stock/"+keyOf(i, one))
		all = append(all, func(ctx context.Context) (func() error, error) {
			return func() error { return mu.Unlock(ctx) }, mu.Lock(ctx)
		})
	}
	return all
}}

// rounds is how often each rival runs, by turns.
func rounds() int {
	if *full {
		return 5
	}
	return 1
}

func roundTime() time.Duration {
	if *full {
		return 3 * time.Second
	}
	return 200 * time.Millisecond
}

// run lets all lockers lock and unlock for a while, and returns the pairs each
// second, and those of them whose owner was not the last one.
func run(t *testing.T, lockers []func(context.Context) (func() error, error)) (pairs, changes float64) {
	t.Helper()
	var stop atomic.Bool
	var count, changed, last atomic.Int64
	last.Store(-1)
	var wg sync.WaitGroup
	began := time.Now()
	for i, lock := range lockers {
		wg.Go(func() {
			for !stop.Load() {
				unlock, err := lock(context.Background())
				if err == nil {
					count.Add(1)
					if last.Swap(int64(i)) != int64(i) {
						changed.Add(1)
					}
					err = unlock()
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	time.Sleep(roundTime())
	took := time.Since(began).Seconds()
	pairs, changes = float64(count.Load())/took, float64(changed.Load())/took
	stop.Store(true)
	wg.Wait()
	return pairs, changes
}

func median(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	return x[len(x)/2]
}

// TestMeasurePairs compares with etcd's own package: one goroutine, a hundred with
// a key each, and 16 that fight for one; by turns in one run, on one etcd that
// syncs its log, in this process.
func TestMeasurePairs(t *testing.T) {
	s := startEtcdWith(t, func(*embed.Config) {})
	table := figures.NewTable("work", "locks", "pairs/s, median", "least", "most", "owner changes/s, median")
	for _, w := range []struct {
		what   string
		n      int
		one    bool
		rivals []rival
	}{
		{"1 goroutine", 1, false, []rival{stock, ours("ours", false)}},
		{"100 goroutines, a key each", 100, false, []rival{stock, ours("ours", false)}},
		{"16 goroutines, one key", 16, true, []rival{stock, ours("ours", false), ours("ours, a client each", true)}},
	} {
		pairs, changes := make([][]float64, len(w.rivals)), make([][]float64, len(w.rivals))
		lockers := make([][]func(context.Context) (func() error, error), len(w.rivals))
		for i, r := range w.rivals {
			lockers[i] = r.lockers(t, s, w.n, w.one)
		}
		for range rounds() {
			for i := range w.rivals {
				p, c := run(t, lockers[i])
				pairs[i], changes[i] = append(pairs[i], p), append(changes[i], c)
			}
		}
		for i, r := range w.rivals {
			table.Row(w.what, r.name, median(pairs[i]), slices.Min(pairs[i]), slices.Max(pairs[i]), median(changes[i]))
		}
	}
	t.Logf("\n\n%s\n", table)
}

// TestMeasureHeld takes many locks and holds them all.
func TestMeasureHeld(t *testing.T) {
	n := 500
	if *full {
		n = 10_000
	}
	s := startEtcdWith(t, func(*embed.Config) {})
	ctl := s.etcdctl()
	table := figures.NewTable("locks", "held", "seconds to take", "heap bytes each", "goroutines", "leases in etcd")
	c := locker.New(s.backend(), silent, locker.WithTTL(30*time.Second))
	defer c.Close()
	warm, err := c.Acquire(t.Context(), "warm")
	must(t, err)
	heap := func() (float64, int) {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc), runtime.NumGoroutine()
	}
	bytes, goroutines := heap()
	held := make([]*locker.Lease, n)
	began := time.Now()
	var wg sync.WaitGroup
	for g := range 100 {
		wg.Go(func() {
			for i := g; i < n; i += 100 {
				l, err := c.Acquire(t.Context(), fmt.Sprint("k", i))
				if err != nil {
					t.Error(err)
					return
				}
				held[i] = l
			}
		})
	}
	wg.Wait()
	took := time.Since(began)
	time.Sleep(time.Second)
	after, more := heap()
	// The etcd is in this process too: what it has of a key is taken off by taking
	// as many without a Client.
	b, g := etcdsOwn(t, s, n, heap)
	table.Row("ours", n, took.Seconds(), fmt.Sprintf("%.0f, of which the etcd's own %.0f", (after-bytes)/float64(n), b), more-goroutines-g, leases(t, ctl))
	t.Logf("\n\n%s\n", table)
	for _, l := range held {
		must(t, l.Check())
	}
	must(t, warm.Check())
}

// etcdsOwn is what keys cost the etcd in this process.
func etcdsOwn(t *testing.T, s *server, n int, heap func() (float64, int)) (bytes float64, goroutines int) {
	ctl := s.etcdctl()
	l, err := ctl.Grant(t.Context(), 60)
	must(t, err)
	before, was := heap()
	k, value := keys{"own/"}, record{weight: 1, limit: 1, asked: time.Now().UnixMilli(), holder: defaultName()}.String()
	for i := range n {
		_, err := ctl.Put(t.Context(), k.entry(subject{locker.Exclusive, fmt.Sprint("k", i)}, uint64(i)), value, clientv3.WithLease(l.ID)) //nolint:gosec // a test
		must(t, err)
	}
	time.Sleep(time.Second)
	after, is := heap()
	return (after - before) / float64(n), is - was
}
