//go:build unix

package once

import (
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/size"
	"github.com/distributed-go/distributed/internal/figures"
)

var (
	plain       = size.New("plain", 3, 100, "keys to do without a fault")
	kills       = size.New("kills", 1, 100, "times to kill the runner at each point, with and without proof of death")
	serverKills = size.New("server-kills", 1, 10, "times to kill the server at each point")
	points      = size.New("points", 6, 20, "points to kill at, of which a few, chosen at random, are used in a short run")
	fleets      = size.New("fleets", 2, 4, "fleets at a time; twice as many where they mostly wait for leases to run out")
)

// Where a runner is killed: by itself, or when its gate has forwarded so much of
// what the wire carries.
var killPoints = []string{
	"get: before",
	"get: answered",
	"join: before",
	"join: granted",
	"function: begun",
	"function: before its commit",
	"function: after its commit",
	"function: returning",
	"put: before",
	"put: answered",
	"release: before",
	"release: answered",
	"done",
	"wire: join, sent",
	"wire: join ok, held back",
	"wire: put, held back",
	"wire: put, half",
	"wire: put, sent",
	"wire: put ok, held back",
	"wire: r, sent",
}

// serverPoints are where the server is killed: those of the wire.
var serverPoints = []string{
	"wire: get, sent",
	"wire: join, held back",
	"wire: join, sent",
	"wire: join ok, held back",
	"wire: join ok, sent",
	"wire: put, held back",
	"wire: put, half",
	"wire: put, sent",
	"wire: put ok, held back",
	"wire: put ok, sent",
	"wire: r, sent",
	"wire: r ok, held back",
}

const (
	// longTTL is so long that who waits for it is seen to.
	longTTL = 20 * time.Second
	// shortTTL is that of who is not proved to be dead.
	shortTTL = 700 * time.Millisecond
	// restartTTL bounds the grace of a server that is started again.
	restartTTL = time.Second
	// work is what a function takes, and slowWork one under which the server dies.
	work     = 2 * time.Millisecond
	slowWork = 20 * time.Millisecond
)

// A series collects what became of trials. It is safe for concurrent use.
type series struct {
	mu     sync.Mutex
	found  []campaign.Violation
	trials int // guarded by mu, as all below
	calls  int
	nils   int
	faults int
	extra  int // starts beyond the first
	lost   int
	doubts int
}

// add judges a trial. It says whether there is more than enough to report.
func (c *series) add(n *trial) (enough bool) {
	found := n.judge()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.found = append(c.found, found...)
	c.trials++
	c.calls += processes * goroutines
	c.nils += n.nils
	c.faults += n.faults
	c.extra--
	for _, l := range n.lines {
		if l.what == "start" {
			c.extra++
		}
	}
	c.lost += n.lost
	c.doubts += n.doubts
	const many = 20
	return len(c.found) > many
}

var trialHead = []string{"", "keys", "calls", "nil", "faults", "starts beyond the first", "leases lost without a kill", "in doubt", "violations", "s"}

func (c *series) row(table *figures.Table, name string, took time.Duration) {
	table.Row(name, c.trials, c.calls, c.nils, c.faults, c.extra, c.lost, c.doubts, len(c.found), took.Seconds())
}

// each has fleets carry out plans, one after another in each.
func (c *series) each(all []*fleet, plans []plan) {
	todo := make(chan plan, len(plans))
	for _, p := range plans {
		todo <- p
	}
	close(todo)
	var wg sync.WaitGroup
	for _, f := range all {
		wg.Go(func() {
			for p := range todo {
				if c.add(f.run(p, work)) {
					return
				}
			}
		})
	}
	wg.Wait()
}

// chosen returns what of a list to use, and how often, in random order.
func chosen(t *testing.T, list []string, times int) []string {
	t.Helper()
	random := campaign.Random(t)
	list = append([]string(nil), list...)
	random.Shuffle(len(list), func(i, k int) { list[i], list[k] = list[k], list[i] })
	list = list[:min(len(list), points.Get())]
	var all []string
	for range times {
		all = append(all, list...)
	}
	return all
}

// TestKillRunner has eight processes with 200 goroutines each call one Do, and
// kills a runner with SIGKILL: one run is marked, whose effect was accepted, and
// every other call returns nil.
func TestKillRunner(t *testing.T) {
	table := figures.NewTable(trialHead...)
	for _, proof := range []bool{true, false} {
		name, ttl, n := fmt.Sprintf("runner killed, no proof of death, TTL %v", shortTTL), shortTTL, 2*fleets.Get()
		if proof {
			name, ttl, n = fmt.Sprintf("runner killed, proof of death, TTL %v", longTTL), longTTL, fleets.Get()
		}
		t.Run(fmt.Sprintf("proof=%t", proof), func(t *testing.T) {
			began := time.Now()
			s := startServer(t, filepath.Join(t.TempDir(), "data"))
			plans := make([]plan, 0, plain.Get())
			for range plain.Get() {
				plans = append(plans, plan{})
			}
			all := startFleets(t, n, s, ttl, proof)
			var quiet, killed series
			quiet.each(all, plans)
			quiet.row(table, "nobody killed", time.Since(began))
			plans, began = plans[:0], time.Now()
			for _, p := range chosen(t, killPoints, kills.Get()) {
				plans = append(plans, plan{point: p, action: die})
			}
			killed.each(all, plans)
			killed.row(table, name, time.Since(began))
			campaign.Report(t, append(quiet.found, killed.found...))
		})
	}
	campaign.Show(t, table)
}

func startFleets(t *testing.T, n int, s *lockServer, ttl time.Duration, proof bool) []*fleet {
	t.Helper()
	all := make([]*fleet, n)
	for i := range all {
		all[i] = newFleet(t, fmt.Sprintf("f%d", i), processes, s, ttl, proof)
	}
	return all
}

// TestFailRunner has runners return errors, panic and exit: who was told so gets
// that, the next one runs, and nobody else hears of it.
func TestFailRunner(t *testing.T) {
	began := time.Now()
	s := startServer(t, filepath.Join(t.TempDir(), "data"))
	f := newFleet(t, "f", processes, s, longTTL, true)
	var c series
	var plans []plan
	for range plain.Get() {
		for _, action := range []string{fail, throw, goexit} {
			plans = append(plans, plan{point: "function: returning", action: action})
		}
	}
	c.each([]*fleet{f}, plans)
	table := figures.NewTable(trialHead...)
	c.row(table, "error, panic, Goexit", time.Since(began))
	campaign.Show(t, table)
	campaign.Report(t, c.found)
}

// TestKillServer kills the server with SIGKILL while one Do is under way, and
// starts it again on its data directory and its port.
func TestKillServer(t *testing.T) {
	began := time.Now()
	var (
		c   series
		all sync.WaitGroup
	)
	at := chosen(t, serverPoints, serverKills.Get())
	todo := make(chan string, len(at))
	for _, p := range at {
		todo <- p
	}
	close(todo)
	for i := range fleets.Get() {
		s := startServer(t, filepath.Join(t.TempDir(), "data"))
		f := newFleet(t, fmt.Sprintf("f%d", i), processes, s, restartTTL, true)
		t.Cleanup(func() { s.Kill() }) // the one that it is by then
		all.Go(func() {
			for p := range todo {
				if c.add(f.run(plan{point: p, action: die, server: true}, slowWork)) {
					return
				}
			}
		})
	}
	all.Wait()
	table := figures.NewTable(trialHead...)
	c.row(table, fmt.Sprintf("server killed, TTL %v", restartTTL), time.Since(began))
	campaign.Show(t, table)
	campaign.Report(t, c.found)
}
