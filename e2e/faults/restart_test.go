//go:build unix

package faults

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/size"
	"github.com/distributed-go/distributed/e2e/internal/witness"
	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/internal/figures"
)

var (
	restarts      = size.New("restarts", 2, 200, "servers with a data directory to kill")
	emptyRestarts = size.New("empty-restarts", 2, 20, "servers without one to kill")
	liveHolds     = size.New("live-holds", 50, 500, "holds that go on over each restart")
	restartMillis = size.New("restart-ms", 2000, 1000, "TTL of all leases over restarts, in milliseconds: small campaigns run beside others")
)

const (
	// lingering is for how long after a restart something may still be noted
	// that the server before answered: of a process that had to wait for its
	// turn.
	lingering = 100 * time.Millisecond
)

func restartTTL() time.Duration { return time.Duration(restartMillis.Get()) * time.Millisecond }

// TestKillServer kills servers with a data directory under their holders and
// starts them again. Live holds keep their fences; nobody is granted anything
// before the grace is over; then whoever waits is, also for the keys of holders
// who died with the server. Each value that was put is there.
func TestKillServer(t *testing.T) {
	beside(t)
	r := newRestarting(t, serverConfig{DataDir: filepath.Join(t.TempDir(), "data"), MaxGrace: restartTTL()})
	live := r.hold(liveHolds.Get())
	wants := r.fences(live)
	r.putters = startPutters(r.rig)
	var (
		deaths []death
		kept   int
	)
	for range restarts.Get() {
		deaths = append(deaths, r.killBoth()...)
		time.Sleep(restartTTL() + 3*restartTTL()/10) // real time: grace, and a little of what comes after
		got := r.fences(live)
		kept += r.compare(wants, got)
		wants = got
	}
	r.awaitGrants(r.free, r.graceEnds(r.starts[len(r.starts)-1]))
	wrong := r.putters.stop()
	v := r.end(live)
	took, late := witness.Takeovers(v.holds, deaths, takeoverBound)
	grants, after := r.graces(v)
	v.found = slices.Concat(v.found, r.lost, late, grants, wrong)
	early := 0
	for _, x := range grants {
		if x.Kind == "grace" {
			early++
		}
	}
	table := figures.NewTable("server killed, with a data directory", "TTL", "kills", "live holds", "kept their fences", "lost to slow starts", "server away for ms, median", "greatest", "grants before the end of the grace",
		"first grant of each free key after it ms, median", "p99", "greatest", "keys of the dead", "their next holder after ms, median", "greatest", "values put or removed", "under way when the server died", "violations")
	table.Row("grace as long as the TTL", restartTTL(), restarts.Get(), liveHolds.Get(), kept, r.excused, r.away.Median(), r.away.Quantile(1), early, after.Median(), after.Quantile(0.99), after.Quantile(1),
		len(took), figures.Sample(took).Median(), figures.Sample(took).Quantile(1), r.putters.answered, r.putters.cut, len(v.found))
	campaign.Show(t, table)
	campaign.Report(t, v.found)
}

// TestKillServerWithoutDirectory kills servers that remember nothing: every
// holder is told when it is back, and fences grow all the same. Beliefs may
// overlap until then, which only the guard stops: it is counted.
func TestKillServerWithoutDirectory(t *testing.T) {
	mostlyWaits(t)
	r := newRestarting(t, serverConfig{})
	live := r.hold(liveHolds.Get())
	var told figures.Sample
	for range emptyRestarts.Get() {
		held := r.held()
		r.killBoth()
		time.Sleep(restartTTL()) // real time: until all that were held have ended, one way or the other
		told = append(told, r.told(held)...)
	}
	v := r.end(live)
	var found []campaign.Violation
	overlaps := 0
	for _, x := range v.found {
		if x.Kind == "overlap" || x.Kind == "history" {
			overlaps++
			continue
		}
		found = append(found, x)
	}
	table := figures.NewTable("server killed, without a data directory", "TTL", "kills", "holds that were told", "after the server was back ms, median", "p99", "greatest",
		"overlaps until then", "stale writes refused", "accepted", "violations")
	table.Row("nothing survives", restartTTL(), emptyRestarts.Get(), len(told), told.Median(), told.Quantile(0.99), told.Quantile(1), overlaps, v.writes.StaleRefused,
		v.writes.StaleAccepted, len(found))
	campaign.Show(t, table)
	campaign.Report(t, found)
}

// A restarting is a campaign whose server is killed.
type restarting struct {
	*rig
	free    []string             // keys that probers acquire all the time
	probers *player              // each lane has a key of its own
	putters *putters             // nil without a data directory
	starts  []serverReady        // but for the first
	away    figures.Sample       // for how long there was no server, each time, in ms
	lost    []campaign.Violation // holds that a restart has cost, but for
	excused int                  // those that it took too long for
}

// killServer kills the server, also under puts.
func (r *restarting) killServer() {
	if r.putters == nil {
		r.server.Kill()
		return
	}
	r.putters.pause()
	r.server.Kill()
	r.putters.killed()
}

// revive starts the server again that was there until an instant, and sees which
// values it has.
func (r *restarting) revive(gone int64) {
	r.t.Helper()
	r.server = startServer(r.t, r.server.Addr, r.server.config)
	r.starts = append(r.starts, r.server.serverReady)
	r.away = append(r.away, float64(r.server.Ready-gone)/1e6)
	if r.putters != nil {
		r.putters.look(r.server)
	}
}

// compare finds the fences of live holds that the last restart has cost, and counts
// the others. A lease counts from its last renewal, which was up to a third of the
// TTL before: where the server was away for half a TTL and more, because the
// machine was busy, it may have run out.
func (r *restarting) compare(wants, got map[uint64]bool) (kept int) {
	r.t.Helper()
	for fence := range wants {
		switch away := r.away[len(r.away)-1]; {
		case got[fence]:
			kept++
		case away >= float64(restartTTL().Milliseconds())/2:
			r.excused++
		default:
			r.lost = append(r.lost, campaign.Violationf("kept", "the hold with fence %d was lost by a restart, over which there was no server for %.0f ms", fence, away))
		}
	}
	return kept
}

// freeKeys is how many probers there are, and doomedKeys on how many of their
// keys a holder dies with the server.
const freeKeys, doomedKeys = 20, 5

func newRestarting(t *testing.T, c serverConfig) *restarting {
	t.Helper()
	r := &restarting{rig: newRig(t, c), free: keysOf("free", freeKeys)}
	r.probers = r.mustStart(workerArgs{
		URL: urlOf(r.server.Addr, false), TTL: restartTTL(), Keys: r.free, Lanes: freeKeys, HoldMax: time.Millisecond, Pause: 10 * time.Millisecond, Store: r.store.Addr(),
	})
	return r
}

// hold starts holders of so many keys, who never let go, and waits until they
// hold.
func (r *restarting) hold(n int) []*player {
	r.t.Helper()
	const lanes = 50
	var players []*player
	for i := 0; i < n; i += lanes {
		keys := keysOf(fmt.Sprint("live", i), min(lanes, n-i))
		p := r.mustStart(workerArgs{
			URL: urlOf(r.server.Addr, false), TTL: restartTTL(), Keys: keys, Lanes: len(keys), Look: 20 * time.Millisecond, Tell: 200 * time.Millisecond, Store: r.store.Addr(),
		})
		r.awaitAll(p, len(keys))
		players = append(players, p)
	}
	return players
}

// awaitAll waits until all lanes of a player hold.
func (r *restarting) awaitAll(p *player, lanes int) {
	r.t.Helper()
	for i := range lanes {
		if _, ok := r.follower.Await(r.ctx, p.who(i)); !ok {
			r.t.Fatal(errCut)
		}
	}
}

// fences are those that players hold now.
func (r *restarting) fences(players []*player) map[uint64]bool {
	all := make(map[uint64]bool)
	for _, p := range players {
		var rep workerReport
		if err := p.Call(r.ctx, "report", struct{}{}, &rep); err != nil {
			r.fail(err)
		}
		for _, f := range rep.Fences {
			all[f] = true
		}
	}
	return all
}

// held are all holds that go on, as far as is known.
func (r *restarting) held() map[string]uint64 {
	all := make(map[string]uint64)
	for who, h := range r.follower.Holds() {
		if h.Key[:4] == "live" {
			all[who] = h.Fence
		}
	}
	return all
}

// killBoth kills a holder and the server, in either order, and starts the server
// again.
func (r *restarting) killBoth() []death {
	r.t.Helper()
	doomed := r.mustStart(workerArgs{URL: urlOf(r.server.Addr, false), TTL: restartTTL(), Keys: r.free[:doomedKeys], Lanes: doomedKeys, Store: r.store.Addr()})
	r.awaitAll(doomed, doomedKeys)
	time.Sleep(r.between(0, restartTTL()/3)) // real time: anywhere between two beats
	var deaths []death
	for i := range doomedKeys {
		if h, ok := r.follower.Holding(doomed.who(i)); ok {
			deaths = append(deaths, death{Hold: h})
		}
	}
	first := r.chance(0.5)
	at, gone := int64(0), witness.Monotonic()
	if first {
		at = r.kill(doomed)
	}
	if r.chance(0.5) { // what is sent now dies with the server
		assert.Sure(r.t, r.server.Freeze())
		time.Sleep(r.between(0, restartTTL()/20))
	}
	r.killServer()
	if !first {
		at = r.kill(doomed)
	}
	for i := range deaths {
		deaths[i].At = at
	}
	r.revive(gone)
	return deaths
}

// graceEnds returns when the grace of a start is over.
func (r *restarting) graceEnds(s serverReady) int64 { return s.Began + int64(restartTTL()) }

// graces returns what was granted in a grace, and which free keys were not granted
// after it; and for each of them and each start the time from the end of the grace
// to the first grant, in ms.
func (r *restarting) graces(v verdict) (found []campaign.Violation, after figures.Sample) {
	for _, s := range r.starts {
		ends := r.graceEnds(s)
		for _, key := range slices.Sorted(maps.Keys(v.holds)) {
			for _, h := range v.holds[key] {
				if h.At >= s.Ready+int64(lingering) && h.At < ends {
					found = append(found, campaign.Violationf("grace", "key %s: fence %d was granted %v before the end of the grace", key, h.Fence, time.Duration(ends-h.At)))
				}
			}
		}
		for _, key := range r.free {
			i := slices.IndexFunc(v.holds[key], func(h *interval) bool { return h.At >= ends })
			if i < 0 || v.holds[key][i].At > ends+int64(takeoverBound) {
				found = append(found, campaign.Violationf("takeover", "key %s was not granted within %v of the end of a grace", key, takeoverBound))
				continue
			}
			if at := v.holds[key][i].At; at < ends+int64(restartTTL()) && slices.Contains(r.free[doomedKeys:], key) {
				after = append(after, float64(at-ends)/1e6)
			}
		}
	}
	return found, after
}

// told returns after which times, in ms from when the latest server was ready,
// holders knew that they had lost what they held.
func (r *restarting) told(held map[string]uint64) (after figures.Sample) {
	ready := r.server.Ready
	asked := make(map[string]bool)
	r.follower.Each(func(rec record) {
		// A lane that has lost its hold asks anew at once.
		if _, ours := held[rec.Who]; ours && rec.What == "ask" && rec.At >= ready && !asked[rec.Who] {
			asked[rec.Who] = true
			after = append(after, float64(rec.At-ready)/1e6)
		}
	})
	return after
}

// end stops all workers and judges.
func (r *restarting) end(live []*player) verdict {
	r.t.Helper()
	each(r.rig, append(live, r.probers), func(p *player) error {
		r.stop(p)
		return nil
	})
	return r.judge(restartTTL() + 10*time.Second)
}
