package session

import (
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/distributed-go/distributed/codec"
)

// publishes lets a program change the value of what it holds, or look at it.
func (s *simulation) publishes(a *actor, t *task) {
	keep := time.Duration(0)
	if s.chance(1, 3) {
		keep = time.Duration(1 + s.random.Int64N(int64(5*time.Second)))
	}
	switch s.random.IntN(6) {
	case 0:
		s.change(a, t, codec.Delete, 0)
	case 1:
		a.client.Do(a.now, &Call{Request: codec.Request{Command: codec.Get, Key: []byte(t.hold.Key)}})
	default:
		s.change(a, t, codec.Put, keep)
	}
}

// writes lets the disk get on, or fail.
func (s *simulation) writes() bool {
	keys := slices.Sorted(maps.Keys(s.kept.writes))
	if len(keys) == 0 {
		return false
	}
	if s.chance(1, 500) {
		s.kept.failed, *s.kept.refuse = true, s.chance(1, 2)
	}
	s.write(keys[s.random.IntN(len(keys))])
	return true
}

func (s *simulation) writesAll() (some bool) {
	for len(s.kept.writes) > 0 {
		s.write(slices.Sorted(maps.Keys(s.kept.writes))[0])
		some = true
	}
	return some
}

// The bugs of values, which the simulation has to find.
var plantedInValues = []planted{
	{"join answered with an older value", serverFaults{anyValue: true}, clientFaults{}},
	{"put after the lease has ended", serverFaults{oldToken: true}, clientFaults{}},
	{"repeated put takes another fence", serverFaults{putAgain: true}, clientFaults{}},
	{"outcomes forgotten at the first beat", serverFaults{forgetEarly: true}, clientFaults{}},
	{"pending put seen", serverFaults{seenEarly: true}, clientFaults{}},
	{"put answered before it is on disk", serverFaults{okEarly: true}, clientFaults{}},
	{"two joiners led", serverFaults{twoLeaders: true}, clientFaults{}},
	{"volatile put over what is on disk", serverFaults{coverDisk: true}, clientFaults{}},
}

// TestSimulationFindsPlantedBugsOfValues makes sure that the simulation is not
// blind there either.
func TestSimulationFindsPlantedBugsOfValues(t *testing.T) {
	for _, p := range plantedInValues {
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

// TestSimulationOfValues plays worlds of which all keep values, half of them with a
// disk, and half with deaths.
func TestSimulationOfValues(t *testing.T) {
	n, did, crashes := *events, 0, 0
	if underRace {
		n /= 10
	}
	var sum ledger
	for i := *seed; did < n; i++ {
		seed := i/2*3 + 1 + i%2
		s := newSimulation(seed, 2+int(i%4), serverFaults{}, clientFaults{}) //nolint:gosec // it is small
		if i/2%2 == 0 {
			s.dies = []int{300, 1000, 2000}[s.random.IntN(3)]
		}
		if err := s.run(episode); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		did, crashes = did+s.did, crashes+s.crashes
		sum.settled, sum.joined, sum.again = sum.settled+s.kept.settled, sum.joined+s.kept.joined, sum.again+s.kept.again
		sum.volatile += s.kept.volatile
	}
	t.Logf("%d events, %d changes, %d of them volatile puts, %d joins answered with values, %d requests answered from memory, %d deaths",
		did, sum.settled, sum.volatile, sum.joined, sum.again, crashes)
	if sum.volatile < n/10000 || sum.settled < n/300 || sum.joined < n/2000 || sum.again < n/20000 {
		t.Error("that does not show much")
	}
}

// Value scopes are those with values.
var valueScopes = []scope{
	{
		name: "one leads, one joins", ttl: 3 * time.Second, ticks: 3, flight: 2, pipes: 1, durable: true,
		budgets: []budget{{joins: 1, puts: 1, releases: 1}, {joins: 1, releases: 1}},
	},
	{
		name: "two puts, one break", ttl: 3 * time.Second, flight: 2, pipes: 1, durable: true,
		budgets: []budget{{locks: 1, puts: 2, kills: 1, beats: 1}, {joins: 1}},
	},
	{
		name: "a put and a removal, one cut", ttl: 3 * time.Second, flight: 3, pipes: 2, durable: true,
		budgets: []budget{{locks: 1, puts: 1, dels: 1, cuts: 1}},
	},
	{
		name: "two join, one break", ttl: 3 * time.Second, flight: 2, pipes: 1,
		budgets: []budget{{joins: 1, puts: 1, releases: 1}, {joins: 1, kills: 1}, {joins: 1}},
	},
	{
		name: "a put and a death", ttl: 2 * time.Second, ticks: 2, flight: 1, pipes: 1, deaths: 1, durable: true,
		budgets: []budget{{locks: 1, puts: 1}, {joins: 1}},
	},
}

// wideValueScopes take minutes each: -full.
var wideValueScopes = []scope{
	{
		name: "two puts and a release, one break", ttl: 3 * time.Second, ticks: 1, flight: 3, pipes: 1, durable: true,
		budgets: []budget{{locks: 1, puts: 2, kills: 1, beats: 1, releases: 1}, {joins: 1}},
	},
	{
		name: "a put and a death, longer", ttl: 3 * time.Second, ticks: 4, flight: 2, pipes: 1, deaths: 1, durable: true,
		budgets: []budget{{locks: 1, puts: 1, releases: 1}, {joins: 1}},
	},
	{
		name: "three join, one puts", ttl: 3 * time.Second, ticks: 4, flight: 2, pipes: 1, durable: true,
		budgets: []budget{{joins: 1, puts: 1, releases: 1}, {joins: 1, puts: 1, cuts: 1}, {joins: 1}},
	},
	{
		name: "puts, a removal and two breaks", ttl: 3 * time.Second, ticks: 2, flight: 3, pipes: 2, durable: true,
		budgets: []budget{{locks: 1, puts: 2, dels: 1, kills: 1, cuts: 1, beats: 2, releases: 1}, {joins: 1}},
	},
}

// TestSearchFindsPlantedBugsOfValues makes sure that the search is not blind there
// either.
func TestSearchFindsPlantedBugsOfValues(t *testing.T) {
	if underRace {
		t.Log("only the simulation looks for planted bugs under the race detector")
		return
	}
	for bug, in := range map[string]scope{
		"put after the lease has ended":        valueScopes[0],
		"repeated put takes another fence":     valueScopes[1],
		"outcomes forgotten at the first beat": valueScopes[1],
		"pending put seen":                     valueScopes[0],
		"put answered before it is on disk":    valueScopes[0],
		"two joiners led":                      valueScopes[3],
		"join answered with an older value":    valueScopes[1],
	} {
		t.Run(bug, func(t *testing.T) {
			i := slices.IndexFunc(plantedInValues, func(p planted) bool { return p.name == bug })
			s := newSearch(in, plantedInValues[i].server, plantedInValues[i].client)
			began := time.Now()
			s.until = began.Add(2 * time.Minute)
			err := s.run()
			if err == nil || errors.Is(err, errTooLong) {
				t.Fatalf("not found in %d states: %v", len(s.seen), err)
			}
			t.Logf("found after %d states, %v: %v\nby %v", len(s.seen), time.Since(began).Round(time.Millisecond), err, s.path)
		})
	}
}
