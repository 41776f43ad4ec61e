//go:build unix

package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distributed-go/distributed"
	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/overlap"
	"github.com/distributed-go/distributed/e2e/internal/proxy"
	"github.com/distributed-go/distributed/e2e/internal/size"
	"github.com/distributed-go/distributed/internal/figures"
	"github.com/distributed-go/distributed/locker"
)

var stormCuts = size.New("storm-cuts", 3, 40, "cuts of the connection of each client while they fight for keys")

const (
	// stormClients have a connection each, and stormTasks goroutines each.
	stormClients, stormTasks = 16, 3

	// stormKeys are what they fight for.
	stormKeys = 6

	// stormGap is the least time from cut to cut of a client. One that is cut
	// more often makes pauses before it comes back, and then little is cut.
	stormGap = 1100 * time.Millisecond
)

// TestMeasureCutStorm cuts connections at random instants while many goroutines
// of several clients fight for a few keys, and some change their minds. No two
// hold at a time, no lease is lost, and nothing is left at the server.
func TestMeasureCutStorm(t *testing.T) {
	s := startServer(t)
	storm := &cutStorm{holds: make(map[string][]overlap.Hold)}
	for i := range stormClients {
		p := proxy.Start(t, s.addr)
		p.SetDelay(time.Duration(i%4) * time.Millisecond) // so that much is on its way when it is cut
		storm.proxies = append(storm.proxies, p)
		storm.clients = append(storm.clients, open(t, fmt.Sprintf("dflockd://%s?fences=1", p.Addr()), locker.WithTTL(cutTTL)))
	}
	began := time.Now()
	var wg sync.WaitGroup
	for i, c := range storm.clients {
		for g := range stormTasks {
			wg.Go(func() { storm.fight(t.Context(), c, fmt.Sprintf("%d.%d", i, g)) })
		}
	}
	var cutting sync.WaitGroup
	for _, p := range storm.proxies {
		cutting.Go(func() {
			for range stormCuts.Get() {
				time.Sleep(stormGap + rand.N(stormGap/2)) // real time, as all of this
				p.Cut(proxy.How(rand.IntN(3)), max(0, rand.N(100*time.Millisecond)-50*time.Millisecond))
			}
		})
	}
	cutting.Wait()
	storm.over.Store(true)
	wg.Wait()
	took := time.Since(began)

	observer := open(t, s.url())
	var holders, waiters int
	eventually(t, stuck, func() string {
		var err error
		if holders, waiters, err = busy(t.Context(), observer); err != nil || holders+waiters != 0 {
			return fmt.Sprintf("the server reports %d holders and %d waiters, %v", holders, waiters, err)
		}
		return ""
	})
	for _, problem := range storm.problems {
		t.Error(problem)
	}
	conflicts, holds := 0, 0
	for key, h := range storm.holds {
		holds += len(h)
		for _, c := range overlap.Find(h) {
			conflicts++
			t.Errorf("%s: %v", key, c)
		}
	}
	table := figures.NewTable("cut while fighting", "cuts", "holds", "cancelled", "leases lost and other errors", "overlaps, fences that did not grow",
		"left at the server", "s")
	table.Row(fmt.Sprintf("%d clients, %d goroutines each, %d keys", stormClients, stormTasks, stormKeys), stormClients*stormCuts.Get(), holds, storm.cancelled,
		len(storm.problems), conflicts, holders+waiters, took.Seconds())
	campaign.Show(t, table)
}

// A cutStorm is clients that fight, and what they wrote down.
type cutStorm struct {
	clients []*distributed.Client
	proxies []*proxy.Proxy
	over    atomic.Bool

	mu        sync.Mutex
	holds     map[string][]overlap.Hold // by key; guarded by mu
	cancelled int                       // guarded by mu
	problems  []string                  // guarded by mu
}

// fight acquires and releases until the storm is over.
func (s *cutStorm) fight(ctx context.Context, c *distributed.Client, who string) {
	for !s.over.Load() && ctx.Err() == nil {
		s.hold(ctx, c, fmt.Sprint("key", rand.IntN(stormKeys)), who)
	}
}

// hold holds a key once, unless the patience for it ends before.
func (s *cutStorm) hold(ctx context.Context, c *distributed.Client, key, who string) {
	patience := 3 * cutTTL
	if rand.IntN(5) == 0 {
		patience = rand.N(20 * time.Millisecond)
	}
	wait, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	l, err := c.Acquire(wait, key)
	if err != nil {
		s.failed(fmt.Sprintf("%s acquires %s", who, key), err, patience < cutTTL && errors.Is(err, context.DeadlineExceeded))
		return
	}
	h := overlap.Hold{Who: who, Enter: monotonic()}
	h.Fence, _ = l.Fence()
	time.Sleep(rand.N(2 * time.Millisecond)) // real time, as all of this
	err = l.Check()
	h.Exit = monotonic()
	s.mu.Lock()
	s.holds[key] = append(s.holds[key], h)
	s.mu.Unlock()
	if err == nil {
		err = l.Release(context.WithoutCancel(ctx))
	}
	if err != nil && !errors.Is(err, locker.ErrUnavailable) { // which goes on in the background
		s.failed(fmt.Sprintf("%s holds %s", who, key), err, false)
	}
}

// failed notes an error, or a cancellation that was meant.
func (s *cutStorm) failed(what string, err error, meant bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if meant {
		s.cancelled++
		return
	}
	s.problems = append(s.problems, fmt.Sprintf("%s: %v", what, err))
}
