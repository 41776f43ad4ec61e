package table

import (
	"fmt"
	"runtime"
	"slices"
	"testing"
	"time"
	"weak"
)

// TestValuesMemoryIsGivenBack fills the table with values, wants the count to be
// what they take, and lets them go.
func TestValuesMemoryIsGivenBack(t *testing.T) {
	for _, c := range []struct{ values, bytes int }{{100_000, 0}, {100_000, 100}, {20_000, 1000}, {2000, 30_000}, {1000, 64 << 10}} {
		t.Run(fmt.Sprintf("%d of %d B", c.values, c.bytes), func(t *testing.T) {
			before := heap()
			b := newBench(t)
			o := b.NewOwner(1)
			data := make([]byte, c.bytes)
			for i := range c.values {
				l := b.ask(lock(o, fmt.Sprintf("once/migrations/%d", i)), Granted)
				if _, err := b.Publish(b.at, []byte(l.Key()), l.Token(), data, time.Hour, false); err != nil {
					t.Fatal(err)
				}
				b.release(l)
			}
			b.pass(30 * time.Minute) // the keys are forgotten
			keys, counted := b.Values()
			if keys != c.values || b.Keys() != 0 {
				t.Fatalf("%d values and %d keys", keys, b.Keys())
			}
			took := heap() - before
			t.Logf("%d B each, counted %d", took/int64(keys), counted/keys)
			if took > int64(counted)*9/8 { // what the allocator rounds up at most
				t.Errorf("%d B, and only %d are counted", took, counted)
			}
			b.pass(time.Hour)
			if keys, counted := b.Values(); keys != 0 || counted != 0 {
				t.Errorf("%d values are left, which count for %d", keys, counted)
			}
			if left := heap() - before; left > 300_000 {
				t.Errorf("%d B are left", left)
			}
			if err := audit(b.Table, o); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestAnsweredLeaseIsGarbage is TestEndedLeaseIsGarbage for those whom a put
// answered; its value goes with the last of them.
func TestAnsweredLeaseIsGarbage(t *testing.T) {
	b := newBench(t)
	o := b.NewOwner(1)
	l := b.ask(lock(o, "k"), Granted)
	var over []weak.Pointer[Lease]
	for range 10 {
		over = append(over, weak.Make(b.ask(joining(lock(o, "k")), Queued)))
	}
	b.put(l, "v", 0, false)
	value := weak.Make(b.shows("k", "v", false))
	b.put(l, "anew", 0, false)
	b.Events()
	b.Events()
	runtime.GC()
	for i, w := range over {
		if w.Value() != nil {
			t.Fatalf("lease %d was answered and is still referred to", i)
		}
	}
	if value.Value() != nil {
		t.Error("the value was replaced and is still referred to")
	}
	runtime.KeepAlive(b)
}

// TestSnapshotInPartsWithValues lets values and keys come and go in the pauses:
// whatever is known all the time is listed once.
func TestSnapshotInPartsWithValues(t *testing.T) {
	b := newBench(t, func(c *Config) { c.MaxIdle = 0; c.PruneInterval = 0 })
	o := b.NewOwner(1)
	var want []string
	for i := range 40 {
		key := fmt.Sprintf("k%02d", i)
		want = append(want, key)
		l := b.ask(lasting(lock(o, key), time.Hour), Granted)
		if i%2 == 0 {
			b.put(l, "v", 0, false)
		}
		if i%4 == 0 {
			b.release(l) // the value is all that is left
		}
	}
	n := 0
	got := b.SnapshotInParts(b.at, 3, func() time.Duration {
		n++
		b.at++
		key := fmt.Sprintf("k%02d", n*7%40)
		if l, err := b.Acquire(b.at, try(lock(o, key))); err == nil {
			b.put(l, "again", 0, false)
			if n%2 == 0 {
				b.release(l)
			}
		}
		return b.at
	})
	var keys []string
	for _, i := range got {
		keys = append(keys, i.Key)
		if even := (i.Key[2]-'0')%2 == 0; even != i.Valued {
			t.Errorf("%s: valued is %t", i.Key, i.Valued)
		}
	}
	slices.Sort(keys)
	if n < 10 || !slices.Equal(keys, want) {
		t.Errorf("%d pauses; listed %v", n, keys)
	}
}

// BenchmarkPutAnswers is one put that answers many joins, and the joins.
func BenchmarkPutAnswers(b *testing.B) {
	for _, joins := range []int{1, 1000} {
		b.Run(fmt.Sprintf("joins=%d", joins), func(b *testing.B) {
			t := New(Config{Sign: sign, MaxIdle: time.Minute})
			o := t.NewOwner(1)
			r := joining(lock(o, "k"))
			l, err := t.Acquire(0, r)
			if err != nil {
				b.Fatal(err)
			}
			data := make([]byte, 1000)
			b.ReportAllocs()
			for b.Loop() {
				for range joins {
					if _, err := t.Acquire(0, r); err != nil {
						b.Fatal(err)
					}
				}
				if _, err := t.Publish(0, r.Key, l.Token(), data, 0, false); err != nil {
					b.Fatal(err)
				}
				if n := len(t.Events()); n != joins {
					b.Fatalf("%d events", n)
				}
			}
		})
	}
}

// TestHoldingCostsNothingMore wants keys without a value to take what they took
// without any values at all.
func TestHoldingCostsNothingMore(t *testing.T) {
	const keys = 100_000
	weigh := func(values int) int64 {
		before := heap()
		table := full(keys)
		o := table.NewOwner(2)
		for i := range values {
			l, err := table.Acquire(table.now, lock(o, fmt.Sprint(i)))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := table.Publish(table.now, []byte(l.Key()), l.Token(), nil, 0, false); err != nil {
				t.Fatal(err)
			}
		}
		took := heap() - before
		runtime.KeepAlive(table)
		return took
	}
	without, with := weigh(0), weigh(10)
	t.Logf("%d B each without values, %d B more in all with 10", without/keys, with-without)
	if with-without > 20_000 {
		t.Errorf("10 values cost %d B", with-without)
	}
}
