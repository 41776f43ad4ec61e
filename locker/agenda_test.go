package locker

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// agendaWorld is an agenda and what must be in it.
type agendaWorld struct {
	agenda
	a  *Acquirer
	in map[*Lease]bool
}

func newAgendaWorld() *agendaWorld {
	return &agendaWorld{
		agenda: newAgenda(), in: make(map[*Lease]bool),
		a: &Acquirer{settings: &settings{terms: defaultTerms}},
	}
}

// add puts a lease in that needs something at an instant.
func (w *agendaWorld) add(at time.Duration) *Lease {
	l := &Lease{acquirer: w.a, hold: hold{deadline: at, stopped: true}}
	w.put(l)
	w.in[l] = true
	return l
}

func (w *agendaWorld) any(r *rand.Rand) *Lease {
	all := w.all()
	if len(all) == 0 {
		return nil
	}
	slices.SortFunc(all, func(a, b *Lease) int { return cmp.Compare(a.deadline, b.deadline) }) // maps have no order
	return all[r.IntN(len(all))]
}

// TestAgendaRandomly: whatever comes and goes, due returns everything that is
// due and nothing more than a second too early, and next is not too late.
func TestAgendaRandomly(t *testing.T) {
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 2))
		w := newAgendaWorld()
		span := time.Duration(1) << r.IntN(42)
		now := time.Duration(0)
		for range 400 {
			switch l := w.any(r); {
			case l == nil || r.IntN(3) > 0:
				w.add(now + time.Duration(r.Int64N(int64(span)+1)))
			case r.IntN(2) == 0:
				w.remove(l)
				delete(w.in, l)
				if l.place != 0 {
					t.Fatalf("seed %d: a lease that is out has the place %d", seed, l.place)
				}
			default:
				heir := &Lease{acquirer: w.a, hold: l.hold}
				w.replace(l, heir)
				delete(w.in, l)
				w.in[heir] = true
			}
			if r.IntN(4) == 0 {
				now += time.Duration(r.Int64N(int64(span)/4 + 1))
				w.drain(t, now)
			}
			w.check(t)
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		}
	}
}

// drain takes out what is due, and puts back what came too early.
func (w *agendaWorld) drain(t *testing.T, now time.Duration) {
	t.Helper()
	early := 0
	for l := w.due(now); l != nil; l = w.due(now) {
		switch {
		case !w.in[l]:
			t.Error("a lease came out that was not in")
			return
		case l.deadline <= now:
			delete(w.in, l)
			continue
		case l.deadline > now+time.Second:
			t.Errorf("a lease came %v too early", l.deadline-now)
		}
		if early++; early > 2000 {
			t.Error("leases that came too early come again and again")
			return
		}
		w.put(l)
	}
}

// check checks what is true at all times.
func (w *agendaWorld) check(t *testing.T) {
	t.Helper()
	first := never
	for l := range w.in {
		first = min(first, l.deadline)
		if l.place == 0 {
			t.Error("a lease that is in has no place")
		}
	}
	if next := w.next(); next > first || len(w.in) == 0 && next != never {
		t.Errorf("next is %v, and a lease needs something at %v", next, first)
	}
	if got := len(w.all()); got != len(w.in) || w.n != got {
		t.Errorf("%d leases are in, and n is %d; want %d", got, w.n, len(w.in))
	}
}

// TestAgendaForgetsSeconds that have passed, and reuses those that were emptied
// before.
func TestAgendaForgetsSeconds(t *testing.T) {
	w := newAgendaWorld()
	for i := range 1000 {
		now := time.Duration(i) * time.Second
		l := w.add(now + 10*time.Second)
		w.remove(l)
		delete(w.in, l)
		w.drain(t, now)
	}
	if n := len(w.later); n > 11 {
		t.Errorf("%d seconds are remembered, of which none has a lease", n)
	}
}

// TestAgendaOfAges: the last instants that there are.
func TestAgendaOfAges(t *testing.T) {
	w := newAgendaWorld()
	w.add(endless)
	w.add(endless - 1)
	w.add(0)
	w.drain(t, 0)
	if next := w.next(); len(w.in) != 2 || next > endless-1 || next < endless-2*time.Second {
		t.Errorf("%d are in, the next at %v", len(w.in), next)
	}
}

// A beating Kept grows with each reading.
type beating struct{ clock clock }

func (b beating) Since() time.Duration { return b.clock() }
func (b beating) Bind(Loser) error     { return nil }

// BenchmarkBeats is what it costs to look at one of a million leases that their
// backend keeps, each time that its stop instant would come.
func BenchmarkBeats(b *testing.B) {
	const leases = 1_000_000
	var now time.Duration
	clock := func() time.Duration { return now }
	c := New(nullBackend{}, WithTTL(30*time.Second), withClock(clock))
	defer c.Close()
	a, err := c.exclusive("k", nil)
	if err != nil {
		b.Fatal(err)
	}
	k := c.keeper
	for range leases {
		l := a.newLease(Grant{Kept: beating{clock}})
		l.hold = newHold(0, 30*time.Second, l.terms())
		k.agenda.put(l)
	}
	looks := 0
	for b.Loop() {
		if looks%leases == 0 {
			now += 25 * time.Second
		}
		l := k.agenda.due(now)
		if l == nil {
			b.Fatalf("nothing is due after %d looks", looks)
		}
		k.mu.Lock()
		k.doLocked(l, now, nil)
		k.mu.Unlock()
		looks++
	}
	b.StopTimer()
	k.agenda = newAgenda()
}
