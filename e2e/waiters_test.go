//go:build unix

package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/distributed-go/distributed"
	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/size"
	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/internal/figures"
	"github.com/distributed-go/distributed/internal/proc"
	"github.com/distributed-go/distributed/locker"
)

var waits = size.New("waits", 1000, 10_000, "goroutines that wait for one key over one connection")

// TestMeasureWaiters has very many goroutines of one client wait for one key, and
// sees that they are served in their order: all of them, and those that are left
// after half of them, any half, were cancelled.
func TestMeasureWaiters(t *testing.T) {
	table := figures.NewTable("waiting for one key", "waiters", "cancelled", "sockets", "goroutines beside the waiters'", "queued in s",
		"cancelled in s", "served in s", "owner changes/s", "served out of order", "left at the server")
	for _, cancelled := range []bool{false, true} {
		s := startServer(t)
		observer := open(t, s.url())
		n := waits.Get()
		p := proc.Start(t, "crowd", crowdArgs{URL: s.url(), Waits: n}, nil)
		var r crowdReport
		assert.Sure(t, p.Call(t.Context(), "run", cancelled, &r))
		holders, left, err := busy(t.Context(), observer)
		assert.Sure(t, err)
		for _, problem := range r.Problems {
			t.Error(problem)
		}
		if holders+left != 0 {
			t.Errorf("%d holders and %d waiters are left at the server", holders, left)
		}
		if r.During.Sockets > 1 {
			t.Errorf("%d sockets for %d waiters", r.During.Sockets, n)
		}
		beside := r.During.Goroutines - n
		if beside > r.Before.Goroutines+4 {
			t.Errorf("%d goroutines beside those of %d waiters, %d before", beside, n, r.Before.Goroutines)
		}
		what := "all served"
		if cancelled {
			what = "half cancelled"
		}
		table.Row(what, n, r.Cancelled, r.During.Sockets, beside, r.Queueing.Seconds(), r.Cancelling.Seconds(), r.Serving.Seconds(),
			float64(n-r.Cancelled)/r.Serving.Seconds(), r.OutOfOrder, holders+left)
	}
	campaign.Show(t, table)
}

type crowdArgs struct {
	URL   string
	Waits int
}

// A crowdReport is what became of a crowd.
type crowdReport struct {
	Before, During                proc.Usage
	Queueing, Cancelling, Serving time.Duration
	Cancelled, OutOfOrder         int
	Problems                      []string
}

// A crowd is many goroutines that wait for one key.
type crowd struct {
	client  *distributed.Client
	members []*member
	all     sync.WaitGroup

	mu     sync.Mutex
	served []int // members, in the order in which they were; guarded by mu
	fence  uint64
	report crowdReport // guarded by mu while members wait
}

// A member is one goroutine of a crowd.
type member struct {
	ctx    context.Context
	cancel context.CancelFunc
	ended  chan struct{}
	err    error // how its wait ended; set before ended is closed
}

func crowdRole(c *proc.Child) error {
	var args crowdArgs
	if err := c.Args(&args); err != nil {
		return err
	}
	client, err := distributed.Open(args.URL, locker.WithTTL(time.Minute))
	if err != nil {
		return err
	}
	w := &crowd{client: client, members: make([]*member, args.Waits)}
	c.Handle("run", proc.Handle(w.run))
	if err := c.Serve(nil); err != nil {
		return err
	}
	return client.Close()
}

func (w *crowd) run(cancelHalf bool) (crowdReport, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	first, err := w.client.Acquire(ctx, "key")
	if err != nil {
		return crowdReport{}, err
	}
	w.fence, _ = first.Fence()
	w.report.Before = proc.Measure(false)
	began := time.Now()
	if err := w.gather(ctx); err != nil {
		return crowdReport{}, err
	}
	w.report.Queueing = time.Since(began)
	w.report.During = proc.Measure(false)
	began = time.Now()
	left := w.members
	if cancelHalf {
		left = w.disperse()
		if err := w.untilWaiting(ctx, len(left)); err != nil {
			return crowdReport{}, err
		}
		w.report.Cancelling = time.Since(began)
	}
	began = time.Now()
	if err := first.Release(ctx); err != nil {
		return crowdReport{}, err
	}
	w.all.Wait()
	w.report.Serving = time.Since(began)
	w.judge(left)
	return w.report, nil
}

// gather has the members wait, each once the one before is known to: so their
// order is known.
func (w *crowd) gather(ctx context.Context) error {
	for i := range w.members {
		m := &member{ended: make(chan struct{})}
		m.ctx, m.cancel = context.WithCancel(ctx)
		w.members[i] = m
		w.all.Go(func() { w.wait(i, m) })
		if err := w.untilWaiting(ctx, i+1); err != nil {
			return err
		}
	}
	return nil
}

// untilWaiting returns once so many wait at the server.
func (w *crowd) untilWaiting(ctx context.Context, n int) error {
	for {
		_, waiters, err := busy(ctx, w.client)
		if err != nil || waiters == n {
			return err
		}
	}
}

func (w *crowd) wait(i int, m *member) {
	defer close(m.ended)
	l, err := w.client.Acquire(m.ctx, "key")
	if m.err = err; err != nil {
		return
	}
	w.mu.Lock()
	w.served = append(w.served, i)
	if f, _ := l.Fence(); f <= w.fence {
		w.problem("member %d has fence %d after %d", i, f, w.fence)
	} else {
		w.fence = f
	}
	w.mu.Unlock()
	m.err = l.Release(context.WithoutCancel(m.ctx))
}

// disperse cancels half of the members and returns the others.
func (w *crowd) disperse() (left []*member) {
	unlucky := rand.Perm(len(w.members))[:len(w.members)/2]
	for _, i := range unlucky {
		w.members[i].cancel()
	}
	gone := make(map[*member]bool)
	for _, i := range unlucky {
		m := w.members[i]
		if <-m.ended; !errors.Is(m.err, context.Canceled) {
			w.problem("member %d was cancelled and says %v", i, m.err)
		}
		gone[m] = true
	}
	w.report.Cancelled = len(gone)
	return slices.DeleteFunc(slices.Clone(w.members), func(m *member) bool { return gone[m] })
}

// judge sees that those who were left were served in order.
func (w *crowd) judge(left []*member) {
	if len(w.served) != len(left) {
		w.problem("%d were served, want %d", len(w.served), len(left))
	}
	for i := range w.served {
		if i > 0 && w.served[i] < w.served[i-1] {
			w.report.OutOfOrder++
		}
	}
	if w.report.OutOfOrder > 0 {
		w.problem("%d were served before one that had waited for longer", w.report.OutOfOrder)
	}
	for _, m := range left {
		m.cancel()
		if m.err != nil {
			w.problem("a member that was left: %v", m.err)
		}
	}
}

// problem notes what is wrong, as often as anybody reads it.
func (w *crowd) problem(format string, args ...any) {
	if len(w.report.Problems) < 20 {
		w.report.Problems = append(w.report.Problems, fmt.Sprintf(format, args...))
	}
}
