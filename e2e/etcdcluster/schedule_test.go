//go:build linux

package etcdcluster

import (
	"errors"
	"flag"
	"fmt"
	"regexp"
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
	note    string // whom the fault under way hits, and how
}

// A faultKind is one kind of fault. Run begins it and ends it; the kinds with two
// members at once call alone: with true once there is no quorum, and with false
// before there may be one again.
type faultKind struct {
	name string
	run  func(s *schedule, alone func(bool)) error
}

var faultKinds = []faultKind{
	{"member killed", func(s *schedule, _ func(bool)) error { return s.harm(killing, s.some(1)) }},
	{"member stopped", func(s *schedule, _ func(bool)) error { return s.harm(stopping, s.some(1)) }},
	{"leader moved", (*schedule).moveLeader},
	{"member cut off", func(s *schedule, _ func(bool)) error { return s.harm(cuttingOff, s.some(1)) }},
	{"two at once", (*schedule).twoAtOnce},
	{"all killed", func(s *schedule, alone func(bool)) error {
		return s.harmAll([]harm{killing, killing, killing}, s.some(members), alone)
	}},
	{"client stopped", (*schedule).stopClient},
	{"client killed", (*schedule).killClient},
}

var kindsFlag = flag.String("kinds", "", "put the cluster under faults of kinds whose names this regular expression matches, alone")

func chosenKinds() (kinds []faultKind) {
	for _, k := range faultKinds {
		if regexp.MustCompile(*kindsFlag).MatchString(k.name) {
			kinds = append(kinds, k)
		}
	}
	return kinds
}

// quiet is the kind of a window without a fault.
const quiet = "none"

// run goes on until its time is over.
func (s *schedule) run(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end) && s.ctx.Err() == nil; {
		if len(s.todo) == 0 {
			s.todo = chosenKinds()
			s.random.Shuffle(len(s.todo), func(i, j int) { s.todo[i], s.todo[j] = s.todo[j], s.todo[i] })
		}
		kind := s.todo[0]
		s.todo = s.todo[1:]
		w := window{kind: kind.name, from: witness.Monotonic()}
		s.note = ""
		err := kind.run(s, func(none bool) {
			if none {
				w.without = witness.Monotonic()
			} else {
				w.again = witness.Monotonic()
			}
		})
		w.to = witness.Monotonic()
		if err != nil {
			s.fail("failure", "%s: %v", kind.name, err)
			return
		}
		s.settle()
		w.end = witness.Monotonic()
		w.note = s.note
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

// lasting is how long a fault lasts: longer than an election, and with -full mostly
// longer than the TTL. Without it, it is shorter: what a leader that was stopped for
// longer does to live leases no client can prevent, and TestStoppedLeader counts it.
func (s *schedule) lasting() time.Duration {
	if size.Full() {
		return s.between(time.Second, 7*time.Second)
	}
	return s.between(time.Second, clusterTTL-500*time.Millisecond)
}

// harm does it to members, for a while.
func (s *schedule) harm(h harm, some []int) error {
	return s.harmAll([]harm{h}, some, func(bool) {})
}

// harmAll does something to each of some members, for a while.
func (s *schedule) harmAll(what []harm, some []int, alone func(bool)) error {
	leader, _ := s.cluster.agreed()
	how, deaf := held, s.random.IntN(3) > 0
	if s.random.IntN(2) == 0 {
		how = broken
	}
	s.note = fmt.Sprintf("members %v, of which %d leads, how %v; cuts how %d, from clients too %t", some, leader, what, how, deaf)
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
	alone(true)
	pause(s.ctx, s.lasting())
	if len(some) == 1 && s.random.IntN(2) == 0 {
		s.cluster.compact()
	}
	alone(false)
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
func (s *schedule) twoAtOnce(alone func(bool)) error {
	what := []harm{harm(s.random.IntN(int(harms))), harm(s.random.IntN(int(harms)))}
	return s.harmAll(what, s.some(2), alone)
}

// moveLeader makes another member the leader.
func (s *schedule) moveLeader(func(bool)) error {
	leader, err := s.cluster.leader(serving)
	if err != nil {
		return err
	}
	return s.cluster.move(leader, (leader+1+s.random.IntN(members-1))%members)
}

// stopClient stops a worker for longer than its leases last.
func (s *schedule) stopClient(func(bool)) error {
	p := s.workers[s.random.IntN(len(s.workers))]
	s.note = p.args.Name
	if err := p.Freeze(); err != nil {
		return err
	}
	pause(s.ctx, s.between(clusterTTL+500*time.Millisecond, 2*clusterTTL))
	return p.Signal(syscall.SIGCONT)
}

// killClient kills a worker, and starts another in its place.
func (s *schedule) killClient(func(bool)) error {
	i := s.random.IntN(len(s.workers))
	p := s.workers[i]
	s.note = p.args.Name
	p.Kill()
	s.workers = append(s.workers[:i], s.workers[i+1:]...)
	pause(s.ctx, s.between(0, clusterTTL))
	if _, err := s.start(workerArgs{TTL: clusterTTL, Lanes: p.args.Lanes}); err != nil {
		return fmt.Errorf("in the place of %s: %w", p.args.Name, err)
	}
	return nil
}
