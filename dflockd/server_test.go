package dflockd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/stocktest"
	"github.com/distributed-go/distributed/locker"
	lockserver "github.com/distributed-go/distributed/server"
)

// serverBubble runs a test in virtual time with this project's server.
func serverBubble(t *testing.T, cfg lockserver.Config, f func(*testing.T, *Backend, *network), opts ...Option) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		cfg.Logger = slog.New(slog.DiscardHandler)
		s, err := lockserver.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		n := newNetwork()
		n.listen(where, s.ServeConn)
		b := newBackend(t, []string{where}, append([]Option{WithDialer(n.dial)}, opts...)...)
		f(t, b, n)
		b.Close()
		s.Close()
		n.wg.Wait()
	})
}

func TestSemaphores(t *testing.T) {
	serverBubble(t, lockserver.Config{}, func(t *testing.T, b *Backend, n *network) {
		slotOf := func(g locker.Grant) locker.Hold {
			return locker.Hold{Kind: locker.Counting, Key: "s", Token: g.Token, Session: g.Session}
		}
		var held []locker.Grant
		for range 3 {
			held = append(held, mustAcquire(t, b, slot("s", 3)))
		}
		if n.dialled(where) != 2 { // the first asked elsewhere whether there are semaphores
			t.Errorf("%d dials", n.dialled(where))
		}
		full := slot("s", 3)
		full.Try = true
		_, err := b.Acquire(context.Background(), full)
		wantErr(t, err, locker.ErrLocked)
		_, err = b.Acquire(context.Background(), slot("s", 4))
		wantErr(t, err, locker.ErrLimitMismatch)
		if err != nil && !strings.Contains(err.Error(), "4") {
			t.Errorf("the error does not name the limit: %v", err)
		}
		mustAcquire(t, b, lock("s")) // the name is another for a lock
		p := mustEnqueue(t, b, slot("s", 3), false)
		if r := renewOnce(b, slotOf(held[0]), time.Minute, 1); r.Err != nil {
			t.Error(r.Err)
		}
		for _, g := range held {
			mustRelease(t, b, slotOf(g))
		}
		mustRelease(t, b, slotOf(mustWait(t, p)))
	})
}

func TestInspect(t *testing.T) {
	serverBubble(t, lockserver.Config{}, func(t *testing.T, b *Backend, _ *network) {
		req := lock("held")
		req.TTL = 30 * time.Second
		mustAcquire(t, b, req)
		mustRelease(t, b, hold("idle", mustAcquire(t, b, lock("idle"))))
		mustAcquire(t, b, slot("sem", 5))
		mustAcquire(t, b, slot("sem", 5))
		mustEnqueue(t, b, lock("held"), false)
		time.Sleep(5 * time.Second)
		r, err := b.Inspect(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if r.Connections != 4 { // shared, semaphores, a place, the report
			t.Errorf("%d connections", r.Connections)
		}
		for i := range r.Keys {
			if r.Keys[i].Key == "held" {
				if r.Keys[i].Owner == "" {
					t.Error("a held lock has no owner")
				}
				r.Keys[i].Owner = ""
			}
		}
		want := []locker.KeyReport{
			{Server: where, Kind: "lock", Key: "held", Limit: 1, Holders: 1, Waiters: 1, HeldFor: 5 * time.Second, ExpiresIn: 25 * time.Second},
			{Server: where, Kind: "lock", Key: "idle", Limit: 1, Idle: 5 * time.Second},
			{
				Server: where, Kind: "semaphore", Key: "sem", Limit: 5, Holders: 2, HeldFor: 5 * time.Second,
				Shares: []locker.ShareReport{{Weight: 1, HeldFor: 5 * time.Second}, {Weight: 1, HeldFor: 5 * time.Second}},
			},
		}
		if fmt.Sprint(r.Keys) != fmt.Sprint(want) {
			t.Errorf("report\n\t%+v\nwant\n\t%+v", r.Keys, want)
		}
	})
}

func TestFencesGrowWhereTheServerHasThem(t *testing.T) {
	for _, fences := range []bool{true, false} {
		var opts []Option
		if fences {
			opts = append(opts, WithFences())
		}
		serverBubble(t, lockserver.Config{}, func(t *testing.T, b *Backend, _ *network) {
			last := uint64(0)
			for range 10 {
				g := mustAcquire(t, b, lock("k"))
				if fences && g.Fence <= last || !fences && g.Fence != 0 {
					t.Errorf("fence %d after %d", g.Fence, last)
				}
				last = g.Fence
				mustRelease(t, b, hold("k", g))
			}
		}, opts...)
	}
}

func TestTheServersDefaultLease(t *testing.T) {
	serverBubble(t, lockserver.Config{DefaultLeaseTTL: 12 * time.Second}, func(t *testing.T, b *Backend, _ *network) {
		if g := mustAcquire(t, b, lock("k")); g.TTL != 12*time.Second {
			t.Errorf("TTL %v", g.TTL)
		}
	})
}

// The next holder of a key has it although the last one's process is frozen,
// and the last one's renewal is refused.
func TestALeaseThatRanOutIsLost(t *testing.T) {
	serverBubble(t, lockserver.Config{}, func(t *testing.T, b *Backend, _ *network) {
		req := lock("k")
		req.TTL = time.Second
		g := mustAcquire(t, b, req)
		began := time.Now()
		next := mustAcquire(t, b, lock("k"))
		if took := time.Since(began); took < time.Second || took > 1050*time.Millisecond {
			t.Errorf("handed over after %v", took)
		}
		wantErr(t, renewOnce(b, hold("k", g), time.Second, 1).Err, locker.ErrLost)
		wantErr(t, b.Release(context.Background(), hold("k", g)), locker.ErrNotHeld)
		mustRelease(t, b, hold("k", next))
	})
}

// A killed server is known within a round trip: a read is always pending.
func TestTheEndOfAServerIsKnownAtOnce(t *testing.T) {
	s := stocktest.New(stocktest.Config{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	b := newBackend(t, []string{l.Addr().String()})
	defer b.Close()
	g := mustAcquire(t, b, lock("k"))
	own := make(chan locker.Grant)
	first := mustAcquire(t, b, lock("own"))
	go func() { own <- mustAcquire(t, b, lock("own")) }()
	time.Sleep(20 * time.Millisecond) // real time: so that it mostly waits; it ends either way
	mustRelease(t, b, hold("own", first))
	h := <-own
	s.Close()
	began := time.Now()
	for _, g := range []locker.Grant{g, h} {
		for g.Session.Err() == nil {
			if time.Since(began) > 10*time.Second {
				t.Fatal("nobody noticed")
			}
			runtime.Gosched()
		}
		wantErr(t, g.Session.Err(), locker.ErrLost)
	}
}

// A hundred goroutines, on keys of their own and on shared ones, over TCP.
func TestFanIn(t *testing.T) {
	addr := startServer(t, lockserver.Config{})
	b := newBackend(t, []string{addr})
	defer b.Close()
	counters := make([]int, 3) // each guarded by the lock of its key
	var wg sync.WaitGroup
	const goroutines, rounds = 100, 20
	for i := range goroutines {
		wg.Go(func() {
			for range rounds {
				key := fmt.Sprint("own", i)
				g := mustAcquire(t, b, lock(key))
				if r := renewOnce(b, hold(key, g), time.Minute, 1); r.Err != nil {
					t.Error(r.Err)
				}
				mustRelease(t, b, hold(key, g))
			}
			for range rounds / 10 {
				key := fmt.Sprint("shared", i%len(counters))
				g := mustAcquire(t, b, lock(key))
				counters[i%len(counters)]++
				mustRelease(t, b, hold(key, g))
			}
		})
	}
	wg.Wait()
	if total := counters[0] + counters[1] + counters[2]; total != goroutines*rounds/10 {
		t.Errorf("counted %d, want %d", total, goroutines*rounds/10)
	}
}

// Many leases cost the backend one socket, no goroutine, and next to nothing.
func TestThousandsOfHolds(t *testing.T) {
	serverBubble(t, lockserver.Config{}, func(t *testing.T, b *Backend, n *network) {
		const holds = 2000
		renewals := make([]locker.Renewal, holds)
		mustAcquire(t, b, lock("first"))
		synctest.Wait()
		before := runtime.NumGoroutine()
		for i := range renewals {
			key := fmt.Sprint("key", i)
			renewals[i] = locker.Renewal{Hold: hold(key, mustAcquire(t, b, lock(key))), TTL: time.Minute, Attempt: 1}
		}
		synctest.Wait()
		if after := runtime.NumGoroutine(); after > before+10 { // others' come and go
			t.Errorf("%d goroutines more", after-before)
		}
		if n.dialled(where) != 1 {
			t.Errorf("%d connections", n.dialled(where))
		}
		time.Sleep(20 * time.Second)
		b.Renew(context.Background(), renewals)
		for _, r := range renewals {
			if r.Err != nil || r.Granted != time.Minute {
				t.Fatalf("%s: %v, %v", r.Key, r.Granted, r.Err)
			}
		}
		time.Sleep(50 * time.Second)
		for _, r := range renewals {
			mustRelease(t, b, r.Hold)
		}
	})
}

func TestADrainingServer(t *testing.T) {
	s, err := lockserver.New(lockserver.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	b := newBackend(t, []string{l.Addr().String()})
	defer b.Close()
	g := mustAcquire(t, b, lock("k"))
	down := make(chan error)
	go func() { down <- s.Shutdown(context.Background()) }()
	for {
		_, err := b.Acquire(context.Background(), try("other"))
		if errors.Is(err, locker.ErrUnavailable) {
			break
		}
		if err != nil && !errors.Is(err, locker.ErrLocked) {
			t.Fatal(err)
		}
	}
	if g.Session.Err() == nil { // it lasts until its holder lets go
		b.Release(context.Background(), hold("k", g)) //nolint:errcheck // the server may be gone
	}
	b.Close()
	if err := <-down; err != nil {
		t.Error(err)
	}
}

// More requests than fit into the buffers of the kernel, to a server that does
// not read any of them: callers must be free again when their context ends.
func TestNobodyHangsInAWriteToAFrozenServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // nobody accepts; the kernel does
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	b := newBackend(t, []string{l.Addr().String()})
	defer b.Close()
	renewals := make([]locker.Renewal, 50000)
	for i := range renewals {
		key := fmt.Sprintf("%s%d", strings.Repeat("k", 200), i)
		renewals[i] = locker.Renewal{Hold: locker.Hold{Key: key}, TTL: time.Minute, Attempt: 1}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { b.Renew(ctx, renewals) })
	for range 10 {
		wg.Go(func() {
			_, err := b.Acquire(ctx, lock("k"))
			wantErr(t, err, context.DeadlineExceeded)
		})
	}
	wg.Wait()
	// Who hangs in a write is freed by the end of the connection, which the
	// renewals would then have ended by.
	for _, r := range renewals {
		if !errors.Is(r.Err, context.DeadlineExceeded) {
			t.Fatalf("renewal: %v", r.Err)
		}
	}
}

// The same to a server that answers.
func TestABurstOfRenewalsOverTCP(t *testing.T) {
	addr := startServer(t, lockserver.Config{})
	b := newBackend(t, []string{addr})
	defer b.Close()
	renewals := make([]locker.Renewal, 3000)
	var wg sync.WaitGroup
	for i := range renewals {
		wg.Go(func() {
			key := fmt.Sprintf("%s%d", strings.Repeat("k", 200), i)
			renewals[i] = locker.Renewal{Hold: hold(key, mustAcquire(t, b, try(key))), TTL: time.Minute, Attempt: 1}
		})
	}
	wg.Wait()
	b.Renew(context.Background(), renewals)
	for _, r := range renewals {
		if r.Err != nil || r.Granted != time.Minute {
			t.Fatalf("renewed for %v, %v", r.Granted, r.Err)
		}
	}
}

// What one lock and unlock allocates: nothing here, a lease in the server.
func TestAPairAllocatesNothingInTheClient(t *testing.T) {
	addr := startServer(t, lockserver.Config{})
	b := newBackend(t, []string{addr})
	defer b.Close()
	allocs := testing.AllocsPerRun(1000, func() {
		mustRelease(t, b, hold("k", mustAcquire(t, b, lock("k"))))
	})
	if allocs > 3 { // under the race detector, pools forget on purpose
		t.Errorf("%v allocations", allocs)
	}
}
