package campaign

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"
)

// seedFlag is the name of the flag that repeats what is random.
const seedFlag = "seed"

var seed = flag.Uint64(seedFlag, 0, "what everything random follows from, but for what the machine does; 0 is a new one each time")

// Random returns a test's source of everything random. It is not safe for
// concurrent use. It says at once how the test is repeated, which stands in the
// output of one that fails, of one that never ends, and of any with -v.
func Random(t testing.TB) *rand.Rand {
	t.Helper()
	n := *seed
	if n == 0 {
		n = rand.Uint64()
	}
	t.Logf("repeat with %s", repeat(t.Name(), n, flag.CommandLine))
	return rand.New(rand.NewPCG(n, 0)) //nolint:gosec // a seed is what we want
}

// repeat returns the arguments of go test that run a test once more with a seed and
// with what else was set, but for what is go test's own.
func repeat(name string, seed uint64, flags *flag.FlagSet) string {
	args := fmt.Sprintf("-run '%s' -%s %d", Pattern(name), seedFlag, seed)
	flags.Visit(func(f *flag.Flag) {
		if f.Name != seedFlag && !strings.HasPrefix(f.Name, "test.") {
			args += fmt.Sprintf(" -%s=%s", f.Name, f.Value)
		}
	})
	return args
}

// Pattern returns what -run has to be for one test, or one of its subtests, alone.
func Pattern(name string) string {
	return "^" + strings.ReplaceAll(regexp.QuoteMeta(name), "/", "$/^") + "$"
}

// Between returns a random time of at least the first and less than the second, and
// the first if that is not less.
func Between(r *rand.Rand, least, most time.Duration) time.Duration {
	if most <= least {
		return least
	}
	return least + time.Duration(r.Int64N(int64(most-least)))
}
