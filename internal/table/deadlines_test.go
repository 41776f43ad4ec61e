package table

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestHeapIsASortedSlice moves, adds and removes at random, and wants the heap
// to name the same first one as a slice that is sorted each time.
func TestHeapIsASortedSlice(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 2)) //nolint:gosec // a test repeats itself
		var d deadlines
		var live []*Lease
		for i := range 300 {
			switch {
			case len(live) == 0 || random.IntN(3) == 0:
				l := &Lease{owner: new(Owner), number: uint64(i), state: State(random.IntN(2))}
				d.set(l, 1+time.Duration(random.IntN(50)))
				live = append(live, l)
			case random.IntN(2) == 0:
				l := live[random.IntN(len(live))]
				d.set(l, 1+time.Duration(random.IntN(50)))
			default:
				j := random.IntN(len(live))
				d.remove(live[j])
				d.remove(live[j]) // it is out already
				live = slices.Delete(live, j, j+1)
			}
			var want *Lease
			for _, l := range live {
				if want == nil || (due{l.deadline, l}).before(due{want.deadline, want}) {
					want = l
				}
			}
			if got := d.first(math.MaxInt64); got != want {
				t.Fatalf("seed %d, step %d: first is %+v, want %+v", seed, i, got, want)
			}
		}
		for range live {
			d.remove(d.first(math.MaxInt64))
		}
		if d.first(math.MaxInt64) != nil || len(d.heap) != 0 {
			t.Fatalf("seed %d: %d are left", seed, len(d.heap))
		}
	}
}

func TestRenewalLeavesTheHeapAlone(t *testing.T) {
	var d deadlines
	leases := make([]Lease, 64)
	for i := range leases {
		leases[i].owner, leases[i].number = new(Owner), uint64(i)
		d.set(&leases[i], 100+time.Duration(i))
	}
	before := slices.Clone(d.heap)
	for i := range leases {
		d.set(&leases[i], 200+time.Duration(i))
	}
	if !slices.Equal(before, d.heap) {
		t.Fatal("moving deadlines later moved the heap")
	}
	if l := d.first(200); l != &leases[0] || l.deadline != 200 {
		t.Fatalf("first is at %v", l.deadline)
	}
}

// TestDeadlinesArePutRightAheadOfTime wants one look for many deadlines that
// moved, and none for those that will move again soon.
func TestDeadlinesArePutRightAheadOfTime(t *testing.T) {
	var d deadlines
	leases := make([]Lease, 64)
	for i := range leases {
		leases[i].owner, leases[i].number = new(Owner), uint64(i)
		d.set(&leases[i], second+time.Duration(i))
	}
	for i := range leases {
		d.set(&leases[i], second+foresight-1+time.Duration(i))
	}
	if d.first(second-1) != nil {
		t.Fatal("something is due early")
	}
	if at, ok := d.next(); !ok || at != second {
		t.Fatalf("next at %v, although it was not worth it", at)
	}
	for i := range leases {
		d.set(&leases[i], 2*second+time.Duration(i))
	}
	if d.first(second-1) != nil {
		t.Fatal("something is due early")
	}
	if at, ok := d.next(); !ok || at != 2*second {
		t.Fatalf("next at %v, want all 64 to have been put right", at)
	}
}

func TestDeadlineOfNeverLeavesTheHeap(t *testing.T) {
	var d deadlines
	l := Lease{owner: new(Owner)}
	d.set(&l, 5)
	d.set(&l, 0)
	if l.slot != 0 || len(d.heap) != 0 || d.first(math.MaxInt64) != nil {
		t.Fatal("a lease without a deadline is in the heap")
	}
	d.set(&l, 0)
	d.set(&l, 7)
	if d.first(6) != nil || d.first(7) != &l {
		t.Fatal("it did not come back")
	}
}

func TestListIsASlice(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 3)) //nolint:gosec // a test repeats itself
	var s list
	var want []*Lease
	for i := range 5000 {
		if len(want) == 0 || len(want) < 8 && random.IntN(2) == 0 {
			l := new(Lease)
			s.push(byOwner, l)
			want = append(want, l)
		} else {
			j := random.IntN(len(want))
			s.remove(byOwner, want[j])
			if want[j].links != ([2]link{}) {
				t.Fatal("a removed lease still has neighbours")
			}
			want = slices.Delete(want, j, j+1)
		}
		var got []*Lease
		for l := s.first; l != nil; l = l.links[byOwner].next {
			got = append(got, l)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("step %d: the list has %d, want %d, or in another order", i, len(got), len(want))
		}
	}
}
