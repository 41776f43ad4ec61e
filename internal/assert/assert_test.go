package assert

import (
	"errors"
	"fmt"
	"testing"
)

// A witness sees what a check says, and goes on.
type witness struct {
	testing.TB
	failed bool
}

func (w *witness) Helper()               {}
func (w *witness) Errorf(string, ...any) { w.failed = true }
func (w *witness) Fatal(...any)          { w.failed = true }

func TestChecksFailWhereTheyMust(t *testing.T) {
	a, b := errors.New("a"), errors.New("b")
	both := fmt.Errorf("%w and %w", a, b)
	for name, c := range map[string]struct {
		check func(testing.TB)
		fails bool
	}{
		"Sure of nothing":     {func(t testing.TB) { Sure(t, nil) }, false},
		"Sure of an error":    {func(t testing.TB) { Sure(t, a) }, true},
		"Matches both":        {func(t testing.TB) { Matches(t, both, a, b) }, false},
		"Matches one of two":  {func(t testing.TB) { Matches(t, a, a, b) }, true},
		"Matches nil":         {func(t testing.TB) { Matches(t, nil, a) }, true},
		"MatchesNot another":  {func(t testing.TB) { MatchesNot(t, a, b) }, false},
		"MatchesNot the same": {func(t testing.TB) { MatchesNot(t, both, b) }, true},
		"Exactly the same":    {func(t testing.TB) { Exactly(t, "", 1, 1) }, false},
		"Exactly another":     {func(t testing.TB) { Exactly(t, "", 1, 2) }, true},
	} {
		w := &witness{TB: t}
		c.check(w)
		if w.failed != c.fails {
			t.Errorf("%s: failed is %v, want %v", name, w.failed, c.fails)
		}
	}
}
