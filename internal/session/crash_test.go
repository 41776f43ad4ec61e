package session

import (
	"errors"
	"testing"
	"time"

	"github.com/distributed-go/distributed/internal/table"
)

func fullGrace(mark time.Duration) time.Duration { return mark }

// crash ends the server and begins the next one. It has the disk that keeps what
// counts: how far fences have gone, the longest lease, and of a clean stop all of
// them.
func (w *world) crash(clean bool) {
	w.crashes++
	var records []table.Record
	cfg := table.Config{FirstFence: w.table.Fence() + 3, ClaimTTL: w.mark}
	if clean = clean && w.table.GraceEnd() == 0; clean {
		records = w.table.Records(w.now)
		w.stops++
	} else {
		w.opens = w.now + w.mark
		if g := w.grace(w.mark); g > 0 {
			cfg.GraceEnd = w.now + g
		}
	}
	w.server, w.table = newServer(w, cfg)
	w.server.faults = w.sf
	for _, r := range records {
		w.table.Restore(w.now, r)
	}
	w.restoreValues()
	w.table.Events()
	w.fence, w.jump, w.slack = w.table.Fence(), 0, 0
	for _, p := range w.pipes {
		// What it said before is still on the way.
		p.link, p.serverOpen, p.up, p.dead = nil, false, nil, true
	}
	w.note(uint64(w.crashes), w.fence)
}

// deaths is what simulations do beside all else.
func (s *simulation) deaths() {
	if s.dies == 0 || !s.chance(1, s.dies) {
		return
	}
	s.crash(s.chance(1, 3))
	for _, a := range s.actors { // some notice at once
		if a.frozen <= s.now && a.over == "" && s.chance(2, 3) {
			if a.pipe != nil {
				s.cut(a)
			}
			s.connect(a)
		}
	}
}

func simulateDeaths(seed uint64, events int, sf serverFaults, cf clientFaults, grace func(time.Duration) time.Duration) (did, crashes, claims int, err error) {
	for ; did < events; seed++ {
		s := newSimulation(seed, 2+int(seed%5), sf, cf)
		s.dies, s.grace = []int{300, 1000, 2000}[s.random.IntN(3)], grace
		for _, a := range s.actors {
			a.client.SpreadClaims(time.Duration(s.random.IntN(2)) * 100 * time.Millisecond)
		}
		err = s.run(episode)
		did, claims, crashes = did+s.did, claims+s.claims, crashes+s.crashes
		if err != nil {
			break
		}
	}
	return did, crashes, claims, err
}

// TestSimulationWithDeaths plays worlds in which the server dies too, in good
// order and not.
func TestSimulationWithDeaths(t *testing.T) {
	n := *events
	if underRace {
		n /= 10
	}
	did, crashes, claims, err := simulateDeaths(*seed, n, serverFaults{}, clientFaults{}, fullGrace)
	t.Logf("%d events, %d deaths, %d claims", did, crashes, claims)
	if err != nil {
		t.Fatal(err)
	}
	if claims < n/4000 || crashes < n/3000 {
		t.Error("that does not show much")
	}
}

// TestSearchFindsPlantedBugsOfRestarts makes sure that the search is not blind
// either.
func TestSearchFindsPlantedBugsOfRestarts(t *testing.T) {
	if underRace {
		t.Log("only the simulation looks for planted bugs under the race detector")
		return
	}
	for _, c := range []struct {
		name  string
		in    scope
		cf    clientFaults
		grace func(time.Duration) time.Duration
	}{
		{"grace shorter than the TTL", restartScopes[0], clientFaults{}, func(mark time.Duration) time.Duration { return mark - time.Second }},
		{"no claims", restartScopes[1], clientFaults{noClaims: true}, nil},
		{"claim after release", restartScopes[0], clientFaults{claimReleased: true}, nil},
		{"claim counted from receipt", restartScopes[0], clientFaults{fromReceipt: true}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSearch(c.in, serverFaults{}, c.cf)
			s.grace, s.until = c.grace, time.Now().Add(2*time.Minute)
			err := s.run()
			if err == nil || errors.Is(err, errTooLong) {
				t.Fatalf("not found in %d states: %v", len(s.seen), err)
			}
			t.Logf("found after %d states: %v\nby %v", len(s.seen), err, s.path)
		})
	}
}

// TestSimulationFindsPlantedBugsOfRestarts makes sure that it is not blind.
func TestSimulationFindsPlantedBugsOfRestarts(t *testing.T) {
	for _, c := range []struct {
		name  string
		sf    serverFaults
		cf    clientFaults
		grace func(time.Duration) time.Duration
	}{
		{"no grace", serverFaults{}, clientFaults{}, func(time.Duration) time.Duration { return 0 }},
		{"grace shorter than the TTL", serverFaults{}, clientFaults{}, func(mark time.Duration) time.Duration { return mark / 2 }},
		{"no claims", serverFaults{}, clientFaults{noClaims: true}, fullGrace},
		{"claim after release", serverFaults{}, clientFaults{claimReleased: true}, fullGrace},
		{"loss told after a later answer", serverFaults{lostLate: true}, clientFaults{}, fullGrace},
		{"claim counted from receipt", serverFaults{}, clientFaults{fromReceipt: true}, fullGrace},
	} {
		t.Run(c.name, func(t *testing.T) {
			did, crashes, _, err := simulateDeaths(1, 3_000_000, c.sf, c.cf, c.grace)
			if err == nil {
				t.Fatalf("not found in %d events", did)
			}
			t.Logf("found after %d events, %d deaths: %v", did, crashes, err)
		})
	}
}
