//go:build unix

package e2e

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distributed-go/distributed"
	"github.com/distributed-go/distributed/internal/echo"
	"github.com/distributed-go/distributed/internal/figures"
	"github.com/distributed-go/distributed/internal/proc"
	"github.com/distributed-go/distributed/locker"
)

var (
	oneRounds  = newSize("one-rounds", 2, 400, "turns of one goroutine, 50 pairs for each contestant")
	manyRounds = newSize("many-rounds", 2, 40, "turns of 100 goroutines")
	manyMillis = newSize("many-ms", 20, 150, "milliseconds for each contestant in a turn of many goroutines")
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

// A contestant is what is compared: a way to make pairs of round trips, with its
// own server process.
type contestant struct {
	name   string
	server *proc.Process
	// pair returns what goroutine g does again and again.
	pair func(g int) func() error

	serverCPU time.Duration // before the first block
	clientCPU time.Duration // in the blocks
	allocs    uint64        // of the client, in the blocks
	pairs     int

	// One entry for each block:
	rates   figures.Sample // pairs a second
	typical figures.Sample // µs of the median pair; of one goroutine only
	all     figures.Sample // µs of each pair; of one goroutine only
}

// TestMeasurePairs compares lock and unlock of a Mutex with two round trips of a
// bare echo, by one goroutine and by a hundred with a key each.
func TestMeasurePairs(t *testing.T) {
	t.Run("One", func(t *testing.T) {
		cs := []*contestant{locks(t), echoes(t, "echo"), echoes(t, "echo, second copy")}
		inTurns(t, cs, oneRounds.get(), func(c *contestant) error { return c.one(onePairs) })
		showOne(t, cs)
	})
	t.Run("Many", func(t *testing.T) {
		cs := []*contestant{locks(t), echoes(t, "echo, pipelined"), echoes(t, "echo, second copy")}
		d := time.Duration(manyMillis.get()) * time.Millisecond
		inTurns(t, cs, manyRounds.get(), func(c *contestant) error { return c.many(many, d) })
		showMany(t, cs)
	})
	t.Run("OneKey", func(t *testing.T) {
		f := newFight(t)
		cs := []*contestant{f.contestant, echoes(t, "echo, one goroutine"), echoes(t, "echo, second copy")}
		d := time.Duration(manyMillis.get()) * time.Millisecond
		inTurns(t, cs, manyRounds.get(), func(c *contestant) error {
			if c == f.contestant {
				return c.many(few, d)
			}
			return c.many(1, d)
		})
		showFight(t, f, cs)
	})
}

// locks is the contestant that this is about: a Mutex for each goroutine.
func locks(t *testing.T) *contestant {
	t.Helper()
	s := startServer(t)
	c := open(t, s.url())
	mutexes := make([]*distributed.Mutex, many)
	inside := make([]atomic.Int32, many)
	for i := range mutexes {
		mutexes[i] = distributed.NewMutex(c, fmt.Sprintf("a-key-of-about-the-usual-length-%02d", i))
	}
	return &contestant{name: "Mutex, Lock + Unlock", server: s.Process, pair: func(g int) func() error {
		m, in := mutexes[g], &inside[g]
		return func() error {
			m.Lock()
			if n := in.Add(1); n != 1 {
				return fmt.Errorf("%d hold the lock", n)
			}
			in.Add(-1)
			m.Unlock()
			return nil
		}
	}}
}

// echoes is a bare echo.
func echoes(t *testing.T, name string) *contestant {
	t.Helper()
	var addr string
	p := proc.Start(t, "echo", nil, &addr)
	c, err := echo.Dial(addr)
	must(t, err)
	t.Cleanup(c.Close)
	return &contestant{name: name, server: p, pair: func(int) func() error {
		return func() error {
			if err := c.RoundTrip(); err != nil {
				return err
			}
			return c.RoundTrip()
		}
	}}
}

// inTurns has the contestants take turns, in random order within each round,
// after a round that does not count.
func inTurns(t *testing.T, cs []*contestant, rounds int, turn func(*contestant) error) {
	t.Helper()
	for _, c := range cs {
		must(t, turn(c))
		c.clientCPU, c.allocs, c.pairs, c.rates, c.typical, c.all = 0, 0, 0, nil, nil, nil
		c.serverCPU = usage(t, c.server, false).CPU
	}
	order := append([]*contestant(nil), cs...)
	machine, _ := proc.MachineCPU()
	for range rounds {
		rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, c := range order {
			allocs, cpu := allocations(), proc.CPU()
			must(t, turn(c))
			c.clientCPU += proc.CPU() - cpu
			c.allocs += allocations() - allocs
		}
	}
	after, known := proc.MachineCPU()
	for _, c := range cs {
		c.serverCPU = usage(t, c.server, false).CPU - c.serverCPU
	}
	if known {
		noise(t, cs, after.Sub(machine))
	}
}

// allocations counts those of this process.
func allocations() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.Mallocs
}

// noise says how much of what ran on the machine meanwhile was none of ours.
func noise(t *testing.T, cs []*contestant, machine proc.Machine) {
	t.Helper()
	others := machine.Busy
	for _, c := range cs {
		others -= c.clientCPU + c.serverCPU
	}
	t.Logf("the machine was busy for %.0f %% of the time, and %.0f %% of that was for others",
		100*machine.Busy.Seconds()/machine.Total.Seconds(), 100*max(0, others.Seconds())/machine.Busy.Seconds())
}

// doubt says so if the echo and its second copy differ by more than a
// measurement may that is to show anything.
func doubt(t *testing.T, copied figures.Sample) {
	t.Helper()
	if m := copied.Median(); m < 0.95 || m > 1.05 {
		t.Logf("the second copy of the echo is at %s of the first: differences of that size mean nothing here", figures.Number(m))
	}
}

// one is a block of so many pairs by one goroutine, each of them timed.
func (c *contestant) one(pairs int) error {
	pair := c.pair(0)
	block := make(figures.Sample, pairs)
	began := time.Now()
	last := began
	for i := range block {
		if err := pair(); err != nil {
			return err
		}
		now := time.Now()
		block[i] = float64(now.Sub(last)) / 1000
		last = now
	}
	c.rates = append(c.rates, float64(pairs)/last.Sub(began).Seconds())
	c.typical = append(c.typical, block.Median())
	c.all = append(c.all, block...)
	c.pairs += pairs
	return nil
}

// many is a block of a time by so many goroutines.
func (c *contestant) many(goroutines int, d time.Duration) error {
	var (
		wg    sync.WaitGroup
		over  atomic.Bool
		pairs atomic.Int64
		first atomic.Pointer[error]
	)
	began := time.Now()
	for g := range goroutines {
		pair := c.pair(g)
		wg.Go(func() {
			n := int64(0)
			for !over.Load() {
				if err := pair(); err != nil {
					first.CompareAndSwap(nil, &err)
					break
				}
				n++
			}
			pairs.Add(n)
		})
	}
	time.Sleep(d) // real time: it is what is measured
	over.Store(true)
	wg.Wait()
	took := time.Since(began)
	if err := first.Load(); err != nil {
		return *err
	}
	c.pairs += int(pairs.Load())
	c.rates = append(c.rates, float64(pairs.Load())/took.Seconds())
	return nil
}

// allocsPerPair is how many allocations the client makes for each pair.
func (c *contestant) allocsPerPair() float64 { return float64(c.allocs) / float64(c.pairs) }

// cpu is the µs of processor time for each pair, of client and server.
func (c *contestant) cpu() string {
	per := func(d time.Duration) string { return figures.Number(float64(d) / 1000 / float64(c.pairs)) }
	return per(c.clientCPU) + " + " + per(c.serverCPU)
}

func showOne(t *testing.T, cs []*contestant) {
	t.Helper()
	table := figures.NewTable("one goroutine", "pairs", "p50 µs", "p99 µs", "pairs/s", "p50 over echo's, by turns", "CPU µs/pair, client + server",
		"client allocs/pair")
	for _, c := range cs {
		table.Row(c.name, c.pairs, c.all.Median(), c.all.Quantile(0.99), c.rates, c.typical.Over(cs[1].typical), c.cpu(), c.allocsPerPair())
	}
	show(t, table)
	doubt(t, cs[2].typical.Over(cs[1].typical))
}

func showMany(t *testing.T, cs []*contestant) {
	t.Helper()
	table := figures.NewTable("100 goroutines, a key each", "blocks", "pairs/s", "over echo's, by turns", "CPU µs/pair, client + server",
		"client allocs/pair")
	for _, c := range cs {
		table.Row(c.name, len(c.rates), c.rates, c.rates.Over(cs[1].rates), c.cpu(), c.allocsPerPair())
	}
	show(t, table)
	doubt(t, cs[2].rates.Over(cs[1].rates))
}

// A fight is 16 goroutines that lock one key, each with a Mutex of its own.
type fight struct {
	*contestant
	inside  atomic.Int32
	last    atomic.Int32 // who held it last
	changes atomic.Int64 // of the owner
	shares  [few]atomic.Int64
}

func newFight(t *testing.T) *fight {
	t.Helper()
	s := startServer(t)
	c := open(t, s.url(), locker.WithTTL(time.Minute))
	f := &fight{}
	var mutexes [few]*distributed.Mutex
	for g := range mutexes {
		mutexes[g] = distributed.NewMutex(c, "the-one-key-that-everybody-wants")
	}
	f.contestant = &contestant{name: "16 Mutexes of one key", server: s.Process, pair: func(g int) func() error {
		return func() error {
			mutexes[g].Lock()
			err := f.enter(g)
			mutexes[g].Unlock()
			return err
		}
	}}
	return f
}

// enter is the critical section.
func (f *fight) enter(g int) error {
	if n := f.inside.Add(1); n != 1 {
		return fmt.Errorf("%d are inside", n)
	}
	if f.last.Swap(int32(g)) != int32(g) {
		f.changes.Add(1)
	}
	f.shares[g].Add(1)
	f.inside.Add(-1)
	return nil
}

func showFight(t *testing.T, f *fight, cs []*contestant) {
	t.Helper()
	var shares figures.Sample
	for i := range f.shares {
		shares = append(shares, float64(f.shares[i].Load()))
	}
	table := figures.NewTable("16 goroutines, one key", "blocks", "pairs/s", "over echo's, by turns", "owner changes of all pairs", "max/min share",
		"CPU µs/pair, client + server")
	for _, c := range cs {
		row := []any{c.name, len(c.rates), c.rates, c.rates.Over(cs[1].rates), "", "", c.cpu()}
		if c == f.contestant {
			row[4] = fmt.Sprintf("%.1f %%", 100*float64(f.changes.Load())/shares.Sum())
			row[5] = shares.Quantile(1) / shares.Quantile(0)
		}
		table.Row(row...)
	}
	show(t, table)
	doubt(t, cs[2].rates.Over(cs[1].rates))
}
