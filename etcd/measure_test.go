package etcd

import (
	"cmp"
	"context"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
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

// bare is the least that it takes: a put with a read, and a deletion.
var bare = rival{"bare", func(t *testing.T, s *server, n int, one bool) (all []func(context.Context) (func() error, error)) {
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{s.addr}, Logger: zap.NewNop()})
	must(t, err)
	t.Cleanup(func() { client.Close() })
	l, err := client.Grant(t.Context(), 600)
	must(t, err)
	for i := range n {
		k := "bare/" + keyOf(i, one) + "/x"
		all = append(all, func(ctx context.Context) (func() error, error) {
			_, err := client.Txn(ctx).Then(clientv3.OpPut(k, "", clientv3.WithLease(l.ID)), clientv3.OpGet("bare/"+keyOf(i, one)+"/", clientv3.WithPrefix())).Commit()
			return func() error { _, err := client.Delete(ctx, k); return err }, err
		})
	}
	return all
}}

func keyOf(i int, one bool) string {
	if one {
		return "k"
	}
	return fmt.Sprint("k", i)
}

// ours are Mutexes, each goroutine's its own, of one client or of a client each.
func ours(name string, clientEach bool) rival { return oursWith(name, clientEach, false) }

// oursWith are locked with Lock and Unlock, or with LockContext and UnlockContext and a
// context that might end, for which etcd is asked in another way.
func oursWith(name string, clientEach, contexts bool) rival {
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
			if contexts {
				all = append(all, func(context.Context) (func() error, error) {
					return func() error { return mu.UnlockContext(t.Context()) }, mu.LockContext(t.Context())
				})
				continue
			}
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

// A contest is work that rivals do in turns, in random order: short ones, so that
// what disturbs the machine disturbs all of them.
type contest struct {
	what string
	n    int // goroutines
	one  bool
	// A turn is that many pairs, or that long.
	pairs  int
	long   time.Duration
	turns  int
	rivals []rival // the first is what the others are compared with
}

// turn lets all lockers lock and unlock for a while, and returns the pairs each
// second, and those of them whose owner was not the last one.
func (c *contest) turn(t *testing.T, lockers []func(context.Context) (func() error, error)) (pairs, changes float64) {
	t.Helper()
	var stop atomic.Bool
	var count, changed, last atomic.Int64
	last.Store(-1)
	var wg sync.WaitGroup
	began := time.Now()
	for i, lock := range lockers {
		wg.Go(func() {
			for n := 0; !stop.Load() && (c.pairs == 0 || n < c.pairs); n++ {
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
	if c.pairs > 0 {
		wg.Wait()
	} else {
		time.Sleep(c.long)
	}
	took := time.Since(began).Seconds()
	pairs, changes = float64(count.Load())/took, float64(changed.Load())/took
	stop.Store(true)
	wg.Wait()
	return pairs, changes
}

// take lets all take their turns, and appends its rows to a table.
func (c *contest) take(t *testing.T, s *server, table *figures.Table) {
	turns := c.turns
	if !*full {
		turns = 2
	}
	pairs, changes := make([]figures.Sample, len(c.rivals)), make([]figures.Sample, len(c.rivals))
	lockers := make([][]func(context.Context) (func() error, error), len(c.rivals))
	for i, r := range c.rivals {
		lockers[i] = r.lockers(t, s, c.n, c.one)
	}
	for round := range turns + 1 {
		for _, i := range rand.Perm(len(c.rivals)) {
			if p, ch := c.turn(t, lockers[i]); round > 0 { // the first is to warm up
				pairs[i], changes[i] = append(pairs[i], p), append(changes[i], ch)
			}
		}
	}
	for i, r := range c.rivals {
		table.Row(c.what, r.name, pairs[i], pairs[i].Over(pairs[0]), changes[i], changes[i].Over(changes[0]))
	}
}

// TestMeasurePairs compares with etcd's own package: one goroutine, a hundred with
// a key each, and 16 that fight for one; in turns, on one etcd that syncs its log, in
// this process.
func TestMeasurePairs(t *testing.T) {
	table := figures.NewTable("work", "locks", "pairs/s", "by turns", "owner changes/s", "by turns")
	own, contexts := ours("ours", false), oursWith("ours, LockContext", false, true)
	for _, c := range []contest{
		{"1 goroutine", 1, false, 50, 0, 60, []rival{stock, own, contexts, bare}},
		{"100 goroutines, a key each", 100, false, 0, 300 * time.Millisecond, 20, []rival{stock, own, contexts}},
		{"16 goroutines, one key", 16, true, 0, 300 * time.Millisecond, 20, []rival{stock, own, contexts, ours("ours, a client each", true)}},
	} {
		// An etcd each: what watches one contest leaves behind must not slow the next.
		c.take(t, startEtcdWith(t, func(*embed.Config) {}), table)
	}
	t.Logf("\n\n%s\n", table)
}

// TestMeasureHeld takes many locks and holds them all: once for the time, and once for
// the bytes, of which etcd's own, in this process too, are left out.
func TestMeasureHeld(t *testing.T) {
	n := 500
	if *full {
		n = 10_000
	}
	s := startEtcdWith(t, func(*embed.Config) {})
	ctl := s.etcdctl()
	c := locker.New(s.backend(), silent, locker.WithTTL(30*time.Second))
	defer c.Close()
	warm, err := c.Acquire(t.Context(), "warm")
	must(t, err)
	goroutines := runtime.NumGoroutine()
	began := time.Now()
	held := hold(t, c, "timed", n)
	took := time.Since(began)
	time.Sleep(time.Second)
	goroutines = runtime.NumGoroutine() - goroutines
	inEtcd := leases(t, ctl)
	defer func(rate int) { runtime.MemProfileRate = rate }(runtime.MemProfileRate)
	scale := locker.New(s.backend(WithPrefix("scale")), silent, locker.WithTTL(30*time.Second))
	defer scale.Close()
	before, _ := ourBytes()
	runtime.MemProfileRate = 1
	weighed := hold(t, scale, "k", n)
	after, where := ourBytes()
	table := figures.NewTable("locks", "held", "seconds to take", "heap bytes each", "goroutines", "leases in etcd")
	table.Row("ours", n, took.Seconds(), float64(after-before)/float64(n), goroutines, inEtcd)
	t.Logf("\n\n%s\n", table)
	for _, f := range slices.SortedFunc(maps.Keys(where), func(a, b string) int { return cmp.Compare(where[b], where[a]) })[:5] {
		t.Logf("%6.1f bytes each: %s", float64(where[f])/float64(n), f)
	}
	for _, l := range slices.Concat(held, weighed) {
		must(t, l.Check())
	}
	must(t, warm.Check())
}

// hold takes n locks, by a hundred goroutines.
func hold(t *testing.T, c *locker.Client, key string, n int) []*locker.Lease {
	t.Helper()
	held := make([]*locker.Lease, n)
	var wg sync.WaitGroup
	for g := range 100 {
		wg.Go(func() {
			for i := g; i < n; i += 100 {
				l, err := c.Acquire(t.Context(), fmt.Sprint(key, i))
				if err != nil {
					t.Error(err)
					return
				}
				held[i] = l
			}
		})
	}
	wg.Wait()
	return held
}

// ourBytes are the bytes in use that were allocated below a function of this project,
// and by which.
func ourBytes() (all int64, where map[string]int64) {
	runtime.GC()
	runtime.GC() // what a profile says is from before the last but one
	var records []runtime.MemProfileRecord
	for n, ok := 0, false; !ok; {
		records = make([]runtime.MemProfileRecord, n+1000)
		if n, ok = runtime.MemProfile(records, false); ok {
			records = records[:n]
		}
	}
	where = make(map[string]int64)
	for i := range records {
		frames := runtime.CallersFrames(records[i].Stack())
		for more := true; more; {
			var f runtime.Frame
			if f, more = frames.Next(); strings.HasPrefix(f.Function, "github.com/distributed-go/distributed/") {
				if strings.HasSuffix(f.File, "_test.go") {
					break
				}
				all += records[i].InUseBytes()
				where[fmt.Sprint(f.Function, ":", f.Line)] += records[i].InUseBytes()
				break
			}
		}
	}
	return all, where
}
