//go:build unix

package once

import (
	"cmp"
	"slices"
	"testing"

	"github.com/distributed-go/distributed/e2e/internal/campaign"
)

// A call is one call of a Group that had a result, or the error of a function.
type call struct {
	key      int
	from, to int64 // before it began, and after it had returned
	fence    uint64
	end      int64 // when the function was about to return
}

// A run is one key's function, by the fence of its lease.
type run struct {
	Key   int
	Fence uint64
}

// reached says when each result had reached this process: when a call had returned
// it, or, if it ran here, when its function had returned.
func reached(calls []call, returned map[run]int64) map[run]int64 {
	at := make(map[run]int64, len(returned))
	for r, t := range returned {
		at[r] = t
	}
	for _, c := range calls {
		r := run{c.key, c.fence}
		if t, ok := at[r]; !ok || c.to < t {
			at[r] = c.to
		}
	}
	return at
}

// judgeCalls finds calls of one process whose result had reached it before they
// began, or was older than one that had: runs of a key follow each other in the
// order of their fences.
func judgeCalls(calls []call, returned map[run]int64) (found []campaign.Violation) {
	type arrival struct {
		at    int64
		fence uint64 // the largest that had arrived by then
	}
	var byKey [groupKeys][]arrival
	for r, at := range reached(calls, returned) {
		byKey[r.Key] = append(byKey[r.Key], arrival{at, r.Fence})
	}
	for _, list := range byKey {
		slices.SortFunc(list, func(a, b arrival) int { return cmp.Compare(a.at, b.at) })
		for i := 1; i < len(list); i++ {
			list[i].fence = max(list[i].fence, list[i-1].fence)
		}
	}
	for _, c := range calls {
		list := byKey[c.key]
		before, _ := slices.BinarySearchFunc(list, c.from, func(a arrival, at int64) int { return cmp.Compare(a.at, at) })
		if before == 0 {
			continue
		}
		if known := list[before-1]; c.fence <= known.fence {
			found = append(found, campaign.Violationf("old", "key %d: a call that began at %d got the result of fence %d, when that of %d had reached its process at %d at the latest",
				c.key, c.from, c.fence, known.fence, known.at))
		}
	}
	return found
}

// A span says of a run and a process when the first and the last call began that got
// the run's result there.
type span struct{ First, Last int64 }

// judgeLanded finds processes that got a result although none of their calls had
// begun when its put was answered: the call that began first has asked the server
// for all. Those that began later joined it, which they may while the result is on
// its way; for how many results there were such is returned too.
func judgeLanded(spans []map[run]span, landed map[run]int64) (joined int, found []campaign.Violation) {
	for i, of := range spans {
		for r, s := range of {
			at, ok := landed[r]
			switch {
			case !ok:
			case s.First > at:
				found = append(found, campaign.Violationf("landed", "key %d: process %d got the result of fence %d, and its first call began %d ns after that had been put", r.Key, i, r.Fence, s.First-at))
			case s.Last > at:
				joined++
			}
		}
	}
	return joined, found
}

func TestJudgeCalls(t *testing.T) {
	for name, c := range map[string]struct {
		calls    []call
		returned map[run]int64
		want     int
	}{
		"together":                    {[]call{{from: 10, to: 30, fence: 5}, {from: 29, to: 31, fence: 5}}, nil, 0},
		"after it was known":          {[]call{{from: 10, to: 30, fence: 5}, {from: 31, to: 40, fence: 5}}, nil, 1},
		"another key":                 {[]call{{from: 10, to: 30, fence: 5}, {key: 1, from: 31, to: 40, fence: 5}}, nil, 0},
		"after its function returned": {[]call{{from: 26, to: 30, fence: 5}}, map[run]int64{{0, 5}: 25}, 1},
		"while its function ran":      {[]call{{from: 24, to: 30, fence: 5}}, map[run]int64{{0, 5}: 25}, 0},
		"older than what was known":   {[]call{{from: 10, to: 30, fence: 5}, {from: 31, to: 40, fence: 4}}, nil, 1},
		"newer than what was known":   {[]call{{from: 10, to: 30, fence: 5}, {from: 31, to: 40, fence: 6}}, nil, 0},
	} {
		if found := judgeCalls(c.calls, c.returned); len(found) != c.want {
			t.Errorf("%s: found %v, want %d", name, found, c.want)
		}
	}
	spans := []map[run]span{{{0, 5}: {50, 52}}, {{0, 5}: {52, 53}, {0, 6}: {99, 99}}}
	if joined, found := judgeLanded(spans, map[run]int64{{0, 5}: 51}); joined != 1 || len(found) != 1 {
		t.Errorf("%d joined late, found %v; want those of process 0, and process 1", joined, found)
	}
}
