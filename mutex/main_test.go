package mutex_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/internal/leaktest"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/memory"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

const ttl = 10 * time.Second

// newClient returns a client of the server that is closed at the end of the
// test. It logs nothing unless the options say otherwise.
func newClient(t testing.TB, s *memory.Server, opts ...locker.Option) *locker.Client {
	t.Helper()
	quiet := locker.WithLogger(slog.New(slog.DiscardHandler))
	c := locker.New(s.Backend(), append([]locker.Option{locker.WithTTL(ttl), quiet}, opts...)...)
	t.Cleanup(func() { c.Close() })
	return c
}

// panics returns the error that f panics with.
func panics(t testing.TB, what string, f func()) (err error) {
	t.Helper()
	defer func() {
		t.Helper()
		r := recover()
		if r == nil {
			t.Errorf("%s: no panic", what)
		}
		if s, ok := r.(string); ok {
			r = errors.New(s)
		}
		err, _ = r.(error)
	}()
	f()
	return nil
}

// holders counts those who hold, and waiters those who wait, at the server.
func holders(t testing.TB, s *memory.Server) (holders, waiters int) {
	t.Helper()
	b := s.Backend()
	defer b.Close()
	r, err := b.Inspect(context.Background())
	assert.Sure(t, err)
	for _, k := range r.Keys {
		holders += k.Holders
		waiters += k.Waiters
	}
	return holders, waiters
}

// free checks that nobody holds and nobody waits.
func free(t testing.TB, s *memory.Server) {
	t.Helper()
	if h, w := holders(t, s); h != 0 || w != 0 {
		t.Errorf("%d hold and %d wait, want nobody", h, w)
	}
}

// within returns a context with a timeout that is cancelled at the end of the
// test.
func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}
