//go:build unix

package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/distributed-go/distributed"
	"github.com/distributed-go/distributed/internal/figures"
	"github.com/distributed-go/distributed/locker"
)

var (
	killRuns    = newSize("kill-runs", 8, 20, "servers to kill under a holder")
	freezeRuns  = newSize("freeze-runs", 1, 5, "servers to freeze for each TTL, at once")
	longestLoss = 2 * time.Second
)

// slack is how much later than at its deadline the channel of a lease may close.
// What matters for exclusion is Check, which gets none of it; a machine that runs
// other tests at the same time, with the race detector, wakes goroutines late.
func slack() time.Duration {
	if *full {
		return 50 * time.Millisecond
	}
	return time.Second
}

// clockReading is how far apart the instant that Deadline returns and the one
// that Check compares with may be: they are read off two clocks, one after the
// other.
const clockReading = 50 * time.Microsecond

// TestMeasureLossKilled kills servers and takes the time until the holder
// knows.
func TestMeasureLossKilled(t *testing.T) {
	var took figures.Sample
	for range killRuns.get() {
		took = append(took, killUnderHolder(t).Seconds()*1000)
	}
	table := figures.NewTable("server killed", "runs", "median ms", "least", "greatest")
	table.Row("until Lost closes", len(took), took.Median(), took.Quantile(0), took.Quantile(1))
	show(t, table)
}

func killUnderHolder(t *testing.T) time.Duration {
	t.Helper()
	s := startServer(t)
	c := open(t, s.url(), locker.WithTTL(10*time.Second))
	lease, err := c.Acquire(t.Context(), "key")
	must(t, err)
	lost := lease.Lost()
	// Real time: the kill is to fall anywhere into what the client does.
	time.Sleep(rand.N(20 * time.Millisecond))
	must(t, lease.Check())

	began := time.Now()
	must(t, s.Signal(syscall.SIGKILL))
	select {
	case <-lost:
	case <-time.After(longestLoss):
		t.Fatalf("the lease was not lost within %v", longestLoss)
	}
	took := time.Since(began)
	if err := lease.Check(); !errors.Is(err, locker.ErrLost) {
		t.Errorf("Check after the loss: %v", err)
	}
	if err := lease.Release(t.Context()); !errors.Is(err, locker.ErrLost) {
		t.Errorf("Release after the loss: %v", err)
	}
	return took
}

// TestMeasureLossFrozen stops servers, whose connections stay open and silent,
// and sees that no holder believes for longer than its deadline.
func TestMeasureLossFrozen(t *testing.T) {
	ttls := []time.Duration{time.Second}
	if *full {
		ttls = append(ttls, 4*time.Second, 10*time.Second)
	}
	var wg sync.WaitGroup
	frozen := make([][]*frozenHold, len(ttls))
	for i, ttl := range ttls {
		for range freezeRuns.get() {
			h := acquireToFreeze(t, ttl)
			frozen[i] = append(frozen[i], h)
			wg.Go(h.run)
		}
	}
	wg.Wait()
	table := figures.NewTable("server frozen, TTL", "runs", "Lost after freezing, s", "Lost after the deadline, ms", "latest",
		"Check fails after the deadline, ms", "latest")
	for i, ttl := range ttls {
		var after, late, checked figures.Sample
		for _, h := range frozen[i] {
			h.judge(t)
			after = append(after, h.lost.Sub(h.frozen).Seconds())
			late = append(late, h.lost.Sub(h.deadline).Seconds()*1000)
			checked = append(checked, h.failed.Sub(h.deadline).Seconds()*1000)
		}
		table.Row(ttl, len(after), after, late.Median(), late.Quantile(1), checked.Median(), checked.Quantile(1))
	}
	show(t, table)
}

// A frozenHold is a lease whose server stops answering.
type frozenHold struct {
	server *lockServer
	lease  *distributed.Lease

	frozen   time.Time // after the server was stopped
	deadline time.Time // that the lease reported then
	lost     time.Time // Lost closed
	believed time.Time // the latest instant before a Check that returned nil
	failed   time.Time // the first instant after a Check that did not
	err      error
}

func acquireToFreeze(t *testing.T, ttl time.Duration) *frozenHold {
	t.Helper()
	s := startServer(t)
	c := open(t, s.url(), locker.WithTTL(ttl))
	lease, err := c.Acquire(t.Context(), "key")
	must(t, err)
	return &frozenHold{server: s, lease: lease}
}

// run freezes the server at some instant between two renewals and watches the
// lease until it is lost.
func (h *frozenHold) run() {
	lost := h.lease.Lost()
	time.Sleep(rand.N(h.lease.TTL())) // real time, as all of this: another process is stopped
	if h.err = h.server.Freeze(); h.err != nil {
		return
	}
	h.frozen = time.Now()
	// An answer that was on its way may still move the deadline, so it is only
	// read when half of the time is over.
	time.Sleep(time.Until(h.lease.Deadline()) / 2)
	h.deadline = deadlineOf(h.lease)

	ctx, cancel := context.WithDeadline(context.Background(), h.deadline.Add(5*time.Second))
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { h.check(ctx) })
	select {
	case <-lost:
		h.lost = time.Now()
	case <-ctx.Done():
		h.err = fmt.Errorf("not lost 5 s after the deadline")
	}
	wg.Wait()
}

// deadlineOf reads a deadline. Each reading may be early by as long as the
// goroutine was held up in it, so that the latest of many is right.
func deadlineOf(l *distributed.Lease) time.Time {
	latest := l.Deadline()
	for range 50 {
		if d := l.Deadline(); d.After(latest) {
			latest = d
		}
	}
	return latest
}

// check asks the lease again and again until it says that it is lost.
func (h *frozenHold) check(ctx context.Context) {
	for ctx.Err() == nil {
		before := time.Now()
		if h.lease.Check() != nil {
			h.failed = time.Now()
			return
		}
		h.believed = before
		time.Sleep(500 * time.Microsecond)
	}
}

func (h *frozenHold) judge(t *testing.T) {
	t.Helper()
	h.server.Kill()
	if h.err != nil {
		t.Fatalf("TTL %v: %v", h.lease.TTL(), h.err)
	}
	if late := h.lost.Sub(h.deadline); late > slack() {
		t.Errorf("TTL %v: Lost closed %v after the deadline, want at most %v", h.lease.TTL(), late, slack())
	}
	if late := h.believed.Sub(h.deadline); late > clockReading {
		t.Errorf("TTL %v: Check still returned nil %v after the deadline", h.lease.TTL(), late)
	}
	if h.failed.IsZero() {
		t.Errorf("TTL %v: Check never failed", h.lease.TTL())
	}
	if err := h.lease.Err(); !errors.Is(err, locker.ErrLost) {
		t.Errorf("TTL %v: Err is %v, want one that matches ErrLost", h.lease.TTL(), err)
	}
}
