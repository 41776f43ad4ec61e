package datadir

import (
	"errors"
	"flag"
	"fmt"
	"testing"
	"time"
)

var (
	events = flag.Int("events", 60_000, "how many events to simulate")
	seed   = flag.Uint64("seed", 1, "the first seed of the simulation")
)

// episode is the number of events of one world.
const episode = 400

// run plays n events.
func (w *world) run(n int) error {
	w.boot()
	for ; n > 0 && w.bad == nil; n-- {
		var err error
		stopped := false
		died := w.live(func() {
			switch r := w.random.IntN(100); {
			case r < 40:
				err = w.write()
			case r < 42:
				panic(crashed{power: w.chance(1, 2)})
			case r < 43 && !w.failed:
				err, stopped = w.stop(), true
			default:
				w.act()
			}
		})
		switch {
		case err != nil && !errors.Is(err, errDisk):
			w.failf("%w", err)
		case died != nil || stopped:
			w.crash(died)
			w.boot()
		}
	}
	if w.bad == nil {
		w.image(w.disk.cut(w.random), false)
	}
	return w.bad
}

// simulate plays worlds until one went wrong or all events are over.
func simulate(first uint64, events int, f faults) (did int, total world, err error) {
	for s := first; did < events && err == nil; s++ {
		w := newWorld(s, f)
		if err = w.run(episode); err != nil {
			err = fmt.Errorf("seed %d: %w", s, err)
		}
		did += episode
		c, t := w.count, &total.count
		t.images += c.images
		t.damages += c.damages
		t.refused += c.refused
		t.updates += c.updates
		t.boots += c.boots
		t.cleans += c.cleans
		t.cuts += c.cuts
		t.kills += c.kills
		t.fails += c.fails
	}
	return did, total, err
}

// TestPowerCuts plays long histories of servers that are killed, lose power, or
// see writes and syncs fail, at every operation on the disk, and looks at images
// of the disk before every one: each must be recovered to a state that covers all
// that anybody was told, or refused if a byte, an end or a file of it is missing.
func TestPowerCuts(t *testing.T) {
	n := *events
	if testing.Short() {
		n /= 10
	}
	began := time.Now()
	did, total, err := simulate(*seed, n, faults{})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d events in %v: %+v", did, time.Since(began).Round(time.Millisecond), total.count)
	c := total.count
	if c.images < 500 || c.damages < 100 || c.refused == 0 || c.cleans == 0 || c.cuts == 0 || c.kills == 0 || c.fails == 0 || c.updates < 100 {
		t.Error("something never happened: does the simulation still look?")
	}
}

// TestSimulationFindsPlantedBugs makes sure that the simulation is not blind.
func TestSimulationFindsPlantedBugs(t *testing.T) {
	for name, f := range map[string]faults{
		"write without sync":               {noSync: true},
		"names not synced":                 {noDirSync: true},
		"one slot only":                    {oneSlot: true},
		"slots in turn":                    {pingPong: true},
		"checksum ignored":                 {unchecked: true},
		"older generation accepted":        {olderWins: true},
		"missing file taken as empty":      {missingIsEmpty: true},
		"identity before the rest":         {identityFirst: true},
		"slots left as they were found":    {noSettle: true},
		"failed sync tried again":          {syncAgain: true},
		"clean stop not taken back":        {staysClean: true},
		"ceiling relied on before sync":    {ceilingEarly: true},
		"fence from the clock alone":       {clockAlone: true},
		"mark lowered early":               {lowerEarly: true},
		"falling mark still lets in":       {lowerForgets: true},
		"mark forgets earlier starts":      {noCarry: true},
		"record relied on before sync":     {recordEarly: true},
		"clean stop while claims may come": {cleanInGrace: true},
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			did, _, err := simulate(1, 1_000_000, f)
			if err == nil {
				t.Fatalf("not found in %d events", did)
			}
			t.Logf("found after %d events, %v: %v", did, time.Since(began).Round(time.Millisecond), err)
		})
	}
}
