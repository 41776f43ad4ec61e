//go:build unix

package measure

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distributed-go/distributed/internal/figures"
	"github.com/distributed-go/distributed/internal/proc"
)

// A Pair does once what is measured: a lock and an unlock, or two round trips.
// Ctx ends when its block should long have been over; only what may hang needs
// to look at it.
type Pair func(ctx context.Context) error

// grace is how long after the end of a block what is under way may take.
const grace = 2 * time.Second

// A Block is what one turn brought.
type Block struct {
	Pairs int           `json:"pairs"`
	Took  time.Duration `json:"took_ns"`
	// Each is the time of each pair in µs; of One only.
	Each figures.Sample `json:"each_us,omitempty"`
	// ClientCPU is the processor time of this process, ServerCPU what InTurns
	// saw of the server's.
	ClientCPU time.Duration `json:"client_cpu_ns"`
	ServerCPU time.Duration `json:"server_cpu_ns"`
	// Stuck counts goroutines whose last pair had not ended some seconds after
	// the block; their pair was cancelled.
	Stuck int `json:"stuck,omitempty"`

	// Of Fight only. Changes counts the pairs whose owner was not the last one
	// too, Shares the pairs of each goroutine, and Handovers are times in µs
	// from before an unlock to after the lock of the next owner.
	Changes   int            `json:"changes,omitempty"`
	Shares    figures.Sample `json:"shares,omitempty"`
	Handovers figures.Sample `json:"handovers_us,omitempty"`
}

// Rate is the pairs a second.
func (b *Block) Rate() float64 { return float64(b.Pairs) / b.Took.Seconds() }

// ChangeRate is the owner changes a second.
func (b *Block) ChangeRate() float64 { return float64(b.Changes) / b.Took.Seconds() }

// Typical is the median pair in µs.
func (b *Block) Typical() float64 { return b.Each.Median() }

// One makes n pairs one after the other and takes the time of each.
func One(ctx context.Context, n int, pair Pair) (Block, error) {
	b := Block{Pairs: n, Each: make(figures.Sample, n)}
	cpu, began := proc.CPU(), time.Now()
	last := began
	for i := range b.Each {
		if err := pair(ctx); err != nil {
			return b, err
		}
		now := time.Now()
		b.Each[i] = micros(now.Sub(last))
		last = now
	}
	b.Took, b.ClientCPU = last.Sub(began), proc.CPU()-cpu
	return b, nil
}

// Many has so many goroutines make pairs for some time. Pair g is that of
// goroutine g.
func Many(ctx context.Context, d time.Duration, pairs []Pair) (Block, error) {
	return many(ctx, d, pairs, new(atomic.Bool))
}

// many is Many; it sets over at the end of the time. What ends after that does
// not count: where goroutines poll, the last ones have the key for themselves.
func many(parent context.Context, d time.Duration, pairs []Pair, over *atomic.Bool) (Block, error) {
	ctx, cancel := context.WithTimeout(parent, d+grace)
	defer cancel()
	var (
		wg    sync.WaitGroup
		sum   atomic.Int64
		stuck atomic.Int64
		some  atomic.Bool // a pair was made
		first atomic.Pointer[error]
	)
	cpu, began := proc.CPU(), time.Now()
	for _, pair := range pairs {
		wg.Go(func() {
			n := int64(0)
			for !over.Load() {
				if err := pair(ctx); ctx.Err() != nil {
					stuck.Add(1)
					break
				} else if err != nil {
					first.CompareAndSwap(nil, &err)
					over.Store(true)
					break
				}
				if !over.Load() {
					if n++; n == 1 {
						some.Store(true)
					}
				}
			}
			sum.Add(n)
		})
	}
	sleep(ctx, d, &some, over)
	b := Block{Took: time.Since(began)}
	wg.Wait()
	b.Pairs, b.Stuck, b.ClientCPU = int(sum.Load()), int(stuck.Load()), proc.CPU()-cpu
	if err := first.Load(); err != nil {
		return b, *err
	}
	return b, context.Cause(parent)
}

// sleep waits for the end of a block, or until something has ended it, and says
// to all that it is over. A block without any pair says nothing, so the first
// one is waited for: there are machines too busy for one in some milliseconds.
func sleep(ctx context.Context, d time.Duration, some, over *atomic.Bool) {
	const longest, shortest = 50 * time.Millisecond, time.Millisecond
	for end := time.Now().Add(d); !over.Load() && ctx.Err() == nil; {
		left := time.Until(end)
		if left <= 0 && some.Load() {
			break
		}
		time.Sleep(min(max(left, shortest), longest))
	}
	over.Store(true)
}

// A Lock is what one goroutine of a Fight locks and unlocks.
type Lock interface {
	Lock(ctx context.Context) error
	Unlock(ctx context.Context) error
}

// A Fight is goroutines that want one key and do nothing while they hold it.
type Fight struct {
	// Locks has that of each goroutine.
	Locks []Lock
	// Every is how many holds there are to one hand-over whose time is taken;
	// 0 is 1. Clocks cost something where a hold takes less than a µs.
	Every int
	// Shared has more than one inside, as readers are; owner changes and
	// hand-overs are not counted then.
	Shared bool
}

// fight is the state of a block of a Fight.
type fight struct {
	*Fight
	inside atomic.Int32
	over   atomic.Bool    // the time of the block
	shares figures.Sample // each goroutine writes its own

	// What follows is the holder's.
	last     int // who held it last
	holds    int
	unlocked time.Time // when, if the time of this hand-over is taken
	changes  int
	times    figures.Sample
}

// Run has all fight for some time.
func (f *Fight) Run(ctx context.Context, d time.Duration) (Block, error) {
	state := &fight{Fight: f, last: -1, shares: make(figures.Sample, len(f.Locks))}
	pairs := make([]Pair, len(f.Locks))
	for g, l := range f.Locks {
		pairs[g] = func(ctx context.Context) error {
			if err := l.Lock(ctx); err != nil {
				return err
			}
			err := state.enter(g)
			return errors.Join(err, l.Unlock(ctx))
		}
	}
	b, err := many(ctx, d, pairs, &state.over)
	b.Shares, b.Changes, b.Handovers = state.shares, state.changes, state.times
	return b, err
}

// enter is the critical section of goroutine g.
func (f *fight) enter(g int) error {
	if f.over.Load() {
		return nil
	}
	f.shares[g]++
	if f.Shared {
		return nil
	}
	if n := f.inside.Add(1); n != 1 {
		return fmt.Errorf("%d are inside", n)
	}
	if f.last != g {
		f.changes++
		if !f.unlocked.IsZero() {
			f.times = append(f.times, micros(time.Since(f.unlocked)))
		}
	}
	f.last = g
	f.holds++
	f.unlocked = time.Time{}
	if f.holds%max(f.Every, 1) == 0 {
		f.unlocked = time.Now()
	}
	f.inside.Add(-1)
	return nil
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
