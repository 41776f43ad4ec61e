//go:build linux

package etcdcluster

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/distributed-go/distributed/e2e/internal/size"
	"github.com/distributed-go/distributed/e2e/internal/witness"
)

// A schedule puts a rig under faults, each kind as often as the others, in a
// random order.
type schedule struct {
	*rig
	keys    []string
	windows []window
	todo    []faultKind
}

// A faultKind is one kind of fault. Run begins it and ends it; the kinds with two
// members at once call alone, once there is no quorum.
type faultKind struct {
	name string
	run  func(s *schedule, alone func()) error
}

var faultKinds = []faultKind{
	{"member killed", func(s *schedule, _ func()) error { return s.harm(killing, s.some(1)) }},
	{"member stopped", func(s *schedule, _ func()) error { return s.harm(stopping, s.some(1)) }},
	{"leader moved", (*schedule).moveLeader},
	{"member cut off", func(s *schedule, _ func()) error { return s.harm(cuttingOff, s.some(1)) }},
	{"two at once", (*schedule).twoAtOnce},
	{"all killed", func(s *schedule, alone func()) error {
		return s.harmAll([]harm{killing, killing, killing}, s.some(members), alone)
	}},
	{"client stopped", (*schedule).stopClient},
	{"client killed", (*schedule).killClient},
}

// quiet is the kind of a window without a fault.
const quiet = "none"

// run goes on until its time is over.
func (s *schedule) run(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end) && s.ctx.Err() == nil; {
		if len(s.todo) == 0 {
			s.todo = append(s.todo, faultKinds...)
			s.random.Shuffle(len(s.todo), func(i, j int) { s.todo[i], s.todo[j] = s.todo[j], s.todo[i] })
		}
		kind := s.todo[0]
		s.todo = s.todo[1:]
		w := window{kind: kind.name, from: witness.Monotonic()}
		err := kind.run(s, func() { w.alone, w.without = true, witness.Monotonic() })
		w.to = witness.Monotonic()
		if err != nil {
			s.fail("failure", "%s: %v", kind.name, err)
			return
		}
		s.settle()
		w.end = witness.Monotonic()
		s.windows = append(s.windows, w)
		w = window{kind: quiet, from: w.end}
		pause(s.ctx, s.between(500*time.Millisecond, 1500*time.Millisecond))
		w.to = witness.Monotonic()
		w.end = w.to
		s.windows = append(s.windows, w)
	}
}

// settle waits until the cluster is whole, and everybody is served.
func (s *schedule) settle() {
	since := witness.Monotonic()
	if _, err := s.cluster.leader(serving); err != nil {
		s.fail("failure", "%v after the end of a fault: %v", serving, err)
	}
	s.granted(s.keys, since)
}

// some are members at random, more often than not with the leader.
func (s *schedule) some(n int) []int {
	order := s.random.Perm(members)
	if leader, ok := s.cluster.agreed(); ok && s.random.IntN(3) > 0 {
		for i, m := range order {
			if m == leader {
				order[0], order[i] = order[i], order[0]
			}
		}
	}
	return order[:n]
}

// A harm is what is done to a member, and undone.
type harm uint8

const (
	killing harm = iota
	stopping
	cuttingOff
	harms
)

// lasting is how long a fault lasts: longer than an election, and mostly longer
// than the TTL. Without -full there is no time for more.
func (s *schedule) lasting() time.Duration {
	if size.Full() {
		return s.between(time.Second, 7*time.Second)
	}
	return s.between(time.Second, 4*time.Second)
}

// harm does it to members, for a while.
func (s *schedule) harm(h harm, some []int) error {
	return s.harmAll([]harm{h}, some, func() {})
}

// harmAll does something to each of some members, for a while.
func (s *schedule) harmAll(what []harm, some []int, alone func()) error {
	how, deaf := held, s.random.IntN(3) > 0
	if s.random.IntN(2) == 0 {
		how = broken
	}
	for i, m := range some {
		switch what[i] {
		case killing:
			s.cluster.kill(m)
		case stopping:
			if err := s.cluster.freeze(m); err != nil {
				return err
			}
		case cuttingOff:
			s.cluster.cutOff(m, how, deaf)
		}
	}
	alone()
	pause(s.ctx, s.lasting())
	if len(some) == 1 && s.random.IntN(2) == 0 {
		s.cluster.compact()
	}
	s.cluster.heal()
	var problems []error
	for i, m := range some {
		switch what[i] {
		case killing:
			problems = append(problems, s.cluster.start(m))
		case stopping:
			problems = append(problems, s.cluster.thaw(m))
		}
	}
	return errors.Join(problems...)
}

// twoAtOnce takes the quorum away, in any way.
func (s *schedule) twoAtOnce(alone func()) error {
	what := []harm{harm(s.random.IntN(int(harms))), harm(s.random.IntN(int(harms)))}
	return s.harmAll(what, s.some(2), alone)
}

// moveLeader makes another member the leader.
func (s *schedule) moveLeader(func()) error {
	leader, err := s.cluster.leader(serving)
	if err != nil {
		return err
	}
	return s.cluster.move(leader, (leader+1+s.random.IntN(members-1))%members)
}

// stopClient stops a worker for longer than its leases last.
func (s *schedule) stopClient(func()) error {
	p := s.workers[s.random.IntN(len(s.workers))]
	if err := p.Freeze(); err != nil {
		return err
	}
	pause(s.ctx, s.between(clusterTTL+500*time.Millisecond, 2*clusterTTL))
	return p.Signal(syscall.SIGCONT)
}

// killClient kills a worker, and starts another in its place.
func (s *schedule) killClient(func()) error {
	i := s.random.IntN(len(s.workers))
	p := s.workers[i]
	p.Kill()
	s.workers = append(s.workers[:i], s.workers[i+1:]...)
	pause(s.ctx, s.between(0, clusterTTL))
	if _, err := s.start(workerArgs{TTL: clusterTTL, Lanes: p.args.Lanes}); err != nil {
		return fmt.Errorf("in the place of %s: %w", p.args.Name, err)
	}
	return nil
}
