package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/distributed-go/distributed/internal/figures"
	"github.com/distributed-go/distributed/internal/measure"
	"github.com/distributed-go/distributed/internal/proc"
)

// A plan is how much is measured.
type plan struct {
	oneRounds    int
	manyRounds   int
	manyBlock    time.Duration
	fightRounds  int
	fightBlock   time.Duration
	locks        int
	lossPatience time.Duration
	systems      []*system
}

// fullPlan takes about five minutes.
var fullPlan = plan{
	oneRounds: 40, manyRounds: 24, manyBlock: 200 * time.Millisecond, fightRounds: 12, fightBlock: time.Second,
	locks: 10_000, lossPatience: 15 * time.Second, systems: systems,
}

// quickPlan shows that everything works.
var quickPlan = plan{
	oneRounds: 1, manyRounds: 1, manyBlock: 20 * time.Millisecond, fightRounds: 1, fightBlock: 200 * time.Millisecond,
	locks: 200, lossPatience: 100 * time.Millisecond, systems: systems,
}

// A match is a system with its processes.
type match struct {
	*system
	server *backend
	client *proc.Process
}

// meet starts the processes of a system.
func meet(ctx context.Context, s *system, dir string) (*match, error) {
	server, err := s.serve(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	cmd, err := proc.InRole("client")
	if err == nil {
		var client *proc.Process
		client, err = proc.Launch(ctx, cmd, "client of "+s.name, clientArgs{s.name, server.addr}, nil)
		if err == nil {
			return &match{s, server, client}, nil
		}
	}
	server.kill()
	return nil, err
}

func (m *match) end() {
	m.client.Kill()
	m.server.kill()
}

// A runner runs a plan.
type runner struct {
	plan
	dir      string
	matches  []*match
	progress func(what string)
}

func (r *runner) run(ctx context.Context) (*report, error) {
	began := time.Now()
	rep := &report{Time: began.UTC().Truncate(time.Second), Machine: measure.ThisMachine()}
	before, known := proc.MachineCPU()
	defer func() {
		for _, m := range r.matches {
			m.end()
		}
	}()
	for i, s := range r.systems {
		dir := filepath.Join(r.dir, fmt.Sprint("system-", i))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, err
		}
		m, err := meet(ctx, s, dir)
		if err != nil {
			return nil, err
		}
		r.matches = append(r.matches, m)
		rep.Systems = append(rep.Systems, &result{Name: s.name, Note: s.note, system: s})
	}
	for _, part := range []func(context.Context, *report) error{r.one, r.many, r.fight, r.held, r.loss} {
		if err := part(ctx, rep); err != nil {
			return nil, err
		}
	}
	if after, _ := proc.MachineCPU(); known {
		if others, err := r.others(ctx, after.Sub(before).Busy); err == nil {
			rep.Others = &others
		}
	}
	rep.judge()
	rep.Seconds = time.Since(began).Seconds()
	return rep, nil
}

// others is what share of the processor time that the machine was busy was none
// of ours. All our processes began in the run.
func (r *runner) others(ctx context.Context, busy time.Duration) (float64, error) {
	ours := proc.CPU()
	for _, m := range r.matches {
		server, err1 := m.server.cpu(ctx)
		client, err2 := cpuOf(m.client.PID()) // also of one that is stuck
		if err := errors.Join(err1, err2); err != nil {
			return 0, err
		}
		ours += server + client
	}
	return max(1-float64(ours)/float64(busy), 0), nil
}

// turns has all systems take turns in a call of their clients.
func (r *runner) turns(ctx context.Context, what string, rounds int, call string, args any) ([]*measure.Contestant, error) {
	cs := make([]*measure.Contestant, len(r.matches))
	for i, m := range r.matches {
		cs[i] = &measure.Contestant{Name: m.name, ServerCPU: m.server.cpu, Turn: func(ctx context.Context) (measure.Block, error) {
			var b measure.Block
			err := m.client.Call(ctx, call, args, &b)
			return b, err
		}}
	}
	total, done := (rounds+1)*len(cs), 0
	return cs, measure.InTurns(ctx, rounds, cs, func() {
		done++
		r.progress(fmt.Sprintf("%s: %d %%", what, 100*done/total))
	})
}

func (r *runner) one(ctx context.Context, rep *report) error {
	cs, err := r.turns(ctx, "1 goroutine", r.oneRounds, "one", onePairs)
	if err != nil {
		return err
	}
	typical := (*measure.Block).Typical
	for i, c := range cs {
		rep.Systems[i].One = figure(c, typical, cs[0], typical)
		rep.Systems[i].One.P99 = figures.Known(c.All(pairTimes).Quantile(0.99))
	}
	return nil
}

func (r *runner) many(ctx context.Context, rep *report) error {
	cs, err := r.turns(ctx, fmt.Sprintf("%d goroutines, a key each", crowd), r.manyRounds, "many", r.manyBlock)
	if err != nil {
		return err
	}
	rate := (*measure.Block).Rate
	for i, c := range cs {
		rep.Systems[i].Many = figure(c, rate, cs[0], rate)
	}
	return nil
}

func (r *runner) fight(ctx context.Context, rep *report) error {
	cs, err := r.turns(ctx, fmt.Sprintf("%d goroutines, one key", few), r.fightRounds, "fight", r.fightBlock)
	if err != nil {
		return err
	}
	rate := (*measure.Block).Rate
	for i, c := range cs {
		changes := rate // of the echo: pairs of one goroutine
		if r.matches[i].dial != nil {
			changes = (*measure.Block).ChangeRate
		}
		f := figure(c, changes, cs[0], rate)
		f.P99 = figures.Known(c.All(handovers).Quantile(0.99))
		f.Fairness = figures.Known(c.Fairness())
		rep.Systems[i].Fight = f
	}
	return nil
}

func (r *runner) held(ctx context.Context, rep *report) error {
	for i, m := range r.matches {
		if m.dial == nil {
			continue
		}
		r.progress(fmt.Sprintf("%d locks held: %s", r.locks, m.name))
		h, err := r.take(ctx, m)
		if err != nil {
			return err
		}
		rep.Systems[i].Held = h
	}
	return nil
}

// take holds many locks for a moment. A library that gets stuck at it is
// reported as such; its processes are of no more use then.
func (r *runner) take(ctx context.Context, m *match) (*heldReport, error) {
	limit, cancel := context.WithTimeout(ctx, takeTimeout)
	defer cancel()
	var h heldReport
	err := m.client.Call(limit, "take", r.locks, &h)
	if err == nil {
		err = m.client.Call(limit, "release", struct{}{}, &h.Released)
	}
	if err != nil && limit.Err() != nil && ctx.Err() == nil {
		return &heldReport{Locks: r.locks, Stuck: true}, nil
	}
	return &h, err
}

// takeTimeout is how long it may take to take and release many locks.
const takeTimeout = 20 * time.Second

// loss takes the servers away from holders, of all systems at once, because it
// is mostly waiting: killed, and then, of new ones, stopped.
func (r *runner) loss(ctx context.Context, rep *report) error {
	for _, how := range []string{"killed", "frozen"} {
		r.progress("servers " + how)
		var wg sync.WaitGroup
		errs := make([]error, len(r.systems))
		for i, s := range r.systems {
			if s.dial == nil {
				continue
			}
			wg.Go(func() {
				var l *lossReport
				if l, errs[i] = r.lose(ctx, s, how); how == "killed" {
					rep.Systems[i].Killed = l
				} else {
					rep.Systems[i].Frozen = l
				}
			})
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
	}
	return nil
}

// settle is for how long a lock was held before its server is taken away.
const settle = 2 * time.Second

func (r *runner) lose(ctx context.Context, s *system, how string) (*lossReport, error) {
	dir, err := os.MkdirTemp(r.dir, "loss-")
	if err != nil {
		return nil, err
	}
	m, err := meet(ctx, s, dir)
	if err != nil {
		return nil, err
	}
	defer m.end()
	l := &lossReport{Within: r.lossPatience.Seconds()}
	limit, cancel := context.WithTimeout(ctx, takeTimeout)
	defer cancel()
	if err := m.client.Call(limit, "hold", struct{}{}, &l.Tells); err != nil && limit.Err() != nil && ctx.Err() == nil {
		l.Stuck = true
		return l, nil
	} else if err != nil || !l.Tells {
		return l, err
	}
	time.Sleep(min(settle, r.lossPatience))
	began := time.Now()
	if how == "killed" {
		m.server.kill()
	} else if err := m.server.freeze(); err != nil {
		return nil, err
	}
	var at int64
	if err := m.client.Call(ctx, "lost", r.lossPatience, &at); err != nil {
		return nil, err
	}
	if at != 0 {
		l.After = figures.Known(float64(at-began.UnixNano()) / 1e9)
	}
	return l, nil
}
