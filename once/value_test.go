package once_test

import (
	"bytes"
	"context"
	"encoding/gob"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/once"
)

type catalog struct{ Names []string }

// TestValueIsComputedOneTime, and everybody has it.
func TestValueIsComputedOneTime(t *testing.T) {
	bubble(t, func(w *world) {
		var runs atomic.Int64
		compute := func(context.Context) (*catalog, error) {
			time.Sleep(time.Second)
			runs.Add(1)
			return &catalog{Names: []string{"a", "b"}}, nil
		}
		var wg sync.WaitGroup
		for range 5 {
			v := once.NewValue(w.process(), "catalog", compute, once.WithVolatile())
			for range 5 {
				wg.Go(func() {
					got, err := v.Get(w.ctx)
					assert.Sure(t, err)
					assert.Exactly(t, "value", strings.Join(got.Names, " "), "a b")
					again, err := v.Get(w.ctx)
					assert.Sure(t, err)
					assert.Exactly(t, "the same one", again == got, true)
				})
			}
		}
		wg.Wait()
		assert.Exactly(t, "runs", runs.Load(), 1)

		c, spy := w.spied()
		v := once.NewValue(c, "catalog", compute)
		for range 3 {
			_, err := v.Get(w.ctx)
			assert.Sure(t, err)
		}
		assert.Exactly(t, "questions", spy.of("get")+spy.of("join"), 1)
		m, err := v.Mark(w.ctx)
		assert.Sure(t, err)
		assert.Exactly(t, "fence", m.Fence > 0, true)
		assert.Sure(t, v.Reset(w.ctx))
		_, err = once.NewValue(c, "catalog", compute, once.WithVolatile()).Get(w.ctx)
		assert.Sure(t, err)
		assert.Exactly(t, "runs", runs.Load(), 2)
	})
}

// TestValueErrors: a failing function, what cannot be encoded or decoded, what is
// too large.
func TestValueErrors(t *testing.T) {
	bubble(t, func(w *world) {
		c := w.process()
		boom := errors.New("boom")
		fail := true
		v := once.NewValue(c, "k", func(context.Context) (int, error) {
			if fail {
				return 7, boom
			}
			return 8, nil
		}, once.WithVolatile())
		got, err := v.Get(w.ctx)
		assert.Exactly(t, "the error itself", err == boom, true)
		assert.Exactly(t, "value", got, 0)
		fail = false
		got, err = v.Get(w.ctx)
		assert.Sure(t, err)
		assert.Exactly(t, "value", got, 8)

		_, err = once.NewValue(c, "k", func(context.Context) (string, error) { return "", nil }).Get(w.ctx)
		if err == nil || !strings.Contains(err.Error(), "once/k") {
			t.Errorf("a number as a string: %v", err)
		}
		_, err = once.NewValue(c, "func", func(context.Context) (func(), error) { return func() {}, nil }, once.WithVolatile()).Get(w.ctx)
		if err == nil {
			t.Error("a function was encoded")
		}
		_, err = once.NewValue(c, "large", func(context.Context) ([]byte, error) { return make([]byte, 60_000), nil }, once.WithVolatile()).Get(w.ctx)
		var size *locker.SizeError
		if !errors.As(err, &size) || size.Size != 80_002 || size.Max <= 65_000 || size.Max >= 64<<10 {
			t.Errorf("too large: %v", err)
		}

		// Bytes are base64 in quotes. How many fit depends on the holder's name,
		// which stands in the record and is as long as the machine's name wants.
		fits := (size.Max - 2) / 4 * 3
		_, err = once.NewValue(c, "large", func(context.Context) ([]byte, error) { return make([]byte, fits+1), nil }, once.WithVolatile()).Get(w.ctx)
		assert.Exactly(t, "a byte more than fits is too large", errors.As(err, &size), true)
		_, err = once.NewValue(c, "large", func(context.Context) ([]byte, error) { return make([]byte, fits), nil }, once.WithVolatile()).Get(w.ctx)
		assert.Sure(t, err)
	})
}

type gobs struct{}

func (gobs) Marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	err := gob.NewEncoder(&b).Encode(v)
	return b.Bytes(), err
}

func (gobs) Unmarshal(data []byte, v any) error {
	return gob.NewDecoder(bytes.NewReader(data)).Decode(v)
}

// TestValueExpires, and is encoded as the option says.
func TestValueExpires(t *testing.T) {
	bubble(t, func(w *world) {
		var runs atomic.Int64
		compute := func(context.Context) (int64, error) { return runs.Add(1), nil }
		opts := []once.Option{once.WithExpiry(time.Hour), once.WithEncoding(gobs{}), once.WithFingerprint("\n")}
		a, b := once.NewValue(w.process(), "k", compute, opts...), once.NewValue(w.process(), "k", compute, opts...)
		for want := range int64(3) {
			for _, v := range []*once.Value[int64]{a, b, a} {
				got, err := v.Get(w.ctx)
				assert.Sure(t, err)
				assert.Exactly(t, "value", got, want+1)
			}
			time.Sleep(time.Hour)
		}
	})
}
