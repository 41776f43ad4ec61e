//go:build unix

package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/distributed-go/distributed"
	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/size"
	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/internal/echo"
	"github.com/distributed-go/distributed/internal/figures"
	"github.com/distributed-go/distributed/internal/measure"
	"github.com/distributed-go/distributed/internal/proc"
	"github.com/distributed-go/distributed/locker"
)

var (
	oneRounds  = size.New("one-rounds", 2, 400, "turns of one goroutine, 50 pairs for each contestant")
	manyRounds = size.New("many-rounds", 2, 40, "turns of 100 goroutines")
	manyMillis = size.New("many-ms", 20, 150, "milliseconds for each contestant in a turn of many goroutines")
)

const (
	// onePairs is how many pairs one goroutine makes before the next
	// contestant has its turn: few, so that what disturbs the machine for some
	// milliseconds disturbs all alike.
	onePairs = 50

	// many is the number of goroutines where there are many, and few where
	// they fight for one key.
	many = 100
	few  = 16
)

// TestMeasurePairs compares lock and unlock of a Mutex with two round trips of a
// bare echo: by one goroutine, by a hundred with a key each, and by sixteen that
// fight for one key. It is the core of what dlock bench measures, between
// processes of their own and as a part of the tests.
func TestMeasurePairs(t *testing.T) {
	d := time.Duration(manyMillis.Get()) * time.Millisecond
	one := func(pair measure.Pair) turn {
		return func(ctx context.Context) (measure.Block, error) { return measure.One(ctx, onePairs, pair) }
	}
	all := func(pairs ...measure.Pair) turn {
		return func(ctx context.Context) (measure.Block, error) { return measure.Many(ctx, d, pairs) }
	}
	t.Run("One", func(t *testing.T) {
		inTurns(t, oneRounds.Get(), (*measure.Block).Typical,
			locks(t, "Mutex, Lock + Unlock", func(ms []*distributed.Mutex) turn { return one(pairOf(ms[0])) }),
			echoes(t, "echo", 1, func(ps []measure.Pair) turn { return one(ps[0]) }),
			echoes(t, "echo, second copy", 1, func(ps []measure.Pair) turn { return one(ps[0]) }))
	})
	t.Run("Many", func(t *testing.T) {
		each := func(ps []measure.Pair) turn { return all(ps...) }
		inTurns(t, manyRounds.Get(), (*measure.Block).Rate,
			locks(t, "Mutex, a key each", func(ms []*distributed.Mutex) turn {
				var pairs []measure.Pair
				for _, m := range ms {
					pairs = append(pairs, pairOf(m))
				}
				return all(pairs...)
			}),
			echoes(t, "echo, pipelined", many, each), echoes(t, "echo, second copy", many, each))
	})
	t.Run("OneKey", func(t *testing.T) {
		alone := func(ps []measure.Pair) turn { return all(ps...) }
		c := fighters(t, d)
		inTurns(t, manyRounds.Get(), (*measure.Block).Rate, c, echoes(t, "echo, one goroutine", 1, alone), echoes(t, "echo, second copy", 1, alone))
		changes := c.Of(func(b *measure.Block) float64 { return float64(b.Changes) }).Sum()
		holds := c.Of(func(b *measure.Block) float64 { return b.Shares.Sum() }).Sum()
		t.Logf("owner changes: %.1f %% of all holds; shares, max/min: %s", 100*changes/holds, figures.Number(c.Fairness()))
	})
}

type turn = func(context.Context) (measure.Block, error)

// locks is the contestant that this is about: a Mutex for each goroutine.
func locks(t *testing.T, name string, how func([]*distributed.Mutex) turn) *measure.Contestant {
	t.Helper()
	s := startServer(t)
	c := open(t, s.url())
	mutexes := make([]*distributed.Mutex, many)
	for i := range mutexes {
		mutexes[i] = distributed.NewMutex(c, fmt.Sprintf("a-key-of-about-the-usual-length-%02d", i))
	}
	return &measure.Contestant{Name: name, Turn: how(mutexes), ServerCPU: s.CPU}
}

func pairOf(m *distributed.Mutex) measure.Pair {
	return func(context.Context) error {
		m.Lock()
		defer m.Unlock()
		return nil
	}
}

// echoes is a bare echo.
func echoes(t *testing.T, name string, goroutines int, how func([]measure.Pair) turn) *measure.Contestant {
	t.Helper()
	var addr string
	p := proc.Start(t, "echo", nil, &addr)
	c, err := echo.Dial(addr)
	assert.Sure(t, err)
	t.Cleanup(c.Close)
	pairs := make([]measure.Pair, goroutines)
	for g := range pairs {
		pairs[g] = func(context.Context) error {
			if err := c.RoundTrip(); err != nil {
				return err
			}
			return c.RoundTrip()
		}
	}
	return &measure.Contestant{Name: name, Turn: how(pairs), ServerCPU: p.CPU}
}

// fighters is 16 goroutines that lock one key, each with a Mutex of its own.
func fighters(t *testing.T, d time.Duration) *measure.Contestant {
	t.Helper()
	s := startServer(t)
	c := open(t, s.url(), locker.WithTTL(time.Minute))
	var f measure.Fight
	for range few {
		f.Locks = append(f.Locks, fighter{distributed.NewMutex(c, "the-one-key-that-everybody-wants")})
	}
	return &measure.Contestant{Name: "16 Mutexes of one key", ServerCPU: s.CPU,
		Turn: func(ctx context.Context) (measure.Block, error) { return f.Run(ctx, d) }}
}

// A fighter is a Mutex as package measure wants one.
type fighter struct{ m *distributed.Mutex }

func (f fighter) Lock(ctx context.Context) error   { return f.m.LockContext(ctx) }
func (f fighter) Unlock(ctx context.Context) error { return f.m.UnlockContext(ctx) }

// inTurns has the contestants take turns and shows what came of it, over the
// echo, which is the second of them; by says what of a block is compared. The
// third is the echo again: it shows what differences mean nothing.
func inTurns(t *testing.T, rounds int, by func(*measure.Block) float64, cs ...*measure.Contestant) {
	t.Helper()
	machine, _ := proc.MachineCPU()
	assert.Sure(t, measure.InTurns(t.Context(), rounds, cs, nil))
	if after, known := proc.MachineCPU(); known {
		noise(t, cs, after.Sub(machine))
	}
	table := figures.NewTable("contestant", "pairs", "pairs/s", "p50 µs", "p99 µs", "over echo's, by turns", "CPU µs/pair, client + server")
	for _, c := range cs {
		row := []any{c.Name, c.Pairs(), c.Of((*measure.Block).Rate), "", "", c.Of(by).Over(cs[1].Of(by)), ""}
		if each := c.All(func(b *measure.Block) figures.Sample { return b.Each }); len(each) > 0 {
			row[3], row[4] = each.Median(), each.Quantile(0.99)
		}
		client, server := c.CPU()
		row[6] = figures.Number(client) + " + " + figures.Number(server)
		table.Row(row...)
	}
	campaign.Show(t, table)
	if m := cs[2].Of(by).Over(cs[1].Of(by)).Median(); m < 0.95 || m > 1.05 {
		t.Logf("the second copy of the echo is at %s of the first: differences of that size mean nothing here", figures.Number(m))
	}
}

// noise says how much of what ran on the machine meanwhile was none of ours.
func noise(t *testing.T, cs []*measure.Contestant, machine proc.Machine) {
	t.Helper()
	others := machine.Busy.Seconds()
	for _, c := range cs {
		client, server := c.CPU()
		others -= (client + server) * float64(c.Pairs()) / 1e6
	}
	t.Logf("the machine was busy for %.0f %% of the time, and %.0f %% of that was for others",
		100*machine.Busy.Seconds()/machine.Total.Seconds(), 100*max(0, others)/machine.Busy.Seconds())
}
