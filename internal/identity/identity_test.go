package identity

import (
	"strings"
	"testing"
)

func TestNamesFit(t *testing.T) {
	long := strings.Repeat("x", 100)
	for _, name := range []string{From(long, 4194304, long), From("", 1, long), From("a b", 1, "ü\n"), Default()} {
		if !Fits(name) {
			t.Errorf("%q does not fit", name)
		}
	}
	for _, name := range []string{"", "a b", strings.Repeat("x", MaxName+1), "\x1b[2J"} {
		if Fits(name) {
			t.Errorf("%q fits", name)
		}
	}
}
