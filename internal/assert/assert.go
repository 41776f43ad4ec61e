// Package assert has the few checks that the tests of several packages make
// again and again. It is our own, like leaktest, because the module that users
// import must not drag a test library along.
package assert

import (
	"errors"
	"testing"
)

// Sure ends the test if there is an error.
func Sure(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Matches fails the test unless the error matches all the given ones.
func Matches(t testing.TB, err error, wants ...error) {
	t.Helper()
	for _, want := range wants {
		if !errors.Is(err, want) {
			t.Errorf("the error is %v, want it to match %q", err, want)
		}
	}
}

// MatchesNot fails the test if the error matches any of the given ones.
func MatchesNot(t testing.TB, err error, unwanted ...error) {
	t.Helper()
	for _, u := range unwanted {
		if errors.Is(err, u) {
			t.Errorf("the error %v matches %q", err, u)
		}
	}
}

// Exactly fails the test unless the two values are equal.
func Exactly[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}
