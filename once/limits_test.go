package once_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
	config "github.com/distributed-go/distributed/internal/table"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/memory"
	"github.com/distributed-go/distributed/once"
)

// TestServerThatForgetsComesInTheWait: the one that grants the lease says whether
// it will remember, and not the one that the wait began with.
func TestServerThatForgetsComesInTheWait(t *testing.T) {
	bubble(t, func(w *world) {
		holder := w.process()
		l, err := holder.Acquire(w.ctx, once.Prefix+"k")
		assert.Sure(t, err)
		c, spy := w.spied()
		spy.durable()
		result := make(chan error, 1)
		go func() {
			result <- once.New(c, "k").Do(w.ctx, func(context.Context) error { t.Error("it ran"); return nil })
		}()
		synctest.Wait()
		spy.set(func() { spy.shelf = nil }) // as memory has it
		assert.Sure(t, l.Release(w.ctx))
		assert.Matches(t, <-result, once.ErrVolatile)
		done, err := once.New(c, "k").Done(w.ctx)
		assert.Sure(t, err)
		assert.Exactly(t, "done", done, false)
	})
}

// TestNotStored: a server that says that it cannot write is not asked again.
func TestNotStored(t *testing.T) {
	bubble(t, func(w *world) {
		c, spy := w.spied()
		full := fmt.Errorf("%w: the disk is full", locker.ErrNotStored)
		spy.put = func(context.Context, locker.Hold, []byte, time.Duration) (uint64, error) { return 0, full }
		began := time.Now()
		err := once.New(c, "k", once.WithVolatile()).Do(w.ctx, succeed)
		assert.Matches(t, err, locker.ErrNotStored, locker.ErrUnavailable)
		assert.MatchesNot(t, err, once.ErrInDoubt)
		assert.Exactly(t, "waited", time.Since(began), 0)
		assert.Exactly(t, "puts", spy.of("put"), 1)
		if !strings.Contains(err.Error(), "the disk is full") {
			t.Errorf("the error does not say why: %v", err)
		}
		g := once.NewGroup[int64](c, "g")
		got := ask(w.ctx, g, after(0, 1, nil)).wait()
		assert.Sure(t, got.err)
		assert.Exactly(t, "result", got.v, 1)
		synctest.Wait()
		assert.Exactly(t, "keys that are known", g.Lanes(), 0)

		rows := newTable()
		rows.fail = full
		err = once.New(c, "row", once.WithMarker(rows)).Do(w.ctx, succeed)
		assert.Matches(t, err, locker.ErrNotStored)
		assert.MatchesNot(t, err, once.ErrInDoubt)
	})
}

// TestNotStoredAfterNoAnswer: an answer does not say what became of an attempt
// that had none.
func TestNotStoredAfterNoAnswer(t *testing.T) {
	bubble(t, func(w *world) {
		c, spy := w.spied()
		spy.put = func(ctx context.Context, h locker.Hold, data []byte, keep time.Duration) (uint64, error) {
			if spy.of("put") == 1 {
				_, err := spy.Backend.Put(ctx, h, data, keep)
				assert.Sure(t, err)
				return 0, locker.ErrUnavailable
			}
			return 0, locker.ErrNotStored
		}
		assert.Sure(t, once.New(c, "k", once.WithVolatile()).Do(w.ctx, succeed))
	})
}

// TestSmallValues: the text of an error is cut to what the server takes, and a mark
// that it does not take is refused before anything is done.
func TestSmallValues(t *testing.T) {
	bubble(t, func(w *world) {
		w.server = memory.NewServer(func(c *config.Config) { c.MaxValue = 300 })
		for name, text := range map[string]string{
			"plain": strings.Repeat("e", 10_000), "escaped": strings.Repeat("\x01<é", 3000), "broken": strings.Repeat("\xff", 3000) + "e",
		} {
			g, other := once.NewGroup[int64](w.process(), name), once.NewGroup[int64](w.process(), name)
			first := ask(w.ctx, g, after(time.Second, 0, errors.New(text)))
			there := ask(w.ctx, other, never(t)).wait()
			assert.Exactly(t, "the error itself", first.wait().err.Error(), text)
			var remote *once.RemoteError
			if !errors.As(there.err, &remote) || len(remote.Message) == 0 || !strings.HasPrefix(strings.ToValidUTF8(text, ""), strings.TrimSuffix(remote.Message, "?")) {
				t.Errorf("%s: elsewhere %v", name, there.err)
			} else if name != "broken" && len(remote.Message) < 20 {
				t.Errorf("%s: elsewhere %d bytes are left: %v", name, len(remote.Message), there.err)
			}
		}
		large, there := once.NewGroup[string](w.process(), "large"), once.NewGroup[string](w.process(), "large")
		r := large.DoChan(w.ctx, "k", func(context.Context) (string, error) { time.Sleep(time.Second); return strings.Repeat("x", 300), nil })
		synctest.Wait()
		_, _, err := there.Do(w.ctx, "k", func(context.Context) (string, error) { t.Error("it ran"); return "", nil })
		var remote *once.RemoteError
		assert.Exactly(t, "a RemoteError", errors.As(err, &remote), true)
		assert.Matches(t, (<-r).Err, locker.ErrTooLarge)

		c := w.process()
		assert.Sure(t, once.New(c, "short", once.WithVolatile()).Do(w.ctx, succeed))
		for _, opts := range [][]once.Option{{once.WithVolatile()}, {once.WithExpiry(time.Hour)}} {
			o := once.New(c, "long", append(opts, once.WithFingerprint(strings.Repeat("\x00", 50)))...)
			err := o.Do(w.ctx, func(context.Context) error { t.Error("it ran"); return nil })
			var size *locker.SizeError
			if !errors.As(err, &size) || size.Max != 300 || size.Size <= 300 || !strings.Contains(err.Error(), "fingerprint") {
				t.Errorf("a mark that does not fit: %v", err)
			}
		}
	})
}

// TestEachCallerWaitsForItself: WithWait begins when a caller comes, and is for
// others.
func TestEachCallerWaitsForItself(t *testing.T) {
	bubble(t, func(w *world) {
		holder := w.process()
		l, err := holder.Acquire(w.ctx, once.GroupPrefix+"g/k")
		assert.Sure(t, err)
		g := once.NewGroup[int64](w.process(), "g", once.WithLease(locker.WithWait(10*time.Second)))
		began := time.Now()
		first := ask(w.ctx, g, after(time.Minute, 1, nil))
		time.Sleep(6 * time.Second)
		second := ask(w.ctx, g, never(t))
		assert.Matches(t, first.wait().err, locker.ErrLocked)
		assert.MatchesNot(t, first.err, context.DeadlineExceeded)
		assert.Exactly(t, "shared", first.shared, false)
		assert.Exactly(t, "waited", time.Since(began), 10*time.Second)
		time.Sleep(5 * time.Second)
		assert.Sure(t, l.Release(w.ctx)) // the function runs for longer than anybody waits
		assert.Sure(t, second.wait().err)
		assert.Exactly(t, "result", second.v, 1)

		synctest.Wait() // it is released
		w.server.Fail(errors.New("no route"))
		out := ask(w.ctx, once.NewGroup[int64](w.process(), "g", once.WithLease(locker.WithWait(time.Second))), never(t)).wait()
		assert.Matches(t, out.err, locker.ErrUnavailable)
		w.server.Fail(nil)
	})
}

// TestResultIsKeptForWhoIsCutOff for half a lease, within bounds.
func TestResultIsKeptForWhoIsCutOff(t *testing.T) {
	for ttl, want := range map[time.Duration]time.Duration{time.Second: time.Second, 10 * time.Second: 5 * time.Second, time.Hour: 15 * time.Second} {
		for _, failure := range []error{nil, errors.New("failed")} {
			bubble(t, func(w *world) {
				c, spy := w.spied()
				var kept time.Duration
				spy.put = func(ctx context.Context, h locker.Hold, data []byte, keep time.Duration) (uint64, error) {
					kept = keep
					return spy.Backend.Put(ctx, h, data, keep)
				}
				got := ask(w.ctx, once.NewGroup[int64](c, "g", once.WithLease(locker.WithTTL(ttl))), after(0, 1, failure)).wait()
				assert.Exactly(t, "the error itself", got.err == failure, true)
				assert.Exactly(t, "kept", kept, want)
			})
		}
	}
}

// TestKeysAreForgotten: a Group remembers nothing of a key whose flights are over,
// also where a put had no answer, once it cannot come through any more.
func TestKeysAreForgotten(t *testing.T) {
	bubble(t, func(w *world) {
		c, spy := w.spied()
		g := once.NewGroup[int64](c, "g")
		for i := range 10 {
			_, _, err := g.Do(w.ctx, fmt.Sprint(i), after(0, 1, nil))
			assert.Sure(t, err)
		}
		synctest.Wait()
		assert.Exactly(t, "keys that are known", g.Lanes(), 0)
		spy.put = func(ctx context.Context, _ locker.Hold, _ []byte, _ time.Duration) (uint64, error) {
			<-ctx.Done()
			return 0, ctx.Err()
		}
		for i := range 10 {
			_, _, err := g.Do(w.ctx, fmt.Sprint(i), after(0, 1, nil))
			assert.Sure(t, err)
		}
		synctest.Wait()
		assert.Exactly(t, "keys in doubt", g.Lanes(), 10)
		time.Sleep(3 * ttl)
		synctest.Wait()
		assert.Exactly(t, "keys that are known", g.Lanes(), 0)
	})
}

// An exits is an Encoding that calls runtime.Goexit, as one that uses a testing.T
// may.
type exits struct{ once.Encoding }

func (exits) Marshal(any) ([]byte, error) { runtime.Goexit(); return nil, nil }

type exitsLater struct{ once.Encoding }

func (exitsLater) Unmarshal([]byte, any) error { runtime.Goexit(); return nil }

// TestExitingEncoding ends no caller, and lets none wait.
func TestExitingEncoding(t *testing.T) {
	bubble(t, func(w *world) {
		g := once.NewGroup[int64](w.process(), "g", once.WithEncoding(exits{once.JSON}))
		ctx, cancel := context.WithTimeout(w.ctx, time.Minute)
		defer cancel()
		first := ask(ctx, g, after(time.Second, 1, nil))
		second := ask(ctx, g, never(t))
		for _, c := range []*caller{first, second} {
			assert.Matches(t, c.wait().err, once.ErrLeaderPanicked)
		}
		later := once.NewGroup[int64](w.process(), "later", once.WithFresh(time.Hour), once.WithEncoding(exitsLater{once.JSON}))
		assert.Sure(t, ask(ctx, later, after(0, 1, nil)).wait().err)
		assert.Matches(t, ask(ctx, later, never(t)).wait().err, once.ErrLeaderPanicked)
	})
}

// TestLongNames are refused by what is wrong with them.
func TestLongNames(t *testing.T) {
	bubble(t, func(w *world) {
		c := w.process()
		for _, name := range []string{strings.Repeat("n", 249), strings.Repeat("n", 256), strings.Repeat("/", 83)} {
			_, _, err := once.NewGroup[int64](c, name).Do(w.ctx, "k", never(t))
			assert.Matches(t, err, locker.ErrInvalid)
			if s := err.Error(); !strings.Contains(s, "name of the Group") || !strings.Contains(s, "at most 248 bytes") || strings.Contains(s, "-") {
				t.Errorf("of a name of %d bytes: %s", len(name), s)
			}
		}
		_, _, err := once.NewGroup[int64](c, "").Do(w.ctx, "k", never(t))
		if err == nil || !strings.Contains(err.Error(), "name of the Group") {
			t.Errorf("of an empty name: %v", err)
		}
		assert.Sure(t, ask(w.ctx, once.NewGroup[int64](c, strings.Repeat("n", 248)), after(0, 1, nil)).wait().err)
	})
}

// TestWaitThatEndsInAnOutage says so, also where the first look took all of it.
func TestWaitThatEndsInAnOutage(t *testing.T) {
	for _, took := range []time.Duration{0, time.Minute} {
		bubble(t, func(w *world) {
			c, spy := w.spied()
			spy.get = func() error {
				time.Sleep(took)
				return locker.ErrUnavailable
			}
			spy.shelf = func() (locker.Shelf, error) { return locker.Shelf{}, locker.ErrUnavailable }
			err := once.New(c, "k", once.WithLease(locker.WithWait(time.Second))).Do(w.ctx, func(context.Context) error {
				t.Error("it ran")
				return nil
			})
			assert.Matches(t, err, locker.ErrUnavailable)
			assert.MatchesNot(t, err, locker.ErrLocked)
		})
	}
}
