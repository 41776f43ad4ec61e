package campaign

import (
	"fmt"
	"regexp"
	"slices"
	"testing"

	"github.com/distributed-go/distributed/internal/figures"
)

// A Violation is something that must not happen.
type Violation struct {
	Kind   string // one word: which judge found it
	Detail string
}

// Violationf returns a violation whose detail is formatted as by fmt.Sprintf.
func Violationf(kind, format string, args ...any) Violation {
	return Violation{Kind: kind, Detail: fmt.Sprintf(format, args...)}
}

// String is how it stands in the output of a test, where Kinds finds it.
func (v Violation) String() string { return fmt.Sprintf("violation %s: %s", v.Kind, v.Detail) }

var violationLine = regexp.MustCompile(`violation (\w+):`)

// Kinds returns the kinds of the violations that a campaign printed, each once and
// in order.
func Kinds(output string) []string {
	var kinds []string
	for _, m := range violationLine.FindAllStringSubmatch(output, -1) {
		kinds = append(kinds, m[1])
	}
	slices.Sort(kinds)
	return slices.Compact(kinds)
}

// shown is how many violations of a kind are printed in full.
const shown = 5

// Report fails the test if there are violations, and prints a few of each kind in
// full and how many there are of what is more.
func Report(t testing.TB, found []Violation) {
	t.Helper()
	counts := make(map[string]int)
	for _, v := range found {
		if counts[v.Kind]++; counts[v.Kind] <= shown {
			t.Error(v)
		}
	}
	for kind, n := range counts {
		if n > shown {
			t.Error(Violationf(kind, "%d in all", n))
		}
	}
}

// Show prints a table of figures.
func Show(t testing.TB, table *figures.Table) {
	t.Helper()
	t.Logf("\n\n%s\n", table)
}
