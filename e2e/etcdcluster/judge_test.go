//go:build linux

package etcdcluster

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/distributed-go/distributed/internal/figures"

	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/witness"
)

// A share is what a lane takes of a limit.
type share struct{ weight, limit int64 }

// judge judges what was written down. Keys that holders share have a judge of
// their own: what each lane takes is known from what it was told to do.
func judge(records []witness.Record, shares map[string]share) (holds int, found []campaign.Violation) {
	var alone, shared []witness.Record
	for _, r := range records {
		if shares[r.Who].limit == 1 {
			alone = append(alone, r)
		} else {
			shared = append(shared, r)
		}
		if r.What == "enter" {
			holds++
		}
	}
	_, found = witness.Judge(alone)
	all, err := witness.Intervals(shared)
	if err != nil {
		return holds, append(found, campaign.Violationf("records", "%v", err))
	}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		found = append(found, judgeShared(key, all[key], shares)...)
	}
	return holds, found
}

// judgeShared looks for instants at which those who believed took more than there
// is, and for fences that do not grow: only those have one who hold alone.
func judgeShared(key string, holds []*witness.Interval, shares map[string]share) (found []campaign.Violation) {
	type edge struct {
		at     int64
		weight int64
		hold   *witness.Interval
	}
	var edges []edge
	fence := uint64(0)
	for _, h := range holds {
		w := shares[h.Who].weight
		edges = append(edges, edge{h.At, w, h}, edge{h.Last, -w, h})
		if h.Fence == 0 {
			continue
		}
		if h.Fence <= fence {
			found = append(found, campaign.Violationf("fence", "key %s: %s got %d at %d after %d", key, h.Who, h.Fence, h.At, fence))
		}
		fence = h.Fence
	}
	slices.SortStableFunc(edges, func(a, b edge) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.weight, b.weight)) // who leaves goes first
	})
	// A hold that is known at its first instant alone is none.
	taken, in := int64(0), make(map[*witness.Interval]bool)
	for _, e := range edges {
		if e.hold.At == e.hold.Last {
			continue
		}
		taken += e.weight
		in[e.hold] = e.weight > 0
		if limit := shares[e.hold.Who].limit; e.weight > 0 && taken > limit {
			var others []string
			for h, there := range in {
				if there && h != e.hold {
					others = append(others, h.Who)
				}
			}
			slices.Sort(others)
			found = append(found, campaign.Violationf("overlap", "key %s: %s got %d at %d beside %v, and %d of %d are taken", key, e.hold.Who, e.weight, e.at, others, taken, limit))
		}
	}
	return found
}

// A window is a time under a fault, by the machine's monotonic clock: from its
// beginning, to its end, to when all keys had been granted again.
type window struct {
	kind          string
	from, to, end int64
	without       int64  // from when on there was no quorum, 0 if there was one
	again         int64  // from when on there may have been one again
	note          string // whom it hit, and how
}

// grantsBy are the instants of grants, of all keys together as "" and of each.
func grantsBy(records []witness.Record) map[string][]int64 {
	all := make(map[string][]int64)
	for _, r := range records {
		if r.What == "enter" {
			all[""] = append(all[""], r.At)
			all[r.Key] = append(all[r.Key], r.At)
		}
	}
	for _, at := range all {
		slices.Sort(at)
	}
	return all
}

// gap is the longest time without a grant that touches a window.
func gap(grants []int64, w window) time.Duration {
	longest, last := int64(0), w.from
	i, _ := slices.BinarySearch(grants, w.from)
	if i > 0 && w.kind != quiet {
		last = grants[i-1]
	}
	for ; i < len(grants) && last < w.end; i++ {
		longest = max(longest, grants[i]-last)
		last = grants[i]
	}
	return time.Duration(longest)
}

// unavailability is a table of the times without a grant, by the kind of the
// fault: of any key, and of the key that was granted again last.
func unavailability(windows []window, records []witness.Record) *figures.Table {
	grants := grantsBy(records)
	type times struct{ any, slowest, took figures.Sample }
	kinds := make(map[string]*times)
	for _, w := range windows {
		t := kinds[w.kind]
		if t == nil {
			t = new(times)
			kinds[w.kind] = t
		}
		slowest := time.Duration(0)
		for key, at := range grants {
			if key != "" {
				slowest = max(slowest, gap(at, w))
			}
		}
		t.any = append(t.any, gap(grants[""], w).Seconds())
		t.slowest = append(t.slowest, slowest.Seconds())
		t.took = append(t.took, time.Duration(w.to-w.from).Seconds())
	}
	table := figures.NewTable("fault", "times", "s under it, in sum", "s without any grant, median", "greatest", "s without a grant of the slowest key, median", "greatest")
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		t := kinds[kind]
		table.Row(kind, len(t.any), t.took.Sum(), t.any.Median(), t.any.Quantile(1), t.slowest.Median(), t.slowest.Quantile(1))
	}
	return table
}

// settling is how long after the loss of the quorum what was granted before may
// still arrive.
const settling = 3 * time.Second

// grantsWithout finds what was granted while there was no quorum.
func grantsWithout(windows []window, records []witness.Record) (found []campaign.Violation) {
	for _, w := range windows {
		for _, r := range records {
			if w.without > 0 && r.What == "enter" && r.At > w.without+int64(settling) && r.At < w.again {
				found = append(found, campaign.Violationf("quorum", "key %s: granted to %s with fence %d, %v after the quorum was lost: %s", r.Key, r.Who, r.Fence, time.Duration(r.At-w.without), w.note))
			}
		}
	}
	return found
}
