package server_test

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/distributed-go/distributed/server"
)

// TestLockAndReleaseAllocateTheLeaseAlone counts what server and client
// together allocate; the client here allocates nothing.
func TestLockAndReleaseAllocateTheLeaseAlone(t *testing.T) {
	_, connect := overTCP(t, server.Config{})
	p := newPair(connect().nc, "key")
	for range 100 {
		p.once(t) // the buffers grow
	}
	if n := testing.AllocsPerRun(1000, func() { p.once(t) }); n > 1 {
		t.Errorf("a pair allocates %v times, want 1", n)
	}
}

// A pair locks and releases one key over and over, without allocating.
type pair struct {
	nc            net.Conn
	lock, release []byte
	answer        [64]byte
}

func newPair(nc net.Conn, key string) *pair {
	return &pair{nc: nc, lock: []byte("l\n" + key + "\n0\n"), release: []byte("r\n" + key + "\n00000000000000000000000000000000\n")}
}

func (p *pair) once(t testing.TB) {
	if _, err := p.nc.Write(p.lock); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(p.nc, p.answer[:len("ok 00000000000000000000000000000000 33\n")]); err != nil {
		t.Fatal(err)
	}
	copy(p.release[len(p.release)-33:], p.answer[3:35])
	if _, err := p.nc.Write(p.release); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(p.nc, p.answer[:3]); err != nil {
		t.Fatal(err)
	}
}

// TestAConnectionIsOneGoroutine also tells what an idle one costs.
func TestAConnectionIsOneGoroutine(t *testing.T) {
	const connections = 500
	s, connect := overTCP(t, server.Config{})
	connect().expect(t, "ping|_|_", "ok")
	goroutines, memory := runtime.NumGoroutine(), inUse()
	var peers []*peer
	for i := range connections {
		p := connect()
		p.send(wire("ping|_|_", fmt.Sprintf("l|%d|0", i)))
		peers = append(peers, p)
	}
	for _, p := range peers {
		var answer [3 + 39]byte
		if _, err := io.ReadFull(p.nc, answer[:]); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all are connected", func() bool { return s.Stats().Connections == 1+connections })
	if n := runtime.NumGoroutine() - goroutines; n > connections {
		t.Errorf("%d goroutines for %d connections", n, connections)
	}
	// Both ends, and the test's own buffer of 4 KiB for each.
	t.Logf("%d B for each connection, of which 4 KiB and more are the test's", (inUse()-memory)/connections)
}

func inUse() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

func BenchmarkLockRelease(b *testing.B) {
	_, connect := overTCP(b, server.Config{})
	p := newPair(connect().nc, "key")
	b.ReportAllocs()
	for b.Loop() {
		p.once(b)
	}
}

// BenchmarkPipelined has one client send tries for a key that is held, a
// hundred at a time.
func BenchmarkPipelined(b *testing.B) {
	_, connect := overTCP(b, server.Config{})
	p := connect()
	holder := connect()
	holder.ask(b, "l|held|0 1000")
	holder.granted(b, "1000")
	const batch = 100
	var requests []string
	for range batch {
		requests = append(requests, "l|held|0")
	}
	text := []byte(wire(requests...))
	answers := make([]byte, batch*len("timeout\n"))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.nc.Write(text); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(p.nc, answers); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "requests/s")
}

// BenchmarkHandOver passes one key round a ring of clients that all wait.
func BenchmarkHandOver(b *testing.B) {
	s, connect := overTCP(b, server.Config{DefaultLeaseTTL: time.Hour})
	const clients = 16
	var ring [clients]*peer
	for i := range ring {
		ring[i] = connect()
		ring[i].ask(b, "l|k|10000")
		eventually(b, "it is in the queue", func() bool { l := s.Stats().Locks; return len(l) == 1 && l[0].Waiters == i })
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		p := ring[i%clients]
		p.ask(b, "r|k|"+p.granted(b, "3600"), "l|k|10000")
		p.get(b)
	}
}

// TestReportsDoNotHoldUpOthers has clients that ask for reports of a large
// table all the time.
func TestReportsDoNotHoldUpOthers(t *testing.T) {
	s, connect := overTCP(t, server.Config{DefaultLeaseTTL: time.Hour})
	p := connect()
	const keys, batch = 50_000, 1000
	for i := 0; i < keys; i += batch {
		var requests []string
		for j := range batch {
			requests = append(requests, fmt.Sprintf("l|%d|0", i+j))
		}
		go p.send(wire(requests...))
		for range batch {
			p.granted(t, "3600")
		}
	}
	began := time.Now()
	s.Stats()
	t.Logf("a report of %d keys took %v, its pause included", keys, time.Since(began))
	for range 4 {
		greedy := connect()
		go greedy.send(wire("stats|_|_", "stats|_|_", "stats|_|_"))
		go io.Copy(io.Discard, greedy.nc)
	}
	token := p.do(t, "l|good|0")[3:35]
	var took []time.Duration
	for range 300 {
		began := time.Now()
		p.expect(t, "n|good|"+token, "ok 3600")
		took = append(took, time.Since(began))
		time.Sleep(time.Millisecond) // for as long as the others need
	}
	slices.Sort(took)
	t.Logf("renewals meanwhile: p50 %v, p90 %v, p99 %v", at(took, 50), at(took, 90), at(took, 99))
	if p90 := at(took, 90); p90 > 500*time.Millisecond { // generous: half a second of lease
		t.Errorf("p90 of renewals was %v", p90)
	}
}
