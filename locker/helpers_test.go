package locker_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distributed-go/distributed/locker"
)

// newClient returns a Client that is closed at the end of the test. It logs
// nothing unless the options say otherwise.
func newClient(t testing.TB, f locker.Backend, opts ...locker.Option) *locker.Client {
	t.Helper()
	c := locker.New(f, append([]locker.Option{locker.WithTTL(10 * time.Second), locker.WithLogger(slog.New(slog.DiscardHandler))}, opts...)...)
	t.Cleanup(func() { c.Close() })
	return c
}

// acquire acquires a key or ends the test.
func acquire(t testing.TB, c *locker.Client, key string, opts ...locker.Option) *locker.Lease {
	t.Helper()
	l, err := c.Acquire(context.Background(), key, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// closed says whether a channel is closed.
func closed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

// A logbook is a slog.Handler that keeps what is logged.
type logbook struct {
	slog.Handler
	mu    sync.Mutex
	lines []string
}

func newLogbook() *logbook { return &logbook{Handler: slog.DiscardHandler} }

func (b *logbook) Enabled(context.Context, slog.Level) bool { return true }

func (b *logbook) Handle(_ context.Context, r slog.Record) error {
	line := r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool {
		line += fmt.Sprintf(" %s=%v", a.Key, a.Value)
		return true
	})
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, line)
	return nil
}

func newLogger(b *logbook) *slog.Logger { return slog.New(b) }

// with counts the lines that contain a text.
func (b *logbook) with(text string) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, l := range b.lines {
		if strings.Contains(l, text) {
			n++
		}
	}
	return n
}

// A record keeps values of callbacks.
type record[T any] struct {
	mu   sync.Mutex
	list []T
}

func (r *record[T]) add(v T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, v)
}

func (r *record[T]) all() []T {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.list)
}
