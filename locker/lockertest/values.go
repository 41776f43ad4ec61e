package lockertest

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/distributed-go/distributed/locker"
)

// heldFor is the lease of holds that must not run out while a case works with
// them by hand.
const heldFor = 30 * time.Second

// joiner returns a new backend that keeps values, and false where the harness says
// that there is none: then it has tested that they are refused. Backends that keep
// their holds alive get a clock, as a Client would give them one.
func (e *env) joiner() (locker.Joiner, bool) {
	e.Helper()
	b := e.backend()
	if c, ok := b.(locker.Clocked); ok {
		began := time.Now()
		c.UseClock(func() time.Duration { return time.Since(began) })
	}
	j, ok := b.(locker.Joiner)
	switch {
	case !e.Values:
		e.refusesValues(b)
		return nil, false
	case !ok:
		e.Fatal("the backend is no locker.Joiner, and the harness says that it has values")
	}
	return j, true
}

// refusesValues wants a backend without values to say so, if it can be asked.
func (e *env) refusesValues(b locker.Backend) {
	e.Helper()
	p, ok := b.(locker.Publisher)
	if !ok {
		return
	}
	g, err := b.Acquire(e.ctx, e.lock("k"))
	e.ok(err)
	h := holdOf("k", g)
	_, err = p.Shelf(e.ctx, "k")
	e.is(err, errors.ErrUnsupported, "Shelf of a backend that has no values, as the harness says")
	_, err = p.Put(e.ctx, h, []byte("v"), 0)
	e.is(err, errors.ErrUnsupported, "Put, in the same way")
	_, err = p.Get(e.ctx, "k")
	e.is(err, errors.ErrUnsupported, "Get, in the same way")
	e.is(p.Remove(e.ctx, h), errors.ErrUnsupported, "Remove, in the same way")
	e.ok(b.Release(e.ctx, h))
	if j, ok := b.(locker.Joiner); ok {
		_, _, err = j.Join(e.ctx, e.lock("k"), 0)
		e.is(err, errors.ErrUnsupported, "Join, in the same way")
	}
}

func holdOf(key string, g locker.Grant) locker.Hold {
	return locker.Hold{Kind: locker.Exclusive, Key: key, Token: g.Token, Session: g.Session, Kept: g.Kept}
}

// long is a request for a lease that lasts for the whole case.
func (e *env) long(key string) locker.Request {
	r := e.lock(key)
	r.TTL = heldFor
	return r
}

// holds acquires a key for the whole case, by hand.
func (e *env) holds(b locker.Backend, key string) (locker.Hold, locker.Grant) {
	e.Helper()
	g, err := b.Acquire(e.ctx, e.long(key))
	e.ok(err)
	return holdOf(key, g), g
}

// put puts or ends the case.
func (e *env) put(b locker.Publisher, h locker.Hold, data string, keep time.Duration) uint64 {
	e.Helper()
	f, err := b.Put(e.ctx, h, []byte(data), keep)
	e.ok(err)
	return f
}

// shows wants this value under a key.
func (e *env) shows(b locker.Publisher, key, want, when string) locker.Value {
	e.Helper()
	v, err := b.Get(e.ctx, key)
	if err != nil || string(v.Data) != want {
		e.Fatalf("%s: the value is %q, %v; want %q", when, v.Data, err, want)
	}
	return v
}

// putByHolder: only the token of a hold that lasts puts and removes.
func putByHolder(e *env) {
	b, ok := e.joiner()
	if !ok {
		return
	}
	h, _ := e.holds(b, "k")
	other, _ := e.holds(b, "other")
	e.put(b, h, "right", 0)
	wrong := func(change func(*locker.Hold)) locker.Hold {
		h := h
		h.Kept = nil // who made it up has none
		change(&h)
		return h
	}
	for what, h := range map[string]locker.Hold{
		"another token":     wrong(func(h *locker.Hold) { h.Token[15] ^= 1 }),
		"another fence":     wrong(func(h *locker.Hold) { h.Token[7] ^= 1 }),
		"no token":          wrong(func(h *locker.Hold) { h.Token = locker.Token{} }),
		"another key":       wrong(func(h *locker.Hold) { h.Key = "k2" }),
		"a token of others": wrong(func(h *locker.Hold) { h.Token = other.Token }),
	} {
		e.putsNothing(b, h, "by "+what)
	}
	e.shows(b, "k", "right", "after all that")
	_, err := b.Get(e.ctx, "k2")
	e.is(err, locker.ErrNoValue, "Get of a key that was put by the token of another")
	e.ok(b.Release(e.ctx, h))
	e.ok(b.Release(e.ctx, other))
}

// putsNothing wants a hold to be refused by Put and Remove.
func (e *env) putsNothing(b locker.Publisher, h locker.Hold, what string) {
	e.Helper()
	_, err := b.Put(e.ctx, h, []byte("wrong"), 0)
	e.is(err, locker.ErrNotHeld, "Put "+what)
	if v, ok := b.(locker.VolatilePublisher); ok {
		_, err = v.PutVolatile(e.ctx, h, []byte("wrong"), 0)
		e.is(err, locker.ErrNotHeld, "PutVolatile "+what)
	}
	e.is(b.Remove(e.ctx, h), locker.ErrNotHeld, "Remove "+what)
}

// putTooLate: however a hold ended, it puts and removes nothing any more, whether
// somebody else holds the key by then or not.
func putTooLate(e *env) {
	b, ok := e.joiner()
	if !ok {
		return
	}
	next, _ := e.joiner()
	ends := map[string]func(locker.Hold){
		"after a release": func(h locker.Hold) { e.ok(b.Release(e.ctx, h)) },
	}
	if f, ok := b.(locker.Forcer); ok && e.Force {
		ends["after a force"] = func(h locker.Hold) {
			_, err := f.Force(e.ctx, h.Kind, h.Key)
			e.ok(err)
		}
	}
	for how, end := range ends {
		h, _ := e.holds(b, "k")
		e.put(b, h, "before", 0)
		end(h)
		e.putsNothing(b, h, how)
		e.shows(b, "k", "before", how)
		h2, _ := e.holds(next, "k")
		e.putsNothing(b, h, how+" and the next grant")
		e.put(next, h2, "after", 0)
		e.putsNothing(b, h, how+" and the next put")
		e.shows(b, "k", "after", how)
		e.ok(next.Release(e.ctx, h2))
	}
	g, err := b.Acquire(e.ctx, e.lock("k"))
	e.ok(err)
	if g.Kept != nil {
		e.ok(b.Release(e.ctx, holdOf("k", g))) // it would not run out
		return
	}
	h2, _ := e.holds(next, "k") // when the lease has run out
	e.putsNothing(b, holdOf("k", g), "after an expiry")
	e.shows(b, "k", "after", "after an expiry")
	e.ok(next.Release(e.ctx, h2))
}

// values: what was put is there for everybody, over the end of its hold and its
// client, with an age and a fence that stands in one order with those of grants.
func values(e *env) {
	b, ok := e.joiner()
	if !ok {
		return
	}
	other, _ := e.joiner()
	_, err := other.Get(e.ctx, "k")
	e.is(err, locker.ErrNoValue, "Get of a key that has none")
	h, g := e.holds(b, "k")
	last := g.Fence
	for _, data := range []string{"one", "", "\x00\xff\r\n two"} {
		before := time.Now()
		f := e.put(b, h, data, 0)
		if f <= last {
			e.Errorf("the put of %q has fence %d, after %d", data, f, last)
		}
		last = f
		time.Sleep(e.TTL / 10)
		v := e.shows(other, "k", data, "after a put")
		if v.Fence != f {
			e.Errorf("its put said fence %d, the value %d", f, v.Fence)
		}
		if v.Age < e.TTL/10-10*time.Millisecond || v.Age > time.Since(before) {
			e.Errorf("the age is %v, %v after the put began", v.Age, time.Since(before))
		}
		v.Data = append(v.Data[:0], "changed"...)
		e.shows(other, "k", data, "when its receiver changed what it got")
	}
	e.ok(b.Release(e.ctx, h))
	e.shows(other, "k", "\x00\xff\r\n two", "after the release")
	e.ok(b.Close())
	e.shows(other, "k", "\x00\xff\r\n two", "after the client closed")
	h, g = e.holds(other, "k")
	if g.Fence <= last {
		e.Errorf("the next grant has fence %d; the value has %d", g.Fence, last)
	}
	e.ok(other.Release(e.ctx, h))
}

// valueExpires: a value goes when its time is over, not before, and the one that
// takes its place has a time of its own.
func valueExpires(e *env) {
	b, ok := e.joiner()
	if !ok {
		return
	}
	h, _ := e.holds(b, "k")
	h2, _ := e.holds(b, "replaced")
	e.put(b, h2, "short", e.TTL/2)
	e.put(b, h2, "long", 0)
	began := time.Now()
	e.put(b, h, "v", e.TTL)
	gone := func() bool {
		v, err := b.Get(e.ctx, "k")
		if err == nil && string(v.Data) != "v" {
			e.Errorf("the value became %q", v.Data)
		}
		return errors.Is(err, locker.ErrNoValue)
	}
	e.eventually(gone, "a value whose time is over goes")
	if took := time.Since(began); took < e.TTL*9/10 {
		e.Errorf("it went %v after it was put for %v", took, e.TTL)
	}
	e.shows(b, "replaced", "long", "after the time of the one before")
	e.put(b, h, "again", 0)
	e.shows(b, "k", "again", "after one whose time was over")
	e.ok(b.Release(e.ctx, h))
	e.ok(b.Release(e.ctx, h2))
}

// valueSize: the largest that the shelf says is stored, with every byte as it was;
// one byte more is refused by an error that names both sizes.
func valueSize(e *env) {
	b, ok := e.joiner()
	if !ok {
		return
	}
	s, err := b.Shelf(e.ctx, "k")
	e.ok(err)
	if s.MaxSize < 1 {
		e.Fatalf("values may have %d bytes", s.MaxSize)
	}
	data := make([]byte, s.MaxSize+1)
	for i := range data {
		data[i] = byte(i ^ i>>8)
	}
	h, _ := e.holds(b, "k")
	_, err = b.Put(e.ctx, h, data[:s.MaxSize], 0)
	e.ok(err)
	_, err = b.Put(e.ctx, h, data, 0)
	e.is(err, locker.ErrTooLarge, "Put of one byte too many")
	var size *locker.SizeError
	if !errors.As(err, &size) || size.Size != len(data) || size.Max != s.MaxSize {
		e.Errorf("%v is no SizeError with %d and %d", err, len(data), s.MaxSize)
	}
	for _, n := range []int{len(data), s.MaxSize} {
		if !strings.Contains(err.Error(), strconv.Itoa(n)) {
			e.Errorf("%q does not name %d", err, n)
		}
	}
	v, err := b.Get(e.ctx, "k")
	e.ok(err)
	if !bytes.Equal(v.Data, data[:s.MaxSize]) {
		e.Errorf("%d bytes came back of %d, or others", len(v.Data), s.MaxSize)
	}
	e.ok(b.Release(e.ctx, h))
}

// valueRemoved: the holder removes a value; without one that is no error.
func valueRemoved(e *env) {
	b, ok := e.joiner()
	if !ok {
		return
	}
	h, _ := e.holds(b, "k")
	e.ok(b.Remove(e.ctx, h))
	f := e.put(b, h, "v", 0)
	e.ok(b.Remove(e.ctx, h))
	_, err := b.Get(e.ctx, "k")
	e.is(err, locker.ErrNoValue, "Get of a value that was removed")
	e.ok(b.Remove(e.ctx, h))
	if g := e.put(b, h, "anew", 0); g <= f {
		e.Errorf("fence %d after a removal, %d before", g, f)
	}
	e.shows(b, "k", "anew", "after a removal")
	e.ok(b.Release(e.ctx, h))
}

// putInAFreeze: a put that a silent server does not answer ends with its context,
// and does not come back over a later one.
func putInAFreeze(e *env) {
	b, ok := e.joiner()
	if !ok {
		return
	}
	h, _ := e.holds(b, "k")
	e.Freeze()
	thaw := sync.OnceFunc(e.Thaw)
	defer thaw()
	calls := map[string]func(context.Context) error{
		"put": func(ctx context.Context) error {
			_, err := b.Put(ctx, h, []byte("given up"), 0)
			return err
		},
		"get": func(ctx context.Context) error {
			_, err := b.Get(ctx, "k")
			return err
		},
		"join": func(ctx context.Context) error {
			_, _, err := b.Join(ctx, e.long("k2"), 0)
			return err
		},
	}
	for what, call := range calls {
		ctx, cancel := context.WithTimeout(e.ctx, e.TTL/4)
		err := call(ctx)
		cancel()
		if !errors.Is(err, locker.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded) {
			e.Errorf("a %s that was not answered: %v", what, err)
		}
	}
	thaw()
	e.put(b, h, "last", 0)
	time.Sleep(e.TTL / 4)
	e.shows(b, "k", "last", "after one that was given up and one that was not")
	e.ok(b.Release(e.ctx, h))
}
