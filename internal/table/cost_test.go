package table

import (
	"fmt"
	"math"
	"runtime"
	"strconv"
	"testing"
	"time"
	"unsafe"
	"weak"
)

// TestSizes pins what one held key is made of, so that a field more is a
// decision: both are at the end of one of the allocator's size classes.
func TestSizes(t *testing.T) {
	if n := unsafe.Sizeof(Lease{}); n > 112 {
		t.Errorf("a lease takes %d bytes, want at most 112", n)
	}
	if n := unsafe.Sizeof(entry{}); n > 96 {
		t.Errorf("an entry takes %d bytes, want at most 96", n)
	}
}

// heap returns the bytes of all live objects.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what finalizers and sync.Pool kept over the first
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc) //nolint:gosec // far below
}

func full(keys int) *Table {
	t := New(Config{Sign: sign, MaxIdle: time.Minute, PruneInterval: time.Second})
	o := t.NewOwner(1)
	for i := range keys {
		if _, err := t.Acquire(time.Duration(i), lock(o, "orders/"+strconv.Itoa(1e9+i))); err != nil {
			panic(err)
		}
	}
	return t
}

// TestMemoryPerHeldKey measures everything: lease, entry, the key's bytes, its
// share of map, heap and lists. The other numbers of keys are close to the best
// and the worst filling of the map.
func TestMemoryPerHeldKey(t *testing.T) {
	for _, c := range []struct {
		keys int
		most int64
	}{{100_000, 285}, {114_000, 290}, {130_000, 300}} {
		before := heap()
		table := full(c.keys)
		per := (heap() - before) / int64(c.keys)
		t.Logf("%d keys held: %d B each", c.keys, per)
		if per > c.most {
			t.Errorf("%d keys held: %d B each, want at most %d", c.keys, per, c.most)
		}
		runtime.KeepAlive(table)
	}
}

// TestNothingIsLeftOfAPeak wants the memory of a peak back once its keys are
// pruned, with all that it went through on the way.
func TestNothingIsLeftOfAPeak(t *testing.T) {
	const keys, most = 100_000, 300_000
	before := heap()
	table := full(keys)
	table.Advance(time.Hour)
	if n := len(table.Events()); n != keys {
		t.Fatalf("%d leases ran out", n)
	}
	table.Events()
	table.Advance(2 * time.Hour)
	if n := table.Keys(); n != 0 {
		t.Fatalf("%d keys are left", n)
	}
	left := heap() - before
	t.Logf("%d B are left of %d keys", left, keys)
	if left > most {
		t.Errorf("%d B are left of %d keys, want at most %d", left, keys, most)
	}
	runtime.KeepAlive(table)
}

// TestEndedLeaseIsGarbage wants no slot of heap, lists, index or events to keep
// a lease that is over.
func TestEndedLeaseIsGarbage(t *testing.T) {
	table := New(Config{Sign: sign, MaxIdle: time.Hour})
	o := table.NewOwner(1)
	var over []weak.Pointer[Lease]
	for i := range 100 {
		l, err := table.Acquire(0, lasting(slots(o, "s", 30, 1), time.Duration(1+i%7)))
		if err != nil {
			t.Fatal(err)
		}
		over = append(over, weak.Make(l))
	}
	table.Advance(1000) // the first 30 run out, the next 30 are granted
	table.Drop(1000, o, false)
	table.Events()
	table.Events()
	runtime.GC()
	for i, w := range over {
		if w.Value() != nil {
			t.Fatalf("lease %d ended and is still referred to", i)
		}
	}
	runtime.KeepAlive(table)
	runtime.KeepAlive(o)
}

func TestAllocations(t *testing.T) {
	table := New(Config{Sign: sign, MaxIdle: time.Minute, PruneInterval: time.Second})
	o := table.NewOwner(1)
	key := []byte("orders/1")
	now := time.Duration(0)
	var l *Lease
	acquire := func() {
		now++
		var err error
		l, err = table.Acquire(now, Request{Kind: Lock, Key: key, Owner: o, TTL: ttl, Weight: 1})
		if err != nil {
			t.Fatal(err)
		}
	}
	release := func() {
		if err := table.Release(now, Lock, key, l.Token()); err != nil {
			t.Fatal(err)
		}
	}
	want := func(name string, most float64, f func()) {
		t.Helper()
		if n := testing.AllocsPerRun(1000, f); n > most {
			t.Errorf("%s: %v allocations, want at most %v", name, n, most)
		}
	}
	want("acquire and release of an idle key", 1, func() { acquire(); release() })
	acquire()
	want("renewal", 0, func() {
		if _, err := table.Renew(now, Lock, key, l.Token(), ttl); err != nil {
			t.Fatal(err)
		}
	})
	want("a try of a held key", 0, func() {
		if _, err := table.Acquire(now, Request{Kind: Lock, Key: key, Owner: o, TTL: ttl, Weight: 1, Try: true}); err == nil {
			t.Fatal("granted")
		}
	})
	want("a wrong token", 0, func() {
		if err := table.Release(now, Lock, key, Token{1, 2}); err == nil {
			t.Fatal("released")
		}
	})
	want("queue, hand over and read the events", 1, func() {
		old := l
		acquire()
		if err := table.Release(now, Lock, key, old.Token()); err != nil {
			t.Fatal(err)
		}
		if n := len(table.Events()); n != 1 {
			t.Fatalf("%d events", n)
		}
	})
}

func BenchmarkAcquireRelease(b *testing.B) {
	for _, keys := range []int{1, 100, 100_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			t := New(Config{Sign: sign, MaxIdle: math.MaxInt64})
			o := t.NewOwner(1)
			names := make([][]byte, keys)
			for i := range names {
				names[i] = []byte("orders/" + strconv.Itoa(1e9+i))
			}
			now := time.Duration(0)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				now++
				key := names[i%keys]
				l, err := t.Acquire(now, Request{Kind: Lock, Key: key, Owner: o, TTL: ttl, Weight: 1})
				if err != nil {
					b.Fatal(err)
				}
				if err := t.Release(now, Lock, key, l.Token()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkMap is the rival: what a map of strings alone takes for the same.
func BenchmarkMap(b *testing.B) {
	for _, keys := range []int{1, 100, 100_000} {
		b.Run(fmt.Sprintf("keys=%d", keys), func(b *testing.B) {
			m := make(map[string]*Lease)
			names := make([][]byte, keys)
			for i := range names {
				names[i] = []byte("orders/" + strconv.Itoa(1e9+i))
				m[string(names[i])] = nil
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				key := names[i%keys]
				m[string(key)] = new(Lease)
				if m[string(key)] == nil {
					b.Fatal("not there")
				}
			}
		})
	}
}

func BenchmarkHandOver(b *testing.B) {
	t := New(Config{Sign: sign, MaxIdle: time.Minute})
	o := t.NewOwner(1)
	const waiters = 16
	for range waiters {
		if _, err := t.Acquire(0, lock(o, "k")); err != nil {
			b.Fatal(err)
		}
	}
	r := lock(o, "k")
	holder := t.keys[Lock].get([]byte("k")).holders.first
	now := time.Duration(0)
	b.ReportAllocs()
	for b.Loop() {
		now++
		if _, err := t.Acquire(now, r); err != nil {
			b.Fatal(err)
		}
		if err := t.Release(now, Lock, r.Key, holder.Token()); err != nil {
			b.Fatal(err)
		}
		holder = t.Events()[0].Lease
	}
}

// BenchmarkRenew renews all of many leases in turn, as holders do: deadlines
// move later, and now and then one comes to the top of the heap.
func BenchmarkRenew(b *testing.B) {
	const keys = 100_000
	t := full(keys)
	leases := make([]*Lease, 0, keys)
	for e := range t.keys[Lock].all() {
		leases = append(leases, e.holders.first)
	}
	now := t.now
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		now += ttl / 3 / keys
		l := leases[i%keys]
		if _, err := t.Renew(now, Lock, []byte(l.Key()), l.Token(), ttl); err != nil {
			b.Fatal(err)
		}
	}
}
