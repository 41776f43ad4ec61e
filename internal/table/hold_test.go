package table

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"testing"
	"time"
)

func TestCollectStartsTheTTLAnew(t *testing.T) {
	b := newBench(t)
	o := b.NewOwner(1)
	held, l := b.ask(lock(o, "k"), Granted), b.ask(lasting(lock(o, "k"), 3*second), Queued)
	if err := b.Collect(b.at, l); !errors.Is(err, ErrNotHeld) {
		t.Fatalf("collecting a queued lease: %v", err)
	}
	b.release(held)
	b.pass(2 * second)
	tok := l.Token()
	if err := b.Collect(b.at, l); err != nil {
		t.Fatal(err)
	}
	if left := l.Remaining(b.at); left != 3*second || l.Token() != tok {
		t.Fatalf("%v left, token %v, before %v", left, l.Token(), tok)
	}
	b.pass(3 * second)
	if err := b.Collect(b.at, l); !errors.Is(err, ErrExpired) {
		t.Fatalf("collecting an expired lease: %v", err)
	}
	b.Cancel(b.at, held)
	if err := b.Collect(b.at, held); !errors.Is(err, ErrNotHeld) {
		t.Fatalf("collecting a released lease: %v", err)
	}
}

// A lease that is granted and runs out before its owner asks for it is lost,
// and the next one holds the key alone: v1.10.0 of dflockd gives it to both.
func TestUncollectedLeaseIsNotGrantedTwice(t *testing.T) {
	b := newBench(t)
	o := b.NewOwner(1)
	held, late := b.ask(lock(o, "k"), Granted), b.ask(lasting(lock(o, "k"), second), Queued)
	b.release(held)
	next := b.ask(lock(o, "k"), Queued)
	b.at += second
	if err := b.Collect(b.at, late); !errors.Is(err, ErrExpired) {
		t.Fatalf("collect: %v", err)
	}
	b.happens(granted(late), expired(late), granted(next))
}

func TestCancel(t *testing.T) {
	b := newBench(t)
	o := b.NewOwner(1)
	held, queued, next := b.ask(lock(o, "k"), Granted), b.ask(lock(o, "k"), Queued), b.ask(lock(o, "k"), Queued)
	b.Cancel(b.at, queued)
	b.want(queued, Ended, Cancelled)
	b.Cancel(b.at, held)
	b.want(held, Ended, Released)
	b.happens(granted(next))
	b.Cancel(b.at, held)
	b.Cancel(b.at, queued)
	b.want(queued, Ended, Cancelled)
	b.want(next, Granted, Lasting)
	b.happens()
}

func TestRenew(t *testing.T) {
	b := newBench(t)
	o := b.NewOwner(1)
	l := b.ask(lock(o, "k"), Granted)
	renew := func(ttl time.Duration, want error) {
		t.Helper()
		left, err := b.Renew(b.at, Lock, []byte("k"), l.Token(), ttl)
		if !errors.Is(err, want) {
			t.Fatalf("renew: %v, want %v", err, want)
		}
		if want == nil && (left != ttl || l.Remaining(b.at) != ttl || l.TTL() != ttl) {
			t.Fatalf("renewed for %v: %v answered, %v left, TTL %v", ttl, left, l.Remaining(b.at), l.TTL())
		}
	}
	b.pass(9 * second)
	renew(20*second, nil) // later
	renew(5*second, nil)  // earlier
	b.comes(10*second, 14*second)
	renew(0, ErrTTL)
	renew(-1, ErrTTL)
	b.at = 14*second - 1
	// Beyond the end of time is at its end.
	left, err := b.Renew(b.at, Lock, []byte("k"), l.Token(), math.MaxInt64)
	if err != nil || left != math.MaxInt64-b.at {
		t.Fatalf("%v left, error %v", left, err)
	}
	renew(second, nil)
	b.at += second // nobody advanced the table, and still it is over
	renew(second, ErrNotHeld)
	b.happens(expired(l))
}

func TestWrongTokensNameNothing(t *testing.T) {
	b := newBench(t)
	x := b.NewOwner(1)
	l := b.ask(lock(x, "k"), Granted)
	b.ask(lock(x, "other"), Granted)
	tok := l.Token()
	for _, w := range []struct {
		key string
		tok Token
	}{
		{"k", Token{}},
		{"k", Token{Fence: tok.Fence}},
		{"k", Token{Fence: tok.Fence, MAC: tok.MAC + 1}},
		{"k", Token{Fence: tok.Fence + 1, MAC: tok.MAC}},
		{"other", tok},
		{"unknown", tok},
	} {
		if err := b.Release(b.at, Lock, []byte(w.key), w.tok); !errors.Is(err, ErrNotHeld) {
			t.Fatalf("release of %q by %v: %v", w.key, w.tok, err)
		}
		if _, err := b.Renew(b.at, Lock, []byte(w.key), w.tok, ttl); !errors.Is(err, ErrNotHeld) {
			t.Fatalf("renewal of %q by %v: %v", w.key, w.tok, err)
		}
	}
	b.want(l, Granted, Lasting)
	b.release(l)
	if err := b.Release(b.at, Lock, []byte("k"), tok); !errors.Is(err, ErrNotHeld) {
		t.Fatalf("second release: %v", err)
	}
}

func TestManyHoldersAreFoundByToken(t *testing.T) {
	b := newBench(t)
	o := b.NewOwner(1)
	var leases []*Lease
	for range 3 * manyHolders {
		leases = append(leases, b.ask(slots(o, "s", 1000, 1), Granted))
	}
	for round := range 2 { // down to none and up again
		for i, l := range leases {
			if _, err := b.Renew(b.at, Semaphore, []byte("s"), l.Token(), ttl); err != nil {
				t.Fatalf("round %d: renewal of holder %d: %v", round, i, err)
			}
			b.release(l)
			if _, err := b.Renew(b.at, Semaphore, []byte("s"), l.Token(), ttl); !errors.Is(err, ErrNotHeld) {
				t.Fatalf("round %d: renewal of released holder %d: %v", round, i, err)
			}
			leases[i] = b.ask(slots(o, "s", 1000, 1), Granted)
		}
		b.Drop(b.at, o, false)
		if e := b.keys[Semaphore].get([]byte("s")); e.index != nil {
			t.Fatal("the index outlived the holders")
		}
		for i := range leases {
			leases[i] = b.ask(slots(o, "s", 1000, 1), Granted)
		}
	}
	if err := audit(b.Table, o); err != nil {
		t.Fatal(err)
	}
}

func TestDropKeepsWhatIsHeldIfTold(t *testing.T) {
	b := newBench(t)
	x, y := b.NewOwner(1), b.NewOwner(2)
	held := b.ask(lock(x, "a"), Granted)
	next := b.ask(lock(y, "a"), Queued)
	b.ask(lock(y, "b"), Granted)
	place := b.ask(lock(x, "b"), Queued)
	b.Drop(b.at, x, true)
	b.want(held, Granted, Lasting)
	b.want(place, Ended, Dropped)
	b.happens()
	b.pass(ttl)
	b.want(held, Ended, Expired)
	b.want(next, Granted, Lasting)
	b.Drop(b.at, x, true) // nothing left
	b.ask(lock(x, "c"), Granted)
	b.Drop(b.at, x, false)
	if b.Held() != 1 || b.Waiting() != 0 {
		t.Fatalf("%d held, %d waiting", b.Held(), b.Waiting())
	}
}

func TestDropOfManyHoldersGrantsOnce(t *testing.T) {
	b := newBench(t)
	x, y := b.NewOwner(1), b.NewOwner(2)
	for range 3 {
		b.ask(slots(x, "s", 3, 1), Granted)
	}
	one, two := b.ask(slots(y, "s", 3, 2), Queued), b.ask(slots(y, "s", 3, 2), Queued)
	b.ask(slots(x, "s", 3, 1), Queued)
	b.Drop(b.at, x, false)
	b.happens(granted(one))
	b.want(two, Queued, Lasting)
	if err := audit(b.Table, x, y); err != nil {
		t.Fatal(err)
	}
}

func TestTimeNeverGoesBack(t *testing.T) {
	b := newBench(t)
	o := b.NewOwner(1)
	b.pass(100 * second)
	l, err := b.Acquire(40*second, lock(o, "k"))
	if err != nil {
		t.Fatal(err)
	}
	if left := l.Remaining(b.at); left != ttl {
		t.Fatalf("a lease from an instant of the past has %v left", left)
	}
	b.Advance(0)
	b.want(l, Granted, Lasting)
}

func TestEventsStayUntilTheNextCall(t *testing.T) {
	b := newBench(t)
	o := b.NewOwner(1)
	held, l := b.ask(lock(o, "k"), Granted), b.ask(lock(o, "k"), Queued)
	last := b.ask(lock(o, "k"), Queued)
	b.release(held)
	events := b.Events()
	b.Cancel(b.at, l) // the caller acts while it reads
	if !slices.Equal(events, []Event{granted(l)}) {
		t.Fatalf("acting on an event changed it: %v", events)
	}
	b.happens(granted(last))
	b.happens()
}

func TestEventsGiveMemoryBack(t *testing.T) {
	b := newBench(t)
	o := b.NewOwner(1)
	const many = 4 * keptEvents
	for range many {
		b.ask(slots(o, "s", many, 1), Granted)
	}
	b.pass(ttl)
	if n := len(b.Events()); n != many {
		t.Fatalf("%d events", n)
	}
	b.happens()
	b.happens()
	if cap(b.events) > keptEvents || cap(b.handed) > keptEvents {
		t.Fatalf("room for %d and %d events is kept", cap(b.events), cap(b.handed))
	}
}

func TestSnapshot(t *testing.T) {
	b := newBench(t)
	x, y := b.NewOwner(7), b.NewOwner(8)
	b.release(b.ask(slots(x, "idle", 4, 1), Granted))
	b.pass(second)
	b.ask(lock(x, "k"), Granted)
	b.ask(lock(y, "k"), Queued)
	b.ask(slots(y, "s", 5, 3), Granted)
	b.ask(slots(x, "s", 5, 2), Granted)
	b.at += second
	got := b.Snapshot(b.at)
	slices.SortFunc(got, func(a, b KeyInfo) int { return int(a.Key[0]) - int(b.Key[0]) })
	want := []KeyInfo{
		{Kind: Semaphore, Key: "idle", Limit: 4, Idle: 2 * second},
		{Kind: Lock, Key: "k", Limit: 1, Used: 1, Holders: 1, Waiters: 1, Owner: 7, ExpiresIn: 9 * second, HeldFor: second},
		{Kind: Semaphore, Key: "s", Limit: 5, Used: 5, Holders: 2, Owner: 8, ExpiresIn: 9 * second, HeldFor: second, Shares: []Share{{Weight: 3, HeldFor: second}, {Weight: 2, HeldFor: second}}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("snapshot %+v\nwant %+v", got, want)
	}
	b.at += 9 * second // nobody advanced the table, and still they are over
	for _, i := range b.Snapshot(b.at) {
		if i.Kind == Semaphore && i.Holders != 0 || i.Kind == Lock && i.Owner != 8 {
			t.Fatalf("snapshot shows what ran out: %+v", i)
		}
	}
}

// TestHeldForLong covers what five bytes of milliseconds have to.
func TestHeldForLong(t *testing.T) {
	const day = 24 * time.Hour
	for _, at := range []time.Duration{0, 49 * day, 50 * day, 34 * 365 * day, 200 * 365 * day} {
		for _, held := range []time.Duration{0, time.Millisecond, second, 49 * day, 50 * day, 34 * 365 * day} {
			b := newBench(t)
			o := b.NewOwner(1)
			o.Name = "me"
			b.at = at
			if _, _, held := b.Holder(Lock, []byte("k")); held {
				t.Fatal("held by nobody")
			}
			b.ask(lasting(lock(o, "k"), 90*365*day), Granted)
			b.pass(held)
			if name, got, ok := b.Holder(Lock, []byte("k")); !ok || name != "me" || got != held {
				t.Errorf("granted at %v and held for %v: %q for %v, %t", at, held, name, got, ok)
			}
		}
	}
}

// TestSnapshotInParts changes the table in each pause, so that keys come and go,
// and in the end its map is made anew: what stays is seen once.
func TestSnapshotInParts(t *testing.T) {
	const stay, pass = 500, 20_000
	b := newBench(t)
	o := b.NewOwner(1)
	for i := range stay {
		b.ask(lasting(lock(o, fmt.Sprint("stays", i)), time.Hour), Granted)
	}
	for i := range pass {
		b.release(b.ask(lasting(lock(o, fmt.Sprint("goes", i)), time.Hour), Granted))
	}
	pauses := 0
	seen := make(map[string]int)
	for _, i := range b.SnapshotInParts(b.at, 100, func() time.Duration {
		pauses++
		b.ask(lasting(lock(o, fmt.Sprint("comes", pauses)), time.Hour), Granted)
		if pauses == 100 {
			b.at += time.Hour / 2 // all that is idle goes
		}
		return b.at
	}) {
		seen[i.Key]++
		if i.Key[0] == 's' && i.Holders != 1 {
			t.Fatalf("%+v", i)
		}
	}
	if b.keys[Lock].remade == 0 || pauses < 100 {
		t.Fatalf("the map was made anew %d times, in %d pauses", b.keys[Lock].remade, pauses)
	}
	gone := 0
	for key, n := range seen {
		if n != 1 {
			t.Errorf("%s was seen %d times", key, n)
		}
		if key[0] == 'g' {
			gone++
		}
	}
	for i := range stay {
		if seen[fmt.Sprint("stays", i)] == 0 {
			t.Errorf("stays%d is missing", i)
		}
	}
	if most := 100 * 100; gone > most {
		t.Errorf("%d are in the snapshot that were gone before it came to them", gone-most)
	}
}

func TestSnapshotListsSoManyHolders(t *testing.T) {
	b := newBench(t)
	o := b.NewOwner(1)
	first := b.ask(slots(o, "s", 99, 2), Granted)
	for range MaxShares {
		b.ask(slots(o, "s", 99, 1), Granted)
	}
	i, _ := b.Lookup(b.at, Semaphore, []byte("s"))
	if n := len(i.Shares); n != MaxShares || i.Shares[0].Weight != 2 {
		t.Fatalf("%d are listed: %+v", n, i.Shares)
	}
	b.release(first)
	if i, _ = b.Lookup(b.at, Semaphore, []byte("s")); len(i.Shares) != MaxShares || i.Shares[0].Weight != 1 {
		t.Fatalf("listed are %+v", i.Shares)
	}
}

func TestLeaseSaysWhatItIs(t *testing.T) {
	b := newBench(t)
	o := b.NewOwner(3)
	r := slots(o, "s", 5, 2)
	r.Tag = "mine"
	key := []byte("s")
	r.Key = key
	l := b.ask(r, Granted)
	key[0] = 'x' // the caller's buffer is the caller's
	if l.Key() != "s" || l.Kind() != Semaphore || l.Limit() != 5 || l.Weight() != 2 || l.TTL() != ttl || l.Owner() != o || o.ID() != 3 || l.Tag != "mine" {
		t.Fatalf("%+v", l)
	}
	b.pass(3 * second)
	if left := l.Remaining(b.at); left != 7*second {
		t.Fatalf("%v left", left)
	}
	if left := l.Remaining(b.at + time.Hour); left != 0 {
		t.Fatalf("%v left an hour later", left)
	}
	tok := l.Token()
	b.release(l)
	if l.Remaining(b.at) != 0 || l.Token() != tok || l.Key() != "s" {
		t.Fatal("an ended lease forgot what it was")
	}
}
