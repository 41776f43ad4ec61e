package locker_test

import (
	"context"
	"runtime"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
)

// heapInUse is what is on the heap after a collection.
func heapInUse() uint64 {
	runtime.GC()
	runtime.GC() // what finalizers held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// A keptHold stands for what a backend has of a hold that it keeps alive: 80
// bytes are dflockd's.
type keptHold struct {
	began time.Time
	key   string
	_     [40]byte
}

func newKeptHold(key string) locker.Kept { return &keptHold{began: time.Now(), key: key} }

func (h *keptHold) Since() time.Duration    { return time.Since(h.began) }
func (h *keptHold) Bind(locker.Loser) error { return nil }
func (h *keptHold) Key() string             { return h.key }

// TestHeapOfALease: what one of very many costs, with its place in the
// keeper's heap and in its session, and neither a goroutine nor a timer. Keys
// are not counted, because the caller has them anyway.
func TestHeapOfALease(t *testing.T) {
	const leases = manyLeases
	keys := make([]string, leases)
	for i := range keys {
		keys[i] = "key-" + strconv.Itoa(i)
	}
	for _, c := range []struct {
		name   string
		shared bool // one Acquirer for all, as a Mutex and a Semaphore have
		kept   func(key string) locker.Kept
		most   uint64
	}{
		{"of a primitive", true, nil, 180},
		{"of a primitive that the backend keeps, with what that has of it", true, newKeptHold, 200},
		{"of Client.Acquire", false, nil, 270},
		{"of Client.Acquire that the backend keeps, with what that has of it", false, newKeptHold, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := &granter{session: locker.NewSession(nil), kept: c.kept}
			client := newClient(t, g, locker.WithTTL(time.Hour))
			a := acquirer(t, client, "k")
			all := make([]*locker.Lease, leases)
			goroutines, before := runtime.NumGoroutine(), heapInUse()
			for i, k := range keys {
				var err error
				if c.shared {
					all[i], err = a.Acquire(t.Context())
				} else {
					all[i], err = client.Acquire(t.Context(), k)
				}
				assert.Sure(t, err)
			}
			bytes := (heapInUse() - before) / leases
			t.Logf("%d bytes of heap per lease %s", bytes, c.name)
			if bytes > c.most {
				t.Errorf("%d bytes of heap per lease %s, want at most %d", bytes, c.name, c.most)
			}
			if n := runtime.NumGoroutine() - goroutines; n > 1 {
				t.Errorf("%d goroutines for %d leases", n, leases)
			}
			for _, l := range all {
				assert.Sure(t, l.Release(t.Context()))
			}
			clear(all)
			if left := (int64(heapInUse()) - int64(before)) / leases; left > 16 { // the room in the keeper's heap
				t.Errorf("%d bytes per lease are left when all are released", left)
			}
			runtime.KeepAlive(all)
			runtime.KeepAlive(keys)
		})
	}
}

// TestAllocations of the way that every lock takes.
func TestAllocations(t *testing.T) {
	one := newKeptHold("k")
	for name, g := range map[string]*granter{
		"renewed": {session: locker.NewSession(nil)},
		"kept":    {kept: func(string) locker.Kept { return one }},
	} {
		t.Run(name, func(t *testing.T) { allocations(t, g) })
	}
}

func allocations(t *testing.T, g *granter) {
	c := newClient(t, g, locker.WithTTL(time.Hour))
	a := acquirer(t, c, "k")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cycle := func(l *locker.Lease, err error) {
		if err == nil {
			err = l.Release(ctx)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range []struct {
		name string
		want float64
		f    func()
	}{
		{"Acquirer.Acquire", 1, func() { cycle(a.Acquire(ctx)) }}, // the lease
		{"Acquirer.Try", 1, func() { cycle(a.Try(ctx)) }},
		{"Acquirer.MustAcquire", 1, func() { cycle(a.MustAcquire(), nil) }},
		{"Release without an end of its context", 1, func() {
			if err := a.MustAcquire().Release(context.Background()); err != nil {
				t.Fatal(err)
			}
		}},
		{"Client.Acquire", 2, func() { cycle(c.Acquire(ctx, "k")) }}, // and its Acquirer
	} {
		assert.Exactly(t, "allocations of "+m.name+" and Release", testing.AllocsPerRun(1000, m.f), m.want)
	}
	l, err := a.Acquire(ctx)
	assert.Sure(t, err)
	assert.Exactly(t, "allocations of Check", testing.AllocsPerRun(1000, func() { _ = l.Check() }), 0)
	assert.Exactly(t, "allocations of Left", testing.AllocsPerRun(1000, func() { _ = l.Left() }), 0)
	assert.Sure(t, l.Release(ctx))
}

// TestClockReadings: one before the request, one when it is granted, unless the
// backend says when it heard that, and one when it is released. The keeper is not
// woken by locks that come and go, or there would be more.
func TestClockReadings(t *testing.T) {
	for heard, want := range map[time.Duration]float64{0: 3, time.Minute: 2} {
		clockReadings(t, heard, want)
	}
}

func clockReadings(t *testing.T, heard time.Duration, want float64) {
	synctest.Test(t, func(t *testing.T) {
		const pairs = 100
		var readings atomic.Int64
		one := newKeptHold("k")
		c := newClient(t, &granter{kept: func(string) locker.Kept { return one }, heard: heard}, locker.WithTTL(time.Hour), locker.WithClock(func() time.Duration {
			readings.Add(1)
			return time.Minute
		}))
		use := func(times int) {
			for range times {
				assert.Sure(t, acquire(t, c, "k").ReleaseWithin(time.Second))
				synctest.Wait() // for the keeper
			}
		}
		use(2) // until it has begun, and knows that there is something to do
		before := readings.Load()
		use(pairs)
		assert.Exactly(t, "readings a pair", float64(readings.Load()-before)/pairs, want)
	})
}

// TestKeeperRestsBeforeASecond in which leases would have needed something that
// are gone: those that come and go meanwhile do not wake it either.
func TestKeeperRestsBeforeASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pairs = 100
		var now, readings atomic.Int64
		one := newKeptHold("k")
		c := newClient(t, &granter{kept: func(string) locker.Kept { return one }}, locker.WithTTL(6*time.Second), locker.WithClock(func() time.Duration {
			readings.Add(1)
			return time.Duration(now.Load())
		}))
		use := func(times int) {
			for range times {
				assert.Sure(t, acquire(t, c, "k").ReleaseWithin(time.Second))
				synctest.Wait() // for the keeper
			}
		}
		use(2) // its stop instant would be 4.9 s from here
		now.Store(int64(3900 * time.Millisecond))
		time.Sleep(time.Second) // the keeper looks at the clock
		use(2)
		before := readings.Load()
		use(pairs)
		assert.Exactly(t, "readings a pair", float64(readings.Load()-before)/pairs, 3)
	})
}

func BenchmarkAcquireRelease(b *testing.B) {
	benchmarkCycles(b, newClient(b, &granter{session: locker.NewSession(nil)}))
}

// BenchmarkAcquireReleaseAmongMany is beside a hundred thousand other leases.
func BenchmarkAcquireReleaseAmongMany(b *testing.B) {
	c := newClient(b, &granter{session: locker.NewSession(nil)}, locker.WithTTL(time.Hour))
	a := acquirer(b, c, "k")
	for range 100_000 {
		a.MustAcquire()
	}
	benchmarkCycles(b, c)
}

func benchmarkCycles(b *testing.B, c *locker.Client) {
	a := acquirer(b, c, "k")
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	b.ReportAllocs()
	for b.Loop() {
		l, err := a.Acquire(context.Background())
		if err == nil {
			err = l.Release(ctx)
		}
		if err != nil && ctx.Err() == nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkAcquireReleaseKept is of leases that the backend keeps.
func BenchmarkAcquireReleaseKept(b *testing.B) {
	one := newKeptHold("k")
	benchmarkCycles(b, newClient(b, &granter{kept: func(string) locker.Kept { return one }}))
}

func BenchmarkAcquireReleaseParallel(b *testing.B) {
	c := newClient(b, &granter{session: locker.NewSession(nil)})
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	b.ReportAllocs()
	b.SetParallelism(50)
	b.RunParallel(func(pb *testing.PB) {
		a := acquirer(b, c, "k")
		for pb.Next() {
			if err := a.MustAcquire().Release(ctx); err != nil && ctx.Err() == nil {
				b.Error(err)
			}
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	l := acquire(b, newClient(b, new(granter), locker.WithTTL(time.Hour)), "k")
	b.ReportAllocs()
	for b.Loop() {
		if err := l.Check(); err != nil {
			b.Fatal(err)
		}
	}
}
