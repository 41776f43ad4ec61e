package once_test

import (
	"context"
	"errors"
	"fmt"
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

// TestDoRunsOneTime for eight processes of 25 goroutines each, and never again.
func TestDoRunsOneTime(t *testing.T) {
	bubble(t, func(w *world) {
		var runs atomic.Int64
		var wg sync.WaitGroup
		for range 8 {
			o := once.New(w.process(), "migrate", once.WithVolatile())
			for range 25 {
				wg.Go(func() {
					assert.Sure(t, o.Do(w.ctx, func(ctx context.Context) error {
						runs.Add(1)
						time.Sleep(time.Minute)
						return ctx.Err()
					}))
					assert.Exactly(t, "runs when Do returned", runs.Load(), 1)
				})
			}
		}
		wg.Wait()
		c, spy := w.spied()
		o := once.New(c, "migrate")
		for range 3 {
			assert.Sure(t, o.Do(w.ctx, func(context.Context) error { return errors.New("ran again") }))
		}
		assert.Exactly(t, "questions", spy.of("get"), 1)
		assert.Exactly(t, "queues", spy.of("join"), 0)
		assert.Exactly(t, "runs", runs.Load(), 1)
	})
}

// TestFailuresLetTheNextRun: an error, a panic, runtime.Goexit.
func TestFailuresLetTheNextRun(t *testing.T) {
	boom := errors.New("boom")
	for name, f := range map[string]func(context.Context) error{
		"error":  func(context.Context) error { return boom },
		"panic":  func(context.Context) error { panic(boom) },
		"goexit": func(context.Context) error { runtime.Goexit(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(w *world) {
				c := w.process()
				o := once.New(c, "k", once.WithVolatile())
				started := make(chan struct{})
				over := make(chan any, 1)
				go func() {
					var err error
					defer func() {
						if p := recover(); p != nil {
							over <- fmt.Sprint("panic ", p)
							return
						}
						over <- fmt.Sprint("error ", err)
					}()
					err = o.Do(w.ctx, func(ctx context.Context) error {
						close(started)
						time.Sleep(time.Second)
						return f(ctx)
					})
				}()
				<-started
				var runs atomic.Int64
				var wg sync.WaitGroup
				for _, next := range []*once.Once{o, o, once.New(w.process(), "k", once.WithVolatile())} {
					wg.Go(func() {
						assert.Sure(t, next.Do(w.ctx, func(context.Context) error { runs.Add(1); return nil }))
					})
				}
				wg.Wait()
				assert.Exactly(t, "runs of the next", runs.Load(), 1)
				want := map[string]string{"error": "error boom", "panic": "panic boom", "goexit": "error <nil>"}[name]
				assert.Exactly(t, "outcome", <-over, any(want))
			})
		})
	}
}

// TestLostLease: the runner is told, its mark is refused, and the next one runs.
func TestLostLease(t *testing.T) {
	for _, stubborn := range []bool{false, true} {
		t.Run(fmt.Sprint("stubborn ", stubborn), func(t *testing.T) {
			bubble(t, func(w *world) {
				c, spy := w.spied()
				first, second := once.New(c, "k", once.WithVolatile()), once.New(w.process(), "k", once.WithVolatile())
				started := make(chan struct{})
				result := make(chan error, 1)
				go func() {
					result <- first.Do(w.ctx, func(ctx context.Context) error {
						spy.freeze()
						close(started)
						<-ctx.Done()
						assert.Matches(t, context.Cause(ctx), locker.ErrLost)
						if stubborn {
							time.Sleep(time.Hour)
							return nil
						}
						return ctx.Err()
					})
				}()
				<-started
				var mine uint64
				assert.Sure(t, second.Do(w.ctx, func(context.Context) error { mine++; return nil }))
				assert.Exactly(t, "runs of the second", mine, 1)
				before, err := second.Mark(w.ctx)
				assert.Sure(t, err)
				assert.Sure(t, first.Do(w.ctx, func(context.Context) error { return errors.New("ran again") }))
				if stubborn && len(result) > 0 {
					t.Error("its own process was blocked until it ended")
				}
				assert.Matches(t, <-result, locker.ErrLost)
				after, err := second.Mark(w.ctx)
				assert.Sure(t, err)
				assert.Exactly(t, "mark", after, before)
			})
		})
	}
}

// TestRevokedLease: the server knows that the lease is over, and the runner does
// not.
func TestRevokedLease(t *testing.T) {
	bubble(t, func(w *world) {
		c, spy := w.spied()
		o := once.New(c, "k", once.WithVolatile())
		spy.put = func(ctx context.Context, h locker.Hold, data []byte, keep time.Duration) (uint64, error) {
			assert.Sure(t, spy.Release(ctx, h))
			return spy.Backend.Put(ctx, h, data, keep)
		}
		err := o.Do(w.ctx, succeed)
		assert.Matches(t, err, locker.ErrLost)
		assert.MatchesNot(t, err, once.ErrInDoubt)
		done, err := o.Done(w.ctx)
		assert.Sure(t, err)
		assert.Exactly(t, "done", done, false)
	})
}

// TestOneOfAProcessAsksForAll, also where nothing may be remembered for ever.
func TestOneOfAProcessAsksForAll(t *testing.T) {
	bubble(t, func(w *world) {
		c, spy := w.spied()
		o := once.New(c, "k", once.WithExpiry(time.Hour))
		runs := 0
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() {
				assert.Sure(t, o.Do(w.ctx, func(context.Context) error {
					time.Sleep(time.Second)
					runs++
					return nil
				}))
			})
		}
		wg.Wait()
		assert.Exactly(t, "runs", runs, 1)
		assert.Exactly(t, "questions", spy.of("get")+spy.of("join"), 2)
	})
}

// TestGivingUp: who waits may stop waiting; who runs goes on.
func TestGivingUp(t *testing.T) {
	bubble(t, func(w *world) {
		o, other := once.New(w.process(), "k", once.WithVolatile()), once.New(w.process(), "k", once.WithVolatile(), once.WithLease(locker.WithWait(2*time.Second)))
		result := make(chan error, 1)
		started := make(chan struct{})
		go func() {
			result <- o.Do(w.ctx, func(ctx context.Context) error { close(started); time.Sleep(time.Minute); return ctx.Err() })
		}()
		<-started
		ctx, cancel := context.WithTimeout(w.ctx, time.Second)
		defer cancel()
		for _, o := range []*once.Once{o, other} {
			err := o.Do(ctx, succeed)
			assert.Matches(t, err, context.DeadlineExceeded)
		}
		err := other.Do(w.ctx, succeed)
		assert.Matches(t, err, locker.ErrLocked)
		assert.MatchesNot(t, err, context.DeadlineExceeded)
		assert.Sure(t, <-result)
		assert.Sure(t, other.Do(w.ctx, succeed))
		assert.Matches(t, other.Do(ctx, succeed), context.DeadlineExceeded) // who has no time has none
	})
}

// TestOutage is ridden out, and the mark is found after it.
func TestOutage(t *testing.T) {
	bubble(t, func(w *world) {
		w.server.Fail(errors.New("no route"))
		time.AfterFunc(time.Minute, func() { w.server.Fail(nil) })
		began := time.Now()
		assert.Sure(t, once.New(w.process(), "k", once.WithVolatile()).Do(w.ctx, succeed))
		if took := time.Since(began); took < time.Minute {
			t.Errorf("it took %v, in an outage of a minute", took)
		}
		w.server.Fail(errors.New("no route"))
		ctx, cancel := context.WithTimeout(w.ctx, time.Second)
		defer cancel()
		assert.Matches(t, once.New(w.process(), "k").Do(ctx, succeed), context.DeadlineExceeded, locker.ErrUnavailable)
		_, err := once.New(w.process(), "k").Done(w.ctx)
		assert.Matches(t, err, locker.ErrUnavailable)
		w.server.Fail(nil)
	})
}

// TestRunnerDies: exactly one of those who wait runs.
func TestRunnerDies(t *testing.T) {
	bubble(t, func(w *world) {
		c, spy := w.spied()
		started := make(chan struct{})
		result := make(chan error, 1)
		go func() {
			result <- once.New(c, "k", once.WithVolatile()).Do(w.ctx, func(ctx context.Context) error {
				close(started)
				<-ctx.Done()
				return nil
			})
		}()
		<-started
		var runs atomic.Int64
		var wg sync.WaitGroup
		for range 5 {
			o := once.New(w.process(), "k", once.WithVolatile())
			wg.Go(func() {
				assert.Sure(t, o.Do(w.ctx, func(context.Context) error { runs.Add(1); return nil }))
			})
		}
		synctest.Wait()
		spy.Disconnect()
		wg.Wait()
		assert.Exactly(t, "runs", runs.Load(), 1)
		assert.Matches(t, <-result, locker.ErrLost)
	})
}

// TestBadArguments are errors of the first use; what has no New panics.
func TestBadArguments(t *testing.T) {
	bubble(t, func(w *world) {
		c := w.process()
		for name, o := range map[string]*once.Once{
			"empty key":   once.New(c, ""),
			"long key":    once.New(c, strings.Repeat("k", 252)),
			"expiry":      once.New(c, "k", once.WithExpiry(-1)),
			"fingerprint": once.New(c, "k", once.WithFingerprint("\xff")),
			"long":        once.New(c, "k", once.WithFingerprint(strings.Repeat("f", 1025))),
			"marker":      once.New(c, "k", once.WithMarker(nil)),
			"fresh":       once.New(c, "k", once.WithFresh(1)),
			"encoding":    once.New(c, "k", once.WithEncoding(once.JSON)),
			"ttl":         once.New(c, "k", once.WithLease(locker.WithTTL(-1))),
		} {
			if err := o.Do(w.ctx, succeed); !errors.Is(err, locker.ErrInvalid) {
				t.Errorf("%s: %v", name, err)
			}
			_, err := o.Done(w.ctx)
			assert.Matches(t, err, locker.ErrInvalid)
			assert.Matches(t, o.Reset(w.ctx), locker.ErrInvalid)
		}
		assert.Sure(t, once.New(c, strings.Repeat("k", 251), once.WithVolatile()).Do(w.ctx, succeed))
		for _, f := range []func(){
			func() { once.New(nil, "k") },
			func() { new(once.Once).Do(w.ctx, succeed) },
			func() { new(once.Group[int]).Forget("k") },
			func() { once.NewGroup[int](nil, "k") },
			func() { once.NewValue[int](c, "k", nil) },
		} {
			func() {
				defer func() {
					if recover() == nil {
						t.Error("no panic")
					}
				}()
				f()
			}()
		}
	})
}
