package session

import (
	"runtime"
	"strconv"
	"testing"
	"time"
	"unsafe"

	"github.com/distributed-go/distributed/codec"
)

// heap returns the bytes of all live objects.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what finalizers and sync.Pool kept over the first
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc) //nolint:gosec // far below
}

// TestMemoryPerHold measures what one lock costs that is merely held: on the
// server with its table, entry and key, in the client without the key.
func TestMemoryPerHold(t *testing.T) {
	const keys = 100_000
	before := heap()
	d := newDesk(t)
	link, _ := d.server.Hello(d.now, 0, &codec.Greeting{Version: 1, Name: "n"}, new(mute))
	r := lockOf(0, "")
	for i := range keys {
		r.ID, r.Key = uint64(i+1), []byte("orders/"+strconv.Itoa(1e9+i))
		d.server.Request(d.now, link, &r)
	}
	d.held(keys)
	per := (heap() - before) / keys
	t.Logf("%d locks held: %d B each on the server", keys, per)
	if per > 320 { // 285 to 303, as the map of keys happens to be filled
		t.Errorf("%d B each, want at most 320", per)
	}
	runtime.KeepAlive(d)
	if n := unsafe.Sizeof(Hold{}); n > 72 {
		t.Errorf("a hold takes %d bytes, want at most 72", n)
	}
}

// TestBeatCostsTheSameForAnyNumberOfHolds compares one hold with many, by
// orders of magnitude.
func TestBeatCostsTheSameForAnyNumberOfHolds(t *testing.T) {
	cost := func(keys int) time.Duration {
		d := newDesk(t)
		link, _ := d.server.Hello(d.now, 0, &codec.Greeting{Version: 1, Name: "n"}, new(mute))
		id := uint64(0)
		for i := range keys {
			id++
			r := lockOf(id, "k"+strconv.Itoa(i))
			d.server.Request(d.now, link, &r)
		}
		best := time.Hour
		for range 20 {
			began := time.Now()
			for range 100 {
				id++
				r := plain(id, codec.Beat)
				d.server.Request(d.now, link, &r)
			}
			best = min(best, time.Since(began))
		}
		return best
	}
	// A beat that walked the holds would take ten thousand times as long.
	if one, many := cost(1), cost(10_000); many > 100*one {
		t.Errorf("100 beats take %v with 10,000 holds and %v with one", many, one)
	}
}

func BenchmarkServerLockRelease(b *testing.B) {
	w := newWorld(0, serverFaults{}, clientFaults{})
	out := new(mute)
	link, _ := w.server.Hello(w.now, 0, &codec.Greeting{Version: 1, Name: "n"}, out)
	lock := lockOf(0, "orders/1")
	release := codec.Request{Command: codec.Release, Key: lock.Key}
	b.ReportAllocs()
	for id := uint64(1); b.Loop(); id += 2 {
		lock.ID, release.ID = id, id+1
		w.server.Request(w.now, link, &lock)
		release.Token = out.token
		w.server.Request(w.now, link, &release)
	}
}

func BenchmarkClientLockRelease(b *testing.B) {
	a := &silent{}
	c := NewClient(a, codec.Greeting{Name: "n"})
	conn := c.Connect(0)
	c.Line(0, conn, &codec.Answer{Status: codec.OK, Version: 1})
	hold := &Hold{Key: "orders/1"}
	lock := &Call{Hold: hold, Request: codec.Request{Command: codec.Lock, Key: []byte(hold.Key), NoTimeout: true, TTL: 10 * time.Second}}
	release := new(Call)
	answer := codec.Answer{Status: codec.OK, HasToken: true, TTL: 10 * time.Second, HasTTL: true}
	b.ReportAllocs()
	for b.Loop() {
		c.Do(0, lock)
		answer.ID = lock.Request.ID
		c.Line(0, conn, &answer)
		c.Release(0, hold, release)
		answer.ID = release.Request.ID
		c.Line(0, conn, &answer)
	}
}

type silent struct{}

func (*silent) Send(*codec.Request) {}
func (*silent) Done(*Call)          {}
func (*silent) Lost(*Hold, string)  {}
func (*silent) Over(string)         {}
