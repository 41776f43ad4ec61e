package locker_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
)

// TestDo: errors, panics and losses of what runs under a lease.
func TestDo(t *testing.T) {
	boom := errors.New("boom")
	for name, c := range map[string]struct {
		f         func(ctx context.Context) error
		want, not []error
		text      string
	}{
		"nil":   {func(ctx context.Context) error { return ctx.Err() }, nil, nil, ""},
		"error": {func(context.Context) error { return boom }, []error{boom}, []error{locker.ErrLost}, "boom"},
		"lost": {func(ctx context.Context) error {
			time.Sleep(time.Minute)
			return nil
		}, []error{locker.ErrLost}, nil, ""},
		"lost with an error": {func(ctx context.Context) error {
			time.Sleep(time.Minute)
			return boom
		}, []error{boom, locker.ErrLost}, nil, ""},
		"lost and told so": {func(ctx context.Context) error {
			<-ctx.Done()
			time.Sleep(time.Minute)
			return context.Cause(ctx)
		}, []error{locker.ErrLost}, nil, ""},
		"stopped in time": {func(ctx context.Context) error {
			<-ctx.Done()
			return nil
		}, nil, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				f.renew = frozenRenew
				l := acquire(t, newClient(t, f), "k")
				err := l.Do(t.Context(), c.f)
				if c.want == nil {
					assert.Sure(t, err)
				}
				assert.Matches(t, err, c.want...)
				assert.MatchesNot(t, err, c.not...)
				if c.text != "" {
					assert.Exactly(t, "error", err.Error(), c.text)
				}
				if len(c.want) == 2 && err.Error()[:4] != "boom" {
					t.Errorf("the error of f does not come first: %v", err)
				}
				time.Sleep(ttl)
				assert.Exactly(t, "holders", f.holders(), 0)
			})
		})
	}
}

// TestDoReleasesOnPanic, and with a context that has ended, and does not wait
// for longer than a second.
func TestDoReleasesOnPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		c := newClient(t, f)
		func() {
			defer func() { assert.Exactly(t, "panic", recover(), any("boom")) }()
			_ = acquire(t, c, "k").Do(t.Context(), func(context.Context) error { panic("boom") })
		}()
		assert.Exactly(t, "holders", f.holders(), 0)

		ctx, cancel := context.WithCancel(t.Context())
		err := acquire(t, c, "k").Do(ctx, func(ctx context.Context) error {
			cancel()
			<-ctx.Done()
			return ctx.Err()
		})
		assert.Matches(t, err, context.Canceled)
		assert.MatchesNot(t, err, locker.ErrLost)
		assert.Exactly(t, "holders", f.holders(), 0)

		f.set(func() { f.release = frozen })
		assert.Sure(t, acquire(t, c, "k").Do(t.Context(), func(context.Context) error { return nil }))
		assert.Exactly(t, "time", f.now(), time.Second)
	})
}

// TestDoOfAReleasedLease: f may release it itself.
func TestDoOfAReleasedLease(t *testing.T) {
	f := newFake()
	l := acquire(t, newClient(t, f), "k")
	assert.Sure(t, l.Do(t.Context(), func(ctx context.Context) error {
		err := l.Release(context.WithoutCancel(ctx)) // which ends now
		<-ctx.Done()
		assert.Matches(t, context.Cause(ctx), locker.ErrNotHeld)
		return err
	}))
	assert.Exactly(t, "releases", len(f.of("release")), 1)
}
