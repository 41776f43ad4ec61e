//go:build linux

package etcdcluster

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
	"github.com/distributed-go/distributed/internal/proc"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/mutex"

	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/witness"
)

// A laneKind is what a lane takes.
type laneKind string

const (
	locks  laneKind = "lock"
	shares laneKind = "share" // some of a semaphore
	reads  laneKind = "read"
	writes laneKind = "write"
)

// laneArgs say what a lane of a worker does: it acquires, holds, releases, again
// and again.
type laneArgs struct {
	Kind   laneKind
	Key    string
	Weight int64 // of a share
	// A hold lasts for a random time between these; for ever if both are 0.
	HoldMin, HoldMax time.Duration
	// Pause is the longest random time between two holds.
	Pause time.Duration
	// Patience is after which random time at most a wait is given up; 0 is never.
	Patience time.Duration
}

// semaphoreLimit is that of all semaphores here.
const semaphoreLimit = 3

// weight is what of a limit a lane takes.
func (a laneArgs) weight() (weight, limit int64) {
	switch a.Kind {
	case shares:
		return a.Weight, semaphoreLimit
	case reads:
		return 1, mutex.RWLimit
	case writes:
		return mutex.RWLimit, mutex.RWLimit
	}
	return 1, 1
}

// workerArgs say what a worker does.
type workerArgs struct {
	Name    string
	URL     string
	Records string // the file
	Store   string // the address
	Seed    uint64
	TTL     time.Duration
	Lanes   []laneArgs
}

// A workerReport is what a worker answers when it is asked.
type workerReport struct {
	Entered int // acquisitions that were granted, ever
	Lost    int
	GivenUp int
	Refused int      // writes that the guard refused
	Waiting []string // lanes that were not served
	Errors  []string // of acquisitions, other than that they were given up
	Losses  []string // why leases were lost
	Late    int      // times that Check was nil after the deadline
	Unsure  int      // releases that were not confirmed
}

// A worker is a process that holds locks.
type worker struct {
	workerArgs
	client   *distributed.Client
	recorder *witness.Recorder
	ctx      context.Context // ends when lanes are to begin nothing new
	wg       sync.WaitGroup

	entered, lost, givenUp, refused, late, unsure atomic.Int64

	mu      sync.Mutex
	waiting map[string]bool // lanes that wait without an end; guarded by mu, as all below
	errors  []string
	losses  []string
	failed  error
}

func workerRole(c *proc.Child) error {
	w := &worker{waiting: make(map[string]bool)}
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
	for i, args := range w.Lanes {
		w.wg.Go(w.lane(i, args).run)
	}
	// Rest ends all lanes: those who wait are served first, or found not to be.
	c.Handle("rest", proc.Handle(func(patience time.Duration) (workerReport, error) {
		stop()
		done := make(chan struct{})
		go func() {
			defer close(done)
			w.wg.Wait()
		}()
		select {
		case <-done:
		case <-time.After(patience): // real time: other processes have to serve them
		}
		return w.report()
	}))
	c.Handle("close", proc.Handle(func(struct{}) (workerReport, error) {
		if err := w.client.Close(); err != nil {
			return workerReport{}, err
		}
		return w.report()
	}))
	c.Handle("report", proc.Handle(func(struct{}) (workerReport, error) { return w.report() }))
	return c.Serve(nil)
}

func (w *worker) report() (workerReport, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r := workerReport{
		Entered: int(w.entered.Load()), Lost: int(w.lost.Load()), GivenUp: int(w.givenUp.Load()), Refused: int(w.refused.Load()),
		Late: int(w.late.Load()), Unsure: int(w.unsure.Load()), Errors: w.errors, Losses: w.losses,
	}
	for who := range w.waiting {
		r.Waiting = append(r.Waiting, who)
	}
	return r, w.failed
}

// wait says that a lane waits, or does no more.
func (w *worker) wait(who string, waits bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if waits {
		w.waiting[who] = true
	} else {
		delete(w.waiting, who)
	}
}

// A lane is one goroutine of a worker.
type lane struct {
	*worker
	witness.Lane
	args    laneArgs
	random  *rand.Rand
	take    func(context.Context) (*distributed.Lease, error)
	release func(context.Context) error
}

func (w *worker) lane(i int, args laneArgs) *lane {
	l := &lane{worker: w, args: args, random: rand.New(rand.NewPCG(w.Seed, uint64(i)))}
	l.Lane = witness.Lane{
		Recorder: w.recorder, Who: fmt.Sprintf("%s.%d", w.Name, i), Key: args.Key, Look: 10 * time.Millisecond, Tell: 50 * time.Millisecond,
		Store: w.Store, Refused: func() { w.refused.Add(1) },
	}
	switch args.Kind {
	case locks:
		m := distributed.NewMutex(w.client, args.Key)
		l.take = func(ctx context.Context) (*distributed.Lease, error) { return leaseOf(m.LockContext(ctx), m.Lease) }
		l.release = m.UnlockContext
	case shares:
		l.semaphore(args.Key, semaphoreLimit, args.Weight)
	case reads: // as an RW does, but with a Lease that can be asked
		l.semaphore(mutex.RWPrefix+args.Key, mutex.RWLimit, 1)
	case writes:
		m := distributed.NewRWMutex(w.client, args.Key)
		l.take = func(ctx context.Context) (*distributed.Lease, error) { return leaseOf(m.LockContext(ctx), m.Lease) }
		l.release = m.UnlockContext
	}
	return l
}

func (l *lane) semaphore(key string, limit, weight int64) {
	s := distributed.NewSemaphore(l.client, key, limit)
	var lease *distributed.Lease
	l.take = func(ctx context.Context) (_ *distributed.Lease, err error) {
		lease, err = s.Acquire(ctx, weight)
		return lease, err
	}
	l.release = func(ctx context.Context) error { return lease.Release(ctx) }
}

func leaseOf(err error, lease func() *distributed.Lease) (*distributed.Lease, error) {
	if err != nil {
		return nil, err
	}
	return lease(), nil
}

func (l *lane) run() {
	for l.ctx.Err() == nil {
		if err := l.turn(); err != nil {
			l.mu.Lock()
			l.failed = errors.Join(l.failed, err)
			l.mu.Unlock()
			return
		}
		if d := l.between(0, l.args.Pause); d > 0 {
			pause(l.ctx, d)
		}
	}
}

// turn is one acquisition, with its hold. Who waits without an end does so also
// when no new holds are to begin: everybody is to be served.
func (l *lane) turn() error {
	ctx := context.Background()
	if l.args.Patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, l.between(0, l.args.Patience))
		defer cancel()
	} else {
		l.wait(l.Who, true)
		defer l.wait(l.Who, false)
	}
	if err := l.Note("ask", 0, witness.Monotonic()); err != nil {
		return err
	}
	lease, err := l.take(ctx)
	at := witness.Monotonic()
	switch {
	case err != nil && ctx.Err() != nil:
		l.givenUp.Add(1)
		return nil
	case err != nil:
		l.mu.Lock()
		l.errors = append(l.errors, err.Error())
		l.mu.Unlock()
		pause(l.ctx, 100*time.Millisecond)
		return nil
	}
	fence, _ := lease.Fence()
	l.entered.Add(1)
	l.wait(l.Who, false)
	if err := l.Note("enter", fence, at); err != nil {
		return err
	}
	return l.hold(lease, fence, at)
}

// hold holds until its time is over or the lease is lost, and releases it.
func (l *lane) hold(lease *distributed.Lease, fence uint64, at int64) error {
	until := at + int64(l.between(l.args.HoldMin, l.args.HoldMax))
	lost, err := l.Believe(func() error { return l.check(lease) }, fence, at, func(now int64) bool {
		return l.ctx.Err() != nil || l.args.HoldMax > 0 && now >= until
	})
	if lost {
		l.lost.Add(1)
		l.mu.Lock()
		l.losses = append(l.losses, fmt.Sprintf("loss of %s: fence %d, granted at %d, known at %d, deadline in %v: %v", l.Who, fence, at, witness.Monotonic(), time.Until(lease.Deadline()), lease.Err()))
		l.mu.Unlock()
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*l.TTL)
	defer cancel()
	err = l.release(ctx)
	if lost {
		return nil
	}
	if err != nil {
		l.unsure.Add(1)
		return nil // it was lost, or will run out: its end is unknown
	}
	return l.Note("freed", 0, witness.Monotonic())
}

// check is Check, and counts what it must never say: that a lease is held after
// its deadline.
func (l *lane) check(lease *distributed.Lease) error {
	now := time.Now()
	err := lease.Check()
	if err == nil && past(lease, now) {
		l.late.Add(1)
	}
	return err
}

// clockReading is how far apart the instant that Deadline returns and the one that
// Check compares with may be: they are read off two clocks, one after the other.
const clockReading = 50 * time.Microsecond

// past says whether an instant is after the deadline of a lease. Who is held up
// between the readings of the two clocks has another look.
func past(lease *distributed.Lease, at time.Time) bool {
	for range 3 {
		if !at.After(lease.Deadline().Add(clockReading)) {
			return false
		}
	}
	return true
}

// between returns a random time.
func (l *lane) between(least, most time.Duration) time.Duration {
	return campaign.Between(l.random, least, most)
}
