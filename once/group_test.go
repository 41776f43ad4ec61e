package once_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/once"
)

// A caller is a call of Group.Do that is under way.
type caller struct {
	v      int64
	shared bool
	err    error
	over   chan struct{}
}

func (c *caller) wait() *caller {
	<-c.over
	return c
}

// ask calls Do and returns when the call waits.
func ask(ctx context.Context, g *once.Group[int64], fn func(context.Context) (int64, error)) *caller {
	c := &caller{over: make(chan struct{})}
	go func() {
		defer close(c.over)
		c.v, c.shared, c.err = g.Do(ctx, "k", fn)
	}()
	synctest.Wait()
	return c
}

// after returns a function that takes a while and returns v and err.
func after(d time.Duration, v int64, err error) func(context.Context) (int64, error) {
	return func(context.Context) (int64, error) {
		time.Sleep(d)
		return v, err
	}
}

func never(t *testing.T) func(context.Context) (int64, error) {
	return func(context.Context) (int64, error) {
		t.Error("it ran")
		return 0, nil
	}
}

// TestGroupRunsOneTimeForAll of eight processes with 25 goroutines each, in each of
// some rounds.
func TestGroupRunsOneTimeForAll(t *testing.T) {
	bubble(t, func(w *world) {
		var groups []*once.Group[int64]
		for range 8 {
			groups = append(groups, once.NewGroup[int64](w.process(), "g"))
		}
		var runs atomic.Int64
		for round := range int64(5) {
			var wg sync.WaitGroup
			for _, g := range groups {
				for range 25 {
					wg.Go(func() {
						v, shared, err := g.Do(w.ctx, "k", func(context.Context) (int64, error) {
							time.Sleep(time.Second)
							return runs.Add(1), nil
						})
						assert.Sure(t, err)
						assert.Exactly(t, "shared", shared, true)
						assert.Exactly(t, "result", v, round+1)
					})
				}
			}
			wg.Wait()
		}
		v, shared, err := groups[0].Do(w.ctx, "other", after(0, 7, nil))
		assert.Sure(t, err)
		assert.Exactly(t, "result", v, 7)
		assert.Exactly(t, "shared", shared, false)
	})
}

// TestGroupErrors go to all who share the flight, and to nobody else, whatever
// WithFresh says.
func TestGroupErrors(t *testing.T) {
	for _, fresh := range []time.Duration{0, time.Hour} {
		bubble(t, func(w *world) {
			boom := errors.New("boom")
			g, other := once.NewGroup[int64](w.process(), "g", once.WithFresh(fresh)), once.NewGroup[int64](w.process(), "g", once.WithFresh(fresh))
			first := ask(w.ctx, g, after(time.Second, 1, boom))
			here, there := ask(w.ctx, g, never(t)), ask(w.ctx, other, never(t))
			assert.Exactly(t, "the error itself", first.wait().err == boom, true)
			assert.Exactly(t, "the error itself", here.wait().err == boom, true)
			var remote *once.RemoteError
			if !errors.As(there.wait().err, &remote) {
				t.Fatalf("the error elsewhere is %v", there.err)
			}
			assert.Exactly(t, "message", remote.Message, "boom")
			assert.Exactly(t, "program", strings.HasSuffix(remote.By, "/once.test"), true)
			assert.MatchesNot(t, there.err, boom, once.ErrLeaderPanicked)
			time.Sleep(time.Nanosecond)
			for _, g := range []*once.Group[int64]{other, g} {
				next := ask(w.ctx, g, after(0, 2, nil)).wait()
				assert.Sure(t, next.err)
				assert.Exactly(t, "next", next.v, 2)
			}
		})
	}
}

// TestGroupPanics: in the caller whose function it was, and as an error elsewhere.
func TestGroupPanics(t *testing.T) {
	bubble(t, func(w *world) {
		g, other := once.NewGroup[int64](w.process(), "g"), once.NewGroup[int64](w.process(), "g")
		boom := errors.New("boom")
		panics := func(context.Context) (int64, error) { time.Sleep(time.Second); panic(boom) }
		over := make(chan any)
		go func() {
			defer func() { over <- recover() }()
			g.Do(w.ctx, "k", panics)
		}()
		synctest.Wait()
		here, there := ask(w.ctx, g, never(t)), ask(w.ctx, other, never(t))
		p, ok := (<-over).(*once.PanicError)
		if !ok || p.Value != any(boom) || !strings.Contains(string(p.Stack), "TestGroupPanics") {
			t.Errorf("it panicked with %v", p)
		}
		assert.Matches(t, here.wait().err, once.ErrLeaderPanicked, boom)
		assert.Matches(t, there.wait().err, once.ErrLeaderPanicked)
		if s := there.err.Error(); !strings.Contains(s, "boom") || strings.Contains(s, "goroutine") {
			t.Errorf("elsewhere: %s", s)
		}
		r := <-g.DoChan(w.ctx, "k", panics)
		assert.Matches(t, r.Err, once.ErrLeaderPanicked)
		assert.Sure(t, ask(w.ctx, other, after(0, 1, nil)).wait().err)

		exits := ask(w.ctx, g, func(context.Context) (int64, error) { time.Sleep(time.Second); runtime.Goexit(); return 0, nil })
		here, there = ask(w.ctx, g, never(t)), ask(w.ctx, other, never(t))
		exits.wait()
		assert.Exactly(t, "the caller went on", exits.err != nil, false)
		assert.Matches(t, here.wait().err, once.ErrLeaderPanicked)
		assert.Matches(t, there.wait().err, once.ErrLeaderPanicked)
	})
}

// TestTooLargeResult names both sizes, here and elsewhere; a full or silent server
// is no error here, and lets the next run elsewhere.
func TestTooLargeResult(t *testing.T) {
	bubble(t, func(w *world) {
		c, spy := w.spied()
		g, other := once.NewGroup[string](c, "g"), once.NewGroup[string](w.process(), "g")
		large := func(context.Context) (string, error) {
			time.Sleep(time.Second)
			return strings.Repeat("x", 100_000), nil
		}
		there := other
		result := make(chan error, 1)
		r := g.DoChan(w.ctx, "k", large)
		synctest.Wait()
		go func() {
			_, _, err := there.Do(w.ctx, "k", func(context.Context) (string, error) { t.Error("it ran"); return "", nil })
			result <- err
		}()
		first := <-r
		var size *locker.SizeError
		if !errors.As(first.Err, &size) || size.Size != 100_002 || len(first.Val) != 100_000 {
			t.Errorf("here: %v, with %d bytes", first.Err, len(first.Val))
		}
		err := <-result
		var remote *once.RemoteError
		if !errors.As(err, &remote) || !strings.Contains(err.Error(), "100002 bytes, at most 65") {
			t.Errorf("elsewhere: %v", err)
		}
		for _, failure := range []error{locker.ErrFull, locker.ErrUnavailable} {
			spy.set(func() {
				spy.put = func(context.Context, locker.Hold, []byte, time.Duration) (uint64, error) { return 0, failure }
			})
			r = g.DoChan(w.ctx, "k", func(context.Context) (string, error) { time.Sleep(time.Second); return "here", nil })
			synctest.Wait()
			v, _, err := other.Do(w.ctx, "k", func(context.Context) (string, error) { return "there", nil })
			assert.Sure(t, err)
			assert.Exactly(t, "there", v, "there")
			first = <-r
			assert.Sure(t, first.Err)
			assert.Exactly(t, "here", first.Val, "here")
		}
	})
}

// TestFresh: a result that is young enough needs no call.
func TestFresh(t *testing.T) {
	bubble(t, func(w *world) {
		g := once.NewGroup[int64](w.process(), "g", once.WithFresh(time.Minute))
		other := once.NewGroup[int64](w.process(), "g", once.WithFresh(time.Minute))
		strict := once.NewGroup[int64](w.process(), "g")
		assert.Sure(t, ask(w.ctx, g, after(0, 1, nil)).wait().err)
		time.Sleep(time.Minute - 1)
		for _, g := range []*once.Group[int64]{g, other} {
			c := ask(w.ctx, g, never(t)).wait()
			assert.Sure(t, c.err)
			assert.Exactly(t, "result", c.v, 1)
			assert.Exactly(t, "shared", c.shared, true)
		}
		assert.Exactly(t, "one that wants its own", ask(w.ctx, strict, after(0, 2, nil)).wait().v, 2)
		time.Sleep(time.Minute)
		assert.Exactly(t, "when it is old", ask(w.ctx, other, after(0, 3, nil)).wait().v, 3)
		other.Forget("k")
		assert.Exactly(t, "forgotten", ask(w.ctx, other, after(0, 4, nil)).wait().v, 4)
		assert.Exactly(t, "elsewhere", ask(w.ctx, g, never(t)).wait().v, 4)
	})
}

// TestForget cuts the flight, wherever it runs, for who calls later here.
func TestForget(t *testing.T) {
	bubble(t, func(w *world) {
		c, spy := w.spied()
		g, other := once.NewGroup[int64](c, "g"), once.NewGroup[int64](w.process(), "g")
		first := ask(w.ctx, other, after(time.Minute, 1, nil))
		here := ask(w.ctx, g, never(t))
		g.Forget("k")
		for _, linger := range []time.Duration{time.Second, 0} { // who gives up leaves that to the next
			spy.set(func() { spy.linger = linger })
			hasty, cancel := context.WithCancel(w.ctx)
			gone := ask(hasty, g, never(t))
			cancel()
			assert.Matches(t, gone.wait().err, context.Canceled, locker.ErrLocked)
			synctest.Wait()
		}
		later := ask(w.ctx, g, after(time.Second, 2, nil))
		withIt := ask(w.ctx, g, never(t))
		for _, c := range []*caller{first, here} {
			assert.Sure(t, c.wait().err)
			assert.Exactly(t, "result of before", c.v, 1)
		}
		for _, c := range []*caller{later, withIt} {
			assert.Sure(t, c.wait().err)
			assert.Exactly(t, "result of after", c.v, 2)
		}
	})
}

// TestUnreadableResult of another program is no result.
func TestUnreadableResult(t *testing.T) {
	bubble(t, func(w *world) {
		texts := once.NewGroup[string](w.process(), "g", once.WithFresh(time.Hour))
		_, _, err := texts.Do(w.ctx, "k", func(context.Context) (string, error) { return "text", nil })
		assert.Sure(t, err)
		g := once.NewGroup[int64](w.process(), "g", once.WithFresh(time.Hour))
		assert.Exactly(t, "result", ask(w.ctx, g, after(0, 1, nil)).wait().v, 1)

		c := w.process()
		l, err := c.Acquire(w.ctx, once.GroupPrefix+"g/k")
		assert.Sure(t, err)
		_, err = l.Put(w.ctx, []byte("junk"), 0)
		assert.Sure(t, err)
		assert.Sure(t, l.Release(w.ctx))
		assert.Exactly(t, "result", ask(w.ctx, g, after(0, 2, nil)).wait().v, 2)
		assert.Exactly(t, "result", ask(w.ctx, g, never(t)).wait().v, 2)

		// One that cannot be encoded is an error for all.
		funcs, there := once.NewGroup[func()](w.process(), "f"), once.NewGroup[func()](w.process(), "f")
		r := funcs.DoChan(w.ctx, "k", func(context.Context) (func(), error) { time.Sleep(time.Second); return func() {}, nil })
		synctest.Wait()
		_, _, err = there.Do(w.ctx, "k", func(context.Context) (func(), error) { t.Error("it ran"); return nil, nil })
		var remote *once.RemoteError
		assert.Exactly(t, "a RemoteError", errors.As(err, &remote), true)
		if first := <-r; first.Err == nil || first.Val == nil {
			t.Errorf("here: %v", first.Err)
		}
	})
}

type bad struct{}

func (bad) Marshal(any) ([]byte, error)        { return []byte("x"), nil }
func (bad) Unmarshal(data []byte, v any) error { panic("bad encoding") }

// TestPanickingEncoding does not end the process.
func TestPanickingEncoding(t *testing.T) {
	bubble(t, func(w *world) {
		g := once.NewGroup[int64](w.process(), "g", once.WithFresh(time.Hour), once.WithEncoding(bad{}))
		assert.Sure(t, ask(w.ctx, g, after(0, 1, nil)).wait().err)
		r := <-g.DoChan(w.ctx, "k", never(t))
		assert.Matches(t, r.Err, once.ErrLeaderPanicked)
	})
}

// TestDoChan gives up with its context, and with its client.
func TestDoChan(t *testing.T) {
	bubble(t, func(w *world) {
		c := w.process()
		g, other := once.NewGroup[int64](w.process(), "g"), once.NewGroup[int64](c, "g")
		ctx, cancel := context.WithTimeout(w.ctx, time.Second)
		defer cancel()
		r := g.DoChan(w.ctx, "k", after(time.Minute, 1, nil))
		synctest.Wait()
		there := other.DoChan(w.ctx, "k", never(t))
		got := <-g.DoChan(ctx, "k", never(t))
		assert.Matches(t, got.Err, context.DeadlineExceeded)
		got = <-g.DoChan(ctx, "k", never(t))
		assert.Matches(t, got.Err, context.DeadlineExceeded)
		assert.Sure(t, c.Close())
		assert.Matches(t, (<-there).Err, locker.ErrClosed)
		got = <-r
		assert.Sure(t, got.Err)
		assert.Exactly(t, "result", got, once.Result[int64]{Val: 1, Shared: true})
	})
}

// TestGroupKeys: names do not share keys, and bad ones are errors.
func TestGroupKeys(t *testing.T) {
	bubble(t, func(w *world) {
		c := w.process()
		release := make(chan struct{})
		for _, k := range [][2]string{{"a/b", "c"}, {"a", "b/c"}, {"a%2Fb", "c"}} {
			g := once.NewGroup[int64](c, k[0])
			go g.Do(w.ctx, k[1], func(context.Context) (int64, error) { <-release; return 0, nil })
		}
		synctest.Wait()
		for _, key := range []string{"group/a%2Fb/c: 1 held", "group/a/b/c: 1 held", "group/a%252Fb/c: 1 held"} {
			if held := w.held(); !strings.Contains(held, key) {
				t.Errorf("%s is not among%s", key, held)
			}
		}
		close(release)
		for _, k := range [][2]string{{"", "k"}, {"a", ""}, {"a", "b c"}, {"a", strings.Repeat("k", 249)}, {"a b", "c"}} {
			_, _, err := once.NewGroup[int64](c, k[0]).Do(w.ctx, k[1], never(t))
			assert.Matches(t, err, locker.ErrInvalid)
		}
		_, _, err := once.NewGroup[int64](c, "a", once.WithVolatile()).Do(w.ctx, "k", never(t))
		assert.Matches(t, err, locker.ErrInvalid)
		assert.Sure(t, ask(w.ctx, once.NewGroup[int64](c, "a"), after(0, 1, nil)).wait().err)
		_, _, err = once.NewGroup[int64](c, "a").Do(w.ctx, strings.Repeat("k", 248), after(0, 1, nil))
		assert.Sure(t, err)
	})
}

// A swift is a backend that is told what need not survive its server.
type swift struct{ *spy }

func (s swift) PutVolatile(ctx context.Context, h locker.Hold, data []byte, keep time.Duration) (uint64, error) {
	s.count("volatile")
	return s.spy.Put(ctx, h, data, keep)
}

// TestResultsThatAreSoonOver need not survive the server: those for who waits, errors,
// and what is fresh for no longer. All else should.
func TestResultsThatAreSoonOver(t *testing.T) {
	bubble(t, func(w *world) {
		_, spy := w.spied()
		c := locker.New(swift{spy}, locker.WithTTL(ttl), locker.WithLogger(slog.New(slog.DiscardHandler)))
		defer c.Close()
		volatile := 0
		for _, step := range []struct {
			fresh time.Duration
			err   error
			is    bool
		}{{0, nil, true}, {15 * time.Second, nil, true}, {16 * time.Second, nil, false}, {time.Hour, errors.New("boom"), true}} {
			g := once.NewGroup[int](c, fmt.Sprintf("%v/%v", step.fresh, step.err), once.WithFresh(step.fresh))
			_, _, err := g.Do(w.ctx, "k", func(context.Context) (int, error) { return 0, step.err })
			assert.Exactly(t, "error", err, step.err)
			if step.is {
				volatile++
			}
			assert.Exactly(t, fmt.Sprintf("volatile, fresh for %v, error %v", step.fresh, step.err), spy.of("volatile"), volatile)
		}
		assert.Sure(t, once.New(c, "k", once.WithExpiry(time.Second)).Do(w.ctx, succeed))
		_, err := once.NewValue(c, "v", func(context.Context) (int, error) { return 1, nil }, once.WithVolatile()).Get(w.ctx)
		assert.Sure(t, err)
		assert.Exactly(t, "volatile marks", spy.of("volatile"), volatile)
		assert.Exactly(t, "puts", spy.of("put"), 6)
	})
}
