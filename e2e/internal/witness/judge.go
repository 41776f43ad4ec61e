//go:build unix

package witness

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/overlap"
)

// An Interval is one hold: from the return of the acquisition to the last
// instant at which its holder is known to have believed in it.
type Interval struct {
	Record        // of enter
	Asked   int64 // when the acquisition began
	Last    int64 // belief is known up to here
	Ended   bool  // by itself: released, or known to be lost
	Left    bool  // it was released, at last
	Freed   int64 // when Release returned, 0 if that is unknown
	Regular bool  // released without an error
}

// Intervals makes holds of records, by key, in the order in which they began.
// Records of one lane are in order.
func Intervals(records []Record) (map[string][]*Interval, error) {
	byKey := make(map[string][]*Interval)
	open := make(map[string]*Interval)
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
			h = &Interval{Record: r, Asked: asked[r.Who], Last: r.At}
			open[r.Who] = h
			byKey[r.Key] = append(byKey[r.Key], h)
		case "alive":
			h.Last = max(h.Last, r.At)
		case "gone":
			h.Last, h.Ended = max(h.Last, r.At), true
		case "leave":
			h.Last, h.Ended, h.Left = max(h.Last, r.At), true, true
		case "freed":
			h.Freed, h.Regular = r.At, true
		}
	}
	for _, holds := range byKey {
		slices.SortStableFunc(holds, func(a, b *Interval) int { return cmp.Compare(a.At, b.At) })
	}
	return byKey, nil
}

// Judge looks for everything that records alone show: beliefs that overlap,
// fences that do not grow, and histories that no lock can have.
func Judge(records []Record) (all map[string][]*Interval, found []campaign.Violation) {
	all, err := Intervals(records)
	if err != nil {
		return all, []campaign.Violation{{Kind: "records", Detail: err.Error()}}
	}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		holds := make([]overlap.Hold, len(all[key]))
		for i, h := range all[key] {
			holds[i] = overlap.Hold{Who: h.Who, Enter: h.At, Exit: h.Last, Fence: h.Fence}
		}
		for _, c := range overlap.Find(holds) {
			found = append(found, campaign.Violationf(c.What, "key %s: %v", key, c))
		}
		found = append(found, linear(key, all[key])...)
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
func linear(key string, holds []*Interval) []campaign.Violation {
	for first := 0; first < len(holds); first += longestHistory - 1 {
		part := holds[first:min(first+longestHistory, len(holds))]
		var history []porcupine.Operation
		for i, h := range part {
			ends := int64(math.MaxInt64)
			if h.Regular {
				ends = h.Freed
			}
			history = append(history,
				porcupine.Operation{ClientId: 2 * i, Input: step{true, h.Fence}, Call: h.Asked, Return: h.At},
				porcupine.Operation{ClientId: 2*i + 1, Input: step{false, h.Fence}, Call: h.Last, Return: ends})
		}
		switch porcupine.CheckOperationsTimeout(lockModel, history, longestSearch) {
		case porcupine.Illegal:
			return []campaign.Violation{campaign.Violationf("history", "key %s: porcupine finds no lock that %d holds from %d on can be of", key, len(part), part[0].At)}
		case porcupine.Unknown:
			return []campaign.Violation{campaign.Violationf("history", "key %s: porcupine did not end within %v", key, longestSearch)}
		}
	}
	return nil
}

// A Death is a hold whose process was killed.
type Death struct {
	Hold Interval
	At   int64 // the instant before the signal was sent
}

// Takeovers returns the times from deaths to the next holds of their keys, in
// ms, and a violation for each key that nobody got within a bound.
func Takeovers(all map[string][]*Interval, deaths []Death, bound time.Duration) (took []float64, found []campaign.Violation) {
	for _, d := range deaths {
		holds := all[d.Hold.Key]
		i, _ := slices.BinarySearchFunc(holds, d.At, func(h *Interval, at int64) int { return cmp.Compare(h.At, at) })
		for i < len(holds) && holds[i].Fence <= d.Hold.Fence {
			i++
		}
		if i == len(holds) {
			found = append(found, campaign.Violationf("takeover", "key %s: nobody held it after %s, which had fence %d, was killed", d.Hold.Key, d.Hold.Who, d.Hold.Fence))
			continue
		}
		after := time.Duration(holds[i].At - d.At)
		took = append(took, float64(after)/1e6)
		if after > bound {
			found = append(found, campaign.Violationf("takeover", "key %s: held again %v after its holder was killed, want at most %v", d.Hold.Key, after, bound))
		}
	}
	return took, found
}
