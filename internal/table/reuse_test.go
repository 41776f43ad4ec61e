package table

import (
	"reflect"
	"testing"
)

func TestALeaseGivenBackComesAgainAsIfNew(t *testing.T) {
	b := newBench(t)
	o, other := b.NewSession(1), b.NewSession(2)
	first := lock(o, "k")
	first.Tag = "first"
	l := b.ask(first, Granted)
	b.Reuse(l) // it has not ended
	b.want(l, Granted, Lasting)
	b.release(l)
	b.Events()
	b.Reuse(l)
	b.Reuse(l) // once is enough
	if want := (Lease{Tag: "first"}); *l != want {
		t.Fatalf("given back it is %+v, want all but the Tag gone", *l)
	}
	again := b.ask(slots(other, "s", 3, 2), Granted)
	if again != l || again.Tag != "first" {
		t.Fatalf("the next lease is %p with Tag %v, want %p with that of before", again, again.Tag, l)
	}
	fresh := newBench(t)
	tagged := slots(fresh.NewSession(2), "s", 3, 2)
	fresh.fence, tagged.Tag = b.fence-1, "first"
	want := fresh.ask(tagged, Granted)
	if got, want := again.Record(), want.Record(); got != want {
		t.Errorf("it is %+v, a new one %+v", got, want)
	}
	if got, want := again.AppendState(nil, b.at), want.AppendState(nil, fresh.at); !reflect.DeepEqual(got, want) {
		t.Errorf("its state is %v, that of a new one %v", got, want)
	}
	second := lock(o, "k")
	second.Tag = "second"
	if l := b.ask(second, Granted); l == again || l.Tag != "second" {
		t.Errorf("a second one has Tag %v, or is the first", l.Tag)
	}
}

func TestFewLeasesAreKeptToComeAgain(t *testing.T) {
	b := newBench(t)
	o := b.NewSession(1)
	var all []*Lease
	for range keptLeases + 10 {
		all = append(all, b.ask(slots(o, "s", 2*keptLeases, 1), Granted))
	}
	for _, l := range all {
		b.release(l)
		b.Reuse(l)
	}
	if n := len(b.spare); n != keptLeases {
		t.Fatalf("%d are kept, want %d", n, keptLeases)
	}
	for range keptLeases + 10 {
		b.ask(slots(o, "s", 2*keptLeases, 1), Granted)
	}
	if n := len(b.spare); n != 0 || cap(b.spare) > 2*keptLeases {
		t.Fatalf("%d are left, with room for %d", n, cap(b.spare))
	}
}
