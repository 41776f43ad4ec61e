//go:build unix

package faults

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/distributed-go/distributed/e2e/internal/overlap"
)

// A violation is something that must not happen.
type violation struct {
	Kind   string // one word: which judge found it
	Detail string
}

// String is how it stands in the output of a test, where the list of planted
// bugs finds the kind.
func (v violation) String() string { return fmt.Sprintf("violation %s: %s", v.Kind, v.Detail) }

// An interval is one hold: from the return of the acquisition to the last
// instant at which its holder is known to have believed in it.
type interval struct {
	record        // of enter
	asked   int64 // when the acquisition began
	last    int64 // belief is known up to here
	ended   bool  // by itself: released, or known to be lost
	left    bool  // it was released, at last
	freed   int64 // when Release returned, 0 if that is unknown
	regular bool  // released without an error
}

// intervals makes holds of records, by key, in the order in which they began.
// Records of one lane are in order.
func intervals(records []record) (map[string][]*interval, error) {
	byKey := make(map[string][]*interval)
	open := make(map[string]*interval)
	asked := make(map[string]int64)
	for _, r := range records {
		h := open[r.Who]
		if h == nil && r.What != "ask" && r.What != "enter" {
			return nil, fmt.Errorf("%+v without a hold", r)
		}
		switch r.What {
		case "ask":
			asked[r.Who] = r.At
			delete(open, r.Who)
		case "enter":
			h = &interval{record: r, asked: asked[r.Who], last: r.At}
			open[r.Who] = h
			byKey[r.Key] = append(byKey[r.Key], h)
		case "alive":
			h.last = max(h.last, r.At)
		case "gone":
			h.last, h.ended = max(h.last, r.At), true
		case "leave":
			h.last, h.ended, h.left = max(h.last, r.At), true, true
		case "freed":
			h.freed, h.regular = r.At, true
		}
	}
	for _, holds := range byKey {
		slices.SortStableFunc(holds, func(a, b *interval) int { return cmp.Compare(a.At, b.At) })
	}
	return byKey, nil
}

// judge looks for everything that records alone show: beliefs that overlap,
// fences that do not grow, and histories that no lock can have.
func judge(records []record) (all map[string][]*interval, found []violation) {
	all, err := intervals(records)
	if err != nil {
		return all, []violation{{"records", err.Error()}}
	}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		holds := make([]overlap.Hold, len(all[key]))
		for i, h := range all[key] {
			holds[i] = overlap.Hold{Who: h.Who, Enter: h.At, Exit: h.last, Fence: h.Fence}
		}
		for _, c := range overlap.Find(holds) {
			found = append(found, violation{c.What, fmt.Sprintf("key %s: %v", key, c)})
		}
		if v := linear(key, all[key]); v != nil {
			found = append(found, *v)
		}
	}
	return all, found
}

// A step is an operation on a lock for porcupine.
type step struct {
	begin bool // else the hold with the fence ends
	fence uint64
}

// lockState is the largest fence that was granted, and whether it is held.
type lockState struct {
	fence uint64
	held  bool
}

// lockModel is a lock that grants only what is free, with growing fences, and
// that holds end by whatever means.
var lockModel = porcupine.Model{
	Init: func() any { return lockState{} },
	Step: func(state, input, _ any) (bool, any) {
		s, op := state.(lockState), input.(step)
		if op.begin {
			return !s.held && op.fence > s.fence, lockState{op.fence, true}
		}
		return s.held && op.fence == s.fence, lockState{op.fence, false}
	},
}

// Histories are cut into pieces, because illegal ones are slow to refute: the
// next piece begins with the last hold of the one before.
const (
	longestHistory = 500
	longestSearch  = 20 * time.Second
)

// linear checks that the holds of a key can have been those of one lock. What
// its holder did not see end ends at some time after its last belief.
func linear(key string, holds []*interval) *violation {
	for first := 0; first < len(holds); first += longestHistory - 1 {
		part := holds[first:min(first+longestHistory, len(holds))]
		var history []porcupine.Operation
		for i, h := range part {
			ends := int64(math.MaxInt64)
			if h.regular {
				ends = h.freed
			}
			history = append(history,
				porcupine.Operation{ClientId: 2 * i, Input: step{true, h.Fence}, Call: h.asked, Return: h.At},
				porcupine.Operation{ClientId: 2*i + 1, Input: step{false, h.Fence}, Call: h.last, Return: ends})
		}
		switch porcupine.CheckOperationsTimeout(lockModel, history, longestSearch) {
		case porcupine.Illegal:
			return &violation{"history", fmt.Sprintf("key %s: porcupine finds no lock that %d holds from %d on can be of", key, len(part), part[0].At)}
		case porcupine.Unknown:
			return &violation{"history", fmt.Sprintf("key %s: porcupine did not end within %v", key, longestSearch)}
		}
	}
	return nil
}

// A death is a hold whose process was killed.
type death struct {
	hold interval
	at   int64 // the instant before the signal was sent
}

// takeovers returns the times from deaths to the next holds of their keys, in
// ms, and a violation for each key that nobody got within a bound.
func takeovers(all map[string][]*interval, deaths []death, bound time.Duration) (took []float64, found []violation) {
	for _, d := range deaths {
		holds := all[d.hold.Key]
		i, _ := slices.BinarySearchFunc(holds, d.at, func(h *interval, at int64) int { return cmp.Compare(h.At, at) })
		for i < len(holds) && holds[i].Fence <= d.hold.Fence {
			i++
		}
		if i == len(holds) {
			found = append(found, violation{"takeover", fmt.Sprintf("key %s: nobody held it after %s, which had fence %d, was killed", d.hold.Key, d.hold.Who, d.hold.Fence)})
			continue
		}
		after := time.Duration(holds[i].At - d.at)
		took = append(took, float64(after)/1e6)
		if after > bound {
			found = append(found, violation{"takeover", fmt.Sprintf("key %s: held again %v after its holder was killed, want at most %v", d.hold.Key, after, bound)})
		}
	}
	return took, found
}
