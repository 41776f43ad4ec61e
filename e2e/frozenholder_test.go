//go:build unix

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/distributed-go/distributed"
	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/size"
	"github.com/distributed-go/distributed/internal/figures"
	"github.com/distributed-go/distributed/internal/proc"
	"github.com/distributed-go/distributed/locker"
)

var frozenHolders = size.New("frozen-holders", 10, 200, "holders to stop with SIGSTOP, some for longer than their TTL")

const (
	frozenTTL = time.Second

	// frozenAtOnce is how many of them are stopped at a time.
	frozenAtOnce = 10
)

// TestMeasureHolderFrozen stops holders, hands their keys to others when their
// leases have run out, and lets them go on: none of them may be told that it
// holds once another does.
func TestMeasureHolderFrozen(t *testing.T) {
	s := startServer(t)
	next := open(t, s.url(), locker.WithTTL(time.Minute))
	var (
		mu    sync.Mutex
		all   []thaw
		slots = make(chan struct{}, frozenAtOnce)
		wg    sync.WaitGroup
	)
	for i := range frozenHolders.Get() {
		slots <- struct{}{}
		b := proc.Start(t, "believer", believerArgs{URL: s.url(), Key: fmt.Sprint("frozen-", i)}, nil)
		wg.Go(func() {
			defer func() { <-slots }()
			th := freezeHolder(t.Context(), b, next, fmt.Sprint("frozen-", i), rand.N(5*frozenTTL/2)+frozenTTL/2)
			mu.Lock()
			defer mu.Unlock()
			all = append(all, th)
		})
	}
	wg.Wait()
	var lost, kept, overlapped int
	for _, th := range all {
		switch {
		case th.err != nil:
			t.Errorf("stopped for %v: %v", th.frozen, th.err)
		case th.Lost:
			lost++
		default:
			kept++
		}
		if th.next != 0 && th.Believed >= th.next {
			overlapped++
			t.Errorf("stopped for %v: Check was nil %v after the next holder held", th.frozen, time.Duration(th.Believed-th.next))
		}
		if th.next != 0 && !th.Lost {
			t.Errorf("stopped for %v: another held, and the lease is not lost", th.frozen)
		}
	}
	table := figures.NewTable("holders stopped with SIGSTOP", "TTL", "stopped for", "lost", "still held", "Check nil after the next holder")
	table.Row(len(all), frozenTTL, fmt.Sprintf("%v to %v", frozenTTL/2, 3*frozenTTL), lost, kept, overlapped)
	campaign.Show(t, table)
}

// A belief is what a holder says that it was told.
type belief struct {
	// Believed is an instant right before the last Check that returned nil.
	Believed int64
	// Lost says that a Check failed.
	Lost bool
}

// A thaw is what became of a holder that was stopped.
type thaw struct {
	belief
	frozen time.Duration
	next   int64 // when the next holder held, right after; 0 if none did
	err    error
}

type believerArgs struct{ URL, Key string }

// believerRole holds a key and asks all the time whether it does.
func believerRole(c *proc.Child) error {
	var args believerArgs
	if err := c.Args(&args); err != nil {
		return err
	}
	client, err := distributed.Open(args.URL, locker.WithTTL(frozenTTL))
	if err != nil {
		return err
	}
	l, err := client.Acquire(context.Background(), args.Key)
	if err != nil {
		return err
	}
	var (
		told belief
		stop = make(chan struct{})
		wg   sync.WaitGroup
	)
	wg.Go(func() { told = believe(l, stop) })
	c.Handle("belief", proc.Handle(func(struct{}) (belief, error) {
		close(stop)
		wg.Wait()
		return told, nil
	}))
	if err := c.Serve(nil); err != nil {
		return err
	}
	return client.Close()
}

func believe(l *distributed.Lease, stop chan struct{}) (told belief) {
	for {
		before := monotonic()
		if l.Check() != nil {
			told.Lost = true
			return told
		}
		told.Believed = before
		select {
		case <-stop:
			return told
		case <-time.After(50 * time.Microsecond): // real time: of a real process
		}
	}
}

// freezeHolder stops a believer for so long, while somebody else waits for its
// key, and asks it afterwards.
func freezeHolder(ctx context.Context, b *proc.Process, next *distributed.Client, key string, frozen time.Duration) thaw {
	th := thaw{frozen: frozen}
	waitCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		l   *distributed.Lease
		err error
		wg  sync.WaitGroup
	)
	wg.Go(func() {
		if l, err = next.Acquire(waitCtx, key); err == nil {
			th.next = monotonic()
		}
	})
	time.Sleep(rand.N(frozenTTL / 2)) // real time, as all of this: another process is stopped
	if th.err = b.Freeze(); th.err != nil {
		return th
	}
	time.Sleep(frozen)
	if th.err = b.Signal(syscall.SIGCONT); th.err != nil {
		return th
	}
	time.Sleep(frozenTTL / 2)
	th.err = b.Call(ctx, "belief", struct{}{}, &th.belief)
	cancel()
	wg.Wait()
	if err == nil {
		err = l.Release(ctx)
	} else if waitCtx.Err() != nil {
		err = nil // nobody took the key from the holder
	}
	if th.err == nil {
		th.err = err
	}
	return th
}
