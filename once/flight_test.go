package once_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/once"
)

// TestLateCallersGetTheirOwn: who comes when the function has returned, and its
// result is on its way to the others, does not get that.
func TestLateCallersGetTheirOwn(t *testing.T) {
	for _, answered := range []bool{true, false} {
		bubble(t, func(w *world) {
			c, spy := w.spied()
			g, other := once.NewGroup[int64](c, "g"), once.NewGroup[int64](w.process(), "g")
			spy.put = func(ctx context.Context, h locker.Hold, data []byte, keep time.Duration) (uint64, error) {
				if spy.of("put") > 1 {
					return spy.Backend.Put(ctx, h, data, keep)
				}
				if !answered {
					<-ctx.Done()
					return 0, ctx.Err()
				}
				time.Sleep(500 * time.Millisecond)
				return spy.Backend.Put(ctx, h, data, keep)
			}
			first := ask(w.ctx, g, after(time.Second, 1, nil))
			during := ask(w.ctx, g, never(t))
			elsewhere := ask(w.ctx, other, after(time.Second, 3, nil))
			time.Sleep(time.Second)
			synctest.Wait() // the put is under way
			late := ask(w.ctx, g, after(time.Second, 2, nil))
			for _, c := range []*caller{first, during} {
				assert.Sure(t, c.wait().err)
				assert.Exactly(t, "result", c.v, 1)
			}
			assert.Sure(t, elsewhere.wait().err)
			assert.Sure(t, late.wait().err)
			if answered {
				assert.Exactly(t, "elsewhere", elsewhere.v, 1)
				assert.Exactly(t, "late", late.v, 2)
			} else { // the next in the queue ran, for both
				assert.Exactly(t, "elsewhere", elsewhere.v, 3)
				assert.Exactly(t, "late", late.v, 3)
			}
		})
	}
}

// TestPutThatComesThroughLate: its answer was lost, and whoever came after the
// function returned refuses it even when it is pushed to it.
func TestPutThatComesThroughLate(t *testing.T) {
	bubble(t, func(w *world) {
		c, spy := w.spied()
		g := once.NewGroup[int64](c, "g")
		spy.put = func(ctx context.Context, h locker.Hold, data []byte, keep time.Duration) (uint64, error) {
			if spy.of("put") > 1 {
				return spy.Backend.Put(ctx, h, data, keep)
			}
			go func() { // what was sent is still on its way, and the release is lost
				time.Sleep(3 * time.Second)
				_, err := spy.Backend.Put(context.Background(), h, data, keep)
				assert.Sure(t, err)
				assert.Sure(t, spy.Backend.Release(context.Background(), h))
			}()
			return 0, locker.ErrUnavailable
		}
		spy.set(func() { spy.release = func(context.Context, locker.Hold) error { return nil } })
		assert.Sure(t, ask(w.ctx, g, after(0, 1, nil)).wait().err)
		late := ask(w.ctx, g, after(0, 2, nil))
		spy.set(func() { spy.release = nil })
		assert.Sure(t, late.wait().err)
		assert.Exactly(t, "late", late.v, 2)
	})
}

// TestOneGivesUp: the function runs on for the others, with the values of the
// caller whose it is.
func TestOneGivesUp(t *testing.T) {
	bubble(t, func(w *world) {
		g, other := once.NewGroup[int64](w.process(), "g"), once.NewGroup[int64](w.process(), "g")
		type key struct{}
		ctx, cancel := context.WithTimeout(context.WithValue(w.ctx, key{}, int64(5)), time.Second)
		defer cancel()
		first := ask(ctx, g, func(ctx context.Context) (int64, error) {
			time.Sleep(time.Minute)
			return ctx.Value(key{}).(int64), ctx.Err()
		})
		here, there, hasty := ask(w.ctx, g, never(t)), ask(w.ctx, other, never(t)), ask(ctx, other, never(t))
		for _, c := range []*caller{first, hasty} {
			assert.Matches(t, c.wait().err, context.DeadlineExceeded)
		}
		for _, c := range []*caller{here, there} {
			assert.Sure(t, c.wait().err)
			assert.Exactly(t, "result", c.v, 5)
		}
	})
}

// TestAllGiveUp: the function is told to end, its error is nobody's, and one who
// waits elsewhere runs its own.
func TestAllGiveUp(t *testing.T) {
	bubble(t, func(w *world) {
		g, other := once.NewGroup[int64](w.process(), "g"), once.NewGroup[int64](w.process(), "g")
		boom := errors.New("the caller left")
		ctx, cancel := context.WithCancelCause(w.ctx)
		fn := func(ctx context.Context) (int64, error) {
			<-ctx.Done()
			assert.Matches(t, context.Cause(ctx), boom)
			time.Sleep(time.Second)
			return 1, ctx.Err()
		}
		callers := []*caller{ask(ctx, g, fn), ask(ctx, g, fn)}
		there := ask(w.ctx, other, after(0, 2, nil))
		cancel(boom)
		for _, c := range callers {
			assert.Matches(t, c.wait().err, context.Canceled, boom)
		}
		late := ask(w.ctx, g, after(0, 3, nil))
		assert.Sure(t, there.wait().err)
		assert.Exactly(t, "there", there.v, 2)
		assert.Sure(t, late.wait().err)
		assert.Exactly(t, "late", late.v, 2) // it came before that ran
		assert.Matches(t, ask(ctx, g, never(t)).wait().err, context.Canceled, boom)
	})
}

// TestGroupLosesItsLease: its callers hear of it, and the next runs.
func TestGroupLosesItsLease(t *testing.T) {
	for _, c := range []struct {
		name string
		lose func(s *spy)
		took time.Duration // until the function ends
		err  error         // that it returns then
	}{
		{"frozen", func(s *spy) { s.freeze() }, time.Minute, nil},
		{"frozen, and ended in time", func(s *spy) { s.freeze() }, 0, context.Canceled},
		{"disconnected", func(s *spy) { s.Disconnect() }, time.Minute, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(w *world) {
				cl, spy := w.spied()
				g := once.NewGroup[int64](cl, "g")
				first := ask(w.ctx, g, func(ctx context.Context) (int64, error) {
					<-ctx.Done()
					assert.Matches(t, context.Cause(ctx), locker.ErrLost)
					time.Sleep(c.took)
					return 1, c.err
				})
				var runs atomic.Int64
				var there []*caller
				for range 5 {
					there = append(there, ask(w.ctx, once.NewGroup[int64](w.process(), "g"), func(context.Context) (int64, error) {
						time.Sleep(time.Second)
						return runs.Add(1), nil
					}))
				}
				c.lose(spy)
				for _, c := range there {
					assert.Sure(t, c.wait().err)
					assert.Exactly(t, "result", c.v, 1)
				}
				assert.Matches(t, first.wait().err, locker.ErrLost)
				assert.Exactly(t, "puts", spy.of("put"), 0)
			})
		})
	}
}

// TestRefusedResult: the server knew before the leader that the lease was over.
func TestRefusedResult(t *testing.T) {
	bubble(t, func(w *world) {
		c, spy := w.spied()
		spy.put = func(ctx context.Context, h locker.Hold, data []byte, keep time.Duration) (uint64, error) {
			assert.Sure(t, spy.Backend.Release(ctx, h))
			return spy.Backend.Put(ctx, h, data, keep)
		}
		first := ask(w.ctx, once.NewGroup[int64](c, "g"), after(time.Second, 1, nil))
		there := ask(w.ctx, once.NewGroup[int64](w.process(), "g"), after(time.Second, 2, nil))
		assert.Matches(t, first.wait().err, locker.ErrLost)
		assert.Exactly(t, "result", first.v, 1)
		assert.Sure(t, there.wait().err)
		assert.Exactly(t, "there", there.v, 2)
	})
}

// TestResultOfAnAbandonedCall is for who came before it was there, as any other.
func TestResultOfAnAbandonedCall(t *testing.T) {
	bubble(t, func(w *world) {
		c, spy := w.spied()
		g := once.NewGroup[int64](c, "g")
		spy.put = func(ctx context.Context, h locker.Hold, data []byte, keep time.Duration) (uint64, error) {
			time.Sleep(500 * time.Millisecond)
			return spy.Backend.Put(ctx, h, data, keep)
		}
		ctx, cancel := context.WithCancel(w.ctx)
		gone := ask(ctx, g, after(time.Second, 1, nil))
		cancel()
		assert.Matches(t, gone.wait().err, context.Canceled)
		before := ask(w.ctx, g, never(t))
		time.Sleep(time.Second)
		synctest.Wait() // the put is under way
		late := ask(w.ctx, g, after(0, 2, nil))
		assert.Sure(t, before.wait().err)
		assert.Exactly(t, "who came before", before.v, 1)
		assert.Sure(t, late.wait().err)
		assert.Exactly(t, "who came after", late.v, 2)
	})
}

// TestSuccessorsThatGiveUp: who comes when a result is on its way does not get it,
// also where the flights that began in between have ended, before the function
// returned or after, and also if its put has no answer.
func TestSuccessorsThatGiveUp(t *testing.T) {
	for _, returned := range []bool{false, true} {
		for _, answered := range []bool{false, true} {
			t.Run(fmt.Sprintf("returned %t, answered %t", returned, answered), func(t *testing.T) {
				bubble(t, func(w *world) {
					c, spy := w.spied()
					g := once.NewGroup[int64](c, "g")
					spy.put = func(ctx context.Context, h locker.Hold, data []byte, keep time.Duration) (uint64, error) {
						if spy.of("put") > 1 {
							return spy.Backend.Put(ctx, h, data, keep)
						}
						if answered {
							time.Sleep(500 * time.Millisecond)
							return spy.Backend.Put(ctx, h, data, keep)
						}
						go func() { // it is carried out, when all have given up
							time.Sleep(3 * time.Second)
							_, err := spy.Backend.Put(context.Background(), h, data, keep)
							assert.Sure(t, err)
							assert.Sure(t, spy.Backend.Release(context.Background(), h))
						}()
						<-ctx.Done()
						return 0, ctx.Err()
					}
					spy.set(func() {
						spy.release = func(ctx context.Context, h locker.Hold) error {
							if !answered && spy.of("put") == 1 {
								return nil // it is lost, too
							}
							return spy.Backend.Release(ctx, h)
						}
					})
					hasty, cancel := context.WithCancel(w.ctx)
					first := ask(hasty, g, after(time.Second, 1, nil))
					cancel()
					assert.Matches(t, first.wait().err, context.Canceled)
					hasty, cancel = context.WithCancel(w.ctx)
					second := ask(hasty, g, never(t))
					if returned {
						time.Sleep(time.Second)
						synctest.Wait()
					}
					cancel()
					assert.Matches(t, second.wait().err, context.Canceled)
					if !returned {
						time.Sleep(time.Second)
					}
					synctest.Wait() // the put is under way, and the second flight over
					if !answered {
						time.Sleep(1500 * time.Millisecond) // the flight is over
					}
					late := ask(w.ctx, g, after(0, 2, nil)).wait()
					assert.Sure(t, late.err)
					assert.Exactly(t, "late", late.v, 2)
				})
			})
		}
	}
}
