package once_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/once"
)

// TestPutWithoutAnAnswer: it is tried again, and looked at, and only then in doubt.
func TestPutWithoutAnAnswer(t *testing.T) {
	lose := func(context.Context, locker.Hold, []byte, time.Duration) (uint64, error) {
		return 0, fmt.Errorf("%w: connection reset", locker.ErrUnavailable)
	}
	t.Run("then one", func(t *testing.T) {
		bubble(t, func(w *world) {
			c, spy := w.spied()
			spy.put = lose
			time.AfterFunc(3*time.Second, func() { spy.set(func() { spy.put = nil }) })
			o := once.New(c, "k", once.WithVolatile())
			ctx, cancel := context.WithCancel(w.ctx)
			assert.Sure(t, o.Do(ctx, func(context.Context) error { cancel(); return nil })) // the run cannot be taken back
			done, err := o.Done(w.ctx)
			assert.Sure(t, err)
			assert.Exactly(t, "done", done, true)
		})
	})
	t.Run("but stored", func(t *testing.T) {
		bubble(t, func(w *world) {
			c, spy := w.spied()
			spy.put = func(ctx context.Context, h locker.Hold, data []byte, keep time.Duration) (uint64, error) {
				_, err := spy.Backend.Put(ctx, h, data, keep)
				assert.Sure(t, err)
				return lose(ctx, h, data, keep)
			}
			assert.Sure(t, once.New(c, "k", once.WithVolatile()).Do(w.ctx, succeed))
		})
	})
	t.Run("ever", func(t *testing.T) {
		bubble(t, func(w *world) {
			c, spy := w.spied()
			spy.put = lose
			o := once.New(c, "k", once.WithVolatile())
			began := time.Now()
			err := o.Do(w.ctx, succeed)
			assert.Matches(t, err, once.ErrInDoubt, locker.ErrUnavailable)
			if took := time.Since(began); took > ttl {
				t.Errorf("it was in doubt after %v, when a lease of %v was over", took, ttl)
			}
			spy.set(func() { spy.put = nil })
			assert.Sure(t, o.Do(w.ctx, succeed))
		})
	})
	t.Run("and refused", func(t *testing.T) {
		bubble(t, func(w *world) {
			c, spy := w.spied()
			spy.put = func(ctx context.Context, h locker.Hold, data []byte, keep time.Duration) (uint64, error) {
				if spy.of("put") == 1 {
					return lose(ctx, h, data, keep)
				}
				assert.Sure(t, spy.Release(ctx, h))
				return spy.Backend.Put(ctx, h, data, keep)
			}
			err := once.New(c, "k", once.WithVolatile()).Do(w.ctx, succeed)
			assert.Matches(t, err, locker.ErrLost)
			assert.MatchesNot(t, err, once.ErrInDoubt)
		})
	})
}

// TestVolatileServer: Do refuses, and says what to do.
func TestVolatileServer(t *testing.T) {
	bubble(t, func(w *world) {
		c, spy := w.spied()
		ran := false
		err := once.New(c, "k").Do(w.ctx, func(context.Context) error { ran = true; return nil })
		assert.Matches(t, err, once.ErrVolatile)
		for _, word := range []string{`"once/k"`, "memory://", "data directory", "once.WithExpiry", "once.WithVolatile"} {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("the error does not say %s: %v", word, err)
			}
		}
		assert.Exactly(t, "ran", ran, false)
		assert.Sure(t, once.New(c, "expires", once.WithExpiry(time.Hour)).Do(w.ctx, succeed))
		spy.durable()
		assert.Sure(t, once.New(c, "k").Do(w.ctx, succeed))
	})
}

// TestMark says who, when and with which fence; Reset removes it.
func TestMark(t *testing.T) {
	bubble(t, func(w *world) {
		o := once.New(w.process(), "k", once.WithVolatile(), once.WithFingerprint("abc"))
		_, err := o.Mark(w.ctx)
		assert.Matches(t, err, once.ErrNotDone)
		assert.Sure(t, o.Do(w.ctx, succeed))
		other := once.New(w.process(), "k", once.WithVolatile())
		m, err := other.Mark(w.ctx)
		assert.Sure(t, err)
		assert.Exactly(t, "fence", m.Fence > 0, true)
		assert.Exactly(t, "at", m.At.Equal(time.Now()), true)
		assert.Exactly(t, "fingerprint", m.Fingerprint, "abc")
		assert.Exactly(t, "expires", m.Expires.IsZero(), true)
		if parts := strings.Split(m.By, "/"); len(parts) != 3 || parts[2] != "once.test" {
			t.Errorf("by %q", m.By)
		}
		assert.Sure(t, other.Reset(w.ctx))
		done, err := o.Done(w.ctx)
		assert.Sure(t, err)
		assert.Exactly(t, "done", done, false)
		assert.Sure(t, o.Do(w.ctx, func(context.Context) error { return errors.New("it remembers") }))
		assert.Sure(t, o.Reset(w.ctx))
		ran := false
		assert.Sure(t, o.Do(w.ctx, func(context.Context) error { ran = true; return nil }))
		assert.Exactly(t, "ran", ran, true)
	})
}

// TestResetWaits for who runs.
func TestResetWaits(t *testing.T) {
	bubble(t, func(w *world) {
		o := once.New(w.process(), "k", once.WithVolatile())
		started := make(chan struct{})
		go o.Do(w.ctx, func(context.Context) error { close(started); time.Sleep(time.Minute); return nil })
		<-started
		began := time.Now()
		assert.Sure(t, once.New(w.process(), "k").Reset(w.ctx))
		assert.Exactly(t, "waited", time.Since(began), time.Minute)
		done, err := o.Done(w.ctx)
		assert.Sure(t, err)
		assert.Exactly(t, "done", done, false)
	})
}

// TestResetBeforeItIsRemembered: who ran must not remember what is undone.
func TestResetBeforeItIsRemembered(t *testing.T) {
	bubble(t, func(w *world) {
		c, spy := w.spied()
		o := once.New(c, "k", once.WithVolatile())
		spy.release = func(ctx context.Context, h locker.Hold) error {
			err := spy.Backend.Release(ctx, h)
			spy.set(func() { spy.release = nil })
			assert.Sure(t, o.Reset(w.ctx))
			return err
		}
		assert.Sure(t, o.Do(w.ctx, succeed))
		ran := false
		assert.Sure(t, o.Do(w.ctx, func(context.Context) error { ran = true; return nil }))
		assert.Exactly(t, "ran again", ran, true)
	})
}

// TestExpiry: it is done for a while, by everybody's count.
func TestExpiry(t *testing.T) {
	bubble(t, func(w *world) {
		runs := 0
		run := func(context.Context) error { runs++; return nil }
		o := once.New(w.process(), "daily", once.WithExpiry(24*time.Hour))
		other := once.New(w.process(), "daily", once.WithExpiry(24*time.Hour))
		assert.Sure(t, o.Do(w.ctx, run))
		m, err := o.Mark(w.ctx)
		assert.Sure(t, err)
		assert.Exactly(t, "expires", m.Expires.Sub(m.At), 24*time.Hour)
		time.Sleep(24*time.Hour - 1)
		assert.Sure(t, o.Do(w.ctx, run))
		assert.Sure(t, other.Do(w.ctx, run))
		assert.Exactly(t, "runs", runs, 1)
		time.Sleep(time.Nanosecond)
		done, err := o.Done(w.ctx)
		assert.Sure(t, err)
		assert.Exactly(t, "done", done, false)
		assert.Sure(t, other.Do(w.ctx, run))
		assert.Sure(t, o.Do(w.ctx, run))
		assert.Exactly(t, "runs", runs, 2)
		// One that expires sooner counts for less, for who says so.
		time.Sleep(time.Hour)
		assert.Sure(t, once.New(w.process(), "daily", once.WithExpiry(time.Hour)).Do(w.ctx, run))
		assert.Exactly(t, "runs", runs, 3)
	})
}

// TestFingerprint: the same key with another input is an error, for those who wait
// too.
func TestFingerprint(t *testing.T) {
	bubble(t, func(w *world) {
		a := once.New(w.process(), "k", once.WithVolatile(), once.WithFingerprint("a"))
		b := once.New(w.process(), "k", once.WithVolatile(), once.WithFingerprint("b"))
		started := make(chan struct{})
		go a.Do(w.ctx, func(context.Context) error { close(started); time.Sleep(time.Second); return nil })
		<-started
		ran := false
		for range 2 {
			err := b.Do(w.ctx, func(context.Context) error { ran = true; return nil })
			var f *once.FingerprintError
			assert.Exactly(t, "a FingerprintError", errors.As(err, &f) && *f == once.FingerprintError{Have: "a", Want: "b"}, true)
		}
		_, err := b.Done(w.ctx)
		var f *once.FingerprintError
		assert.Exactly(t, "a FingerprintError", errors.As(err, &f), true)
		assert.Exactly(t, "ran", ran, false)
		assert.Sure(t, a.Do(w.ctx, succeed))
		assert.Sure(t, once.New(w.process(), "k").Do(w.ctx, succeed)) // has no opinion
	})
}

// TestForeignValue: what is no mark is an error, until it is removed.
func TestForeignValue(t *testing.T) {
	bubble(t, func(w *world) {
		c := w.process()
		for _, junk := range []string{"", "x", "{}\n", "[]\n", "{\"run\":1}\nx"} {
			l, err := c.Acquire(w.ctx, once.Prefix+"k")
			assert.Sure(t, err)
			_, err = l.Put(w.ctx, []byte(junk), 0)
			assert.Sure(t, err)
			assert.Sure(t, l.Release(w.ctx))
			o := once.New(c, "k", once.WithVolatile())
			ran := false
			err = o.Do(w.ctx, func(context.Context) error { ran = true; return nil })
			if err == nil || !strings.Contains(err.Error(), "no record") || ran {
				t.Errorf("of %q: %v, ran: %t", junk, err, ran)
			}
			assert.Sure(t, o.Reset(w.ctx))
			assert.Sure(t, o.Do(w.ctx, succeed))
		}
	})
}
