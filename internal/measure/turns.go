//go:build unix

package measure

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/distributed-go/distributed/internal/figures"
)

// A Contestant is one of those that are compared.
type Contestant struct {
	Name string
	// Turn is one block.
	Turn func(ctx context.Context) (Block, error)
	// ServerCPU is the processor time that the server has used so far; nil if
	// it is not known.
	ServerCPU func(ctx context.Context) (time.Duration, error)
	// Blocks are the turns it had, one for each round.
	Blocks []Block
}

// InTurns gives each contestant a block in each of so many rounds, in random
// order, after a round that does not count. Done, unless nil, is called after
// each turn.
func InTurns(ctx context.Context, rounds int, cs []*Contestant, done func()) error {
	order := append([]*Contestant(nil), cs...)
	for round := range rounds + 1 {
		rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
		for _, c := range order {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			b, err := c.turn(ctx)
			if err != nil {
				return fmt.Errorf("%s: %w", c.Name, err)
			}
			if round > 0 {
				c.Blocks = append(c.Blocks, b)
			}
			if done != nil {
				done()
			}
		}
	}
	return nil
}

func (c *Contestant) turn(ctx context.Context) (Block, error) {
	before, err := c.serverCPU(ctx)
	if err != nil {
		return Block{}, err
	}
	b, err := c.Turn(ctx)
	if err != nil {
		return b, err
	}
	after, err := c.serverCPU(ctx)
	b.ServerCPU = after - before
	return b, err
}

func (c *Contestant) serverCPU(ctx context.Context) (time.Duration, error) {
	if c.ServerCPU == nil {
		return 0, nil
	}
	return c.ServerCPU(ctx)
}

// Of is what f says of each block.
func (c *Contestant) Of(f func(*Block) float64) figures.Sample {
	s := make(figures.Sample, len(c.Blocks))
	for i := range c.Blocks {
		s[i] = f(&c.Blocks[i])
	}
	return s
}

// Pairs counts the pairs of all blocks.
func (c *Contestant) Pairs() int {
	sum := 0
	for i := range c.Blocks {
		sum += c.Blocks[i].Pairs
	}
	return sum
}

// CPU is the µs of processor time for a pair, of client and server.
func (c *Contestant) CPU() (client, server float64) {
	n := float64(c.Pairs())
	return c.Of(func(b *Block) float64 { return micros(b.ClientCPU) }).Sum() / n,
		c.Of(func(b *Block) float64 { return micros(b.ServerCPU) }).Sum() / n
}

// All joins what f says of the blocks.
func (c *Contestant) All(f func(*Block) figures.Sample) figures.Sample {
	var all figures.Sample
	for i := range c.Blocks {
		all = append(all, f(&c.Blocks[i])...)
	}
	return all
}

// Fairness is the pairs of the luckiest goroutine over those of the unluckiest.
func (c *Contestant) Fairness() float64 {
	var sum figures.Sample
	for i := range c.Blocks {
		shares := c.Blocks[i].Shares
		if sum == nil {
			sum = make(figures.Sample, len(shares))
		}
		for g, n := range shares {
			sum[g] += n
		}
	}
	return sum.Quantile(1) / sum.Quantile(0)
}
