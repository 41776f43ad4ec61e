// Package overlap finds holds of a lock that overlapped, from what the holders
// wrote down, after the fact.
package overlap

import (
	"cmp"
	"fmt"
	"slices"
)

// A Hold is what one holder wrote down. Instants are nanoseconds of one clock
// that all holders share, such as CLOCK_MONOTONIC of their machine.
type Hold struct {
	// Who tells holders apart in what is reported.
	Who string
	// Enter was read after the lock was acquired, Exit before it was released;
	// of a holder that died, Exit is the last instant at which it wrote that
	// it was alive. So holds that overlap here did overlap.
	Enter, Exit int64
	// Fence is the fence of the hold.
	Fence uint64
}

// A Conflict is a pair of holds that contradict exclusion.
type Conflict struct {
	First, Second Hold
	// What says why: "overlap" or "fence".
	What string
}

// String is one line for a report.
func (c Conflict) String() string {
	return fmt.Sprintf("%s: %s held from %d to %d with fence %d, %s from %d to %d with fence %d", c.What,
		c.First.Who, c.First.Enter, c.First.Exit, c.First.Fence, c.Second.Who, c.Second.Enter, c.Second.Exit, c.Second.Fence)
}

// Find returns every hold that began before an earlier one had ended, with the
// one of those that ended last, and every hold whose fence is not larger than
// that of the hold before it. It leaves holds sorted by Enter. One hold may end
// at the instant at which the next begins.
func Find(holds []Hold) []Conflict {
	slices.SortFunc(holds, func(a, b Hold) int { return cmp.Compare(a.Enter, b.Enter) })
	var found []Conflict
	for i := 1; i < len(holds); i++ {
		if before := holds[i-1]; holds[i].Fence <= before.Fence {
			found = append(found, Conflict{First: before, Second: holds[i], What: "fence"})
		}
	}
	var last Hold // the one that ends last of those seen
	for i, h := range holds {
		if i > 0 && h.Enter < last.Exit {
			found = append(found, Conflict{First: last, Second: h, What: "overlap"})
		}
		if i == 0 || h.Exit > last.Exit {
			last = h
		}
	}
	return found
}
