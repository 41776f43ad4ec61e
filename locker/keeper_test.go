package locker

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// TestClassOf: leases of one class differ by a quarter at most, and every lease
// has one.
func TestClassOf(t *testing.T) {
	shortest := make(map[class]time.Duration)
	check := func(d time.Duration) {
		c := classOf(d, 0)
		if c < 0 || c >= again {
			t.Fatalf("the class of %v is %d", d, c)
		}
		if r := classOf(d, 1); r != c+again || classOf(d, math.MaxUint16) != r {
			t.Fatalf("the class of %v is %d at first and %d after an attempt", d, c, r)
		}
		if s, ok := shortest[c]; !ok || d < s {
			shortest[c] = d
		}
		if s := shortest[c]; float64(d) > 1.25*float64(s) {
			t.Fatalf("%v and %v are both of class %d", s, d, c)
		}
	}
	for d := time.Duration(1); d < 5000; d++ {
		check(d)
	}
	for d := time.Duration(1); d > 0; d <<= 1 {
		check(d)
		check(d - 1 | 1)
	}
	check(math.MaxInt64)
	for range 100_000 {
		check(time.Duration(rand.Int64N(1<<rand.IntN(63))) + 1)
	}
}
