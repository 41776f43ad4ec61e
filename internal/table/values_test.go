package table

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func joining(r Request) Request {
	r.Joins = true
	return r
}

func answered(l *Lease) Event { return Event{l, EventValue} }

// put publishes and wants it to go well.
func (b *bench) put(l *Lease, data string, ttl time.Duration, pending bool) uint64 {
	b.Helper()
	fence, err := b.Publish(b.at, []byte(l.Key()), l.Token(), []byte(data), ttl, pending)
	if err != nil {
		b.Fatalf("put of %q: %v", data, err)
	}
	return fence
}

// shows wants this value under a key; "" is none.
func (b *bench) shows(key, want string, wantPending bool) *Value {
	b.Helper()
	v, pending := b.LookupValue(b.at, []byte(key))
	got := ""
	if v != nil {
		got = string(v.Data)
	}
	if got != want || pending != wantPending {
		b.Fatalf("value %q, pending %t; want %q, %t", got, pending, want, wantPending)
	}
	return v
}

func TestOnlyTheHolderPuts(t *testing.T) {
	b := newBench(t)
	o := b.NewOwner(1)
	old := b.ask(lasting(lock(o, "k"), second), Granted)
	b.put(old, "first", 0, false)
	waiter := b.ask(lasting(lock(o, "k"), second), Queued)
	share := b.ask(slots(o, "k", 3, 1), Granted)
	wrong := old.Token()
	wrong.MAC++
	b.pass(second)
	b.happens(expired(old), granted(waiter))
	last := b.Fence()
	for what, tok := range map[string]Token{
		"that ran out": old.Token(), "with a wrong MAC": wrong, "of zeros": {}, "of a semaphore": share.Token(),
	} {
		if _, err := b.Publish(b.at, []byte("k"), tok, []byte("late"), 0, false); !errors.Is(err, ErrNotHeld) {
			t.Errorf("put by a token %s: %v", what, err)
		}
		if _, err := b.Unpublish(b.at, []byte("k"), tok, false); !errors.Is(err, ErrNotHeld) {
			t.Errorf("removal by a token %s: %v", what, err)
		}
	}
	if b.Fence() != last {
		t.Error("a refused put took a fence")
	}
	b.shows("k", "first", false)
	b.Force(b.at, Lock, []byte("k"))
	if _, err := b.Publish(b.at, []byte("k"), waiter.Token(), nil, 0, false); !errors.Is(err, ErrNotHeld) {
		t.Errorf("put by one whose lease was revoked: %v", err)
	}
}

func TestPutTakesTheNextFence(t *testing.T) {
	b := newBench(t)
	o := b.NewOwner(1)
	r := lock(o, "k")
	r.Fences = 5
	l := b.ask(r, Granted)
	last := l.Token().Fence + 4
	for i, data := range []string{"a", "", "c"} {
		f := b.put(l, data, 0, i == 2)
		if f != last+1 {
			t.Fatalf("put %d has fence %d, want %d", i, f, last+1)
		}
		if last = f; i < 2 && b.shows("k", data, false).Fence != f {
			t.Fatal("the value has another fence than its put")
		}
	}
	b.Settle(b.at, []byte("k"), true)
	b.release(l)
	if f := b.ask(lock(o, "k"), Granted).Token().Fence; f != last+1 {
		t.Errorf("the next grant has fence %d, want %d", f, last+1)
	}
}

func TestPutIsACopy(t *testing.T) {
	b := newBench(t)
	l := b.ask(lock(b.NewOwner(1), "k"), Granted)
	data := []byte("right")
	if _, err := b.Publish(b.at, []byte("k"), l.Token(), data, 0, false); err != nil {
		t.Fatal(err)
	}
	copy(data, "wrong")
	before := b.shows("k", "right", false)
	b.put(l, "anew", 0, false)
	if string(before.Data) != "right" {
		t.Errorf("a value changed to %q", before.Data)
	}
}

func TestPutAnswersAllJoins(t *testing.T) {
	b := newBench(t)
	x, y := b.NewOwner(1), b.NewOwner(2)
	first := b.ask(joining(lock(x, "k")), Granted)
	one := b.ask(joining(lock(y, "k")), Queued)
	plain := b.ask(lock(x, "k"), Queued)
	two := b.ask(joining(until(lock(x, "k"), 30*second)), Queued)
	fence := b.put(first, "v", 0, false)
	b.happens(answered(one), answered(two))
	for _, l := range []*Lease{one, two} {
		b.want(l, Ended, Answered)
		if v := l.Published(); v == nil || string(v.Data) != "v" || v.Fence != fence {
			t.Errorf("answered with %+v", v)
		}
		if l.Key() != "k" || l.Token() != (Token{}) {
			t.Errorf("key %q, token %v", l.Key(), l.Token())
		}
	}
	b.want(plain, Queued, Lasting)
	late := b.ask(joining(lock(y, "k")), Queued)
	if plain.Published() != nil || late.Published() != nil || first.Published() != nil {
		t.Error("a lease that was not answered has a value")
	}
	b.release(first)
	b.happens(granted(plain))
	b.release(plain)
	b.happens(granted(late))
}

// TestReleaseWithoutAPutPassesTheLeadToOne has plain requests and joins in one
// queue: they keep its order.
func TestReleaseWithoutAPutPassesTheLeadToOne(t *testing.T) {
	b := newBench(t)
	o := b.NewOwner(1)
	holder := b.ask(lock(o, "k"), Granted)
	var queue []*Lease
	for i := range 6 {
		r := lock(o, "k")
		r.Joins = i%2 == 0
		queue = append(queue, b.ask(r, Queued))
	}
	for _, next := range queue {
		b.release(holder)
		b.happens(granted(next))
		holder = next
	}
}

func TestPutAnswersASessionThatIsPassedOver(t *testing.T) {
	b := newBench(t)
	silent, o := b.NewSession(1), b.NewOwner(2)
	l := b.ask(lasting(lock(o, "k"), 60*second), Granted)
	join := b.ask(joining(lock(silent, "k")), Queued)
	b.pass(longestPatience)
	if !join.Absent() {
		t.Fatal("not passed over")
	}
	b.put(l, "v", 0, false)
	b.happens(answered(join))
	if err := audit(b.Table, silent, o); err != nil {
		t.Error(err)
	}
}

func TestValuesGoByThemselves(t *testing.T) {
	gone := ""
	b := newBench(t, func(c *Config) {
		c.ValueExpired = func(key string, v *Value) { gone += key + "=" + string(v.Data) + " " }
	})
	o := b.NewOwner(1)
	a, c := b.ask(lasting(lock(o, "a"), time.Hour), Granted), b.ask(lasting(lock(o, "c"), time.Hour), Granted)
	b.put(a, "early", 2*second, false)
	b.put(c, "never", 0, false)
	b.put(a, "late", 5*second, false)
	b.comes(0, 5*second)
	b.pass(5*second - 1)
	b.shows("a", "late", false)
	b.pass(1)
	b.shows("a", "", false)
	b.put(a, "again", 3*second, true)
	b.pass(10 * second) // it takes longer to settle than it was to last
	join := b.ask(joining(lock(o, "a")), Queued)
	b.Settle(b.at, []byte("a"), true)
	b.happens(answered(join))
	b.shows("a", "", false)
	b.shows("c", "never", false)
	if gone != "a=late a=again " {
		t.Errorf("told of %q", gone)
	}
	if _, err := b.Publish(b.at, []byte("a"), a.Token(), nil, -1, false); !errors.Is(err, ErrTTL) {
		t.Errorf("put with a negative TTL: %v", err)
	}
}

func TestValueOutlivesItsKey(t *testing.T) {
	b := newBench(t, func(c *Config) { c.MaxKeys = 1 })
	o := b.NewOwner(1)
	l := b.ask(lock(o, "k"), Granted)
	b.put(l, "v", 0, false)
	b.release(l)
	b.release(b.ask(lock(o, "evicts"), Granted))
	b.shows("k", "v", false)
	b.pass(time.Hour)
	b.pass(time.Hour)
	if b.Keys() != 0 {
		t.Fatalf("%d keys are left", b.Keys())
	}
	b.shows("k", "v", false)
	want := KeyInfo{Kind: Lock, Key: "k", Limit: 1, Valued: true, ValueBytes: 1, ValueAge: b.at}
	if got := b.Snapshot(b.at); len(got) != 1 || got[0].Key != "k" || got[0].ValueAge != want.ValueAge || !got[0].Valued {
		t.Errorf("snapshot %+v, want %+v", got, want)
	}
	if got, ok := b.Lookup(b.at, Lock, []byte("k")); !ok || got.ValueBytes != 1 {
		t.Errorf("lookup %+v, %t", got, ok)
	}
	if _, ok := b.Lookup(b.at, Semaphore, []byte("k")); ok {
		t.Error("a semaphore of the same name is known")
	}
	l = b.ask(lock(o, "k"), Granted)
	if had, err := b.Unpublish(b.at, []byte("k"), l.Token(), false); !had || err != nil {
		t.Error(had, err)
	}
	b.shows("k", "", false)
}

func TestCapsOfValues(t *testing.T) {
	const each = ValueOverhead + 1 + 10 // with a key of one byte
	b := newBench(t, func(c *Config) { c.MaxValue = 10; c.MaxValues = 2 * each })
	o := b.NewOwner(1)
	a, c, d := b.ask(lock(o, "a"), Granted), b.ask(lock(o, "c"), Granted), b.ask(lock(o, "d"), Granted)
	refused := func(l *Lease, n int, want error) {
		t.Helper()
		keys, size := b.Values()
		fence := b.Fence()
		_, err := b.Publish(b.at, []byte(l.Key()), l.Token(), make([]byte, n), 0, true)
		if !errors.Is(err, want) {
			t.Errorf("%d bytes: %v, want %v", n, err, want)
		}
		if k, s := b.Values(); k != keys || s != size || b.Fence() != fence {
			t.Error("a refused put changed something")
		}
		b.shows(l.Key(), "", false)
	}
	full := strings.Repeat("x", 10)
	refused(a, 11, ErrValueTooLarge)
	b.put(a, full, 0, false)
	b.put(c, full, 0, true)
	refused(d, 0, ErrValuesFull)
	b.Settle(b.at, []byte("c"), false)
	b.put(c, full, 0, false)
	b.put(c, full, 0, false) // in place of the one before there is room
	if keys, size := b.Values(); keys != 2 || size != 2*each {
		t.Errorf("%d values count for %d", keys, size)
	}
	if b.MaxValue() != 10 || New(Config{Sign: sign}).MaxValue() != 64<<10 {
		t.Error("MaxValue")
	}
}

func TestPutWaitsForTheCeiling(t *testing.T) {
	b := newBench(t)
	l := b.ask(lock(b.NewOwner(1), "k"), Granted)
	b.SetCeiling(b.at, b.Fence())
	if _, err := b.Publish(b.at, []byte("k"), l.Token(), nil, 0, false); !errors.Is(err, ErrNoFence) || b.Wants() != b.Fence()+1 {
		t.Fatalf("%v, wants %d after %d", err, b.Wants(), b.Fence())
	}
	b.SetCeiling(b.at, b.Wants())
	if f := b.put(l, "v", 0, false); f != 1002 {
		t.Errorf("fence %d", f)
	}
}

// TestClaimedLeasePutsInTheGrace is what a leader does that had its result when
// the server was restarted.
func TestClaimedLeasePutsInTheGrace(t *testing.T) {
	b := newBench(t, func(c *Config) { c.GraceEnd = 30 * second })
	o := b.NewOwner(1)
	join := b.ask(joining(lock(o, "k")), Queued)
	l, err := b.Claim(b.at, lock(o, "k"), Token{900, sign(Lock, "k", 900, 1, 1)})
	if err != nil {
		t.Fatal(err)
	}
	if f := b.put(l, "v", 0, false); f != 1001 {
		t.Errorf("fence %d", f)
	}
	b.happens(answered(join))
}

func TestRestoredValues(t *testing.T) {
	gone := ""
	b := newBench(t, func(c *Config) { c.MaxValues = 1; c.ValueExpired = func(key string, _ *Value) { gone += key } })
	b.RestoreValue(0, "k", Value{Data: []byte("v"), Fence: 900, At: -time.Hour, Until: 5 * second})
	b.RestoreValue(0, "over", Value{Data: []byte("v"), Fence: 901, At: -time.Hour, Until: -second})
	if keys, _ := b.Values(); keys != 1 || gone != "over" {
		t.Errorf("%d values, told of %q", keys, gone)
	}
	b.RestoreValue(0, "ever", Value{Data: []byte("v"), Fence: 902, At: -time.Hour})
	b.shows("k", "v", false)
	b.shows("over", "", false)
	if i, _ := b.Lookup(0, Lock, []byte("k")); i.ValueAge != time.Hour {
		t.Errorf("age %v", i.ValueAge)
	}
	b.pass(5 * second)
	b.shows("k", "", false)
	b.shows("ever", "v", false)
	if err := audit(b.Table); err != nil {
		t.Error(err)
	}
}

// TestVolatileValues are like others, but for what Unwritten and the value say.
func TestVolatileValues(t *testing.T) {
	b := newBench(t)
	key := []byte("k")
	unwritten := func(want bool, when string) {
		t.Helper()
		if got := b.Unwritten(b.at, key); got != want {
			t.Errorf("%s: unwritten is %t", when, got)
		}
	}
	l := b.ask(lasting(lock(b.NewOwner(1), "k"), time.Minute), Granted)
	unwritten(true, "without a value")
	fence, err := b.PublishVolatile(b.at, key, l.Token(), []byte("v"), time.Second)
	if v, _ := b.LookupValue(b.at, key); err != nil || v == nil || !v.Volatile || v.Fence != fence || string(v.Data) != "v" || v.Until != b.at+time.Second {
		t.Errorf("%+v, %v", v, err)
	}
	unwritten(true, "with a volatile value")
	b.put(l, "v", time.Second, true)
	unwritten(false, "with a change that is pending")
	b.Settle(b.at, key, false)
	unwritten(true, "after that failed")
	b.put(l, "v", time.Second, false)
	unwritten(false, "with a value that is not volatile")
	if v := b.shows("k", "v", false); v.Volatile {
		t.Errorf("%+v", v)
	}
	b.pass(time.Second)
	unwritten(true, "after its end")
	if _, err := b.PublishVolatile(b.at, key, Token{}, nil, 0); !errors.Is(err, ErrNotHeld) {
		t.Errorf("without the token: %v", err)
	}
}
