//go:build unix

package bench

import (
	"os/exec"
	"time"

	"github.com/distributed-go/distributed"
)

// Sizes of what is measured.
const (
	// onePairs is how many pairs one goroutine makes before the next contestant
	// has its turn: few, so that what disturbs the machine for some
	// milliseconds disturbs all alike.
	onePairs = 50
	// crowd is the number of goroutines where there are many, and few where
	// they fight for one key.
	crowd = 100
	few   = 16
)

// Options say what to measure.
type Options struct {
	// Launch makes a command that starts this program as a child, whose
	// process Child takes over.
	Launch func() *exec.Cmd
	// Open opens a client of the servers to measure.
	Open func(url string, opts ...distributed.Option) (*distributed.Client, error)
	// URL is where the servers are; "" has a server started for the purpose.
	URL string
	// Block is how long a turn of many goroutines is; 0 is 150 ms.
	Block time.Duration
	// Rounds is how many turns each contestant has; 0 is 24. One goroutine has
	// twice as many.
	Rounds int
	// Locks is how many locks are held at once; 0 is 10,000.
	Locks int
	// TTL is the lease of those locks, of which two thirds are then spent idle;
	// 0 is 9 s.
	TTL time.Duration
	// Progress is told what is being done, often; nil tells nobody. Part is
	// what share of the whole is done.
	Progress func(part float64, what string)
}

// withDefaults fills in what was left out.
func (o Options) withDefaults() Options {
	if o.Block == 0 {
		o.Block = 150 * time.Millisecond
	}
	if o.Rounds == 0 {
		o.Rounds = 24
	}
	if o.Locks == 0 {
		o.Locks = 10_000
	}
	if o.TTL == 0 {
		o.TTL = 9 * time.Second
	}
	if o.Progress == nil {
		o.Progress = func(float64, string) {}
	}
	return o
}

// Quick is options under which everything is measured once, for a moment: to
// see that it works, not for its figures.
func Quick(o Options) Options {
	o.Block, o.Rounds, o.Locks, o.TTL = 5*time.Millisecond, 2, 100, time.Second
	return o
}

// Big is options with a million locks held.
func Big(o Options) Options {
	o.Locks, o.TTL = 1_000_000, time.Minute
	return o
}
