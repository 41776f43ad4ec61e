package locker

import (
	"context"
	"errors"
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
		if r := classOf(d, 1); r != c+again || classOf(d, math.MaxUint8) != r {
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

// A nullBackend is enough for a Client that asks for nothing.
type nullBackend struct{ Backend }

func (nullBackend) String() string { return "null" }
func (nullBackend) Close() error   { return nil }

// TestLeaseThatIsNotKept: a grant that comes as Close begins is no lease of its
// session either.
func TestLeaseThatIsNotKept(t *testing.T) {
	c := New(nullBackend{}, WithTrace(&Trace{Lost: func(LostInfo) { t.Error("a lease that nobody had was lost") }}))
	defer c.Close()
	a, err := c.exclusive("k", nil)
	if err != nil {
		t.Fatal(err)
	}
	s := NewSession(nil)
	l := a.newLease(Grant{Session: s})
	l.hold = newHold(0, time.Hour, l.terms())
	c.mu.Lock()
	c.done = true
	c.mu.Unlock()
	if err := c.keeper.add(l); !errors.Is(err, ErrClosed) {
		t.Errorf("add: %v", err)
	}
	s.End(context.Canceled)
	if l.Err() != nil {
		t.Errorf("the lease ended with %v", l.Err())
	}
}
