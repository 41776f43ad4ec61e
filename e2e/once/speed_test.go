//go:build unix

package once

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/size"
	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/internal/echo"
	"github.com/distributed-go/distributed/internal/figures"
	"github.com/distributed-go/distributed/internal/proc"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/once"
)

var (
	freshes = size.New("fresh", 2, 40, "fresh processes that call Do on what is done")
	turns   = size.New("turns", 1, 5, "turns of Group and x/sync's singleflight")
	turnMS  = size.New("turn-ms", 20, 500, "how long each turn takes, in ms")
)

// doneKey is done already.
const doneKey = "done"

type speedArgs struct{ Addr, Echo string }

// speedRole is a process that measures itself.
func speedRole(c *proc.Child) error {
	var args speedArgs
	if err := c.Args(&args); err != nil {
		return err
	}
	c.Handle("fresh", proc.Handle(func(echoFirst bool) (fresh, error) { return measureFresh(args, echoFirst) }))
	c.Handle("again", proc.Handle(func(n int) (again, error) { return measureAgain(args, n) }))
	c.Handle("group", proc.Handle(func(t turn) (turnReport, error) { return t.measure(args) }))
	return c.Serve(nil)
}

func openPlain(addr string) (*locker.Client, error) {
	b, err := newBackend(addr, true, func(string, string) {})
	if err != nil {
		return nil, err
	}
	return locker.New(b, locker.WithLogger(slog.New(slog.DiscardHandler))), nil
}

func unexpected(context.Context) error { return fmt.Errorf("a function runs that is done") }

// A fresh is what one new process took.
type fresh struct {
	Do   time.Duration // to dial and to find that it is done
	Echo time.Duration // to dial and for one round trip
}

func measureFresh(args speedArgs, echoFirst bool) (f fresh, err error) {
	measureEcho := func() error {
		began := time.Now()
		e, err := echo.Dial(args.Echo)
		if err != nil {
			return err
		}
		defer e.Close()
		err = e.RoundTrip()
		f.Echo = time.Since(began)
		return err
	}
	if echoFirst {
		err = measureEcho()
	}
	if err != nil {
		return f, err
	}
	began := time.Now()
	c, err := openPlain(args.Addr)
	if err != nil {
		return f, err
	}
	defer c.Close()
	if err := once.New(c, doneKey).Do(context.Background(), unexpected); err != nil {
		return f, err
	}
	f.Do = time.Since(began)
	if !echoFirst {
		err = measureEcho()
	}
	return f, err
}

// An again is what one call takes, in ns.
type again struct{ Handle, Sync, NewHandle, Echo float64 }

func measureAgain(args speedArgs, n int) (a again, err error) {
	c, err := openPlain(args.Addr)
	if err != nil {
		return a, err
	}
	defer c.Close()
	e, err := echo.Dial(args.Echo)
	if err != nil {
		return a, err
	}
	defer e.Close()
	o := once.New(c, doneKey)
	var s sync.Once
	each := func(n int, f func() error) (float64, error) {
		if err := f(); err != nil { // the first
			return 0, err
		}
		began := time.Now()
		for range n {
			if err := f(); err != nil {
				return 0, err
			}
		}
		return float64(time.Since(began)) / float64(n), nil
	}
	if a.Handle, err = each(100*n, func() error { return o.Do(context.Background(), unexpected) }); err != nil {
		return a, err
	}
	if a.Sync, err = each(100*n, func() error { s.Do(func() {}); return nil }); err != nil {
		return a, err
	}
	if a.NewHandle, err = each(n, func() error { return once.New(c, doneKey).Do(context.Background(), unexpected) }); err != nil {
		return a, err
	}
	a.Echo, err = each(n, e.RoundTrip)
	return a, err
}

// A turn is 100 goroutines that call one key for a while.
type turn struct {
	For, Work time.Duration
	XSync     bool
}

type turnReport struct {
	Calls, Runs float64 // for each second
}

func (t turn) measure(args speedArgs) (r turnReport, err error) {
	c, err := openPlain(args.Addr)
	if err != nil {
		return r, err
	}
	defer c.Close()
	var (
		ours        = once.NewGroup[int](c, groupName)
		theirs      singleflight.Group
		calls, runs atomic.Int64
		failure     atomic.Pointer[error]
		all         sync.WaitGroup
	)
	work := func() (int, error) {
		runs.Add(1)
		if t.Work > 0 {
			time.Sleep(t.Work)
		}
		return 7, nil
	}
	if _, _, err := ours.Do(context.Background(), "dial", func(context.Context) (int, error) { return work() }); err != nil {
		return r, err
	}
	began := time.Now()
	for range 100 {
		all.Go(func() {
			for time.Since(began) < t.For {
				var err error
				if t.XSync {
					_, err, _ = theirs.Do("k", func() (any, error) { return work() })
				} else {
					_, _, err = ours.Do(context.Background(), "k", func(context.Context) (int, error) { return work() })
				}
				if err != nil {
					failure.Store(&err)
					return
				}
				calls.Add(1)
			}
		})
	}
	all.Wait()
	took := time.Since(began).Seconds()
	if err := failure.Load(); err != nil {
		return r, *err
	}
	return turnReport{float64(calls.Load()) / took, float64(runs.Load()-1) / took}, nil
}

// TestSpeed measures a Do of what is done, and a Group in one process.
func TestSpeed(t *testing.T) {
	s := startServer(t, filepath.Join(t.TempDir(), "data"))
	args := speedArgs{Addr: s.args.Addr}
	proc.Start(t, "echo", nil, &args.Echo)
	c, err := openPlain(args.Addr)
	assert.Sure(t, err)
	t.Cleanup(func() { _ = c.Close() }) // the server may be gone
	assert.Sure(t, once.New(c, doneKey).Do(t.Context(), func(context.Context) error { return nil }))
	table := figures.NewTable("Do on what is done", "takes", "against", "takes", "ratio")
	var do, echoes figures.Sample
	for i := range freshes.Get() {
		p := proc.Start(t, "speed", args, nil)
		var f fresh
		assert.Sure(t, p.Call(t.Context(), "fresh", i%2 == 0, &f))
		do, echoes = append(do, f.Do.Seconds()*1e6), append(echoes, f.Echo.Seconds()*1e6)
		p.Kill()
	}
	table.Row("in a fresh process, dial included", do.String()+" µs", "dial and one round trip with an echo", echoes.String()+" µs", do.Over(echoes).String())
	p := proc.Start(t, "speed", args, nil)
	var handle, syncs, handles, trips figures.Sample
	for range turns.Get() {
		var a again
		assert.Sure(t, p.Call(t.Context(), "again", 50*turnMS.Get()/10, &a))
		handle, syncs = append(handle, a.Handle), append(syncs, a.Sync)
		handles, trips = append(handles, a.NewHandle/1e3), append(trips, a.Echo/1e3)
	}
	table.Row("a new handle in the same process", handles.String()+" µs", "one round trip with an echo", trips.String()+" µs", handles.Over(trips).String())
	table.Row("the same handle", handle.String()+" ns", "sync.Once", syncs.String()+" ns", handle.Over(syncs).String())
	campaign.Show(t, table)
	campaign.Show(t, measureGroups(t, args))
}

// measureGroups compares with x/sync's singleflight, in turns. A server with a data
// directory writes each result to its disk before it answers.
func measureGroups(t *testing.T, durable speedArgs) *figures.Table {
	t.Helper()
	volatile := durable
	volatile.Addr = startServer(t, "").args.Addr
	table := figures.NewTable("100 goroutines on one key, function takes", "server keeps values", "Group, calls/s", "functions/s", "x/sync, calls/s", "functions/s", "functions, ratio", "calls, ratio")
	for _, server := range []struct {
		name string
		args speedArgs
	}{{"in memory", volatile}, {"on disk", durable}} {
		p := proc.Start(t, "speed", server.args, nil)
		for _, work := range []time.Duration{0, time.Millisecond, 10 * time.Millisecond} {
			var ours, theirs, oursRuns, theirsRuns figures.Sample
			for range turns.Get() {
				var a, b turnReport
				d := time.Duration(turnMS.Get()) * time.Millisecond
				assert.Sure(t, p.Call(t.Context(), "group", turn{For: d, Work: work}, &a))
				assert.Sure(t, p.Call(t.Context(), "group", turn{For: d, Work: work, XSync: true}, &b))
				ours, theirs = append(ours, a.Calls), append(theirs, b.Calls)
				oursRuns, theirsRuns = append(oursRuns, a.Runs), append(theirsRuns, b.Runs)
			}
			table.Row(work, server.name, ours.String(), oursRuns.String(), theirs.String(), theirsRuns.String(), oursRuns.Over(theirsRuns).String(), ours.Over(theirs).String())
		}
	}
	return table
}
