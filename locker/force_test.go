package locker_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
)

// A forcer is a fake that says what it was told to force.
type forcer struct {
	*fake
	err error
}

func (f *forcer) Force(_ context.Context, kind locker.Kind, key string) (int, error) {
	f.set(func() { f.recordLocked(call{op: "force " + kind.String(), key: key}) })
	return 3, f.err
}

// TestForce asks the backend, for keys that can be.
func TestForce(t *testing.T) {
	f := &forcer{fake: newFake()}
	c := newClient(t, f)
	for _, kind := range []locker.Kind{locker.Exclusive, locker.Counting} {
		n, err := c.Force(t.Context(), kind, "k")
		assert.Sure(t, err)
		assert.Exactly(t, "ended", n, 3)
		assert.Exactly(t, "calls", len(f.of("force "+kind.String())), 1)
	}
	for _, key := range []string{"", "a b"} {
		_, err := c.Force(t.Context(), locker.Exclusive, key)
		assert.Matches(t, err, locker.ErrInvalid)
	}
	_, err := c.Force(t.Context(), 7, "k")
	assert.Matches(t, err, locker.ErrInvalid)
	assert.Exactly(t, "calls", f.count(), 2)
	f.err = locker.ErrUnavailable
	_, err = c.Force(t.Context(), locker.Exclusive, "k")
	assert.Matches(t, err, locker.ErrUnavailable)
	assert.Exactly(t, "error", err.Error(), `distributed: force "k" on fake://: backend unavailable`)

	_, err = newClient(t, newFake()).Force(t.Context(), locker.Exclusive, "k")
	assert.Matches(t, err, errors.ErrUnsupported)
}

// TestHeldError says what is known.
func TestHeldError(t *testing.T) {
	for want, e := range map[string]*locker.HeldError{
		"held by somebody else":             {},
		"held by somebody else for 3s":      {For: 3 * time.Second},
		`held by "h/7/cron"`:                {Holder: "h/7/cron"},
		`held by "h/7/cron\n" for 1h0m0.5s`: {Holder: "h/7/cron\n", For: time.Hour + time.Second/2},
	} {
		assert.Exactly(t, "text", e.Error(), want)
		assert.Matches(t, e, locker.ErrLocked)
	}
	f := newFake()
	f.acquire = func(context.Context, locker.Request) (locker.Grant, error) {
		return locker.Grant{}, &locker.HeldError{Holder: "h/7/cron", For: time.Second}
	}
	_, err := newClient(t, f).TryAcquire(t.Context(), "k")
	var h *locker.HeldError
	if !errors.As(err, &h) || h.Holder != "h/7/cron" || h.For != time.Second {
		t.Errorf("a try fails with %v", err)
	}
	assert.Matches(t, err, locker.ErrLocked)
}

// TestHeldErrorOfAWait that its context ended, where the backend says both.
func TestHeldErrorOfAWait(t *testing.T) {
	f := newFake()
	ctx, cancel := context.WithCancel(t.Context())
	f.acquire = func(ctx context.Context, _ locker.Request) (locker.Grant, error) {
		cancel()
		return locker.Grant{}, fmt.Errorf("%w: %w", context.Cause(ctx), &locker.HeldError{Holder: "h/7/cron"})
	}
	_, err := newClient(t, f).Acquire(ctx, "k")
	assert.Matches(t, err, locker.ErrLocked, context.Canceled)
	assert.Exactly(t, "error", err.Error(), `distributed: acquire "k" on fake://: context canceled: held by "h/7/cron"`)
}

// TestErrRevoked is a loss.
func TestErrRevoked(t *testing.T) { assert.Matches(t, locker.ErrRevoked, locker.ErrLost) }
