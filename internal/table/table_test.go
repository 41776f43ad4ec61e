package table

import (
	"errors"
	"slices"
	"testing"
	"time"
)

const (
	second = time.Second
	ttl    = 10 * second
)

// A bench is a table, an instant and owners, so that tests read as what happens.
type bench struct {
	*testing.T
	*Table
	at time.Duration
}

func newBench(t *testing.T, change ...func(*Config)) *bench {
	cfg := Config{FirstFence: 1000, Sign: sign, MaxIdle: 60 * second, PruneInterval: 5 * second}
	for _, f := range change {
		f(&cfg)
	}
	return &bench{T: t, Table: New(cfg)}
}

// sign is easy to foresee, so that tests can make wrong tokens; it is not 0.
func sign(_ Kind, _ string, fence uint64, _, _ int) uint64 { return ^fence }

func lock(o *Owner, key string) Request {
	return Request{Kind: Lock, Key: []byte(key), Owner: o, TTL: ttl, Weight: 1}
}

func slots(o *Owner, key string, limit, weight int) Request {
	return Request{Kind: Semaphore, Key: []byte(key), Owner: o, TTL: ttl, Limit: limit, Weight: weight}
}

func try(r Request) Request {
	r.Try = true
	return r
}

func until(r Request, at time.Duration) Request {
	r.WaitUntil = at
	return r
}

func lasting(r Request, ttl time.Duration) Request {
	r.TTL = ttl
	return r
}

// ask acquires and wants the given state.
func (b *bench) ask(r Request, want State) *Lease {
	b.Helper()
	l, err := b.Acquire(b.at, r)
	if err != nil {
		b.Fatalf("acquire %q: %v", r.Key, err)
	}
	b.want(l, want, Lasting)
	return l
}

// refused acquires and wants the given error, and nothing changed.
func (b *bench) refused(r Request, want error) {
	b.Helper()
	b.Advance(b.at)
	held, waiting := b.Held(), b.Waiting()
	l, err := b.Acquire(b.at, r)
	if l != nil || !errors.Is(err, want) {
		b.Fatalf("acquire %q: got %v, %v; want %v", r.Key, l, err, want)
	}
	if b.Held() != held || b.Waiting() != waiting {
		b.Fatalf("a refused acquire left %d held, %d waiting; before %d, %d", b.Held(), b.Waiting(), held, waiting)
	}
}

func (b *bench) want(l *Lease, s State, r Reason) {
	b.Helper()
	if l.State() != s || l.Reason() != r {
		b.Fatalf("lease on %q: state %d, reason %d; want %d, %d", l.Key(), l.State(), l.Reason(), s, r)
	}
}

func (b *bench) release(l *Lease) {
	b.Helper()
	if err := b.Release(b.at, l.Kind(), []byte(l.Key()), l.Token()); err != nil {
		b.Fatalf("release %q: %v", l.Key(), err)
	}
}

// pass lets the time go on.
func (b *bench) pass(d time.Duration) {
	b.at += d
	b.Advance(b.at)
}

// comes wants the next instant to be at, where the caller may be woken at early
// ones before, at which nothing happens.
func (b *bench) comes(early, at time.Duration) {
	b.Helper()
	got, ok := b.Next()
	for ; ok && got < at; got, ok = b.Next() {
		if got < early || got <= b.at {
			b.Fatalf("next at %v, and it is %v", got, b.at)
		}
		b.pass(got - b.at)
		b.happens()
	}
	if !ok || got != at {
		b.Fatalf("next at %v %t, want %v", got, ok, at)
	}
}

// happens wants exactly these events since the last call.
func (b *bench) happens(want ...Event) {
	b.Helper()
	if got := b.Events(); !slices.Equal(got, want) {
		b.Fatalf("events %v, want %v", got, want)
	}
}

func granted(l *Lease) Event  { return Event{l, EventGranted} }
func timedOut(l *Lease) Event { return Event{l, EventTimedOut} }
func expired(l *Lease) Event  { return Event{l, EventExpired} }

func TestQueueIsServedInOrder(t *testing.T) {
	b := newBench(t)
	x, y, z := b.NewOwner(1), b.NewOwner(2), b.NewOwner(3)
	first := b.ask(lock(x, "k"), Granted)
	second := b.ask(lock(y, "k"), Queued)
	third := b.ask(lock(z, "k"), Queued)
	if b.Held() != 1 || b.Waiting() != 2 || b.Keys() != 1 {
		t.Fatalf("held %d, waiting %d, keys %d", b.Held(), b.Waiting(), b.Keys())
	}
	b.happens()
	b.release(first)
	b.happens(granted(second))
	b.want(first, Ended, Released)
	b.release(second)
	b.happens(granted(third))
	b.release(third)
	b.happens()
	if f := []uint64{first.Token().Fence, second.Token().Fence, third.Token().Fence}; !slices.Equal(f, []uint64{1001, 1002, 1003}) {
		t.Fatalf("fences %d", f)
	}
}

func TestLeaseRunsOutAndItsKeyPassesOn(t *testing.T) {
	b := newBench(t)
	x, y := b.NewOwner(1), b.NewOwner(2)
	first := b.ask(lasting(lock(x, "k"), second), Granted)
	next := b.ask(lock(y, "k"), Queued)
	b.pass(second - 1)
	b.happens()
	b.pass(1)
	b.happens(expired(first), granted(next))
	if err := b.Release(b.at, Lock, []byte("k"), first.Token()); !errors.Is(err, ErrNotHeld) {
		t.Fatalf("release of an ended lease: %v", err)
	}
	if _, err := b.Renew(b.at, Lock, []byte("k"), first.Token(), ttl); !errors.Is(err, ErrNotHeld) {
		t.Fatalf("renewal of an ended lease: %v", err)
	}
}

func TestDropReleasesAndLeavesQueues(t *testing.T) {
	b := newBench(t)
	x, y, z := b.NewOwner(1), b.NewOwner(2), b.NewOwner(3)
	held := b.ask(lock(x, "k"), Granted)
	again := b.ask(lock(x, "k"), Queued)
	gone := b.ask(lock(y, "k"), Queued)
	last := b.ask(lock(z, "k"), Queued)
	b.Drop(b.at, y, false)
	b.want(gone, Ended, Dropped)
	b.happens()
	b.Drop(b.at, x, false)
	b.want(held, Ended, Dropped)
	b.want(again, Ended, Dropped)
	b.happens(granted(last))
	if f := last.Token().Fence; f != held.Token().Fence+1 {
		t.Fatalf("fence %d after %d: the owner's own next place was granted in passing", f, held.Token().Fence)
	}
}
