// Package size says how much the tests of this module do: little by default, so
// that go test stays quick, all of it with -full. It is for tests alone: it adds
// flags to the program that imports it.
package size

import (
	"flag"
	"fmt"
)

var full = flag.Bool("full", false, "run at full size: what is worth measuring")

// Full says whether -full was given. It is false before the flags are parsed.
func Full() bool { return *full }

// A Size is how much of something a test does. The zero value is not usable.
type Size struct {
	flag        *int
	small, full int
}

// New returns a size that is small by default, another with -full, and what the
// flag of the given name says if that is not 0. It is to be called before the
// flags are parsed, and panics if the flag exists.
func New(name string, small, full int, usage string) Size {
	usage = fmt.Sprintf("%s; 0 is %d, or %d with -full", usage, small, full)
	return Size{flag: flag.Int(name, 0, usage), small: small, full: full}
}

// Get returns how much to do. It is to be called once the flags are parsed.
func (s Size) Get() int {
	switch {
	case *s.flag != 0:
		return *s.flag
	case Full():
		return s.full
	}
	return s.small
}
