//go:build unix

package proc

import (
	"runtime"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	m, ok := parseStat("cpu  10 1 5 1000 7 2 3 4 99 99\ncpu0 1 2 3\n")
	if want := (Machine{Busy: 250 * time.Millisecond, Total: 10320 * time.Millisecond}); !ok || m != want {
		t.Errorf("got %+v, %v; want %+v", m, ok, want)
	}
	for _, bad := range []string{"", "cpu 1 2 3\n", "cpus 1 2 3 4 5 6 7 8\n", "cpu 1 2 3 x 5 6 7 8\n"} {
		if m, ok := parseStat(bad); ok {
			t.Errorf("%q was read as %+v", bad, m)
		}
	}
}

func TestMachineCPU(t *testing.T) {
	before, ok := MachineCPU()
	if ok != (runtime.GOOS == "linux") {
		t.Fatalf("known: %v", ok)
	}
	if !ok {
		return // nothing to compare
	}
	for began := CPU(); CPU() < began+50*time.Millisecond; { // some units of it
	}
	after, _ := MachineCPU()
	if d := after.Sub(before); d.Busy <= 0 || d.Total < d.Busy {
		t.Errorf("after 50 ms of work: %+v", d)
	}
}
