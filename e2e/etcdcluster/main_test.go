//go:build linux

package etcdcluster

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	_ "github.com/distributed-go/distributed/etcd"
	"github.com/distributed-go/distributed/internal/figures"
	"github.com/distributed-go/distributed/internal/leaktest"
	"github.com/distributed-go/distributed/internal/proc"

	"github.com/distributed-go/distributed/e2e/internal/witness"
)

func TestMain(m *testing.M) {
	proc.Main(map[string]proc.Role{
		"member": memberRole,
		"worker": workerRole,
	})
	leaktest.Main(m)
}

var (
	only  = flag.String("only", "", "run the mutants whose names this regular expression matches")
	limit = flag.Duration("limit", 40*time.Minute, "when to give a campaign up")
	seed  = flag.Uint64("seed", 0, "what everything random follows from, but for what the machine does; 0 is a new one each time")
)

// noContext is for what nothing ends early.
var noContext = context.Background()

// newRandom returns the campaign's source of everything random, and says how to
// repeat it.
func newRandom(t *testing.T) *rand.Rand {
	t.Helper()
	n := *seed
	if n == 0 {
		n = rand.Uint64()
	}
	t.Logf("-run '%s' -seed %d", t.Name(), n)
	return rand.New(rand.NewPCG(n, 0))
}

// report prints violations, a few of each kind in full: the list of planted bugs
// reads these lines.
func report(t *testing.T, found []witness.Violation) {
	t.Helper()
	const shown = 5
	counts := make(map[string]int)
	for _, v := range found {
		if counts[v.Kind]++; counts[v.Kind] <= shown {
			t.Error(v)
		}
	}
	for kind, n := range counts {
		if n > shown {
			t.Errorf("violation %s: %d in all", kind, n)
		}
	}
}

func violation(kind, format string, args ...any) witness.Violation {
	return witness.Violation{Kind: kind, Detail: fmt.Sprintf(format, args...)}
}

// must ends the test if there is an error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// show prints a table of figures.
func show(t *testing.T, table *figures.Table) {
	t.Helper()
	t.Logf("\n\n%s\n", table)
}

// pause waits in real time, as all here does: other processes go on. It is false
// if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
