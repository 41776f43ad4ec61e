package table

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

// TestKeyMap does the same to a keyMap and to a map of strings. The hashes are all
// different, some are equal, or all are.
func TestKeyMap(t *testing.T) {
	for _, mask := range []uint64{^uint64(0), 7, 0} {
		t.Run(fmt.Sprintf("%x", mask), func(t *testing.T) {
			random := rand.New(rand.NewPCG(1, mask))
			m, want := newKeys(), make(map[string]*entry)
			m.mask = mask
			for range 20_000 {
				key := fmt.Sprint(random.IntN(50))
				switch e := m.get([]byte(key)); {
				case e != want[key]:
					t.Fatalf("%q is %v, want %v", key, e, want[key])
				case e == nil:
					want[key] = &entry{key: key}
					m.put(want[key])
				default:
					m.remove(e)
					delete(want, key)
				}
				if m.len() != len(want) {
					t.Fatalf("%d keys, want %d", m.len(), len(want))
				}
			}
			if (m.twins != nil) != (mask != ^uint64(0)) {
				t.Errorf("there were twins: %t", m.twins != nil)
			}
			for e := range m.all() {
				if want[e.key] != e {
					t.Errorf("among all is %q, of which there is %v", e.key, want[e.key])
				}
				delete(want, e.key)
			}
			if len(want) != 0 {
				t.Errorf("not among all: %v", want)
			}
		})
	}
}

// TestTwins: keys of one hash have nothing else in common, whichever comes or goes
// first.
func TestTwins(t *testing.T) {
	b := newBench(t)
	b.keys[Lock].mask = 0
	o := b.NewOwner(1)
	one := b.ask(lock(o, "one"), Granted)
	two := b.ask(lock(o, "two"), Granted)
	next := b.ask(lock(o, "one"), Queued)
	b.release(one)
	if next.State() != Granted || two.State() != Granted {
		t.Errorf("after the release of one its next is %v, and two %v", next.State(), two.State())
	}
	b.release(next)
	b.release(two)
	if b.Advance(b.at + 24*time.Hour); b.Keys() != 0 {
		t.Errorf("%d keys in the end", b.Keys())
	}
}
