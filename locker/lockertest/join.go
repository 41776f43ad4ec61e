package lockertest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distributed-go/distributed/locker"
)

// joined is what a Join returned.
type joined struct {
	grant locker.Grant
	value *locker.Value
	err   error
}

// joins joins in goroutines of their own, of several clients, and returns when all
// of them are queued behind the holder of the key. Each outcome is sent.
func (e *env) joins(n int, key string) <-chan joined {
	e.Helper()
	out := make(chan joined, n)
	clients := make([]locker.Joiner, 3)
	for i := range clients {
		clients[i], _ = e.joiner()
	}
	for i := range n {
		go func() {
			g, v, err := clients[i%len(clients)].Join(e.ctx, e.long(key), 0)
			out <- joined{g, v, err}
		}()
	}
	e.eventually(func() bool { return e.counts(1, n) }, fmt.Sprintf("%d join", n))
	return out
}

// next receives an outcome.
func (e *env) next(out <-chan joined, what string) joined {
	e.Helper()
	select {
	case o := <-out:
		e.ok(o.err)
		if (o.value == nil) == (o.grant.Token == locker.Token{}) {
			e.Fatalf("%s: a join returned grant %+v and value %+v", what, o.grant, o.value)
		}
		return o
	case <-time.After(patience):
		e.Fatalf("waited %v in vain for: %s", patience, what)
		return joined{}
	}
}

// leads wants a join to be granted the key at once, and releases it.
func (e *env) leads(b locker.Joiner, fresh time.Duration, when string) {
	e.Helper()
	g, v, err := b.Join(e.ctx, e.long("k"), fresh)
	e.ok(err)
	if v != nil {
		e.Fatalf("%s: got value %q of age %v, want a grant", when, v.Data, v.Age)
	}
	e.ok(b.Release(e.ctx, holdOf("k", g)))
}

// joinLeads: where the key is free a join is an acquisition, and holds like one.
func joinLeads(e *env) {
	b, ok := e.joiner()
	if !ok {
		return
	}
	g, v, err := b.Join(e.ctx, e.long("k"), 0)
	e.ok(err)
	if v != nil || g.TTL < heldFor || e.Fences && g.Fence == 0 {
		e.Fatalf("got grant %+v and value %+v", g, v)
	}
	other, _ := e.joiner()
	r := e.long("k")
	r.Try = true
	_, err = other.Acquire(e.ctx, r)
	e.is(err, locker.ErrLocked, "a try at a key that a join leads")
	_, _, err = other.Join(e.ctx, r, locker.AnyAge)
	e.is(err, locker.ErrLocked, "a join that tries, at a key without a value")
	e.put(b, holdOf("k", g), "v", 0)
	e.ok(b.Release(e.ctx, holdOf("k", g)))
	e.leads(other, 0, "after a put that was before")
}

// joinAnswered: a put answers all joins that are queued, and no one else; each
// gets data of its own.
func joinAnswered(e *env) {
	const n = 40
	b, ok := e.joiner()
	if !ok {
		return
	}
	h, _ := e.holds(b, "k")
	out := e.joins(n, "k")
	plain := make(chan joined, 1)
	other, _ := e.joiner()
	go func() {
		g, err := other.Acquire(e.ctx, e.long("k"))
		plain <- joined{grant: g, err: err}
	}()
	e.eventually(func() bool { return e.counts(1, n+1) }, "one more waits for the key alone")
	f := e.put(b, h, "result", 0)
	for i := range n {
		o := e.next(out, "the put answers all joins")
		if o.value == nil || string(o.value.Data) != "result" || o.value.Fence != f || o.value.Age < 0 || o.value.Age > patience {
			e.Fatalf("join %d of %d: grant %+v, value %+v; want the value of fence %d", i, n, o.grant, o.value, f)
		}
		copy(o.value.Data, "wasted")
	}
	e.eventually(func() bool { return e.counts(1, 1) }, "a put ends the joins, and no more")
	e.shows(b, "k", "result", "when all receivers changed what they got")
	e.ok(b.Release(e.ctx, h))
	o := e.next(plain, "the one that does not join gets the key")
	e.ok(other.Release(e.ctx, holdOf("k", o.grant)))
}

// joinFresh: a value that is there answers a join at once if it is younger than
// that wants, whether the key is held or not; and else it does not.
func joinFresh(e *env) {
	b, ok := e.joiner()
	if !ok {
		return
	}
	other, _ := e.joiner()
	h, _ := e.holds(b, "k")
	f := e.put(b, h, "v", 0)
	time.Sleep(e.TTL / 4)
	fresh := func(age time.Duration, try bool, when string) {
		e.Helper()
		r := e.long("k")
		r.Try = try
		g, v, err := other.Join(e.ctx, r, age)
		e.ok(err)
		if v == nil {
			e.Fatalf("%s: got grant %+v, want the value", when, g)
		}
		if string(v.Data) != "v" || v.Fence != f || v.Age < e.TTL/5 || v.Age >= age {
			e.Errorf("%s: got %q of fence %d and age %v", when, v.Data, v.Fence, v.Age)
		}
	}
	fresh(time.Hour, false, "while the key is held")
	fresh(locker.AnyAge, true, "while the key is held, with a try")
	r := e.long("k")
	r.Try = true
	for _, age := range []time.Duration{0, e.TTL / 8} {
		_, _, err := other.Join(e.ctx, r, age)
		e.is(err, locker.ErrLocked, "a join that tries, and wants a value younger than "+age.String())
	}
	e.ok(b.Release(e.ctx, h))
	fresh(locker.AnyAge, false, "while the key is free")
	e.leads(other, 0, "a join that wants no value that is there")
	e.leads(other, e.TTL/8, "a join that wants a younger one")
}

// joinHandsOver: whoever leads and releases without a put passes the lead to
// exactly one, and so on until one puts.
func joinHandsOver(e *env) {
	const n = 9
	b, ok := e.joiner()
	if !ok {
		return
	}
	h, _ := e.holds(b, "k")
	out := e.joins(n, "k")
	e.ok(b.Release(e.ctx, h))
	for waiting := n - 1; ; waiting-- {
		o := e.next(out, "the next leads")
		if o.value != nil {
			e.Fatalf("nobody put, and a join got %q", o.value.Data)
		}
		time.Sleep(e.TTL / 20)
		if !e.counts(1, waiting) || len(out) > 0 {
			e.Fatalf("%d joins returned besides the one that leads, %d should wait", len(out), waiting)
		}
		if waiting > n/2 {
			e.ok(b.Release(e.ctx, holdOf("k", o.grant)))
			continue
		}
		e.put(b, holdOf("k", o.grant), "v", 0)
		for range waiting {
			if o := e.next(out, "the put answers the rest"); o.value == nil {
				e.Fatal("two lead")
			}
		}
		e.ok(b.Release(e.ctx, holdOf("k", o.grant)))
		return
	}
}

// joinLeaderDies: when the one that leads is gone another leads, and the result of
// the first does not count any more.
func joinLeaderDies(e *env) {
	b, ok := e.joiner()
	if !ok {
		return
	}
	dead, v, err := b.Join(e.ctx, e.lock("k"), 0)
	e.ok(err)
	if v != nil {
		e.Fatalf("got value %+v, want a grant", v)
	}
	out := e.joins(3, "k")
	if dead.Kept != nil {
		e.ok(b.Close())
		b, _ = e.joiner()
	}
	lead := e.next(out, "another leads")
	if lead.value != nil || e.Fences && lead.grant.Fence <= dead.Fence {
		e.Fatalf("got grant %+v and value %+v after %+v", lead.grant, lead.value, dead)
	}
	if dead.Kept == nil {
		e.putsNothing(b, holdOf("k", dead), "by a leader whose lease ran out")
	}
	e.put(b, holdOf("k", lead.grant), "second", 0)
	for range 2 {
		if o := e.next(out, "the put answers the rest"); o.value == nil || string(o.value.Data) != "second" {
			e.Fatalf("got grant %+v and value %+v", o.grant, o.value)
		}
	}
	e.ok(b.Release(e.ctx, holdOf("k", lead.grant)))
}

// joinInOrder: joins and plain acquisitions are served in the order in which they
// came, as long as nobody puts.
func joinInOrder(e *env) {
	const n = 12
	b, ok := e.joiner()
	if !ok {
		return
	}
	h, _ := e.holds(b, "k")
	clients := []locker.Joiner{b, nil, nil}
	clients[1], _ = e.joiner()
	clients[2], _ = e.joiner()
	var mu sync.Mutex
	var order []int
	var wrong []error
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			b := clients[i%len(clients)]
			var g locker.Grant
			var v *locker.Value
			var err error
			if i%4 < 2 {
				g, v, err = b.Join(e.ctx, e.long("k"), 0)
			} else {
				g, err = b.Acquire(e.ctx, e.long("k"))
			}
			mu.Lock()
			order = append(order, i)
			if err != nil || v != nil {
				wrong = append(wrong, fmt.Errorf("%d got value %v, error %v", i, v, err))
			}
			mu.Unlock()
			if err := b.Release(e.ctx, holdOf("k", g)); err != nil {
				mu.Lock()
				wrong = append(wrong, err)
				mu.Unlock()
			}
		})
		e.eventually(func() bool { return e.counts(1, i+1) }, fmt.Sprintf("%d wait", i+1))
	}
	e.ok(b.Release(e.ctx, h))
	wg.Wait()
	if !slices.IsSorted(order) || len(order) != n || len(wrong) > 0 {
		e.Errorf("served in the order %v: %v", order, errors.Join(wrong...))
	}
}

// joinCancelLeaksNothing: joins that are cancelled around the instant at which
// they are granted or answered leave neither holder nor waiter.
func joinCancelLeaksNothing(e *env) {
	const rounds, goroutines, step = 40, 8, 200 * time.Microsecond
	if _, ok := e.joiner(); !ok {
		return
	}
	var grants, values, cancels atomic.Int32
	var wg sync.WaitGroup
	for range goroutines {
		b, _ := e.joiner()
		wg.Go(func() {
			for range rounds {
				ctx, cancel := context.WithTimeout(e.ctx, rand.N(10*step)/step*step)
				g, v, err := b.Join(ctx, e.long("k"), 0)
				switch {
				case errors.Is(err, context.DeadlineExceeded):
					cancels.Add(1)
				case err != nil:
					e.Error(err)
				case v != nil:
					values.Add(1)
				default:
					grants.Add(1)
					e.leadOnce(b, holdOf("k", g), rand.N(5*step)/step*step)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	e.Logf("%d led, %d got a value, %d were cancelled", grants.Load(), values.Load(), cancels.Load())
	e.residue("after the cancels")
	b, _ := e.joiner()
	e.leads(b, 0, "after the cancels")
}

// leadOnce holds for a while, puts in half of all cases, and releases.
func (e *env) leadOnce(b locker.Joiner, h locker.Hold, d time.Duration) {
	time.Sleep(d)
	if rand.N(2) == 0 {
		if _, err := b.Put(e.ctx, h, []byte("v"), 0); err != nil {
			e.Error(err)
		}
	}
	if err := b.Release(e.ctx, h); err != nil {
		e.Error(err)
	}
}

// joinCloses: Close ends what joins, and what a closed client waits for is gone.
func joinCloses(e *env) {
	b, ok := e.joiner()
	if !ok {
		return
	}
	h, _ := e.holds(b, "k")
	other, _ := e.joiner()
	over := make(chan error, 1)
	go func() {
		_, _, err := other.Join(e.ctx, e.long("k"), 0)
		over <- err
	}()
	e.eventually(func() bool { return e.counts(1, 1) }, "one joins")
	e.ok(other.Close())
	e.is(<-over, locker.ErrClosed, "a join that Close ended")
	e.eventually(func() bool { return e.counts(1, 0) }, "its place is gone")
	_, _, err := other.Join(e.ctx, e.long("k"), locker.AnyAge)
	e.is(err, locker.ErrClosed, "Join after Close")
	_, err = other.Get(e.ctx, "k")
	e.is(err, locker.ErrClosed, "Get after Close")
	e.ok(b.Release(e.ctx, h))
}
