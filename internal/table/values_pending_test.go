package table

import (
	"fmt"
	"testing"
	"time"
)

// TestPendingKeyIsKeptFromAll tries every way in which a key passes on.
func TestPendingKeyIsKeptFromAll(t *testing.T) {
	ends := map[string]func(*bench, *Lease){
		"release": func(b *bench, l *Lease) { b.release(l) },
		"expiry":  func(b *bench, _ *Lease) { b.pass(ttl) },
		"force":   func(b *bench, _ *Lease) { b.Force(b.at, Lock, []byte("k")) },
		"drop":    func(b *bench, l *Lease) { b.Drop(b.at, l.Owner(), false) },
		"cancel":  func(b *bench, l *Lease) { b.Cancel(b.at, l) },
	}
	for how, end := range ends {
		for _, ok := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, settled %t", how, ok), func(t *testing.T) {
				b := newBench(t, func(c *Config) { c.MaxKeys = 1; c.MaxIdle = 0 })
				x, y := b.NewOwner(1), b.NewOwner(2)
				l := b.ask(lock(x, "k"), Granted)
				fence := b.put(l, "v", 0, true)
				b.shows("k", "", true)
				end(b, l)
				b.refused(try(lock(y, "k")), ErrLocked)
				b.refused(lock(y, "other"), ErrTooManyKeys) // which may not evict it
				join, plain := b.ask(joining(lock(y, "k")), Queued), b.ask(lock(y, "k"), Queued)
				b.pass(3 * second)
				b.Events()
				b.Settle(b.at, []byte("k"), ok)
				if !ok {
					b.happens(granted(join))
					b.shows("k", "", false)
					return
				}
				b.happens(answered(join), granted(plain))
				if v := b.shows("k", "v", false); v.Fence != fence || plain.Token().Fence <= fence {
					t.Errorf("fence %d of the put, %d of the value, %d of the next", fence, v.Fence, plain.Token().Fence)
				}
			})
		}
	}
}

func TestPendingChangesSettleInOrder(t *testing.T) {
	b := newBench(t)
	o := b.NewOwner(1)
	l := b.ask(lock(o, "k"), Granted)
	b.put(l, "zero", 0, false)
	b.put(l, "one", 0, true)
	if had, err := b.Unpublish(b.at, []byte("k"), l.Token(), true); !had || err != nil {
		t.Fatal(had, err)
	}
	if had, err := b.Unpublish(b.at, []byte("k"), l.Token(), true); had || err != nil {
		t.Fatal("there will be nothing to remove:", had, err)
	}
	b.put(l, "two", 0, true)
	b.release(l)
	next := b.ask(lock(o, "k"), Queued)
	b.shows("k", "zero", true)
	for i, want := range []string{"one", "", "two"} {
		b.happens()
		b.Settle(b.at, []byte("k"), true)
		b.shows("k", want, i < 2)
	}
	b.happens(granted(next))
	b.Settle(b.at, []byte("k"), true) // nothing is pending: nothing happens
	b.shows("k", "two", false)
}

// TestAppendValuesTellsStatesApart goes through states of which no two are the
// same, but for the last, which is the second at another instant.
func TestAppendValuesTellsStatesApart(t *testing.T) {
	b := newBench(t)
	l := b.ask(lasting(lock(b.NewOwner(1), "k"), time.Hour), Granted)
	seen := make(map[string]bool)
	note := func(what string) {
		t.Helper()
		state := string(b.AppendValues(nil, b.at))
		if seen[state] {
			t.Errorf("%s: looks like a state before", what)
		}
		seen[state] = true
	}
	note("nothing")
	b.put(l, "v", 10*second, false)
	before := string(b.AppendValues(nil, b.at))
	note("a value")
	b.pass(second)
	note("less of its time is left")
	b.put(l, "v", 10*second, true)
	note("another is pending")
	if _, err := b.Unpublish(b.at, []byte("k"), l.Token(), true); err != nil {
		t.Fatal(err)
	}
	note("a removal is pending")
	b.Settle(b.at, []byte("k"), false)
	note("the other failed")
	b.Settle(b.at, []byte("k"), false)
	b.RestoreValue(b.at, "k", Value{Data: []byte("v"), Fence: 1002, Until: b.at + 10*second})
	if after := string(b.AppendValues(nil, b.at)); after != before {
		t.Errorf("%x later, %x before", after, before)
	}
}
