//go:build unix

package once

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
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
	"github.com/distributed-go/distributed/once"
)

var (
	sessions = size.New("sessions", 40, 1000, "sessions that wait for one result")
	handouts = size.New("handouts", 1, 5, "times to hand one out")
)

// crowdProcesses share the sessions.
const crowdProcesses = 4

type crowdArgs struct {
	Addr    string
	Clients int
}

// A crowd is a process with many clients, each with a session of its own.
type crowd struct {
	clients []*locker.Client
	all     sync.WaitGroup

	mu      sync.Mutex
	at      []int64 // when calls returned; guarded by mu, as all below
	ended   int64   // when the function was about to return
	failure error
}

// A crowdTask is what all clients do with a key.
type crowdTask struct {
	Key   string
	Go    string // the file that a function, or the first holder, waits for
	Queue bool   // take the lock and release it, one after another
}

// A crowdReport says when all had what they waited for.
type crowdReport struct {
	At    []int64
	Ended int64
}

func crowdRole(c *proc.Child) error {
	var args crowdArgs
	if err := c.Args(&args); err != nil {
		return err
	}
	w := new(crowd)
	for range args.Clients {
		b, err := newBackend(args.Addr, true, func(string, string) {})
		if err != nil {
			return err
		}
		w.clients = append(w.clients, locker.New(b, locker.WithLogger(slog.New(slog.DiscardHandler))))
	}
	c.Handle("begin", proc.Handle(func(t crowdTask) (struct{}, error) {
		for _, client := range w.clients {
			w.all.Go(func() { w.note(w.call(client, t)) })
		}
		return struct{}{}, nil
	}))
	c.Handle("end", proc.Handle(func(struct{}) (crowdReport, error) {
		w.all.Wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		r := crowdReport{w.at, w.ended}
		w.at, w.ended = nil, 0
		return r, w.failure
	}))
	if err := c.Serve(nil); err != nil {
		return err
	}
	var errs []error
	for _, client := range w.clients {
		errs = append(errs, client.Close())
	}
	return errors.Join(errs...)
}

func (w *crowd) note(err error) {
	at := monotonic()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.at = append(w.at, at)
	w.failure = errors.Join(w.failure, err)
}

// wait is the work of who is first.
func (w *crowd) wait(path string) {
	await(path)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = monotonic()
}

func (w *crowd) call(c *locker.Client, t crowdTask) error {
	if t.Queue {
		l, err := c.Acquire(context.Background(), t.Key)
		if err != nil {
			return err
		}
		if t.Go != "" {
			w.wait(t.Go)
		}
		return l.Release(context.Background())
	}
	v, _, err := once.NewGroup[string](c, groupName).Do(context.Background(), t.Key, func(context.Context) (string, error) {
		if t.Go == "" {
			return "", errors.New("a second function runs")
		}
		w.wait(t.Go)
		return t.Key, nil
	})
	if err == nil && v != t.Key {
		err = fmt.Errorf("got %q, want %q", v, t.Key)
	}
	return err
}

// TestHandOut hands one result to a thousand sessions that wait for it: by one put,
// which answers them all. Beside it a thousand sessions get a lock, one by one.
func TestHandOut(t *testing.T) {
	n := sessions.Get() / crowdProcesses * crowdProcesses
	table := figures.NewTable("sessions", "", "times", "the last has it after ms", "the one in the middle", "puts", "answers with a value", "grants", "releases")
	for _, c := range []struct {
		name         string
		gated, queue bool
	}{
		{"a result of a Group", false, false},
		{"a result, frames counted", true, false},
		{"a lock, one after another", false, true},
	} {
		h := newHandOut(t, n, c.gated)
		var last, middle figures.Sample
		for i := range handouts.Get() {
			l, m := h.once(crowdTask{Key: fmt.Sprintf("k%d", i), Queue: c.queue})
			last, middle = append(last, l), append(middle, m)
		}
		if h.gate == nil {
			table.Row(n, c.name, handouts.Get(), last.String(), middle.String())
			continue
		}
		counts, _ := h.gate.taken()
		times := handouts.Get()
		for what, want := range map[string]int{"put": 1, "put ok": 1, "join": n + 1, "join ok": 1, "join value": n, "r": 1} {
			if counts[what] != want*times {
				t.Error(campaign.Violationf("frames", "%d times %q, want %d: %v", counts[what], what, want*times, counts))
			}
		}
		table.Row(n, c.name, times, last.String(), middle.String(), counts["put"]/times, counts["join value"]/times, counts["join ok"]/times, counts["r"]/times)
	}
	campaign.Show(t, table)
}

// A handOut is one process that runs the function, and a crowd that waits.
type handOut struct {
	t        *testing.T
	n        int
	observer *distributed.Client
	gate     *gate // nil if nothing is counted
	leader   *proc.Process
	crowd    []*proc.Process
	dir      string
}

func newHandOut(t *testing.T, n int, gated bool) *handOut {
	t.Helper()
	s := startServer(t, "")
	h := &handOut{t: t, n: n, dir: t.TempDir()}
	addr := s.args.Addr
	if gated {
		h.gate = startGate(t, addr)
		addr = h.gate.addr()
	}
	var err error
	h.observer, err = distributed.Open("dflockd://" + s.args.Addr)
	assert.Sure(t, err)
	t.Cleanup(func() { _ = h.observer.Close() }) // the server may be gone
	h.leader = proc.Start(t, "crowd", crowdArgs{addr, 1}, nil)
	for range crowdProcesses {
		h.crowd = append(h.crowd, proc.Start(t, "crowd", crowdArgs{addr, n / crowdProcesses}, nil))
	}
	return h
}

// once hands one key out, and returns after which times, in ms, the last and the one
// in the middle had it.
func (h *handOut) once(task crowdTask) (last, middle float64) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), *limit)
	defer cancel()
	lead := task
	lead.Go = filepath.Join(h.dir, task.Key)
	assert.Sure(h.t, h.leader.Call(ctx, "begin", lead, nil))
	h.await(ctx, task.Key, 1, 0)
	for _, p := range h.crowd {
		assert.Sure(h.t, p.Call(ctx, "begin", task, nil))
	}
	h.await(ctx, task.Key, 1, h.n)
	assert.Sure(h.t, touch(lead.Go))
	var r crowdReport
	if err := h.leader.Call(ctx, "end", struct{}{}, &r); err != nil {
		h.t.Error(campaign.Violationf("failure", "%v", err))
	}
	ended := r.Ended
	var sample figures.Sample
	for _, p := range h.crowd {
		var r crowdReport
		if err := p.Call(ctx, "end", struct{}{}, &r); err != nil {
			h.t.Error(campaign.Violationf("failure", "%v", err))
			return 0, 0
		}
		for _, at := range r.At {
			sample = append(sample, float64(at-ended)/1e6)
		}
	}
	if len(sample) != h.n {
		h.t.Errorf("%d calls returned, want %d", len(sample), h.n)
	}
	return slices.Max(sample), sample.Median()
}

// await waits until the server says that a key has so many holders and waiters.
func (h *handOut) await(ctx context.Context, key string, holders, waiters int) {
	h.t.Helper()
	for {
		r, err := h.observer.Inspect(ctx)
		assert.Sure(h.t, err)
		for _, k := range r.Keys {
			if (k.Key == key || k.Key == once.GroupPrefix+groupName+"/"+key) && k.Holders == holders && k.Waiters == waiters {
				return
			}
		}
		time.Sleep(time.Millisecond) // real time: of other processes
	}
}
