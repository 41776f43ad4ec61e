package size

import (
	"flag"
	"strings"
	"testing"
)

var things = New("things", 3, 500, "things to do")

// TestGet sees that a size is the small one, the full one with -full, and that what
// its own flag says is above both.
func TestGet(t *testing.T) {
	set := func(name, value string) {
		t.Helper()
		if err := flag.Set(name, value); err != nil {
			t.Fatal(err)
		}
	}
	defer set("full", flag.Lookup("full").Value.String())
	for _, c := range []struct {
		full, things string
		want         int
	}{
		{"false", "0", 3}, {"true", "0", 500}, {"false", "7", 7}, {"true", "7", 7},
	} {
		set("full", c.full)
		set("things", c.things)
		if got := things.Get(); got != c.want || Full() != (c.full == "true") {
			t.Errorf("-full=%s -things=%s: %d and %t, want %d", c.full, c.things, got, Full(), c.want)
		}
	}
}

// TestUsage sees that the help of a flag says what it is when nobody sets it.
func TestUsage(t *testing.T) {
	if got := flag.Lookup("things").Usage; !strings.Contains(got, "things to do") || !strings.Contains(got, "3, or 500 with -full") {
		t.Errorf("its usage is %q", got)
	}
}
