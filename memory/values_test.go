package memory

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/table"
	"github.com/distributed-go/distributed/locker"
)

// put puts or ends the test.
func (w *world) put(b *Backend, h locker.Hold, data string, keep time.Duration) uint64 {
	w.Helper()
	f, err := b.Put(w.ctx, h, []byte(data), keep)
	w.is(err, nil, "put "+h.Key)
	return f
}

// A joined is what a Join in another goroutine returned.
type joined struct {
	grant locker.Grant
	value *locker.Value
	err   error
}

// joining joins in a goroutine of its own, and returns when that waits or has
// returned.
func (w *world) joining(ctx context.Context, b *Backend, r locker.Request) <-chan joined {
	out := make(chan joined, 1)
	go func() {
		g, v, err := b.Join(ctx, r, 0)
		out <- joined{g, v, err}
	}()
	synctest.Wait()
	return out
}

// calls are all that is there for values, as a stopped server, a closed client and
// a context that has ended see them.
func valueCalls(b *Backend, h locker.Hold) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"shelf": func(ctx context.Context) error {
			_, err := b.Shelf(ctx, h.Key)
			return err
		},
		"put": func(ctx context.Context) error {
			_, err := b.Put(ctx, h, []byte("wrong"), 0)
			return err
		},
		"get": func(ctx context.Context) error {
			_, err := b.Get(ctx, h.Key)
			return err
		},
		"remove": func(ctx context.Context) error { return b.Remove(ctx, h) },
		"join": func(ctx context.Context) error {
			_, _, err := b.Join(ctx, lock("free"), locker.AnyAge)
			return err
		},
	}
}

func TestValueCallsThatFailDoNothing(t *testing.T) {
	why := errors.New("no route")
	changed := errors.New("changed my mind")
	faults := map[string]struct {
		begin func(*world, *Backend) context.Context
		want  []error
	}{
		"freeze": {func(w *world, _ *Backend) context.Context {
			w.Freeze()
			ctx, cancel := context.WithTimeout(w.ctx, second)
			w.Cleanup(cancel)
			return ctx
		}, []error{locker.ErrUnavailable, context.DeadlineExceeded}},
		"fail": {func(w *world, _ *Backend) context.Context {
			w.Fail(why)
			return w.ctx
		}, []error{locker.ErrUnavailable, why}},
		"close": {func(w *world, b *Backend) context.Context {
			b.Close()
			return w.ctx
		}, []error{locker.ErrClosed}},
		"context": {func(w *world, _ *Backend) context.Context {
			ctx, cancel := context.WithCancelCause(w.ctx)
			cancel(changed)
			return ctx
		}, []error{context.Canceled, changed}},
	}
	for name, f := range faults {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				a, b := w.client(), w.client()
				h := hold(lock("k"), w.get(b, lock("k")))
				w.put(b, h, "right", 0)
				calls := valueCalls(b, h)
				ctx := f.begin(w, b)
				for what, call := range calls {
					if name == "freeze" {
						var cancel func()
						ctx, cancel = context.WithTimeout(w.ctx, second)
						defer cancel()
					}
					err := call(ctx)
					for _, want := range f.want {
						w.is(err, want, what)
					}
				}
				w.Thaw()
				w.Fail(nil)
				v, err := a.Get(w.ctx, "k")
				if w.is(err, nil, "get"); string(v.Data) != "right" {
					t.Errorf("the value is %q", v.Data)
				}
				w.mu.Lock()
				defer w.mu.Unlock()
				if w.table.Waiting() != 0 || w.table.Held() > 1 {
					t.Errorf("%d held, %d waiting", w.table.Held(), w.table.Waiting())
				}
			})
		})
	}
}

func TestDisconnectEndsJoinsAndPuts(t *testing.T) {
	bubble(t, func(w *world) {
		a, b := w.client(), w.client()
		h := hold(lock("k"), w.get(a, lock("k")))
		out := w.joining(w.ctx, b, lock("k"))
		b.Disconnect()
		w.is((<-out).err, locker.ErrUnavailable, "a join whose connection broke")
		w.counts(1, 0)
		a.Disconnect()
		_, err := a.Put(w.ctx, h, nil, 0)
		w.is(err, locker.ErrNotHeld, "a put after the hold went with its connection")
		g, v, err := b.Join(w.ctx, lock("k"), 0)
		w.is(err, nil, "join over the next connection")
		if v != nil {
			t.Errorf("value %+v", v)
		}
		w.release(b, lock("k"), g)
	})
}

func TestWhatValuesRefuse(t *testing.T) {
	bubble(t, func(w *world) {
		b := w.client()
		s, err := b.Shelf(w.ctx, "k")
		if w.is(err, nil, "shelf"); s != (locker.Shelf{MaxSize: 64 << 10}) {
			t.Errorf("shelf %+v", s)
		}
		h := hold(lock("k"), w.get(b, lock("k")))
		_, err = b.Put(w.ctx, h, nil, -1)
		w.is(err, locker.ErrInvalid, "a value that is kept for a negative time")
		_, err = b.Put(w.ctx, h, make([]byte, 64<<10+1), 0)
		w.is(err, locker.ErrTooLarge, "a value of 64 KiB and a byte")
		if want := "65537 bytes, at most 65536"; !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
		w.put(b, h, strings.Repeat("x", 200), 0)
		h2 := hold(lock("k2"), w.get(b, lock("k2")))
		_, err = b.Put(w.ctx, h2, nil, 0)
		w.is(err, locker.ErrFull, "a value for which there is no room")

		r := slots("s", 2, 1)
		hs := hold(r, w.get(b, r))
		_, err = b.Put(w.ctx, hs, nil, 0)
		w.is(err, locker.ErrInvalid, "a value of a semaphore")
		w.is(b.Remove(w.ctx, hs), locker.ErrInvalid, "removal of a value of a semaphore")
		_, _, err = b.Join(w.ctx, r, 0)
		w.is(err, locker.ErrInvalid, "a join of a semaphore")
	}, func(c *table.Config) { c.MaxValues = 2*table.ValueOverhead + 100 })
}

// TestJoinCancelledAtTheInstant has contexts end at the very instant of the grant
// and of the put: whichever counts, nothing is left.
func TestJoinCancelledAtTheInstant(t *testing.T) {
	for _, puts := range []bool{true, false} {
		t.Run(fmt.Sprintf("put %t", puts), func(t *testing.T) {
			errs := 0
			for range 200 {
				bubble(t, func(w *world) {
					a, b := w.client(), w.client()
					h := hold(lock("k"), w.get(a, lock("k")))
					ctx, cancel := context.WithTimeout(w.ctx, second)
					defer cancel()
					out := w.joining(ctx, b, lock("k"))
					time.Sleep(second)
					if puts {
						w.put(a, h, "v", 0)
					}
					w.is(a.Release(w.ctx, h), nil, "release")
					switch o := <-out; {
					case o.err != nil:
						errs++
						w.is(o.err, context.DeadlineExceeded, "join")
						if o.value != nil || o.grant.Session != nil {
							t.Errorf("%+v besides an error", o)
						}
					case o.value == nil:
						w.release(b, lock("k"), o.grant)
					}
					synctest.Wait()
					w.counts(0, 0)
				})
			}
			t.Logf("cancelled %d times of 200", errs)
		})
	}
}

// TestPutHandedOutToAThousand wants one put to be enough, whatever the server
// does in between.
func TestPutHandedOutToAThousand(t *testing.T) {
	bubble(t, func(w *world) {
		a := w.client()
		h := hold(lock("k"), w.get(a, lasting(lock("k"), time.Hour)))
		var outs []<-chan joined
		for range 1000 {
			b := w.client()
			outs = append(outs, w.joining(w.ctx, b, lasting(lock("k"), time.Hour)))
		}
		w.counts(1, 1000)
		w.put(a, h, "v", 0)
		w.Freeze()
		time.Sleep(time.Minute)
		w.Thaw()
		for _, out := range outs {
			if o := <-out; o.err != nil || o.value == nil || string(o.value.Data) != "v" {
				t.Fatalf("%+v", o)
			}
		}
		w.counts(1, 0)
	})
}

// TestRandomFlights lets clients join, put, fail, forget and give up at any
// instant, and wants nobody to get a value of before it came, no two to lead at
// once, and none to put who does not lead.
func TestRandomFlights(t *testing.T) {
	t.Parallel()
	var led, got, late int
	for seed := range uint64(60) {
		bubble(t, func(w *world) {
			f := &flights{world: w}
			done := make(chan struct{})
			const clients = 6
			for i := range uint64(clients) {
				c := &flyer{flights: f, b: w.client(), random: rand.New(rand.NewPCG(seed, i))} //nolint:gosec // a test repeats itself
				go func() {
					defer func() { done <- struct{}{} }()
					for range 40 {
						c.turn()
					}
				}()
			}
			for range clients {
				<-done
			}
			led, got, late = led+f.led, got+f.got, late+f.late
			if t.Failed() {
				t.Fatalf("seed %d", seed)
			}
		})
	}
	t.Logf("%d led, %d got a value, %d put too late", led, got, late)
	if led < 1000 || got < 1000 || late < 100 {
		t.Error("that does not show much")
	}
}

// Flights is what all clients of the test know; the server's mutex guards it.
type flights struct {
	*world
	until          time.Time // the leader believes
	session        *locker.Session
	put            uint64 // the fence of the latest put that was answered
	led, got, late int
}

type flyer struct {
	*flights
	b      *Backend
	random *rand.Rand
}

func (c *flyer) some(d time.Duration) time.Duration { return time.Duration(c.random.IntN(10)) * d / 10 }

func (c *flyer) locked(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

func (c *flyer) turn() {
	time.Sleep(c.some(second))
	if c.random.IntN(15) == 0 {
		c.b.Disconnect()
	}
	var before uint64
	c.locked(func() { before = c.put })
	ctx, cancel := context.WithTimeout(c.ctx, c.some(8*second))
	defer cancel()
	r := lasting(lock("k"), second)
	g, v, err := c.b.Join(ctx, r, 0)
	switch {
	case err != nil && !errors.Is(err, context.DeadlineExceeded):
		c.Error(err)
	case err != nil:
	case v != nil:
		c.locked(func() { c.got++ })
		if v.Fence <= before || string(v.Data) != fmt.Sprint(v.Fence) {
			c.Errorf("got %q of fence %d; when it joined %d was there", v.Data, v.Fence, before)
		}
	default:
		c.lead(r, g)
	}
}

// lead works for a while, perhaps for too long, and puts, or does not.
func (c *flyer) lead(r locker.Request, g locker.Grant) {
	until := time.Now().Add(r.TTL)
	c.locked(func() {
		c.led++
		if time.Now().Before(c.until) && c.session.Err() == nil {
			c.Errorf("two lead, the other for %v", time.Until(c.until))
		}
		c.until, c.session = until, g.Session
	})
	time.Sleep(c.some(r.TTL * 13 / 10))
	if c.random.IntN(3) > 0 {
		next := []byte(fmt.Sprint(g.Fence + 1)) // there is one key only, and nobody is granted it meanwhile
		f, err := c.b.Put(c.ctx, hold(r, g), next, 0)
		switch lasts := time.Now().Before(until) && g.Session.Err() == nil; {
		case err == nil && !lasts && time.Now() != until:
			c.Errorf("put %v after the end of its lease", time.Since(until))
		case err == nil:
			c.locked(func() { c.put = max(c.put, f) })
		case lasts || !errors.Is(err, locker.ErrNotHeld):
			c.Errorf("put with %v left: %v", time.Until(until), err)
		default:
			c.locked(func() { c.late++ })
		}
	}
	if c.random.IntN(6) == 0 {
		return // forgotten
	}
	c.locked(func() {
		if c.session == g.Session && c.until.Equal(until) {
			c.until = time.Time{}
		}
	})
	if err := c.b.Release(c.ctx, hold(r, g)); err != nil && !errors.Is(err, locker.ErrNotHeld) {
		c.Error(err)
	}
}
