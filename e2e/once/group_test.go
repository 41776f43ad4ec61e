//go:build unix

package once

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/distributed-go/distributed"
	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/size"
	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/internal/figures"
	"github.com/distributed-go/distributed/internal/proc"
)

var (
	rounds     = size.New("rounds", 20, 1000, "rounds in which all call a Group")
	stormCalls = size.New("storm", 20, 200, "calls of each goroutine at random instants")
)

// How many functions may start for each key of each round: callers that the machine
// held up until their flight was over are right to have one of their own. In few
// rounds, on a busy machine, there may be more of these.
const (
	mostRuns      = 1.05
	mostRunsOfFew = 2
)

// A groupCampaign is eight processes that call one Group.
type groupCampaign struct {
	t       *testing.T
	server  *lockServer
	arena   *arena
	members []*proc.Process
}

func newGroupCampaign(t *testing.T) *groupCampaign {
	t.Helper()
	g := &groupCampaign{t: t, server: startServer(t, "")}
	path := filepath.Join(t.TempDir(), "arena")
	a, unmap, err := openArena(path)
	assert.Sure(t, err)
	t.Cleanup(func() { assert.Sure(t, unmap()) })
	g.arena = a
	for i := range processes {
		name := fmt.Sprintf("g%d", i)
		g.members = append(g.members, proc.Start(t, "group", groupArgs{Name: name, Addr: g.server.args.Addr, Arena: path}, nil))
	}
	return g
}

// each makes a call of all processes at the same time.
func (g *groupCampaign) each(f func(i int, p *proc.Process) error) {
	g.t.Helper()
	var all sync.WaitGroup
	errs := make([]error, len(g.members))
	for i, p := range g.members {
		all.Go(func() { errs[i] = f(i, p) })
	}
	all.Wait()
	assert.Sure(g.t, errors.Join(errs...))
}

// A groupVerdict is what all processes say together.
type groupVerdict struct {
	calls, strict, lost int
	joined              int // results that processes had callers for which began after the put
	longest             time.Duration
	found               []campaign.Violation
}

func (g *groupCampaign) judge() groupVerdict {
	g.t.Helper()
	var (
		v      groupVerdict
		mu     sync.Mutex
		spans  = make([]map[run]span, len(g.members))
		landed = make(map[run]int64)
	)
	g.each(func(i int, p *proc.Process) error {
		var r groupReport
		if err := p.Call(g.t.Context(), "report", struct{}{}, &r); err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		v.calls += r.Calls
		v.strict += r.Strict
		v.lost += r.Lost
		v.longest = max(v.longest, r.Longest)
		for k := 0; k < len(r.Found); k += 2 {
			v.found = append(v.found, campaign.Violation{Kind: r.Found[k], Detail: r.Found[k+1]})
		}
		spans[i] = make(map[run]span)
		for _, s := range r.Spans {
			spans[i][s.run] = s.span
		}
		for _, s := range r.Landed {
			landed[s.run] = s.At
		}
		return nil
	})
	joined, late := judgeLanded(spans, landed)
	v.joined, v.found = joined, append(v.found, late...)
	return v
}

// runs is how many functions have started.
func (g *groupCampaign) runs() (n int64) {
	for i := range groupKeys {
		n += g.arena.runs[i].Load()
	}
	return n
}

var groupHead = []string{"", "calls", "functions run", "results that were not to be had any more", "calls that began after the function was about to return", "at most, after", "results that a process shared with calls that began after the put was answered", "violations", "s"}

func (v groupVerdict) row(table *figures.Table, name string, runs int64, took time.Duration) {
	old := 0
	for _, f := range v.found {
		if f.Kind == "old" || f.Kind == "landed" {
			old++
		}
	}
	table.Row(name, v.calls, runs, old, v.strict, v.longest, v.joined, len(v.found), took.Seconds())
}

// TestGroup has eight processes with 200 goroutines each call a Group: at random
// instants, and in rounds, in which each function waits for all to have come. Nobody
// has a result that had reached its process before it called, nor one that had been
// put before the first of its process called.
func TestGroup(t *testing.T) {
	g := newGroupCampaign(t)
	table := figures.NewTable(groupHead...)
	began, seed := time.Now(), campaign.Random(t).Uint64()
	g.each(func(i int, p *proc.Process) error {
		ctx, cancel := context.WithTimeout(t.Context(), 3*(*limit))
		defer cancel()
		err := p.Call(ctx, "storm", storm{Calls: stormCalls.Get(), Pause: 5 * time.Millisecond, Work: 2 * time.Millisecond, Fails: 0.1, Seed: seed + uint64(i)}, nil)
		if err != nil {
			return errors.New(campaign.Violationf("stuck", "%v", err).String())
		}
		return nil
	})
	v, stormRuns := g.judge(), g.runs()
	v.row(table, "at random instants", stormRuns, time.Since(began))
	campaign.Report(t, v.found)
	if t.Failed() {
		return // rounds may never end then
	}
	began, n := time.Now(), rounds.Get()
	for i := range groupKeys {
		g.arena.came[i].Store(0)
	}
	g.rounds(n)
	runs := g.runs() - stormRuns
	v = g.judge()
	each := float64(runs) / float64(n*groupKeys)
	most := float64(mostRunsOfFew)
	if size.Full() {
		most = mostRuns
	}
	if each > most {
		v.found = append(v.found, campaign.Violationf("runs", "%.3f functions for each key of each round, at most %v", each, most))
	}
	v.row(table, fmt.Sprintf("%d rounds on %d keys", n, groupKeys), runs, time.Since(began))
	campaign.Show(t, table)
	t.Logf("%.4f functions for each key of each round; %d leases lost", each, v.lost)
	campaign.Report(t, v.found)
}

// rounds leads the processes through rounds. The functions of a round return when
// all callers have come, and the server says that seven processes wait for each key.
func (g *groupCampaign) rounds(n int) {
	g.t.Helper()
	observer, err := distributed.Open("dflockd://" + g.server.args.Addr)
	assert.Sure(g.t, err)
	defer observer.Close()
	g.each(func(_ int, p *proc.Process) error { return p.Call(g.t.Context(), "rounds", n, nil) })
	for round := range int64(n) {
		ctx, cancel := context.WithTimeout(g.t.Context(), *limit)
		g.arena.round.Store(round + 1)
		for left := groupKeys; left > 0; {
			if left, err = g.release(ctx, observer, round); err != nil {
				g.t.Error(campaign.Violationf("stuck", "round %d: not all came: %v", round, err))
				g.t.FailNow()
			}
		}
		for g.arena.done.Load() < (round+1)*processes {
			if ctx.Err() != nil {
				g.t.Error(campaign.Violationf("stuck", "round %d did not end", round))
				g.t.FailNow()
			}
			time.Sleep(50 * time.Microsecond) // real time: of other processes
		}
		cancel()
		time.Sleep(time.Millisecond) // real time: more than two round trips
	}
}

// release lets the functions return of those keys for which all have come, and
// returns for how many they have not.
func (g *groupCampaign) release(ctx context.Context, observer *distributed.Client, round int64) (left int, err error) {
	const callers = processes * goroutines / groupKeys
	r, err := observer.Inspect(ctx)
	if err != nil {
		return 0, err
	}
	waiters := make(map[string]int)
	for _, k := range r.Keys {
		waiters[k.Key] = k.Waiters
	}
	for i := range groupKeys {
		switch {
		case g.arena.released[i].Load() > round:
		case g.arena.came[i].Load() >= (round+1)*callers && waiters[fmt.Sprintf("group/%s/%d", groupName, i)] == processes-1:
			g.arena.released[i].Store(round + 1)
		default:
			left++
		}
	}
	return left, nil
}
