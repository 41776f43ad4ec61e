package campaign

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// A listener keeps what a test says of itself, and goes on.
type listener struct {
	testing.TB
	said   []string
	failed bool
}

func (l *listener) Helper()      {}
func (l *listener) Name() string { return "TestCampaign" }
func (l *listener) Error(args ...any) {
	l.failed = true
	l.said = append(l.said, fmt.Sprint(args...))
}
func (l *listener) Logf(format string, args ...any) {
	l.said = append(l.said, fmt.Sprintf(format, args...))
}

// TestKindsReadsWhatReportPrints sees that whoever plants bugs finds out what was
// found, however much it was.
func TestKindsReadsWhatReportPrints(t *testing.T) {
	var found []Violation
	for i := range 2 * shown {
		found = append(found, Violationf("overlap", "key %d", i))
	}
	found = append(found, Violationf("fence", "it fell to %d", 3))
	l := &listener{TB: t}
	Report(l, found)
	if want := shown + 1 + 1; !l.failed || len(l.said) != want {
		t.Errorf("failed is %t, with %d lines, want %d:\n%s", l.failed, len(l.said), want, strings.Join(l.said, "\n"))
	}
	if got, want := Kinds(strings.Join(l.said, "\n")), []string{"fence", "overlap"}; !slices.Equal(got, want) {
		t.Errorf("kinds %q, want %q", got, want)
	}
	l = &listener{TB: t}
	if Report(l, nil); l.failed || len(l.said) > 0 {
		t.Errorf("of nothing it said %q", l.said)
	}
}

// TestRandomIsRepeated takes the seed out of what the test says, and puts it in.
func TestRandomIsRepeated(t *testing.T) {
	defer func(n uint64) { *seed = n }(*seed)
	*seed = 0
	l := &listener{TB: t}
	first, other := Random(l).Uint64(), Random(l).Uint64()
	if first == other {
		t.Errorf("%d twice, with %q", first, l.said)
	}
	m := regexp.MustCompile(`^repeat with -run '\^TestCampaign\$' -seed (\d+)`).FindStringSubmatch(l.said[0])
	if m == nil {
		t.Fatalf("it does not say how to repeat it: %q", l.said)
	}
	if _, err := fmt.Sscan(m[1], seed); err != nil {
		t.Fatal(err)
	}
	if again := Random(l).Uint64(); again != first {
		t.Errorf("with -seed %s it is %d, and was %d", m[1], again, first)
	}
}

// TestRepeatSaysWhatWasSet has flags that were set, one of them go test's own, and
// one that was not.
func TestRepeatSaysWhatWasSet(t *testing.T) {
	flags := flag.NewFlagSet("", flag.ContinueOnError)
	flags.Bool("full", false, "")
	flags.Int("kills", 0, "")
	flags.Int("stops", 0, "")
	flags.Uint64(seedFlag, 0, "")
	flags.Bool("test.v", false, "")
	if err := flags.Parse([]string{"-full", "-kills", "7", "-seed", "1", "-test.v"}); err != nil {
		t.Fatal(err)
	}
	if got, want := repeat("TestA/b=c", 5, flags), "-run '^TestA$/^b=c$' -seed 5 -full=true -kills=7"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestBetween(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1)) //nolint:gosec // a seed is what we want
	for range 1000 {
		if d := Between(r, 2, 5); d < 2 || d >= 5 {
			t.Fatalf("%d is not between 2 and 5", d)
		}
	}
	for _, d := range []time.Duration{Between(r, 3, 3), Between(r, 3, 0)} {
		if d != 3 {
			t.Errorf("%d, want 3", d)
		}
	}
}
