package mutex_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

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

// matches checks that an error matches all the given ones.
func matches(t testing.TB, err error, wants ...error) {
	t.Helper()
	for _, want := range wants {
		if !errors.Is(err, want) {
			t.Errorf("the error is %v, want it to match %q", err, want)
		}
	}
}

// matchesNot checks that an error matches none of the given ones.
func matchesNot(t testing.TB, err error, unwanted ...error) {
	t.Helper()
	for _, u := range unwanted {
		if errors.Is(err, u) {
			t.Errorf("the error %v matches %q", err, u)
		}
	}
}

// sure checks that there is no error.
func sure(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// exactly compares two values.
func exactly[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
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
	sure(t, err)
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
