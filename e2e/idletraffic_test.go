//go:build unix

package e2e

import (
	"testing"
	"time"

	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/proxy"
	"github.com/distributed-go/distributed/e2e/internal/size"
	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/internal/figures"
	"github.com/distributed-go/distributed/internal/proc"
)

var trafficSeconds = size.New("traffic", 8, 30, "seconds for which idle traffic is counted")

const (
	// fewHeld is what many locks are compared with.
	fewHeld = 10

	// trafficTTL lets many renewals fall into the time, if there are any.
	trafficTTL = 10 * time.Second
)

// TestMeasureIdleTraffic counts the bytes that go over while few and many locks
// are held and nothing is done with them: as many for many as for few.
func TestMeasureIdleTraffic(t *testing.T) {
	if !size.Full() {
		t.Parallel()
	}
	s := startServer(t)
	few, many := holdThroughProxy(t, s, fewHeld, trafficTTL), holdThroughProxy(t, s, heldLocks.Get(), trafficTTL)
	window := time.Duration(trafficSeconds.Get()) * time.Second
	began := time.Now()
	time.Sleep(window) // real time, and of other processes

	table := figures.NewTable("held idle", "s", "bytes/s up", "down", "bytes in all")
	for _, k := range []*idleKeeper{few, many} {
		c := k.proxy.Counts()
		k.up, k.down = c.Up-k.before.Up, c.Down-k.before.Down
		s := time.Since(began).Seconds()
		table.Row(k.locks, s, float64(k.up)/s, float64(k.down)/s, k.up+k.down)
		if c.Connections != k.before.Connections {
			t.Errorf("%d locks: the connection was replaced", k.locks)
		}
	}
	// Of what goes over at intervals one may have one more, and longer numbers.
	if most := 2*(few.up+few.down) + 500; many.up+many.down > most {
		t.Errorf("%d bytes with %d locks, %d with %d: want at most %d", many.up+many.down, many.locks, few.up+few.down, few.locks, most)
	}
	if few.up == 0 || few.down == 0 {
		t.Errorf("%d bytes up and %d down in %v: want some, or leases run out", few.up, few.down, window)
	}
	for _, k := range []*idleKeeper{few, many} {
		var took time.Duration
		assert.Sure(t, k.Call(t.Context(), "release", struct{}{}, &took))
	}
	campaign.Show(t, table)
}

// An idleKeeper is a process that holds locks over a connection whose bytes are
// counted.
type idleKeeper struct {
	*proc.Process
	proxy    *proxy.Proxy
	locks    int
	before   proxy.Counts
	up, down int64
}

func holdThroughProxy(t *testing.T, s *lockServer, n int, ttl time.Duration) *idleKeeper {
	t.Helper()
	k := &idleKeeper{proxy: proxy.Start(t, s.addr), locks: n}
	k.Process = proc.Start(t, "keeper", keeperArgs{URL: "dflockd://" + k.proxy.Addr(), TTL: ttl, Locks: n, Prefix: k.proxy.Addr()}, nil)
	var r heldReport
	assert.Sure(t, k.Call(t.Context(), "take", struct{}{}, &r))
	k.before = k.proxy.Counts()
	return k
}
