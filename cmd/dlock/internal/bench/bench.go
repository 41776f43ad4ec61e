//go:build unix

package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/distributed-go/distributed/internal/figures"
	"github.com/distributed-go/distributed/internal/measure"
	"github.com/distributed-go/distributed/internal/proc"
)

// Run measures everything, which takes about a minute, until ctx ends.
func Run(ctx context.Context, o Options) (*Report, error) {
	s := &stage{Options: o.withDefaults()}
	defer s.close()
	report, err := s.run(ctx)
	if ended := context.Cause(ctx); ended != nil {
		return nil, ended // and not what came of it
	}
	return report, err
}

func (s *stage) run(ctx context.Context) (*Report, error) {
	began := time.Now()
	r := &Report{Time: began.UTC().Truncate(time.Second), Machine: measure.ThisMachine(), Block: s.Block.String(), Rounds: s.Rounds}
	s.Progress(0, "starting servers")
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	r.Server = s.server()
	s.steps = (2*(2*s.Rounds+1)+s.Rounds+1)*3 + (s.Rounds+1)*7 // turns, about
	others, err := s.watch(ctx)
	if err != nil {
		return nil, err
	}
	for _, series := range []func(context.Context) ([]Row, error){s.one, s.oneCore, s.many, s.oneKey} {
		rows, err := series(ctx)
		if err != nil {
			return nil, err
		}
		r.Rows = append(r.Rows, rows...)
	}
	if r.Held, err = s.held(ctx); err != nil {
		return nil, err
	}
	if r.Others, err = others(); err != nil {
		return nil, err
	}
	r.Seconds = time.Since(began).Seconds()
	return r, nil
}

// watch returns a function that says what share of the processor time that was
// used on the machine since then others used.
func (s *stage) watch(ctx context.Context) (others func() (*float64, error), err error) {
	before, known := proc.MachineCPU()
	used, err := s.used(ctx)
	return func() (*float64, error) {
		after, _ := proc.MachineCPU()
		ours, err := s.used(ctx)
		busy := after.Sub(before).Busy
		if err != nil || !known || busy <= 0 {
			return nil, err
		}
		share := max(1-float64(ours-used)/float64(busy), 0)
		return &share, nil
	}, err
}

// used is the processor time that all our processes have used.
func (s *stage) used(ctx context.Context) (time.Duration, error) {
	sum := proc.CPU()
	for _, p := range s.servers() {
		d, err := p.CPU(ctx)
		if err != nil {
			return 0, err
		}
		sum += d
	}
	return sum, nil
}

// servers are our server processes.
func (s *stage) servers() []*proc.Process {
	ps := []*proc.Process{s.echoes[0].server, s.echoes[1].server}
	if s.own != nil {
		ps = append(ps, s.own)
	}
	return ps
}

// one is lock and unlock by one goroutine.
func (s *stage) one(ctx context.Context) ([]Row, error) {
	r, err := s.alone(ctx, "1 goroutine")
	return []Row{r}, err
}

// oneCore is the same with client and server on one processor, which is the
// quietest figure there is.
func (s *stage) oneCore(ctx context.Context) ([]Row, error) {
	const name = "1 goroutine, all on one core"
	if s.own == nil {
		return []Row{{Name: name, Missing: "the server is none of ours to pin"}}, nil
	}
	pids := []int{os.Getpid()}
	for _, p := range s.servers() {
		pids = append(pids, p.PID())
	}
	unpin, err := pin(pids...)
	if err != nil {
		return []Row{{Name: name, Missing: err.Error()}}, nil
	}
	r, err := s.alone(ctx, name)
	return []Row{r}, errors.Join(err, unpin())
}

func (s *stage) alone(ctx context.Context, name string) (Row, error) {
	ours, yards := s.mutexes(1, false), s.yards(1, false)
	if err := s.turns(ctx, 2*s.Rounds, name, ours, yards[0], yards[1]); err != nil {
		return Row{}, err
	}
	typical := (*measure.Block).Typical
	r := row(name, "Mutex", "µs", "two round trips of the echo", ours, typical, yards, typical)
	r.P99 = figures.Known(ours.All(func(b *measure.Block) figures.Sample { return b.Each }).Quantile(0.99))
	return r, nil
}

// many is lock and unlock by a crowd, each with a key of its own.
func (s *stage) many(ctx context.Context) ([]Row, error) {
	name := fmt.Sprintf("%d goroutines, a key each", crowd)
	ours, yards := s.mutexes(crowd, true), s.yards(crowd, true)
	cs := append([]*measure.Contestant{ours}, yards...)
	var base *measure.Contestant
	if s.own != nil {
		c, hangUp, err := s.baseline(crowd)
		if err != nil {
			return nil, err
		}
		defer hangUp()
		base = c
		cs = append(cs, c)
	}
	if err := s.turns(ctx, s.Rounds, name, cs...); err != nil {
		return nil, err
	}
	rate := (*measure.Block).Rate
	const limit = "the echo, pipelined"
	rows := []Row{row(name, "Mutex", "/s", limit, ours, rate, yards, rate)}
	if base != nil {
		r := row("the same by hand, "+base.Name, base.Name, "/s", limit, base, rate, yards, rate)
		r.Rival = true
		rows = append(rows, r)
	}
	return rows, nil
}
