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
	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/size"
	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/internal/figures"
	"github.com/distributed-go/distributed/locker"
)

var (
	killRuns    = size.New("kill-runs", 8, 20, "servers to kill under a holder")
	freezeRuns  = size.New("freeze-runs", 1, 5, "servers to stop for each TTL and kind, at once")
	longestLoss = 5 * time.Second
)

// slack is how much later than at its deadline the channel of a lease may close.
// What matters for exclusion is Check, which gets none of it; a machine that runs
// other tests at the same time, with the race detector, wakes goroutines late.
func slack() time.Duration {
	if size.Full() {
		return 50 * time.Millisecond
	}
	return time.Second
}

// clockReading is how far apart the instant that Deadline returns and the one
// that Check compares with may be: they are read off two clocks, one after the
// other.
const clockReading = 50 * time.Microsecond

// TestMeasureLossKilled kills servers and takes the time until the holder
// knows: with the base protocol at once, because the connection was the lease;
// in session mode when there is a server again, which does not know it.
func TestMeasureLossKilled(t *testing.T) {
	table := figures.NewTable("server killed, until Lost closes", "runs", "median ms", "least", "greatest")
	for _, again := range []bool{false, true} {
		var took figures.Sample
		for range killRuns.Get() {
			took = append(took, ms(killUnderHolder(t, again)))
		}
		what := "base protocol"
		if again {
			what = "session mode, server started again"
		}
		table.Row(what, len(took), took.Median(), took.Quantile(0), took.Quantile(1))
	}
	campaign.Show(t, table)
}

// killUnderHolder kills a server, starts it again if the client is in session
// mode, and returns how long after the kill, or after the new server was ready,
// the lease was lost.
func killUnderHolder(t *testing.T, session bool) time.Duration {
	t.Helper()
	s := startServer(t)
	url := s.baseURL()
	if session {
		url = s.url()
	}
	c := open(t, url, locker.WithTTL(time.Minute))
	lease, err := c.Acquire(t.Context(), "key")
	assert.Sure(t, err)
	lost := lease.Lost()
	// Real time: the kill is to fall anywhere into what the client does.
	time.Sleep(rand.N(20 * time.Millisecond))
	assert.Sure(t, lease.Check())

	began := time.Now()
	assert.Sure(t, s.Signal(syscall.SIGKILL))
	if session {
		s.Kill()
		assert.Sure(t, lease.Check())
		startServerAt(t, s.addr)
		began = time.Now()
	}
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

// TestMeasureLossByDeadline stops servers, whose connections stay open and
// silent, and kills them for good, and sees that no holder believes for longer
// than its deadline.
func TestMeasureLossByDeadline(t *testing.T) {
	ttls := []time.Duration{time.Second}
	if size.Full() {
		ttls = append(ttls, 4*time.Second, 10*time.Second)
	}
	kinds := []struct {
		what string
		url  func(*lockServer) string
		stop func(*lockServer) error
	}{
		{"stopped, base protocol", (*lockServer).baseURL, func(s *lockServer) error { return s.Freeze() }},
		{"stopped, session mode", (*lockServer).url, func(s *lockServer) error { return s.Freeze() }},
		{"killed, session mode", (*lockServer).url, func(s *lockServer) error { return s.Signal(syscall.SIGKILL) }},
	}
	type group struct {
		what  string
		ttl   time.Duration
		holds []*frozenHold
	}
	var (
		wg     sync.WaitGroup
		groups []group
	)
	for _, k := range kinds {
		for _, ttl := range ttls {
			g := group{what: k.what, ttl: ttl}
			for range freezeRuns.Get() {
				h := acquireToFreeze(t, ttl, k.url)
				h.stop = k.stop
				g.holds = append(g.holds, h)
				wg.Go(h.run)
			}
			groups = append(groups, g)
		}
	}
	wg.Wait()
	table := figures.NewTable("server gone silent", "TTL", "runs", "Lost after that, s", "Lost after the deadline, ms", "latest",
		"Check fails after the deadline, ms", "latest")
	for _, g := range groups {
		var after, late, checked figures.Sample
		for _, h := range g.holds {
			h.judge(t)
			after = append(after, h.lost.Sub(h.frozen).Seconds())
			late = append(late, ms(h.lost.Sub(h.deadline)))
			checked = append(checked, ms(h.failed.Sub(h.deadline)))
		}
		table.Row(g.what, g.ttl, len(after), after, late.Median(), late.Quantile(1), checked.Median(), checked.Quantile(1))
	}
	campaign.Show(t, table)
}

// A frozenHold is a lease whose server stops answering.
type frozenHold struct {
	server *lockServer
	lease  *distributed.Lease
	stop   func(*lockServer) error

	frozen   time.Time // after the server was stopped
	deadline time.Time // that the lease reported then
	lost     time.Time // Lost closed
	believed time.Time // the latest instant before a Check that returned nil
	failed   time.Time // the first instant after a Check that did not
	err      error
}

func acquireToFreeze(t *testing.T, ttl time.Duration, url func(*lockServer) string) *frozenHold {
	t.Helper()
	s := startServer(t)
	c := open(t, url(s), locker.WithTTL(ttl))
	lease, err := c.Acquire(t.Context(), "key")
	assert.Sure(t, err)
	return &frozenHold{server: s, lease: lease}
}

// run stops the server at some instant between two renewals and watches the
// lease until it is lost.
func (h *frozenHold) run() {
	lost := h.lease.Lost()
	time.Sleep(rand.N(h.lease.TTL())) // real time, as all of this: another process is stopped
	if h.err = h.stop(h.server); h.err != nil {
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
