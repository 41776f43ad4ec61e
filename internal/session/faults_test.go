package session

import (
	"testing"
	"time"
)

// A planted is a bug that the searches have to find.
type planted struct {
	name   string
	server serverFaults
	client clientFaults
}

var plantedBugs = []planted{
	{"ids reused", serverFaults{anyID: true}, clientFaults{reuseIDs: true}},
	{"beat counted before n", serverFaults{}, clientFaults{beatBeforeN: true}},
	{"no sync", serverFaults{}, clientFaults{noSync: true}},
	{"sync drops nothing", serverFaults{noDrop: true}, clientFaults{}},
	{"stale connection wins", serverFaults{staleWins: true}, clientFaults{}},
	{"beat renews uncollected grant", serverFaults{beatRenewsTickets: true}, clientFaults{}},
	{"lease answered again keeps its old end", serverFaults{oldTTLAgain: true}, clientFaults{}},
	{"loss told after a later answer", serverFaults{lostLate: true}, clientFaults{}},
	{"passed-over waiter loses its place", serverFaults{placeLost: true}, clientFaults{}},
	{"grant to the absent", serverFaults{grantToAbsent: true}, clientFaults{}},
	{"lease counted from receipt", serverFaults{}, clientFaults{fromReceipt: true}},
	{"sync before all holds are named", serverFaults{}, clientFaults{syncEarly: true}},
	{"unanswered requests forgotten", serverFaults{}, clientFaults{forgetPending: true}},
	{"cancel lost", serverFaults{}, clientFaults{cancelLost: true}},
	{"grant to nobody kept", serverFaults{}, clientFaults{keepGrants: true}},
	{"release resurrected", serverFaults{}, clientFaults{heldAgain: true}},
	{"answers of old connections count", serverFaults{}, clientFaults{lateAnswers: true}},
	{"delayed hello displaces its own client", serverFaults{anyAttempt: true}, clientFaults{}},
	{"nothing left for drift", serverFaults{}, clientFaults{noDrift: true}},
}

// TestSimulationFindsPlantedBugs makes sure that the simulation is not blind.
func TestSimulationFindsPlantedBugs(t *testing.T) {
	for _, p := range plantedBugs {
		t.Run(p.name, func(t *testing.T) {
			began := time.Now()
			did, _, _, _, err := simulate(1, 3_000_000, p.server, p.client)
			if err == nil {
				t.Fatalf("not found in %d events", did)
			}
			t.Logf("found after %d events, %v: %v", did, time.Since(began).Round(time.Millisecond), err)
		})
	}
}
