//go:build unix

package e2e

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/distributed-go/distributed"
	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/size"
	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/internal/figures"
	"github.com/distributed-go/distributed/internal/proc"
)

var cancels = size.New("cancels", 4000, 100_000, "acquisitions that are cancelled around their grant")

const (
	// cancellers is the number of client processes.
	cancellers = 4

	// settleTime is how long grants that nobody wants may take to be given
	// back. Their leases are longer, so that they do not just run out.
	settleTime = 10 * time.Second
	cancelTTL  = time.Minute
)

// TestMeasureCancel cancels acquisitions at instants around their grants, in
// several processes that share some keys, and sees that nothing is left: no
// holder and no waiter at the server, no goroutine and no file descriptor at
// either end.
func TestMeasureCancel(t *testing.T) {
	s := startServer(t)
	observer := open(t, s.url())
	first := nextFence(t, observer)
	_, _, err := busy(t.Context(), observer) // which has a connection of its own
	assert.Sure(t, err)
	before := usage(t, s.Process, true)

	n := cancels.Get() / cancellers
	processes := make([]*proc.Process, cancellers)
	for i := range processes {
		processes[i] = proc.Start(t, "canceller", cancellerArgs{Addr: s.addr, Name: fmt.Sprint("process", i), Acquisitions: n}, nil)
	}
	began := time.Now()
	r := runCancellers(t, processes)
	took := time.Since(began)
	var holders, waiters int
	settled := eventually(t, settleTime, func() string {
		var err error
		if holders, waiters, err = busy(t.Context(), observer); err != nil || holders+waiters > 0 {
			return fmt.Sprintf("the server reports %d holders and %d waiters, %v", holders, waiters, err)
		}
		return ""
	})
	// The server counts fences grant by grant, so this is what it granted.
	grants := int(nextFence(t, observer)-first) - 1

	for _, p := range processes {
		assert.Sure(t, p.Call(t.Context(), "close", struct{}{}, nil))
	}
	eventually(t, settleTime, func() string {
		if u := usage(t, s.Process, true); u.Goroutines > before.Goroutines || u.Files > before.Files {
			return fmt.Sprintf("the server has %d goroutines and %d files, and had %d and %d", u.Goroutines, u.Files, before.Goroutines, before.Files)
		}
		return ""
	})
	judgeCancels(t, r, grants)

	table := figures.NewTable("cancelled around the grant", "acquisitions", "granted", "cancelled before the grant", "cancelled with the grant in flight",
		"holders left", "waiters left", "s", "nothing left after ms")
	inFlight := grants - r.Granted
	table.Row("4 processes over TCP", r.Granted+r.Cancelled, r.Granted, r.Cancelled-inFlight, inFlight, holders, waiters, took.Seconds(), settled.Seconds()*1000)
	campaign.Show(t, table)
}

// TestBusySeesHoldersAndWaiters checks what the cancel test relies on.
func TestBusySeesHoldersAndWaiters(t *testing.T) {
	s := startServer(t)
	c, observer := open(t, s.url()), open(t, s.url())
	l, err := c.Acquire(t.Context(), "key")
	assert.Sure(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	waited := make(chan error)
	go func() {
		_, err := c.Acquire(ctx, "key")
		waited <- err
	}()
	expect := func(holders, waiters int) {
		t.Helper()
		eventually(t, settleTime, func() string {
			h, w, err := busy(t.Context(), observer)
			if err != nil || h != holders || w != waiters {
				return fmt.Sprintf("%d holders and %d waiters, %v; want %d and %d", h, w, err, holders, waiters)
			}
			return ""
		})
	}
	expect(1, 1)
	cancel()
	if err := <-waited; !errors.Is(err, context.Canceled) {
		t.Errorf("the cancelled acquisition: %v", err)
	}
	expect(1, 0)
	assert.Sure(t, l.Release(t.Context()))
	expect(0, 0)
}

// nextFence acquires a key of its own for its fence.
func nextFence(t *testing.T, c *distributed.Client) uint64 {
	t.Helper()
	l, err := c.Acquire(t.Context(), "fence")
	assert.Sure(t, err)
	f, ok := l.Fence()
	if !ok {
		t.Fatal("the server has no fences")
	}
	assert.Sure(t, l.Release(context.WithoutCancel(t.Context())))
	return f
}

func runCancellers(t *testing.T, processes []*proc.Process) cancelReport {
	t.Helper()
	reports := make([]cancelReport, len(processes))
	g, ctx := errgroup.WithContext(t.Context())
	for i, p := range processes {
		g.Go(func() error { return p.Call(ctx, "run", struct{}{}, &reports[i]) })
	}
	assert.Sure(t, g.Wait())
	sum := cancelReport{Errors: make(map[string]int)}
	for _, r := range reports {
		sum.add(r)
	}
	return sum
}

func judgeCancels(t *testing.T, r cancelReport, grants int) {
	t.Helper()
	for text, n := range r.Errors {
		t.Errorf("%d times neither granted nor cancelled: %s", n, text)
	}
	if want := cancels.Get() / cancellers * cancellers; r.Granted+r.Cancelled != want {
		t.Errorf("%d were granted and %d cancelled, want %d together", r.Granted, r.Cancelled, want)
	}
	// A test that never hits the instant shows nothing.
	if inFlight := grants - r.Granted; r.Granted == 0 || r.Cancelled == 0 || inFlight < 0 || inFlight > r.Cancelled || inFlight == 0 && r.Cancelled > 1000 {
		t.Errorf("%d granted, %d cancelled and %d of those with the grant in flight: not all around the grant", r.Granted, r.Cancelled, inFlight)
	}
}
