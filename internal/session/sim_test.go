package session

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/internal/table"
)

var (
	events = flag.Int("events", 1_000_000, "how many events to simulate")
	seed   = flag.Uint64("seed", 1, "the first seed of the simulation")
)

// episode is the number of events after which a simulated world comes to rest,
// is looked at, and ends. It is short enough for many different ones.
const episode = 5000

// A simulation plays a world by chance.
type simulation struct {
	*world
	random *rand.Rand
	cf     clientFaults
	did    int // events
	served int // holds that were taken
	cuts   int
	pace   time.Duration // the most that passes at once
	values bool          // programs put and join
	dies   int           // how many events there are for each death of the server; 0 is for none
}

func newSimulation(seed uint64, clients int, sf serverFaults, cf clientFaults) *simulation {
	s := &simulation{random: rand.New(rand.NewPCG(seed, 7)), cf: cf} //nolint:gosec // it repeats itself on purpose
	s.world = newNarrowWorld(clients, int(seed/2%3), sf, cf)
	s.pace = time.Duration(1+s.random.IntN(20)) * 50 * time.Millisecond
	if seed%3 > 0 { // in the others there is more of everything else
		s.values = true
		s.keepValues(seed%3 == 2)
		s.kept.survive = s.random.IntN
	}
	for _, a := range s.actors {
		// Up to one per cent slow or fast is what the deadline allows for.
		a.rate = []int64{990, 1000, 1010}[s.random.IntN(3)]
	}
	return s
}

func (s *simulation) chance(one, in int) bool { return s.random.IntN(in) < one }

// run plays n events and then brings the world to rest.
func (s *simulation) run(n int) error {
	for ; n > 0; n-- {
		s.step()
		if err := s.check(); err != nil {
			return fmt.Errorf("event %d at %v: %w", s.did, s.now, err)
		}
	}
	if err := s.rest(); err != nil {
		return fmt.Errorf("event %d at %v: %w", s.did, s.now, err)
	}
	return nil
}

// step makes one event happen.
func (s *simulation) step() {
	for done := false; !done; {
		switch r := s.random.IntN(200); {
		case r < 120:
			done = len(s.pipes) > 0 && s.deliver(s.pipes[s.random.IntN(len(s.pipes))], s.chance(1, 2))
		case r < 128:
			s.pass(time.Duration(s.random.Int64N(int64(s.pace))), s.chance(1, 3))
			done = true
		case r < 130:
			done = s.disturb()
		case r < 140:
			done = s.writes()
		default:
			done = s.act(s.actors[s.random.IntN(len(s.actors))])
		}
	}
	s.deaths()
	s.did++
	s.tidy()
}

func (s *simulation) deliver(p *pipe, up bool) bool {
	switch {
	case p.stalled > s.now:
		return false
	case up && s.canUp(p):
		s.deliverUp(p)
	case !up && s.canDown(p) && s.actors[p.actor].frozen <= s.now:
		s.deliverDown(p)
		s.settle(s.actors[p.actor])
	default:
		return false
	}
	if p.life--; p.life == 0 {
		s.cuts++
		s.kill(p, s.random.IntN(4), s.chance(1, 4))
	}
	return true
}

// disturb breaks something.
func (s *simulation) disturb() bool {
	a := s.actors[s.random.IntN(len(s.actors))]
	s.cuts++
	switch s.random.IntN(6) {
	case 0, 1:
		if a.pipe != nil {
			s.cut(a) // what is on the way may still arrive
		}
	case 2:
		if len(s.pipes) > 0 {
			s.kill(s.pipes[s.random.IntN(len(s.pipes))], s.random.IntN(4), s.chance(1, 2))
		}
	case 3:
		if len(s.pipes) > 0 {
			s.pipes[s.random.IntN(len(s.pipes))].stalled = s.now + time.Duration(s.random.Int64N(int64(15*time.Second)))
		}
	case 4:
		a.frozen = s.now + time.Duration(s.random.Int64N(int64(10*time.Second)))
	case 5:
		if s.chance(1, 5) {
			k := worldKeys[s.random.IntN(len(worldKeys))]
			s.server.table.Force(s.now, KindOf(&codec.Request{Semaphore: k.limit > 1}), []byte(k.name))
			s.server.Settle()
			// A force takes a lock from a program that still believes: that is
			// what it is for.
			s.forced[k.name] = s.table.Fence()
		}
	}
	return true
}

// act lets a program do something.
func (s *simulation) act(a *actor) bool {
	switch {
	case a.frozen > s.now:
		return false
	case a.over != "":
		s.begin(a)
	case a.pipe == nil && s.chance(1, 4):
		s.connect(a)
		if s.chance(1, 3) {
			a.pipe.life = 1 + s.random.IntN(12) // resumes are to be broken too
		}
	case a.pipe != nil && s.now >= a.nextBeat:
		a.client.Beat(a.now)
		a.nextBeat = s.now + a.client.BeatEvery()
	case len(a.tasks) < 3 && s.chance(1, 3):
		s.ask(a)
	case len(a.tasks) == 0:
		return false
	default:
		done := s.further(a, a.tasks[s.random.IntN(len(a.tasks))])
		s.settle(a)
		return done
	}
	return true
}

func (s *simulation) begin(a *actor) {
	if a.pipe != nil {
		a.pipe.clientOpen = false
	}
	a.begin(s.world, s.cf)
}

func (s *simulation) ask(a *actor) {
	k := max(0, s.random.IntN(2+len(worldKeys))-2) // the first is the most wanted
	command := codec.Lock
	if s.chance(1, 3) {
		command = codec.Enqueue
	}
	timeout := time.Duration(-1)
	switch s.random.IntN(6) {
	case 0:
		timeout = 0
	case 1:
		timeout = time.Duration(s.random.Int64N(int64(5 * time.Second)))
	}
	ttl := []time.Duration{2, 3, 6, 12}[s.random.IntN(4)] * time.Second
	if s.values && worldKeys[k].limit == 1 && s.chance(1, 2) {
		fresh := []time.Duration{0, 0, time.Duration(s.random.Int64N(int64(5 * time.Second))), codec.AnyAge}[s.random.IntN(4)]
		s.join(a, k, timeout, ttl, fresh)
		return
	}
	s.acquire(a, k, command, 1+s.random.IntN(worldKeys[k].limit), timeout, ttl)
}

// further takes a task one step further.
func (s *simulation) further(a *actor, t *task) bool {
	switch {
	case t.forget:
		return false
	case t.state == holding && s.dies > 0 && !a.client.Up() && s.chance(9, 10):
		return false // or else there would be little to claim
	case s.values && t.state == holding && !t.hold.Semaphore && s.chance(1, 3):
		s.publishes(a, t)
	case t.state == holding && s.chance(1, 3):
		s.served++
		s.release(a, t)
	case t.state == placed && s.chance(1, 2):
		if t.forget = s.chance(1, 20); t.forget {
			return true
		}
		timeout := time.Duration(-1)
		if s.chance(1, 4) {
			timeout = time.Duration(s.random.Int64N(int64(3 * time.Second)))
		}
		s.wait(a, t, timeout)
	case t.state != holding && !t.quit && s.chance(1, 12):
		s.cancel(a, t)
	default:
		return false
	}
	return true
}

// rest lets all disturbances end and all programs finish, and wants every one
// of them to be served and nothing to be left.
func (s *simulation) rest() error {
	for range 400 {
		s.pass(500*time.Millisecond, false)
		left := s.table.Held() + s.table.Waiting()
		s.forgetful()
		for _, a := range s.actors {
			a.frozen = 0
			switch {
			case a.over != "":
				s.begin(a)
			case a.pipe == nil:
				s.connect(a)
			}
			a.client.Beat(a.now)
			for _, t := range a.tasks {
				switch t.state {
				case holding:
					s.served++
					s.release(a, t)
				case placed:
					if !t.forget {
						s.wait(a, t, -1)
					}
				}
			}
			s.settle(a)
			left += len(a.tasks)
		}
		if err := s.deliverAll(); err != nil {
			return err
		}
		if left == 0 {
			return nil
		}
	}
	for _, a := range s.actors {
		if len(a.tasks) > 0 {
			return fmt.Errorf("not served: actor %d still has %d tasks, the first in state %d", a.index, len(a.tasks), a.tasks[0].state)
		}
	}
	return fmt.Errorf("orphan: %d are held and %d wait after all programs have ended", s.table.Held(), s.table.Waiting())
}

// forgetful takes tickets away from the programs that forgot them, once they are
// of no use any more: not before, because until then the client names them.
func (s *simulation) forgetful() {
	for _, a := range s.actors {
		if a.pipe == nil || a.pipe.link == nil || a.pipe.link.session == nil {
			continue
		}
		for _, t := range a.tasks {
			if c := a.pipe.link.session.calls[t.call.Request.ID]; t.forget && t.state == placed && (c == nil || c.lease.State() == table.Ended) {
				s.cancel(a, t)
			}
		}
		s.settle(a)
	}
}

func (s *simulation) deliverAll() error {
	for moved := true; moved; {
		moved = s.writesAll()
		for _, p := range s.pipes {
			p.stalled, p.life = 0, 0
			for s.canUp(p) {
				s.deliverUp(p)
				s.did++
				moved = true
			}
			for s.canDown(p) {
				s.deliverDown(p)
				s.settle(s.actors[p.actor])
				s.did++
				moved = true
			}
		}
		s.tidy()
		if err := s.check(); err != nil {
			return err
		}
	}
	return nil
}

// simulate plays episodes from the seed on until there were as many events, and
// returns a hash of all that happened.
func simulate(seed uint64, events int, sf serverFaults, cf clientFaults) (did, served, cuts int, hash uint64, err error) {
	for ; did < events; seed++ {
		s := newSimulation(seed, 2+int(seed%5), sf, cf)
		err := s.run(episode)
		did, served, cuts = did+s.did, served+s.served, cuts+s.cuts
		hash = hash*1099511628211 ^ s.hash
		if err != nil {
			return did, served, cuts, hash, fmt.Errorf("seed %d: %w", seed, err)
		}
	}
	return did, served, cuts, hash, nil
}

// TestSimulation plays large worlds by chance: many clients, delays, cuts at
// every message, half-open connections, frozen programs, clocks that differ.
func TestSimulation(t *testing.T) {
	began := time.Now()
	n := *events
	if underRace {
		n /= 10
	}
	did, served, cuts, hash, err := simulate(*seed, n, serverFaults{}, clientFaults{})
	t.Logf("%d events, %d holds, %d disturbances, hash %016x, %v", did, served, cuts, hash, time.Since(began).Round(time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	if served < n/1000 {
		t.Errorf("only %d holds: the simulation does not show much", served)
	}
}

// TestSimulationRepeats wants the same seed to be the same story.
func TestSimulationRepeats(t *testing.T) {
	_, _, _, one, _ := simulate(42, 20_000, serverFaults{}, clientFaults{})
	_, _, _, two, _ := simulate(42, 20_000, serverFaults{}, clientFaults{})
	_, _, _, other, _ := simulate(43, 20_000, serverFaults{}, clientFaults{})
	if one != two || one == other {
		t.Fatalf("hashes %x, %x and of another seed %x", one, two, other)
	}
}
