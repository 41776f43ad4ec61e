package once_test

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/leaktest"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/memory"
	"github.com/distributed-go/distributed/once"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

const ttl = 10 * time.Second

// A world is a lock server and its clients, each of which stands for a process, in
// a bubble of virtual time.
type world struct {
	*testing.T
	server *memory.Server
	ctx    context.Context
}

// bubble runs f in a world. At the end no goroutine, lease or waiter may be left.
func bubble(t *testing.T, f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		f(w)
		w.server.Thaw()
		synctest.Wait()
		if held := w.held(); held != "" {
			t.Errorf("left at the end:%s", held)
		}
	})
}

func newWorld(t *testing.T) *world {
	return &world{T: t, server: memory.NewServer(), ctx: t.Context()}
}

// held lists the keys that somebody holds or waits for.
func (w *world) held() (s string) {
	b := w.server.Backend()
	defer b.Close()
	r, err := b.Inspect(context.Background())
	if err != nil {
		w.Fatal(err)
	}
	for _, k := range r.Keys {
		if k.Holders+k.Waiters > 0 {
			s += fmt.Sprintf(" %s: %d held, %d wait;", k.Key, k.Holders, k.Waiters)
		}
	}
	return s
}

// process returns a new client of the server.
func (w *world) process() *locker.Client {
	c, _ := w.spied()
	return c
}

// spied returns a new client of the server, and what stands between the two.
func (w *world) spied() (*locker.Client, *spy) {
	s := &spy{Backend: w.server.Backend(), calls: make(map[string]int)}
	c := locker.New(s, locker.WithTTL(ttl), locker.WithLogger(slog.New(slog.DiscardHandler)))
	w.Cleanup(func() { c.Close() })
	return c, s
}

// A spy is a backend that counts calls, and whose answers a test may change. What
// is nil is the backend's own.
type spy struct {
	*memory.Backend

	mu    sync.Mutex
	calls map[string]int
	put   func(ctx context.Context, h locker.Hold, data []byte, keep time.Duration) (uint64, error)
	get   func() error
	shelf func() (locker.Shelf, error)
	renew func(ctx context.Context, rs []locker.Renewal)

	release func(ctx context.Context, h locker.Hold) error
	linger  time.Duration // of an Acquire that was cancelled
}

func (s *spy) Acquire(ctx context.Context, req locker.Request) (locker.Grant, error) {
	g, err := s.Backend.Acquire(ctx, req)
	s.mu.Lock()
	linger := s.linger
	s.mu.Unlock()
	if err != nil {
		time.Sleep(linger)
	}
	return g, err
}

func (s *spy) count(op string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[op]++
}

// of returns how often a method was called.
func (s *spy) of(op string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[op]
}

// set changes answers.
func (s *spy) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

func (s *spy) Put(ctx context.Context, h locker.Hold, data []byte, keep time.Duration) (uint64, error) {
	s.count("put")
	s.mu.Lock()
	script := s.put
	s.mu.Unlock()
	if script != nil {
		return script(ctx, h, data, keep)
	}
	return s.Backend.Put(ctx, h, data, keep)
}

func (s *spy) Get(ctx context.Context, key string) (locker.Value, error) {
	s.count("get")
	s.mu.Lock()
	script := s.get
	s.mu.Unlock()
	if script != nil {
		if err := script(); err != nil {
			return locker.Value{}, err
		}
	}
	return s.Backend.Get(ctx, key)
}

func (s *spy) Shelf(ctx context.Context, key string) (locker.Shelf, error) {
	s.count("shelf")
	s.mu.Lock()
	script := s.shelf
	s.mu.Unlock()
	if script != nil {
		return script()
	}
	return s.Backend.Shelf(ctx, key)
}

func (s *spy) Join(ctx context.Context, req locker.Request, fresh time.Duration) (locker.Grant, *locker.Value, error) {
	s.count("join")
	return s.Backend.Join(ctx, req, fresh)
}

func (s *spy) Renew(ctx context.Context, rs []locker.Renewal) {
	s.mu.Lock()
	script := s.renew
	s.mu.Unlock()
	if script != nil {
		script(ctx, rs)
		return
	}
	s.Backend.Renew(ctx, rs)
}

func (s *spy) Release(ctx context.Context, h locker.Hold) error {
	s.mu.Lock()
	script := s.release
	s.mu.Unlock()
	if script != nil {
		return script(ctx, h)
	}
	return s.Backend.Release(ctx, h)
}

// freeze lets no renewal of the client come through any more.
func (s *spy) freeze() {
	s.set(func() {
		s.renew = func(ctx context.Context, rs []locker.Renewal) {
			<-ctx.Done()
			for i := range rs {
				rs[i].Err = fmt.Errorf("%w: %w", locker.ErrUnavailable, ctx.Err())
			}
		}
	})
}

// durable makes the server say that it forgets nothing.
func (s *spy) durable() {
	s.set(func() {
		s.shelf = func() (locker.Shelf, error) { return locker.Shelf{Durable: true, MaxSize: 64 << 10}, nil }
	})
}

// A stock is a backend that keeps no values, as a stock dflockd server.
type stock struct{ locker.Backend }

// stockProcess returns a new client of the server that can only lock.
func (w *world) stockProcess() *locker.Client {
	c := locker.New(stock{w.server.Backend()}, locker.WithTTL(ttl), locker.WithLogger(slog.New(slog.DiscardHandler)))
	w.Cleanup(func() { c.Close() })
	return c
}

// A table is a Store as a table of a database would be one.
type table struct {
	mu   sync.Mutex
	rows map[string]row
	fail error // of the next Save, which saves all the same
	load error

	before func() // of the next Save
}

type row struct {
	record []byte
	fence  uint64
}

func newTable() *table { return &table{rows: make(map[string]row)} }

func (t *table) Load(_ context.Context, key string) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.rows[key].record, t.load
}

func (t *table) Save(_ context.Context, key string, record []byte, fence uint64, _ time.Duration) error {
	t.mu.Lock()
	before := t.before
	t.before = nil
	t.mu.Unlock()
	if before != nil {
		before()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if fence < t.rows[key].fence {
		return once.ErrStale
	}
	t.rows[key] = row{record: record, fence: fence}
	err := t.fail
	t.fail = nil
	return err
}

func succeed(context.Context) error { return nil }
