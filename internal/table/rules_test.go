package table

import (
	"errors"
	"math"
	"slices"
	"testing"
	"time"
)

func TestNewWantsASigner(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Fatal("New without Sign did not panic")
		}
	}()
	New(Config{})
}

func TestTokenIsSignedOverTheGrant(t *testing.T) {
	type grant struct {
		kind          Kind
		key           string
		fence         uint64
		limit, weight int
	}
	var signed []grant
	b := newBench(t, func(c *Config) {
		c.Sign = func(k Kind, key string, fence uint64, limit, weight int) uint64 {
			signed = append(signed, grant{k, key, fence, limit, weight})
			return 7
		}
	})
	o := b.NewOwner(1)
	l := b.ask(lock(o, "k"), Granted)
	b.ask(slots(o, "s", 5, 3), Granted)
	if want := []grant{{Lock, "k", 1001, 1, 1}, {Semaphore, "s", 1002, 5, 3}}; !slices.Equal(signed, want) {
		t.Fatalf("signed %v, want %v", signed, want)
	}
	if l.Token() != (Token{Fence: 1001, MAC: 7}) {
		t.Fatalf("token %v", l.Token())
	}
	queued := b.ask(lock(o, "k"), Queued)
	if queued.Token() != (Token{}) || queued.Remaining(b.at) != 0 {
		t.Fatalf("a queued lease has token %v, %v left", queued.Token(), queued.Remaining(b.at))
	}
	b.Cancel(b.at, queued)
	if queued.Token() != (Token{}) {
		t.Fatalf("a cancelled place has token %v", queued.Token())
	}
}

func TestKindsAreApart(t *testing.T) {
	b := newBench(t)
	o := b.NewOwner(1)
	l := b.ask(lock(o, "k"), Granted)
	s := b.ask(slots(o, "k", 2, 2), Granted)
	if err := b.Release(b.at, Semaphore, []byte("k"), l.Token()); !errors.Is(err, ErrNotHeld) {
		t.Fatalf("a lock's token released a semaphore: %v", err)
	}
	b.release(l)
	b.refused(try(slots(o, "k", 2, 1)), ErrLocked)
	b.release(s)
}

func TestTryNeitherQueuesNorJumpsTheQueue(t *testing.T) {
	b := newBench(t)
	o := b.NewOwner(1)
	b.ask(slots(o, "s", 3, 2), Granted)
	b.refused(try(slots(o, "s", 3, 2)), ErrLocked)
	heavy := b.ask(slots(o, "s", 3, 3), Queued)
	b.refused(try(slots(o, "s", 3, 1)), ErrLocked) // one is free, but not for those who come later
	b.Cancel(b.at, heavy)
	b.ask(try(slots(o, "s", 3, 1)), Granted)
}

func TestHeavyRequestIsNotStarved(t *testing.T) {
	b := newBench(t)
	o := b.NewOwner(1)
	one, two := b.ask(slots(o, "s", 3, 1), Granted), b.ask(slots(o, "s", 3, 1), Granted)
	heavy := b.ask(slots(o, "s", 3, 3), Queued)
	light, lighter := b.ask(slots(o, "s", 3, 1), Queued), b.ask(slots(o, "s", 3, 1), Queued)
	b.release(one)
	b.happens()
	b.release(two)
	b.happens(granted(heavy))
	b.release(heavy)
	b.happens(granted(light), granted(lighter))
}

func TestLeavingHeadLetsLighterOnesThrough(t *testing.T) {
	leave := map[string]func(*bench, *Lease){
		"cancelled": func(b *bench, l *Lease) { b.Cancel(b.at, l) },
		"dropped":   func(b *bench, l *Lease) { b.Drop(b.at, l.Owner(), false) },
		"timed out": func(b *bench, l *Lease) { b.Await(b.at, l, b.at); b.Events() },
	}
	for name, f := range leave {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.pass(second) // at instant 0, "until now" would read as "for ever"
			x, y := b.NewOwner(1), b.NewOwner(2)
			b.ask(slots(x, "s", 3, 2), Granted)
			heavy, light := b.ask(slots(y, "s", 3, 2), Queued), b.ask(slots(x, "s", 3, 1), Queued)
			f(b, heavy)
			b.want(light, Granted, Lasting)
		})
	}
}

func TestWeightIsBetweenOneAndTheLimit(t *testing.T) {
	b := newBench(t)
	o := b.NewOwner(1)
	for _, r := range []Request{
		slots(o, "s", 3, 4), slots(o, "s", 3, 0), slots(o, "s", 3, -1), slots(o, "s", 0, 1), slots(o, "s", -1, -1),
		{Kind: Lock, Key: []byte("k"), Owner: o, TTL: ttl, Limit: 9, Weight: 2}, // a lock's limit is 1
	} {
		b.refused(r, ErrWeight)
	}
	for _, d := range []time.Duration{0, -1} {
		b.refused(lasting(lock(o, "k"), d), ErrTTL)
	}
	if b.Keys() != 0 {
		t.Fatalf("refused requests left %d keys", b.Keys())
	}
}

func TestLargestLimit(t *testing.T) {
	b := newBench(t)
	o := b.NewOwner(1)
	b.ask(slots(o, "s", MaxWeight, MaxWeight-1), Granted)
	b.ask(slots(o, "s", MaxWeight, 1), Granted)
	b.ask(slots(o, "s", MaxWeight, 1), Queued)
	b.ask(slots(o, "larger", math.MaxInt, MaxWeight), Granted)
	if math.MaxInt > MaxWeight {
		b.refused(slots(o, "largest", math.MaxInt, math.MaxInt), ErrWeight)
	}
}

func TestLimitHoldsUntilTheKeyIsPruned(t *testing.T) {
	b := newBench(t)
	o := b.NewOwner(1)
	l := b.ask(slots(o, "s", 2, 1), Granted)
	b.refused(slots(o, "s", 3, 1), ErrLimitMismatch)
	b.refused(try(slots(o, "s", 1, 1)), ErrLimitMismatch)
	b.release(l)
	b.refused(slots(o, "s", 3, 1), ErrLimitMismatch)
	b.at += 60*second - 1
	b.refused(slots(o, "s", 3, 1), ErrLimitMismatch)
	b.at++
	b.ask(slots(o, "s", 3, 3), Granted)
}

func TestUseKeepsAKey(t *testing.T) {
	b := newBench(t)
	o := b.NewOwner(1)
	b.release(b.ask(slots(o, "s", 2, 1), Granted))
	b.pass(59 * second)
	b.release(b.ask(slots(o, "s", 2, 1), Granted))
	b.pass(59 * second)
	if b.Keys() != 1 {
		t.Fatal("the key was pruned before its time")
	}
	b.pass(second)
	if b.Keys() != 0 {
		t.Fatal("the key was not pruned")
	}
}

func TestPruningKeepsItsInterval(t *testing.T) {
	b := newBench(t)
	o := b.NewOwner(1)
	for _, key := range []string{"a", "b", "c"} {
		b.release(b.ask(lock(o, key), Granted))
		b.pass(second)
	}
	for _, want := range []struct {
		at   time.Duration
		keys int
	}{{60 * second, 2}, {65 * second, 0}} {
		at, ok := b.Next()
		if !ok || at != want.at {
			t.Fatalf("next at %v %t, want %v", at, ok, want.at)
		}
		if b.Advance(at - 1); b.Keys() == want.keys {
			t.Fatalf("pruned before %v", at)
		}
		if b.Advance(at); b.Keys() != want.keys {
			t.Fatalf("at %v: %d keys, want %d", at, b.Keys(), want.keys)
		}
	}
	if at, ok := b.Next(); ok {
		t.Fatalf("an empty table wants to be woken at %v", at)
	}
}

func TestCapOnKeysCountsBothKinds(t *testing.T) {
	b := newBench(t, func(c *Config) { c.MaxKeys = 2 })
	o := b.NewOwner(1)
	first := b.ask(lock(o, "a"), Granted)
	second := b.ask(slots(o, "a", 2, 1), Granted)
	b.refused(lock(o, "b"), ErrTooManyKeys)
	b.refused(try(slots(o, "b", 2, 1)), ErrTooManyKeys)
	b.ask(slots(o, "a", 2, 1), Granted) // a known key is no new one
	b.Cancel(b.at, second)
	b.refused(lock(o, "b"), ErrTooManyKeys) // the semaphore has another holder
	b.release(first)
	b.ask(lock(o, "b"), Granted)
}

func TestLongestIdleKeyMakesRoom(t *testing.T) {
	b := newBench(t, func(c *Config) { c.MaxKeys = 3 })
	o := b.NewOwner(1)
	x, y, z := b.ask(slots(o, "x", 2, 1), Granted), b.ask(slots(o, "y", 2, 1), Granted), b.ask(slots(o, "z", 2, 1), Granted)
	b.release(y)
	b.pass(1)
	b.release(x)
	b.release(z)
	b.ask(lock(o, "new"), Granted)
	// That y is the one that went shows in what limit the keys remember.
	b.refused(slots(o, "x", 3, 1), ErrLimitMismatch)
	b.refused(slots(o, "z", 3, 1), ErrLimitMismatch)
	b.ask(slots(o, "y", 3, 1), Granted)
	b.ask(slots(o, "x", 3, 1), Granted) // x made room for y
}

func TestCapOnWaiters(t *testing.T) {
	b := newBench(t, func(c *Config) { c.MaxWaiters = 2 })
	o := b.NewOwner(1)
	held := b.ask(lock(o, "k"), Granted)
	b.ask(lock(o, "k"), Queued)
	last := b.ask(lock(o, "k"), Queued)
	b.refused(lock(o, "k"), ErrTooManyWaiters)
	b.refused(try(lock(o, "k")), ErrLocked) // a try would not have waited
	b.ask(lock(o, "other"), Granted)
	b.ask(lock(o, "other"), Queued) // each key has its own queue
	b.Cancel(b.at, last)
	b.ask(lock(o, "k"), Queued)
	b.release(held)
	b.ask(lock(o, "k"), Queued)
}

func TestWaitEnds(t *testing.T) {
	b := newBench(t)
	o := b.NewOwner(1)
	b.ask(lock(o, "k"), Granted)
	l := b.ask(until(lock(o, "k"), 3*second), Queued)
	if at, ok := b.Next(); !ok || at != 3*second {
		t.Fatalf("next at %v %t", at, ok)
	}
	b.pass(3*second - 1)
	b.happens()
	b.pass(1)
	b.happens(timedOut(l))
	b.want(l, Ended, TimedOut)
	b.refused(until(lock(o, "k"), b.at), ErrLocked)
	b.refused(until(lock(o, "k"), b.at-1), ErrLocked)
}

func TestLastInstantOfAWaitStillCounts(t *testing.T) {
	b := newBench(t)
	o := b.NewOwner(1)
	held := b.ask(lasting(lock(o, "k"), 3*second), Granted)
	l := b.ask(until(lock(o, "k"), 3*second), Queued)
	b.pass(3 * second)
	b.happens(expired(held), granted(l))
}

func TestLateAdvanceKeepsTheOrderOfTime(t *testing.T) {
	b := newBench(t)
	o := b.NewOwner(1)
	held := b.ask(lasting(lock(o, "k"), 5*second), Granted)
	early := b.ask(until(lock(o, "k"), 4*second), Queued)
	next := b.ask(until(lock(o, "k"), 6*second), Queued)
	last := b.ask(until(lock(o, "k"), 8*second), Queued)
	b.pass(20 * second)
	b.happens(timedOut(early), expired(held), granted(next), timedOut(last))
	if left := next.Remaining(b.at); left != ttl {
		t.Fatalf("the lease granted late has %v left, want all of %v", left, ttl)
	}
}

func TestGrantForgetsTheWait(t *testing.T) {
	b := newBench(t)
	o := b.NewOwner(1)
	b.ask(lock(o, "a"), Granted)
	held := b.ask(lock(o, "b"), Granted)
	waits := b.ask(until(lock(o, "a"), 5*second), Queued)
	granted := b.ask(until(lock(o, "b"), 5*second), Queued)
	b.release(held)
	if err := audit(b.Table, o); err != nil { // the heap is in order with the deadline it has now
		t.Fatal(err)
	}
	b.pass(5 * second)
	b.want(waits, Ended, TimedOut)
	b.want(granted, Granted, Lasting)
}

func TestAwaitMovesTheEndOfAWait(t *testing.T) {
	b := newBench(t)
	o := b.NewOwner(1)
	held := b.ask(lasting(lock(o, "k"), time.Hour), Granted)
	l := b.ask(lock(o, "k"), Queued)
	b.Await(b.at, l, 9*second)
	b.Await(b.at, l, 2*second) // earlier
	if at, _ := b.Next(); at != 2*second {
		t.Fatalf("next at %v", at)
	}
	b.Await(b.at, l, 5*second) // later, which may be found out when it was due before
	b.comes(2*second, 5*second)
	b.Await(b.at, l, 0) // never
	b.pass(30 * second)
	b.want(l, Queued, Lasting)
	b.Await(b.at, held, b.at) // not a wait
	b.want(held, Granted, Lasting)
	b.Await(b.at, l, b.at)
	b.happens(timedOut(l))
}

func TestAwaitAfterTheGrantChangesNothing(t *testing.T) {
	b := newBench(t)
	o := b.NewOwner(1)
	held, l := b.ask(lock(o, "k"), Granted), b.ask(lock(o, "k"), Queued)
	b.release(held)
	b.Await(b.at, l, b.at)
	b.want(l, Granted, Lasting)
	if left := l.Remaining(b.at); left != ttl {
		t.Fatalf("%v left", left)
	}
}
