package guard

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
)

func TestWriteRemembersTheLargestFence(t *testing.T) {
	ctx, m := t.Context(), new(Memory)
	assert.Sure(t, Write(ctx, m, "a", 7, []byte("seven")))
	assert.Sure(t, Write(ctx, m, "a", 7, []byte("seven again")))
	assert.Sure(t, Write(ctx, m, "b", 1, nil)) // a key of its own
	assert.Sure(t, Check(ctx, m, "a", 8))
	err := Write(ctx, m, "a", 7, []byte("late"))
	assert.Matches(t, err, ErrStale)
	var stale *StaleError
	if !errors.As(err, &stale) || *stale != (StaleError{Key: "a", Fence: 7, Seen: 8}) {
		t.Errorf("the error is %v", err)
	}
	assert.Exactly(t, "text", err.Error(), `guard: "a": stale fence: 7 after 8 was seen`)
	assert.Matches(t, Check(ctx, m, "a", 7), ErrStale)
	r, err := m.Load(ctx, "a")
	assert.Sure(t, err)
	assert.Exactly(t, "value", string(r.Value), "seven again")
	assert.Exactly(t, "fence", r.Fence, 8)
}

func TestNothingIsWrittenWithoutFenceOrKey(t *testing.T) {
	m := new(Memory)
	assert.Matches(t, Write(t.Context(), m, "a", 0, nil), ErrNoFence)
	assert.Matches(t, Check(t.Context(), m, "a", 0), ErrNoFence)
	if err := Write(t.Context(), m, "", 7, nil); err == nil {
		t.Error("an empty key is accepted")
	}
	if r, _ := m.Load(t.Context(), "a"); r.Version != "" {
		t.Errorf("the record is %v", r)
	}
}

func TestMemoryKeepsACopy(t *testing.T) {
	m, value := new(Memory), []byte("v")
	assert.Sure(t, Write(t.Context(), m, "a", 7, value))
	value[0] = 'x'
	r, err := m.Load(t.Context(), "a")
	assert.Sure(t, err)
	assert.Exactly(t, "value", string(r.Value), "v")
}

func TestUpdateLosesNoIncrement(t *testing.T) {
	const writers, increments = 8, 200
	ctx, m := t.Context(), new(Memory)
	var accepted, refused atomic.Int64
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range increments {
				fence := uint64(1 + (i+w)/20) //nolint:gosec // grows; some are behind
				err := Update(ctx, m, "n", fence, func(old []byte) ([]byte, error) {
					n, _ := strconv.Atoi(string(old)) // 0 at first
					return strconv.AppendInt(nil, int64(n)+1, 10), nil
				})
				switch {
				case err == nil:
					accepted.Add(1)
				case errors.Is(err, ErrStale):
					refused.Add(1)
				default:
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	r, err := m.Load(ctx, "n")
	assert.Sure(t, err)
	assert.Exactly(t, "counter", string(r.Value), strconv.FormatInt(accepted.Load(), 10))
	assert.Exactly(t, "writes", accepted.Load()+refused.Load(), writers*increments)
}

// failing is a store that fails, or that never swaps.
type failing struct{ load, swap error }

func (f failing) Load(context.Context, string) (Record, error) { return Record{}, f.load }

func (f failing) CompareAndSwap(context.Context, string, string, Record) (bool, error) {
	return false, f.swap
}

func TestErrorsOfTheStoreComeBack(t *testing.T) {
	broken := errors.New("broken")
	assert.Matches(t, Write(t.Context(), failing{load: broken}, "a", 7, nil), broken)
	assert.Matches(t, Write(t.Context(), failing{swap: broken}, "a", 7, nil), broken)
	err := Update(t.Context(), new(Memory), "a", 7, func([]byte) ([]byte, error) { return nil, broken })
	assert.Matches(t, err, broken)
}

func TestUpdateTriesUntilTheContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("no more")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, cause)
		defer cancel()
		began, tries := time.Now(), 0
		err := Update(ctx, failing{}, "a", 7, func([]byte) ([]byte, error) { tries++; return nil, nil })
		assert.Matches(t, err, cause, errOvertaken)
		if waited := time.Since(began); waited > time.Minute || tries < 400 || tries > 2000 {
			t.Errorf("%d tries in %v", tries, waited)
		}
	})
}

// checked is a lease that knows that it was lost.
type checked struct {
	hold
	err error
}

func (c checked) Check() error { return c.err }

func TestFenceOf(t *testing.T) {
	lost := errors.New("lost")
	for name, c := range map[string]struct {
		lease Lease
		fence uint64
		err   error
	}{
		"a fence":             {hold{"a", 7}, 7, nil},
		"none":                {hold{"a", 0}, 0, ErrNoFence},
		"a fence that is not": {untrue{hold{"a", 7}}, 0, ErrNoFence},
		"no lease":            {nil, 0, ErrNoFence},
		"one that is held":    {checked{hold{"a", 7}, nil}, 7, nil},
		"one that is lost":    {checked{hold{"a", 7}, lost}, 0, lost},
	} {
		fence, err := FenceOf(c.lease)
		if fence != c.fence || !errors.Is(err, c.err) {
			t.Errorf("%s: %d, %v, want %d, %v", name, fence, err, c.fence, c.err)
		}
	}
}

// untrue has a number that is no fence.
type untrue struct{ hold }

func (u untrue) Fence() (uint64, bool) { return u.fence, false }

// TestUpdateReturnsTheErrorOfItsFunction has a function that gives up with its
// context: nobody overtook it.
func TestUpdateReturnsTheErrorOfItsFunction(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	err := Update(ctx, new(Memory), "a", 7, func([]byte) ([]byte, error) {
		cancel()
		return nil, ctx.Err()
	})
	if err != context.Canceled { //nolint:errorlint // as it is
		t.Errorf("the error is %v", err)
	}
}
