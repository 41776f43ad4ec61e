//go:build unix

package e2e

import (
	"context"
	"errors"
	"fmt"
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

var (
	heldLocks = size.New("held", 1000, 10_000, "locks that one client holds at once")
	heldMost  = size.New("held-most", 0, 1_000_000, "leases that it holds in a further run")
)

const (
	// takers is how many goroutines take and release the locks.
	takers = 100

	// heldTTL is long enough for no renewal to fall into a measurement.
	heldTTL = 5 * time.Minute

	// mostRows is how many keys a server reports at most.
	mostRows = 100_000
)

// TestMeasureHeld has one client hold many locks at once, in a process that does
// nothing else, and weighs both ends.
func TestMeasureHeld(t *testing.T) {
	table := figures.NewTable("held at once", "locks", "taken in s", "released in s", "sockets", "goroutines before", "while held",
		"client B/lock", "server B/lock")
	for _, what := range []string{"leases of Client.Acquire", "Mutexes"} {
		measureHeld(t, table, what, heldLocks.Get())
	}
	if n := heldMost.Get(); n > 0 {
		measureHeld(t, table, "leases of Client.Acquire", n)
	}
	campaign.Show(t, table)
}

// A heldReport is what a keeper says of what it holds.
type heldReport struct {
	Before, During proc.Usage
	Took           time.Duration
}

func measureHeld(t *testing.T, table *figures.Table, what string, n int) {
	t.Helper()
	s := startServer(t)
	observer := open(t, s.url())
	k := proc.Start(t, "keeper", keeperArgs{URL: s.url(), TTL: heldTTL, Locks: n, Mutexes: what == "Mutexes"}, nil)
	before := usage(t, s.Process, true)
	var r heldReport
	assert.Sure(t, k.Call(t.Context(), "take", struct{}{}, &r))
	during := usage(t, s.Process, true)

	if holders, waiters, err := busy(t.Context(), observer); err != nil || holders != min(n, mostRows) || waiters != 0 {
		t.Errorf("the server reports %d holders and %d waiters, %v; want %d and 0", holders, waiters, err, min(n, mostRows))
	}
	if r.During.Sockets > 1 {
		t.Errorf("%d sockets for %d locks", r.During.Sockets, n)
	}
	if grown := r.During.Goroutines - r.Before.Goroutines; grown > 4 {
		t.Errorf("%d more goroutines for %d locks", grown, n)
	}
	var released time.Duration
	assert.Sure(t, k.Call(t.Context(), "release", struct{}{}, &released))
	if holders, waiters, err := busy(t.Context(), observer); err != nil || holders != 0 || waiters != 0 {
		t.Errorf("after the release the server reports %d holders and %d waiters, %v", holders, waiters, err)
	}
	per := func(after, before proc.Usage) float64 {
		return (float64(after.Heap) - float64(before.Heap)) / float64(n)
	}
	table.Row(what, n, r.Took.Seconds(), released.Seconds(), r.During.Sockets, r.Before.Goroutines, r.During.Goroutines,
		per(r.During, r.Before), per(during, before))
}

type keeperArgs struct {
	URL     string
	TTL     time.Duration
	Locks   int
	Mutexes bool   // hold them through Mutexes
	Prefix  string // of the keys
}

// A keeper is a client that holds many locks.
type keeper struct {
	client  *distributed.Client
	prefix  string
	keys    []string
	leases  []*distributed.Lease
	mutexes []*distributed.Mutex // nil if leases are taken without
}

func keeperRole(c *proc.Child) error {
	var args keeperArgs
	if err := c.Args(&args); err != nil {
		return err
	}
	client, err := distributed.Open(args.URL, locker.WithTTL(args.TTL))
	if err != nil {
		return err
	}
	k := &keeper{client: client, prefix: args.Prefix, leases: make([]*distributed.Lease, args.Locks)}
	for i := range args.Locks {
		k.keys = append(k.keys, fmt.Sprintf("%skey-%06d", args.Prefix, i)) // before the heap is weighed: keys are the caller's
	}
	if args.Mutexes {
		k.mutexes = make([]*distributed.Mutex, args.Locks)
	}
	c.Handle("take", proc.Handle(k.take))
	c.Handle("probe", proc.Handle(k.probe))
	c.Handle("check", proc.Handle(k.check))
	c.Handle("release", proc.Handle(k.releaseAll))
	if err := c.Serve(nil); err != nil {
		return err
	}
	return client.Close()
}

// take takes all locks, by many goroutines, after the connection and all that
// stays with it are there.
func (k *keeper) take(struct{}) (r heldReport, err error) {
	warm, err := k.client.Acquire(context.Background(), k.prefix+"warm")
	if err != nil {
		return r, err
	}
	r.Before = proc.Measure(true)
	began := time.Now()
	err = k.each(func(i int) (err error) {
		if k.mutexes == nil {
			k.leases[i], err = k.client.Acquire(context.Background(), k.keys[i])
			return err
		}
		k.mutexes[i] = distributed.NewMutex(k.client, k.keys[i])
		err = k.mutexes[i].LockContext(context.Background())
		k.leases[i] = k.mutexes[i].Lease()
		return err
	})
	r.Took = time.Since(began)
	if err != nil {
		return r, err
	}
	r.During = proc.Measure(true)
	return r, errors.Join(warm.Release(context.Background()), k.each(func(i int) error { return k.leases[i].Check() }))
}

// probe makes a request that is answered after all that was asked before.
func (k *keeper) probe(struct{}) (struct{}, error) {
	l, err := k.client.Acquire(context.Background(), k.prefix+"probe")
	if err != nil {
		return struct{}{}, err
	}
	return struct{}{}, l.Release(context.Background())
}

// check sees that all locks are held.
func (k *keeper) check(struct{}) (struct{}, error) {
	return struct{}{}, k.each(func(i int) error { return k.leases[i].Check() })
}

func (k *keeper) releaseAll(struct{}) (time.Duration, error) {
	began := time.Now()
	err := k.each(func(i int) error {
		if k.mutexes == nil {
			return k.leases[i].Release(context.Background())
		}
		return k.mutexes[i].UnlockContext(context.Background())
	})
	return time.Since(began), err
}

// each calls f for every lock, from many goroutines at once.
func (k *keeper) each(f func(i int) error) error {
	errs := make([]error, takers)
	var wg sync.WaitGroup
	for g := range takers {
		wg.Go(func() {
			for i := g; i < len(k.keys) && errs[g] == nil; i += takers {
				errs[g] = f(i)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
