//go:build unix

package e2e

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distributed-go/distributed"
	"github.com/distributed-go/distributed/dflockd"
	"github.com/distributed-go/distributed/internal/proc"
	"github.com/distributed-go/distributed/locker"
)

const (
	// In each process so many goroutines share a client and cancel by the
	// clock, and as many have a client each and cancel by what happens on its
	// connections.
	timed, trapped = 4, 4

	// hotKeys are wanted by all goroutines of all processes.
	hotKeys = 6
)

type cancellerArgs struct {
	Addr         string
	Name         string
	Acquisitions int
}

// A cancelReport counts how acquisitions ended.
type cancelReport struct {
	Granted   int
	Cancelled int
	Errors    map[string]int // all other ways, by text
}

func (r *cancelReport) add(o cancelReport) {
	r.Granted += o.Granted
	r.Cancelled += o.Cancelled
	for text, n := range o.Errors {
		r.Errors[text] += n
	}
}

// A canceller is a client process that mostly changes its mind.
type canceller struct {
	args    cancellerArgs
	before  proc.Usage
	clients []*distributed.Client
	tasks   []*cancelTask
}

func cancellerRole(c *proc.Child) error {
	p := &canceller{before: proc.Measure(true)}
	if err := c.Args(&p.args); err != nil {
		return err
	}
	shared, err := p.open(nil)
	if err != nil {
		return err
	}
	for g := range timed + trapped {
		task := &cancelTask{client: shared, own: fmt.Sprintf("%s-%d", p.args.Name, g), patience: [2]float64{1e5, 1e6}}
		if g >= timed {
			task.trap = new(trap)
			if task.client, err = p.open(task.trap); err != nil {
				return err
			}
		}
		p.tasks = append(p.tasks, task)
	}
	c.Handle("run", proc.Handle(p.run))
	c.Handle("close", proc.Handle(p.close))
	return c.Serve(nil)
}

// open opens a client whose connections, if there is a trap, spring it.
func (p *canceller) open(tr *trap) (*distributed.Client, error) {
	opts := []dflockd.Option{dflockd.WithFences()}
	if tr != nil {
		opts = append(opts, dflockd.WithDialer(tr.dial))
	}
	b, err := dflockd.New([]string{p.args.Addr}, opts...)
	if err != nil {
		return nil, err
	}
	c := locker.New(b, locker.WithTTL(cancelTTL), locker.WithLogger(slog.New(slog.DiscardHandler)))
	p.clients = append(p.clients, c)
	return c, nil
}

func (p *canceller) run(struct{}) (cancelReport, error) {
	reports := make([]cancelReport, len(p.tasks))
	var (
		wg   sync.WaitGroup
		left atomic.Int64
	)
	left.Store(int64(p.args.Acquisitions))
	for i, task := range p.tasks {
		reports[i].Errors = make(map[string]int)
		wg.Go(func() {
			for left.Add(-1) >= 0 {
				task.acquire(&reports[i])
			}
		})
	}
	wg.Wait()
	sum := cancelReport{Errors: make(map[string]int)}
	for _, r := range reports {
		sum.add(r)
	}
	return sum, nil
}

// close closes the clients and sees that they leave nothing.
func (p *canceller) close(struct{}) (struct{}, error) {
	for _, c := range p.clients {
		if err := c.Close(); err != nil {
			return struct{}{}, err
		}
	}
	for deadline := time.Now().Add(settleTime); ; time.Sleep(5 * time.Millisecond) { // real time: runtime and kernel clean up behind us
		u := proc.Measure(true)
		if u.Goroutines <= p.before.Goroutines && u.Files <= p.before.Files {
			return struct{}{}, nil
		}
		if time.Now().After(deadline) {
			return struct{}{}, fmt.Errorf("%d goroutines and %d files are left, there were %d and %d", u.Goroutines, u.Files, p.before.Goroutines, p.before.Files)
		}
	}
}

// A cancelTask is one goroutine's part.
type cancelTask struct {
	client *distributed.Client
	own    string // a key that nobody else wants
	trap   *trap  // nil if it cancels by the clock

	// patience, in ns, is what a cancellation waits for on average, on the key
	// of its own and on hot ones. It grows when acquisitions are cancelled and
	// shrinks when they are granted, and so finds the instant of the grant.
	patience [2]float64
}

// acquire acquires a lease, or changes its mind.
func (c *cancelTask) acquire(r *cancelReport) {
	key, hot := c.own, rand.IntN(2)
	if hot == 1 {
		key = fmt.Sprintf("hot-%d", rand.IntN(hotKeys))
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	disarm := c.arm(hot, cancel)
	l, err := c.client.Acquire(ctx, key)
	disarm()
	switch {
	case err == nil:
		r.Granted++
		c.patience[hot] = max(1e3, c.patience[hot]*0.97)
		if hot == 1 {
			time.Sleep(rand.N(100 * time.Microsecond)) // real time: so that others have something to wait for
		}
		if rand.IntN(10) == 0 {
			cancel() // also a release whose context has ended must free the key
		} else {
			ctx = context.Background()
		}
		if err := l.Release(ctx); err != nil && !errors.Is(err, context.Canceled) {
			r.Errors["release: "+err.Error()]++
		}
	case errors.Is(err, context.Canceled):
		r.Cancelled++
		c.patience[hot] = min(1e9, c.patience[hot]*1.03)
	default:
		r.Errors[err.Error()]++
	}
}

// arm arranges for the cancellation.
func (c *cancelTask) arm(hot int, cancel func()) (disarm func()) {
	if c.trap == nil {
		t := time.AfterFunc(time.Duration(2*c.patience[hot]*rand.Float64()), cancel)
		return func() { t.Stop() }
	}
	// An uncontended acquisition writes once and reads once, one that waits
	// does it twice.
	s := &snare{reads: rand.IntN(2) == 0, cancel: cancel}
	s.events.Store(1 + rand.Int32N(3))
	c.trap.set.Store(s)
	return func() { c.trap.set.Store(nil) }
}

// A trap cancels when something happens on the connections of a client: when
// an answer has arrived and its reader does not know yet, or a request has just
// left. Timers do not hit those instants.
type trap struct{ set atomic.Pointer[snare] }

// A snare is what the trap does next.
type snare struct {
	reads  bool         // it counts reads, else writes
	events atomic.Int32 // until it cancels
	cancel func()
}

func (tr *trap) spring(read bool) {
	if s := tr.set.Load(); s != nil && s.reads == read && s.events.Add(-1) == 0 {
		s.cancel()
	}
}

func (tr *trap) dial(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &trappedConn{conn.(*net.TCPConn), tr}, nil
}

type trappedConn struct {
	*net.TCPConn
	trap *trap
}

func (c *trappedConn) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	c.trap.spring(true)
	return n, err
}

func (c *trappedConn) Write(b []byte) (int, error) {
	n, err := c.TCPConn.Write(b)
	c.trap.spring(false)
	return n, err
}
