//go:build unix

package once

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/internal/proc"
	"github.com/distributed-go/distributed/once"
)

// A fleet is processes, each behind a gate of its own, that do one key after
// another. It has a goroutine to itself.
type fleet struct {
	t       *testing.T
	name    string
	server  *lockServer
	dir     string
	ttl     time.Duration
	proof   bool
	members []*member
	trials  int
}

// A member is a process of a fleet. Who is killed is replaced.
type member struct {
	name string
	gate *gate
	*proc.Process
}

// newFleet starts a fleet of n before a server. It is killed when the test ends.
func newFleet(t *testing.T, name string, n int, s *lockServer, ttl time.Duration, proof bool) *fleet {
	t.Helper()
	f := &fleet{t: t, name: name, server: s, dir: t.TempDir(), ttl: ttl, proof: proof, members: make([]*member, n)}
	var all sync.WaitGroup
	errs := make([]error, n)
	for i := range f.members {
		f.members[i] = &member{name: fmt.Sprintf("%s.%d", name, i), gate: startGate(t, s.args.Addr)}
		all.Go(func() { errs[i] = f.launch(f.members[i]) })
	}
	t.Cleanup(func() {
		for _, m := range f.members {
			if m.Process != nil {
				m.Kill()
			}
		}
	})
	all.Wait()
	assert.Sure(t, errors.Join(errs...))
	return f
}

// launch starts the process of a member.
func (f *fleet) launch(m *member) error {
	cmd, err := proc.InRole("worker")
	if err != nil {
		return err
	}
	p, err := proc.Launch(f.t.Context(), cmd, m.name, workerArgs{Name: m.name, Addr: m.gate.addr(), Dir: f.dir, TTL: f.ttl, Proof: f.proof}, nil)
	if err == nil {
		m.Process = p
	}
	return err
}

// key is one that was not used yet.
func (f *fleet) key() string {
	f.trials++
	return fmt.Sprintf("%s-%d", f.name, f.trials)
}

// A plan is what is to happen while a key is done.
type plan struct {
	point  string // where to act
	action string // empty: nothing happens
	server bool   // it is the server that dies
}

// wire says what a point of the wire means; false if it is one of a process.
func (p plan) wire() (what string, forward amount, ok bool) {
	rest, ok := strings.CutPrefix(p.point, "wire: ")
	if !ok {
		return "", none, false
	}
	what, how, _ := strings.Cut(rest, ", ")
	forward, ok = map[string]amount{"held back": none, "half": half, "sent": whole}[how]
	if !ok {
		panic("no such point: " + p.point)
	}
	return what, forward, true
}

// run does one key and returns what is to be judged.
func (f *fleet) run(p plan, work time.Duration) *trial {
	key := f.key()
	r := &running{fleet: f, plan: p, trial: &trial{key: key}}
	r.task = task{Key: key, Goroutines: goroutines, Handles: 4, Work: work, Point: p.point, Action: p.action}
	var acted chan struct{} // nil if no gate acts
	if what, forward, ok := p.wire(); ok {
		acted = make(chan struct{})
		act := func(g *gate) {
			defer close(acted)
			r.kill(g)
		}
		rule := &rule{what: what, key: once.Prefix + key, forward: forward, act: act}
		for _, m := range f.members {
			m.gate.arm(rule)
		}
		r.task.Point = ""
	}
	var all sync.WaitGroup
	for _, m := range f.members {
		all.Go(func() { r.member(m) })
	}
	all.Wait()
	r.settle(acted)
	r.end()
	return r.trial
}

// settle waits for what a gate has begun, which may come after the last answer to
// a call, and replaces who was killed after that.
func (r *running) settle(acted <-chan struct{}) {
	if acted == nil {
		return
	}
	select {
	case <-acted:
	case <-time.After(*limit / 4): // real time: nothing came to the point
		r.problem(fmt.Sprintf("nothing came to the point %q", r.plan.point))
	}
	for _, m := range r.members {
		select {
		case <-m.Ended():
			if err := r.launch(m); err != nil {
				r.problem(err.Error())
			}
		default:
		}
	}
}

// A running is a trial under way.
type running struct {
	*fleet
	plan plan
	task task

	mu    sync.Mutex
	trial *trial // guarded by mu
}

// kill is what a gate does when its rule is met.
func (r *running) kill(g *gate) {
	r.mu.Lock()
	r.trial.faults++
	r.mu.Unlock()
	if r.plan.server {
		r.restart()
		return
	}
	for _, m := range r.members {
		if m.gate == g {
			m.Kill()
		}
	}
}

// restart kills the server and starts it again, on the same port.
func (r *running) restart() {
	r.server.Kill()
	s, err := launchServer(r.fleet.t.Context(), r.server.args)
	if err != nil {
		r.problem("the server did not start again: " + err.Error())
		return
	}
	r.server.Process = s.Process
}

func (r *running) problem(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trial.other = append(r.trial.other, text)
}

// stuck notes that calls did not return.
func (r *running) stuck(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.trial.stuck = append(r.trial.stuck, err.Error())
}

// member has one process do the task. If that is killed another takes its place,
// and does it too.
func (r *running) member(m *member) {
	o, err := r.call(m, r.task)
	if err != nil {
		select {
		case <-m.Ended():
		case <-time.After(*limit / 4): // real time: it does not answer
			r.stuck(err)
			m.Kill()
		}
		m.Kill()
		r.mu.Lock()
		if _, _, wire := r.plan.wire(); !wire {
			r.trial.faults++ // by itself
		}
		r.mu.Unlock()
		if err := r.launch(m); err != nil {
			r.problem(err.Error())
			return
		}
		again := r.task
		again.Point = ""
		if o, err = r.call(m, again); err != nil {
			r.stuck(err)
			return
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.trial
	if o.Nils > 0 && (n.first == 0 || o.First < n.first) {
		n.first = o.First
	}
	n.nils += o.Nils
	n.lost += o.Lost
	n.doubts += o.Doubts
	n.failed += o.Failed
	n.other = append(n.other, o.Other...)
	if sum := o.Nils + o.Lost + o.Doubts + o.Failed + len(o.Other); sum != r.task.Goroutines {
		n.other = append(n.other, fmt.Sprintf("%s: %d calls returned of %d", m.name, sum, r.task.Goroutines))
	}
}

func (r *running) call(m *member, t task) (o outcome, err error) {
	ctx, cancel := context.WithTimeout(r.fleet.t.Context(), *limit)
	defer cancel()
	return o, m.Call(ctx, "do", t, &o)
}

// end collects what the ledger, the server and the gates say.
func (r *running) end() {
	n := r.trial
	n.faults += n.failed
	var err error
	if n.lines, err = ledgerOf(r.dir, n.key).read(); err != nil {
		n.other = append(n.other, err.Error())
	}
	var is once.Mark
	ctx, cancel := context.WithTimeout(r.fleet.t.Context(), *limit)
	defer cancel()
	if err := r.members[0].Call(ctx, "mark", n.key, &is); err != nil {
		n.other = append(n.other, err.Error())
	}
	n.marked = is.Fence
	for _, m := range r.members {
		m.gate.arm(nil)
		_, marks := m.gate.taken()
		for _, s := range marks {
			if s.key == once.Prefix+n.key {
				n.seen = append(n.seen, s.run)
			}
		}
	}
	if r.plan.action != "" && n.faults != 1 {
		n.other = append(n.other, fmt.Sprintf("%d faults at %q, want 1", n.faults, r.plan.point))
	}
}
