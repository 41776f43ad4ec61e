//go:build unix

package faults

import (
	"fmt"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/size"
	"github.com/distributed-go/distributed/e2e/internal/witness"
	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/internal/figures"
)

var (
	pauses     = size.New("pauses", 2, 20, "times to stop the server for longer than the TTL, with and without a data directory")
	pauseWires = size.New("pause-wires", 8, 50, "leases that are only renewed, and as many that are not, over each pause")
)

const (
	pauseTTL                    = time.Second
	shortestPause, longestPause = pauseTTL * 6 / 5, pauseTTL * 5 / 2
	// patientTTL is the TTL of holders that no pause is long enough for.
	patientTTL   = 8 * time.Second
	patientLanes = 20
	fightKeys    = 8
	// renewEvery is how often a lease is renewed by a wire.
	renewEvery = pauseTTL / 5
)

// TestPauseServer stops the server with SIGSTOP for longer than the TTL while
// holders work and their renewals pile up, and lets it go on. For the server the
// pause is no time: leases last that much longer, renewals that have piled up
// count, and whoever waits is served. Nobody overlaps, and no holder loses a lease
// that is longer than the pause.
func TestPauseServer(t *testing.T) {
	mostlyWaits(t)
	table := figures.NewTable("server stopped with SIGSTOP", "TTL", "for", "pauses", "holds", "leases of 8 s kept", "renewals that piled up", "leases not renewed",
		"lasted longer than the TTL without the pause, ms, median", "greatest", "next grant of each key after ms, median", "p99", "greatest", "stale writes refused", "accepted", "violations")
	t.Run("both", func(t *testing.T) { // so that the table comes after them
		for _, durable := range []bool{false, true} {
			name, config := "without a data directory", serverConfig{}
			if durable {
				name, config = "with a data directory", serverConfig{DataDir: filepath.Join(t.TempDir(), "data"), MaxGrace: patientTTL}
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				p := newPausing(t, config)
				v := p.run()
				table.Row(name, pauseTTL, fmt.Sprintf("%v to %v", shortestPause, longestPause), len(p.stops), v.count, p.kept, p.renewals, len(p.lasted),
					p.lasted.Median(), p.lasted.Quantile(1), p.served.Median(), p.served.Quantile(0.99), p.served.Quantile(1),
					v.writes.StaleRefused, v.writes.StaleAccepted, len(v.found))
				campaign.Report(t, v.found)
				t.Logf("%d leases were lost because this machine was slower than the TTL, not for a pause", p.excused)
			})
		}
	})
	campaign.Show(t, table)
}

// A stop is a time during which the server was stopped for certain.
type stop struct{ from, to int64 }

// A pausing is the campaign.
type pausing struct {
	*rig
	recorder *witness.Recorder
	patient  []*player     // whose leases are longer than any pause
	fighters []*player     // whose leases are shorter
	done     chan struct{} // closed when the last pause is over
	kept     int           // leases of the patient that were never lost

	tally          sync.Mutex
	stops          []stop         // guarded by tally, as all below
	renewals       int            // that waited for the end of a pause
	excused        int            // leases that ran out in the server's running time
	lasted, served figures.Sample // in ms
	found          []campaign.Violation
}

func newPausing(t *testing.T, c serverConfig) *pausing {
	t.Helper()
	p := &pausing{rig: newRig(t, c), done: make(chan struct{})}
	var err error
	p.recorder, err = witness.OpenRecorder(p.follower.Path())
	assert.Sure(t, err)
	t.Cleanup(func() { p.recorder.Close() })
	for _, suffix := range []string{"", "&session=0"} {
		args := workerArgs{
			URL: urlOf(p.server.Addr, true) + suffix, TTL: patientTTL, Keys: keysOf("patient"+suffix, patientLanes), Lanes: patientLanes,
			Look: 20 * time.Millisecond, Tell: 200 * time.Millisecond, Store: p.store.Addr(),
		}
		p.patient = append(p.patient, p.mustStart(args))
		args.TTL, args.Keys, args.Lanes, args.Random = pauseTTL, keysOf("fight", fightKeys), 4, true
		args.Look, args.Tell, args.HoldMax, args.Pause = 0, 0, 200*time.Millisecond, 10*time.Millisecond
		p.fighters = append(p.fighters, p.mustStart(args), p.mustStart(args))
	}
	return p
}

func (p *pausing) run() verdict {
	p.t.Helper()
	for _, w := range p.patient {
		for i := range patientLanes {
			if _, ok := p.follower.Await(p.ctx, w.who(i)); !ok {
				p.t.Fatal(errCut)
			}
		}
	}
	var wires sync.WaitGroup
	wires.Go(func() { each(p.rig, keysOf("renewed", pauseWires.Get()), p.renew) })
	for i := range pauses.Get() {
		p.pause(i)
	}
	close(p.done)
	wires.Wait()
	for _, w := range p.patient {
		rep := p.stop(w)
		p.kept += rep.Entered - rep.Lost
		if rep.Lost > 0 {
			p.wrong("paused", "%d of %d leases of %v were lost over pauses of at most %v", rep.Lost, rep.Entered, patientTTL, longestPause)
		}
	}
	for _, w := range p.fighters {
		p.stop(w)
	}
	v := p.judge(patientTTL + 10*time.Second)
	v.found = append(v.found, p.found...)
	return v
}

func (p *pausing) wrong(kind, format string, args ...any) {
	p.tally.Lock()
	defer p.tally.Unlock()
	p.found = append(p.found, campaign.Violationf(kind, format, args...))
}

// pause stops the server once, and sees that all goes on.
func (p *pausing) pause(n int) {
	p.t.Helper()
	var silent sync.WaitGroup
	silent.Go(func() {
		each(p.rig, keysOf("silent", pauseWires.Get()), func(key string) error { return p.silent(n, key) })
	})
	time.Sleep(p.between(0, pauseTTL*2/5)) // real time, as all of this: the server is another process
	assert.Sure(p.t, p.server.Freeze())
	from := witness.Monotonic()
	time.Sleep(p.between(shortestPause, longestPause))
	to := witness.Monotonic()
	p.tally.Lock()
	p.stops = append(p.stops, stop{from, to})
	p.tally.Unlock()
	assert.Sure(p.t, p.server.Signal(syscall.SIGCONT))
	silent.Wait()
	p.awaitFights(to)
}

// awaitFights waits until every key that others fight for was granted again.
func (p *pausing) awaitFights(since int64) {
	after, ok := p.awaitGrants(keysOf("fight", fightKeys), since)
	if !ok {
		p.wrong("takeover", "%d of %d keys were not granted again within %v of a pause", fightKeys-len(after), fightKeys, takeoverBound)
	}
	p.tally.Lock()
	defer p.tally.Unlock()
	p.served = append(p.served, after...)
}

// ran returns how long the server ran between two instants, or longer, and whether
// it was stopped in between.
func (p *pausing) ran(from, to int64) (d time.Duration, stopped bool) {
	p.tally.Lock()
	defer p.tally.Unlock()
	d = time.Duration(to - from)
	for _, s := range p.stops {
		if both := min(s.to, to) - max(s.from, from); both > 0 {
			d, stopped = d-time.Duration(both), true
		}
	}
	return d, stopped
}
