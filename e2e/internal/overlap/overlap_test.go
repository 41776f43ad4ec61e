package overlap

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// turns returns n holds that follow each other, in any order.
func turns(n int, r *rand.Rand) []Hold {
	holds := make([]Hold, n)
	now := int64(0)
	for i := range holds {
		holds[i].Who, holds[i].Fence = fmt.Sprintf("h%d", i), uint64(10+2*i)
		holds[i].Enter = now
		now += 1 + r.Int64N(1000)
		holds[i].Exit = now
		now += r.Int64N(3) // often none: one ends as the next begins
	}
	r.Shuffle(n, func(i, j int) { holds[i], holds[j] = holds[j], holds[i] })
	return holds
}

func TestTurnsAreNoConflict(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		if found := Find(turns(100, r)); len(found) > 0 {
			t.Fatalf("turns were taken for a conflict: %v", found)
		}
	}
	if found := Find(nil); found != nil {
		t.Errorf("no holds: %v", found)
	}
}

// TestPlantedOverlapIsFound moves the end of one hold past the beginning of the
// next, by as little as a nanosecond.
func TestPlantedOverlapIsFound(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 200 {
		holds := turns(100, r)
		Find(holds) // sorts
		i := r.IntN(99)
		holds[i].Exit = holds[i+1].Enter + 1 + r.Int64N(5)
		planted := holds[i].Who
		r.Shuffle(len(holds), func(i, j int) { holds[i], holds[j] = holds[j], holds[i] })
		found := Find(holds)
		if len(found) == 0 || found[0].What != "overlap" || found[0].First.Who != planted {
			t.Fatalf("planted an overlap of %s, found %v", planted, found)
		}
	}
}

// TestLongHoldOverlapsAll checks that a hold is not only compared with its
// neighbour.
func TestLongHoldOverlapsAll(t *testing.T) {
	holds := []Hold{
		{Who: "long", Enter: 0, Exit: 100, Fence: 1},
		{Who: "a", Enter: 10, Exit: 20, Fence: 2},
		{Who: "b", Enter: 30, Exit: 40, Fence: 3},
		{Who: "after", Enter: 100, Exit: 110, Fence: 4},
	}
	found := Find(holds)
	if len(found) != 2 {
		t.Fatalf("found %v, want two overlaps with the long one", found)
	}
	for i, who := range []string{"a", "b"} {
		if found[i].First.Who != "long" || found[i].Second.Who != who {
			t.Errorf("conflict %d: %v", i, found[i])
		}
	}
}

func TestSmallerFenceIsFound(t *testing.T) {
	for _, fence := range []uint64{4, 5} { // smaller, and the same
		found := Find([]Hold{
			{Who: "a", Enter: 0, Exit: 1, Fence: 5},
			{Who: "b", Enter: 2, Exit: 3, Fence: fence},
		})
		if len(found) != 1 || found[0].What != "fence" || found[0].Second.Who != "b" {
			t.Errorf("fence %d after 5: %v", fence, found)
		}
	}
}

func TestConflictSaysAll(t *testing.T) {
	c := Conflict{First: Hold{"a", 1, 5, 7}, Second: Hold{"b", 4, 6, 8}, What: "overlap"}
	for _, want := range []string{"overlap", "a", "b", "1", "5", "7", "4", "6", "8"} {
		if !strings.Contains(c.String(), want) {
			t.Errorf("%q does not say %s", c, want)
		}
	}
}
