//go:build unix

package faults

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distributed-go/distributed"
	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/witness"
	"github.com/distributed-go/distributed/internal/proc"
	"github.com/distributed-go/distributed/locker"
)

// workerArgs say what a worker does: each of its lanes acquires, holds,
// releases, again and again.
type workerArgs struct {
	Name    string
	URL     string
	Records string // the file
	Seed    uint64
	TTL     time.Duration

	Keys   []string // lane i works on the key i, modulo their number
	Lanes  int
	Random bool // each acquisition chooses one of the keys

	// A hold lasts for a random time between these; for ever if both are 0.
	HoldMin, HoldMax time.Duration
	// Pause is the longest random time between two holds.
	Pause time.Duration
	// Look is the time from one Check to the next, 0 is a millisecond. Tell is
	// how often a holder writes down that it believes, 0 is 10 ms.
	Look, Tell time.Duration
	// Store is the address of what the holders write to, after each Check and
	// a pause as long as Look; none if empty.
	Store string
	// Patience is after which random time at most an acquisition is given up;
	// 0 is never.
	Patience time.Duration
	// Once ends a lane after its first hold.
	Once bool
	// Anchor is a key that the worker holds from the beginning to the end, so
	// that its client has something to go on for; none if empty.
	Anchor string
}

// anchor is what the keys of anchors begin with.
const anchor = "anchor"

// A workerReport is what a worker answers when it is asked.
type workerReport struct {
	Holds   int // that lanes have now, and Check says so
	Fences  []uint64
	Entered int // acquisitions that were granted, ever
	Lost    int
	GivenUp int
	Refused int // writes that the guard refused
}

// A worker is a process that holds locks.
type worker struct {
	workerArgs
	client   *distributed.Client
	recorder *witness.Recorder
	ctx      context.Context // ends when the worker is to stop
	wg       sync.WaitGroup

	entered, lost, givenUp, refused atomic.Int64
	failed                          atomic.Pointer[error]

	mu    sync.Mutex
	holds map[string]*distributed.Lease // guarded by mu; by lane
}

func workerRole(c *proc.Child) error {
	w := &worker{holds: make(map[string]*distributed.Lease)}
	if err := c.Args(&w.workerArgs); err != nil {
		return err
	}
	var err error
	if w.recorder, err = witness.OpenRecorder(w.Records); err != nil {
		return err
	}
	w.client, err = distributed.Open(w.URL, locker.WithTTL(w.TTL), locker.WithLogger(slog.New(slog.DiscardHandler)))
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	w.ctx = ctx
	if w.Anchor != "" {
		if _, err := w.client.Acquire(ctx, w.Anchor); err != nil {
			return err
		}
	}
	for i := range w.Lanes {
		l := &lane{worker: w, random: rand.New(rand.NewPCG(w.Seed, uint64(i)))}
		l.Lane = witness.Lane{
			Recorder: w.recorder, Who: fmt.Sprintf("%s.%d", w.Name, i), Key: w.Keys[i%len(w.Keys)],
			Look: w.Look, Tell: w.Tell, Store: w.Store, Refused: func() { w.refused.Add(1) },
		}
		w.wg.Go(l.run)
	}
	c.Handle("rest", proc.Handle(func(struct{}) (workerReport, error) {
		stop()
		w.wg.Wait()
		return w.report()
	}))
	c.Handle("busy", proc.Handle(func(struct{}) (busy int, err error) {
		r, err := w.client.Inspect(context.Background())
		for _, k := range r.Keys {
			busy += k.Holders + k.Waiters
		}
		return busy, err
	}))
	c.Handle("report", proc.Handle(func(struct{}) (workerReport, error) { return w.report() }))
	c.Handle("stop", proc.Handle(func(struct{}) (workerReport, error) {
		stop()
		w.wg.Wait()
		if err := w.client.Close(); err != nil {
			return workerReport{}, err
		}
		return w.report()
	}))
	return c.Serve(nil)
}

func (w *worker) report() (workerReport, error) {
	r := workerReport{
		Entered: int(w.entered.Load()), Lost: int(w.lost.Load()), GivenUp: int(w.givenUp.Load()), Refused: int(w.refused.Load()),
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.holds {
		if l.Check() == nil {
			r.Holds++
			f, _ := l.Fence()
			r.Fences = append(r.Fences, f)
		}
	}
	if err := w.failed.Load(); err != nil {
		return r, *err
	}
	return r, nil
}

// A lane is one goroutine of a worker.
type lane struct {
	*worker
	witness.Lane
	random *rand.Rand
}

func (l *lane) run() {
	for l.ctx.Err() == nil {
		if l.Random {
			l.Key = l.Keys[l.random.IntN(len(l.Keys))]
		}
		if err := l.turn(); err != nil {
			l.failed.CompareAndSwap(nil, &err)
			return
		}
		if l.Once {
			return
		}
		l.sleep(l.between(0, l.Pause))
	}
}

// turn is one acquisition, with its hold.
func (l *lane) turn() error {
	ctx := l.ctx
	if l.Patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, l.between(0, l.Patience))
		defer cancel()
	}
	if err := l.Note("ask", 0, witness.Monotonic()); err != nil {
		return err
	}
	lease, err := l.client.Acquire(ctx, l.Key)
	at := witness.Monotonic()
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		l.givenUp.Add(1)
		return nil
	case err != nil:
		return err
	}
	fence, ok := lease.Fence()
	if !ok {
		return errors.New("the server has no fences")
	}
	l.entered.Add(1)
	if err := l.Note("enter", fence, at); err != nil {
		return err
	}
	l.set(lease)
	defer l.set(nil)
	return l.hold(lease, fence, at)
}

// hold holds until its time is over or the lease is lost, and releases it.
func (l *lane) hold(lease *distributed.Lease, fence uint64, at int64) error {
	until := at + int64(l.between(l.HoldMin, l.HoldMax))
	lost, err := l.Believe(lease.Check, fence, at, func(now int64) bool {
		return l.ctx.Err() != nil || l.HoldMax > 0 && now >= until
	})
	if lost {
		l.lost.Add(1)
	}
	if lost || err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*l.TTL)
	defer cancel()
	if lease.Release(ctx) != nil {
		return nil // it was lost, or will run out: its end is unknown
	}
	return l.Note("freed", 0, witness.Monotonic())
}

func (l *lane) set(lease *distributed.Lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if lease == nil {
		delete(l.holds, l.Who)
		return
	}
	l.holds[l.Who] = lease
}

// between returns a random time.
func (l *lane) between(least, most time.Duration) time.Duration {
	return campaign.Between(l.random, least, most)
}

func (l *lane) sleep(d time.Duration) {
	if d <= 0 {
		return
	}
	select {
	case <-time.After(d): // real time: this process has nothing else
	case <-l.ctx.Done():
	}
}
