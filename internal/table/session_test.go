package table

import (
	"errors"
	"fmt"
	"reflect"
	"testing"
	"time"
)

func abandoned(l *Lease) Event { return Event{l, EventAbandoned} }
func revoked(l *Lease) Event   { return Event{l, EventRevoked} }
func released(l *Lease) Event  { return Event{l, EventReleased} }

func (b *bench) heard(o *Owner) {
	b.Helper()
	b.Heard(b.at, o)
}

func TestSilentSessionIsPassedOverAndKeepsItsPlace(t *testing.T) {
	b := newBench(t)
	x, y, z := b.NewOwner(1), b.NewSession(2), b.NewSession(3)
	first := b.ask(lasting(lock(x, "k"), 6*second), Granted)
	silent := b.ask(lock(y, "k"), Queued)
	next := b.ask(lock(z, "k"), Queued)
	b.pass(4 * second)
	b.heard(z)
	b.pass(2 * second)
	b.happens(expired(first), granted(next)) // y was silent for over 5 s
	b.heard(y)
	b.happens()
	last := b.ask(lock(x, "k"), Queued)
	b.release(next)
	b.happens(released(next), granted(silent))
	b.release(silent)
	b.happens(released(silent), granted(last))
}

// TestPatience wants half of the TTL, and never more than five seconds.
func TestPatience(t *testing.T) {
	for _, c := range []struct{ ttl, patience time.Duration }{
		{1, 1},
		{4 * second, 2 * second},
		{9 * second, 4500 * time.Millisecond},
		{10 * second, 5 * second},
		{time.Hour, 5 * second},
	} {
		b := newBench(t)
		x, y := b.NewOwner(1), b.NewSession(2)
		held := b.ask(lasting(lock(x, "k"), 2*time.Hour), Granted)
		b.ask(lasting(lock(y, "k"), c.ttl), Queued)
		b.pass(c.patience - 1)
		if i, _ := b.Lookup(b.at, Lock, []byte("k")); i.Absent != 0 {
			t.Errorf("TTL %v: passed over after %v", c.ttl, b.at)
		}
		b.pass(1)
		if i, _ := b.Lookup(b.at, Lock, []byte("k")); i.Absent != 1 && c.ttl > 1 {
			t.Errorf("TTL %v: not passed over after %v", c.ttl, b.at)
		}
		b.release(held)
	}
}

func TestNewcomerDoesNotWaitForTheAbsent(t *testing.T) {
	b := newBench(t)
	x, y := b.NewOwner(1), b.NewSession(2)
	held := b.ask(lock(x, "k"), Granted)
	silent := b.ask(lasting(lock(y, "k"), 8*second), Queued)
	b.pass(6 * second)
	b.release(held)
	b.happens()
	if i, ok := b.Lookup(b.at, Lock, []byte("k")); !ok || i.Holders != 0 || i.Waiters != 1 || i.Absent != 1 || i.Idle != 0 {
		t.Fatalf("the key is %+v, %t", i, ok)
	}
	newcomer := b.ask(try(lock(x, "k")), Granted)
	b.release(newcomer)
	b.heard(y)
	b.happens(granted(silent))
}

func TestPlaceOfASilentSessionEnds(t *testing.T) {
	b := newBench(t)
	x, y := b.NewOwner(1), b.NewSession(2)
	held := b.ask(lock(x, "k"), Granted)
	silent := b.ask(lasting(lock(y, "k"), 4*second), Queued)
	b.pass(3 * second)
	b.heard(y)
	b.pass(3 * second)
	b.want(silent, Queued, Lasting)
	b.pass(second)
	b.want(silent, Ended, Abandoned)
	b.happens(abandoned(silent))
	b.want(held, Granted, Lasting)
	b.heard(y)
	b.release(held)
	b.happens()
}

// TestAbsentHeavyWaiterLetsLightOnesPass: nobody releases anything here, it is
// the silence alone that lets the next pass.
func TestAbsentHeavyWaiterLetsLightOnesPass(t *testing.T) {
	b := newBench(t)
	x, y, z := b.NewOwner(1), b.NewSession(2), b.NewOwner(3)
	b.ask(slots(x, "s", 3, 2), Granted)
	b.ask(slots(y, "s", 3, 3), Queued)
	light := b.ask(slots(z, "s", 3, 1), Queued)
	b.pass(5*second - 1)
	b.happens()
	b.pass(1)
	b.happens(granted(light))
}

func TestPlacesThatComeBackAreServedInTheirOrder(t *testing.T) {
	b := newBench(t)
	x, y := b.NewOwner(1), b.NewSession(2)
	held := b.ask(lasting(slots(x, "s", 2, 2), 6*second), Granted)
	heavy := b.ask(slots(y, "s", 2, 2), Queued)
	light := b.ask(slots(y, "s", 2, 1), Queued)
	b.pass(6 * second)
	b.happens(expired(held))
	b.heard(y)
	b.happens(granted(heavy))
	b.want(light, Queued, Lasting)
}

func TestBeatRenewsAllOfASession(t *testing.T) {
	b := newBench(t)
	x, y := b.NewSession(1), b.NewSession(2)
	short := b.ask(lasting(lock(x, "a"), 2*second), Granted)
	long := b.ask(lasting(lock(x, "b"), 3*second), Granted)
	other := b.ask(lasting(lock(y, "c"), 3*second), Granted)
	b.pass(second)
	b.Beat(b.at, x)
	if short.Remaining(b.at) != 2*second || long.Remaining(b.at) != 3*second || other.Remaining(b.at) != 2*second {
		t.Fatalf("%v, %v and %v are left", short.Remaining(b.at), long.Remaining(b.at), other.Remaining(b.at))
	}
	b.pass(2*second - 1)
	b.Beat(b.at, x)
	b.pass(1)
	b.happens(expired(other))
	b.pass(2*second - 1)
	b.happens(expired(short))
	b.Beat(b.at, x)
	b.want(short, Ended, Expired)
	b.pass(3*second - 1)
	b.want(long, Granted, Lasting)
	b.pass(1)
	b.happens(expired(long))
}

func TestBeatDoesNotUndoAShorterRenewal(t *testing.T) {
	b := newBench(t)
	x := b.NewSession(1)
	l := b.ask(lock(x, "k"), Granted)
	b.Beat(b.at, x)
	if _, err := b.Renew(b.at, Lock, []byte("k"), l.Token(), second); err != nil {
		t.Fatal(err)
	}
	b.pass(second)
	b.happens(expired(l))
}

func TestBeatDoesNotRenewAnUncollectedTicket(t *testing.T) {
	b := newBench(t)
	x := b.NewSession(1)
	r := lasting(lock(x, "k"), 4*second)
	r.Ticket = true
	l := b.ask(r, Granted)
	later := b.ask(r, Queued)
	b.pass(3 * second)
	b.Beat(b.at, x)
	b.pass(second)
	b.happens(expired(l), granted(later))
	if err := b.Collect(b.at, l); !errors.Is(err, ErrExpired) {
		t.Fatalf("collect of an expired ticket: %v", err)
	}
	b.pass(3 * second)
	if err := b.Collect(b.at, later); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		b.pass(3 * second)
		b.Beat(b.at, x)
	}
	b.want(later, Granted, Lasting)
}

func TestSyncDropsWhatWasNotNamed(t *testing.T) {
	b := newBench(t)
	x, y := b.NewSession(1), b.NewOwner(2)
	renewed, forgotten := b.ask(lock(x, "renewed"), Granted), b.ask(lock(x, "forgotten"), Granted)
	b.ask(lock(y, "busy"), Granted)
	place, lost := b.ask(lock(x, "busy"), Queued), b.ask(lock(x, "busy"), Queued)
	waiter := b.ask(lock(y, "forgotten"), Queued)
	b.pass(second)
	b.Resume(b.at, x)
	if _, err := b.Renew(b.at, Lock, []byte("renewed"), renewed.Token(), ttl); err != nil {
		t.Fatal(err)
	}
	b.Name(place)
	fresh := b.ask(lock(x, "new"), Granted)
	if n := b.Sync(b.at, x); n != 2 {
		t.Fatalf("%d were dropped", n)
	}
	b.want(renewed, Granted, Lasting)
	b.want(place, Queued, Lasting)
	b.want(fresh, Granted, Lasting)
	b.want(forgotten, Ended, Dropped)
	b.want(lost, Ended, Dropped)
	b.happens(granted(waiter))
	if n := b.Sync(b.at, x); n != 0 {
		t.Fatalf("a second sync dropped %d", n)
	}
}

// TestBeatCountsOnlyAfterTheOwnRenewal: what the session no longer knows of
// must run out, however much it beats.
func TestBeatCountsOnlyAfterTheOwnRenewal(t *testing.T) {
	b := newBench(t)
	x := b.NewSession(1)
	unknown, known := b.ask(lock(x, "unknown"), Granted), b.ask(lock(x, "known"), Granted)
	b.pass(4 * second)
	b.Beat(b.at, x)
	b.pass(second)
	b.Resume(b.at, x)
	if unknown.Remaining(b.at) != 9*second {
		t.Fatalf("%v are left: the beat before the resume counts", unknown.Remaining(b.at))
	}
	if _, err := b.Renew(b.at, Lock, []byte("known"), known.Token(), ttl); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		b.pass(3 * second)
		b.Beat(b.at, x)
	}
	b.want(unknown, Ended, Expired)
	b.want(known, Granted, Lasting)
}

func TestGrantTakesItsFences(t *testing.T) {
	b := newBench(t)
	x := b.NewOwner(1)
	take := func(key string, n int, s State) *Lease {
		r := lock(x, key)
		r.Fences = n
		return b.ask(r, s)
	}
	first, many := take("a", 0, Granted), take("b", 5, Granted)
	queued, next := take("b", 7, Queued), take("c", 1, Granted)
	b.release(many)
	last := take("d", MaxFences, Granted)
	for i, c := range []struct {
		l    *Lease
		want uint64
	}{{first, 1001}, {many, 1002}, {next, 1007}, {queued, 1008}, {last, 1015}} {
		if f := c.l.Token().Fence; f != c.want {
			t.Errorf("lease %d has fence %d, want %d", i, f, c.want)
		}
	}
	if f := b.Fence(); f != 1014+MaxFences {
		t.Errorf("the last fence is %d", f)
	}
	for _, n := range []int{-1, MaxFences + 1} {
		r := lock(x, "e")
		r.Fences = n
		b.refused(r, ErrFences)
	}
}

func TestForceTakesAKeyFromAllItsHolders(t *testing.T) {
	b := newBench(t)
	x, y := b.NewSession(1), b.NewOwner(2)
	one, two := b.ask(slots(x, "s", 2, 1), Granted), b.ask(slots(y, "s", 2, 1), Granted)
	next := b.ask(slots(x, "s", 2, 2), Queued)
	if n := b.Force(b.at, Semaphore, []byte("s")); n != 2 {
		t.Fatalf("%d were revoked", n)
	}
	b.happens(revoked(one), revoked(two), granted(next))
	b.want(one, Ended, Revoked)
	if next.Token().Fence <= two.Token().Fence {
		t.Fatal("the next fence is not larger")
	}
	if err := b.Release(b.at, Semaphore, []byte("s"), one.Token()); !errors.Is(err, ErrNotHeld) {
		t.Fatalf("release of a revoked lease: %v", err)
	}
	if n := b.Force(b.at, Lock, []byte("s")); n != 0 {
		t.Fatalf("%d locks of that name were revoked", n)
	}
	b.release(next)
	b.Events()
	if n := b.Force(b.at, Semaphore, []byte("s")); n != 0 || len(b.Events()) != 0 {
		t.Fatalf("%d holders of an idle key were revoked", n)
	}
}

func TestLookupSaysWhoHolds(t *testing.T) {
	b := newBench(t)
	x := b.NewSession(7)
	x.Name = "host/1/tool"
	b.ask(lock(x, "k"), Granted)
	b.ask(lock(x, "k"), Queued)
	b.pass(3 * second)
	want := KeyInfo{
		Kind: Lock, Key: "k", Limit: 1, Used: 1, Holders: 1, Waiters: 1,
		Owner: 7, Name: x.Name, HeldFor: 3 * second, ExpiresIn: 7 * second,
	}
	if i, ok := b.Lookup(b.at, Lock, []byte("k")); !ok || !reflect.DeepEqual(i, want) {
		t.Fatalf("got %+v, want %+v", i, want)
	}
	if _, ok := b.Lookup(b.at, Semaphore, []byte("k")); ok {
		t.Fatal("a semaphore is known that never was")
	}
	if n := 0; true {
		x.Leases(func(*Lease) bool { n++; return n < 1 })
		if n != 1 || x.Idle() {
			t.Fatalf("%d leases were seen, idle is %t", n, x.Idle())
		}
	}
}

// TestBeatCostsNothingPerLease: a beat writes one stamp and leaves the heap
// alone, whatever the session holds.
func TestBeatCostsNothingPerLease(t *testing.T) {
	b := newBench(t)
	x := b.NewSession(1)
	for i := range 1000 {
		b.ask(lock(x, fmt.Sprint("k", i)), Granted)
	}
	b.pass(ttl - 1)
	first := b.deadlines.heap[0]
	b.Beat(b.at, x)
	if b.deadlines.heap[0] != first {
		t.Fatal("the beat touched the heap")
	}
	b.pass(ttl - 1)
	if n := b.Held(); n != 1000 {
		t.Fatalf("%d are held", n)
	}
	if n := testing.AllocsPerRun(100, func() { b.Beat(b.at, x) }); n != 0 {
		t.Fatalf("a beat allocates %v times", n)
	}
}

// TestBeingHeardCostsNothingPerWaiter has one session wait many times for one
// key, and be heard with every release: its places are not moved each time.
func TestBeingHeardCostsNothingPerWaiter(t *testing.T) {
	const waiters = 2000
	b := newBench(t)
	x := b.NewSession(1)
	all := []*Lease{b.ask(lock(x, "k"), Granted)}
	for range waiters {
		all = append(all, b.ask(lock(x, "k"), Queued))
	}
	known, moved := make(map[*Lease]time.Duration), 0
	for i, l := range all[:waiters] {
		b.pass(5 * time.Millisecond)
		b.heard(x)
		b.release(l)
		b.happens(released(l), granted(all[i+1]))
		for _, d := range b.deadlines.heap {
			if known[d.lease] != d.at {
				moved++
			}
			known[d.lease] = d.at
		}
	}
	// When each began to wait, in ten seconds twice for the session's signs of
	// life, and when each was granted.
	if moved > 4*waiters {
		t.Errorf("%d deadlines were moved for %d waiters", moved, waiters)
	}
}

// TestEarlyWakeUpsAreFew lets a session hold many leases that were granted one
// after the other, and beat: nobody is woken for each of them.
func TestEarlyWakeUpsAreFew(t *testing.T) {
	const held = 10_000
	b := newBench(t)
	x := b.NewSession(1)
	for i := range held {
		b.at += 10 * time.Microsecond
		b.ask(lasting(lock(x, fmt.Sprint("k", i)), 30*second), Granted)
	}
	woken := 0
	for beat := b.at + 2*second; b.at < time.Hour; {
		at, ok := b.Next()
		if !ok || at <= b.at {
			t.Fatalf("at %v, next is %v %t", b.at, at, ok)
		}
		if beat < at {
			b.at, beat = beat, beat+2*second
			b.Beat(b.at, x)
			continue
		}
		woken++
		b.pass(at - b.at)
	}
	if n := b.Held(); n != held {
		t.Fatalf("%d are held", n)
	}
	// Granted within a tenth of a second, ten times in every lease's TTL at most.
	if most := int(time.Hour/(28*second)+1) * 11; woken > most {
		t.Errorf("woken %d times in an hour, want at most %d", woken, most)
	}
}

func TestPositionInTheQueue(t *testing.T) {
	b := newBench(t)
	x := b.NewSession(1)
	held := b.ask(lock(x, "k"), Granted)
	one, two, three := b.ask(lock(x, "k"), Queued), b.ask(lock(x, "k"), Queued), b.ask(lock(x, "k"), Queued)
	for i, l := range []*Lease{held, one, two, three} {
		if l.Position() != i {
			t.Errorf("lease %d is at %d", i, l.Position())
		}
	}
	b.Cancel(b.at, two)
	if two.Position() != 0 || three.Position() != 2 {
		t.Errorf("after a cancel they are at %d and %d", two.Position(), three.Position())
	}
	if one.Absent() {
		t.Error("passed over at once")
	}
	b.pass(6 * second)
	if !one.Absent() || held.Absent() {
		t.Error("not passed over after a silence")
	}
}
