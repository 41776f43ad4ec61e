package memory_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/locker/lockertest"
	"github.com/distributed-go/distributed/memory"
)

// A mutant is a Backend that does one thing wrong with values or joins. Those of
// one server share what they need to know.
type mutant struct {
	*memory.Backend
	shared *mutants
	mutation
}

// A mutation replaces calls; nil is none.
type mutation struct {
	put    func(m *mutant, ctx context.Context, h locker.Hold, data []byte, keep time.Duration) (uint64, error)
	get    func(m *mutant, ctx context.Context, key string) (locker.Value, error)
	remove func(m *mutant, ctx context.Context, h locker.Hold) error
	join   func(m *mutant, ctx context.Context, r locker.Request, fresh time.Duration) (locker.Grant, *locker.Value, error)
	close  func(m *mutant) error
}

type mutants struct {
	server *memory.Server
	mu     sync.Mutex
	values map[string]locker.Value // the last that was read of each key; guarded by mu
	put    map[string]locker.Hold  // the last that put under each key; guarded by mu
}

func (m *mutant) Put(ctx context.Context, h locker.Hold, data []byte, keep time.Duration) (uint64, error) {
	if m.put != nil {
		return m.put(m, ctx, h, data, keep)
	}
	return m.Backend.Put(ctx, h, data, keep)
}

func (m *mutant) Get(ctx context.Context, key string) (locker.Value, error) {
	if m.get != nil {
		return m.get(m, ctx, key)
	}
	return m.Backend.Get(ctx, key)
}

func (m *mutant) Remove(ctx context.Context, h locker.Hold) error {
	if m.remove != nil {
		return m.remove(m, ctx, h)
	}
	return m.Backend.Remove(ctx, h)
}

func (m *mutant) Join(ctx context.Context, r locker.Request, fresh time.Duration) (locker.Grant, *locker.Value, error) {
	if m.join != nil {
		return m.join(m, ctx, r, fresh)
	}
	return m.Backend.Join(ctx, r, fresh)
}

func (m *mutant) Close() error {
	if m.close != nil {
		return m.close(m)
	}
	return m.Backend.Close()
}

// remembered returns the last value that was read of a key, if there is one, and
// reads it otherwise.
func (m *mutant) remembered(ctx context.Context, key string, only func(locker.Value, error) bool) (locker.Value, error) {
	v, err := m.Backend.Get(ctx, key)
	m.shared.mu.Lock()
	defer m.shared.mu.Unlock()
	old, ok := m.shared.values[key]
	if ok && only(old, err) {
		return old, nil
	}
	if err == nil {
		m.shared.values[key] = v
	}
	return v, err
}

// catches says which case of the suite catches which mutation.
var catches = map[string]struct {
	mutation
	by string
}{
	"a put without a hold is said to be done": {mutation{put: func(m *mutant, ctx context.Context, h locker.Hold, data []byte, keep time.Duration) (uint64, error) {
		f, err := m.Backend.Put(ctx, h, data, keep)
		if errors.Is(err, locker.ErrNotHeld) {
			return 1, nil
		}
		return f, err
	}}, "putByHolder"},
	"who put before may do so for ever": {mutation{put: func(m *mutant, ctx context.Context, h locker.Hold, data []byte, keep time.Duration) (uint64, error) {
		f, err := m.Backend.Put(ctx, h, data, keep)
		m.shared.mu.Lock()
		defer m.shared.mu.Unlock()
		if errors.Is(err, locker.ErrNotHeld) && m.shared.put[h.Key] == h {
			return 1, nil
		}
		m.shared.put[h.Key] = h
		return f, err
	}}, "putTooLate"},
	"who lost its lease may remove": {mutation{remove: func(m *mutant, ctx context.Context, h locker.Hold) error {
		if err := m.Backend.Remove(ctx, h); !errors.Is(err, locker.ErrNotHeld) {
			return err
		}
		return nil
	}}, "putTooLate"},
	"a put has the fence of its hold": {mutation{put: func(m *mutant, ctx context.Context, h locker.Hold, data []byte, keep time.Duration) (uint64, error) {
		f, err := m.Backend.Put(ctx, h, data, keep)
		return f - 1, err
	}}, "values"},
	"receivers share the data": {mutation{get: func(m *mutant, ctx context.Context, key string) (locker.Value, error) {
		return m.remembered(ctx, key, func(old locker.Value, err error) bool { return err == nil && len(old.Data) > 0 })
	}}, "values"},
	"the age is that of the server": {mutation{get: func(m *mutant, ctx context.Context, key string) (locker.Value, error) {
		v, err := m.Backend.Get(ctx, key)
		v.Age += time.Hour
		return v, err
	}}, "values"},
	"an empty value is none": {mutation{get: func(m *mutant, ctx context.Context, key string) (locker.Value, error) {
		v, err := m.Backend.Get(ctx, key)
		if err == nil && len(v.Data) == 0 {
			return v, locker.ErrNoValue
		}
		return v, err
	}}, "values"},
	"values never go": {mutation{put: func(m *mutant, ctx context.Context, h locker.Hold, data []byte, _ time.Duration) (uint64, error) {
		return m.Backend.Put(ctx, h, data, 0)
	}}, "valueExpires"},
	"values go early": {mutation{put: func(m *mutant, ctx context.Context, h locker.Hold, data []byte, keep time.Duration) (uint64, error) {
		return m.Backend.Put(ctx, h, data, keep/2)
	}}, "valueExpires"},
	"the time of a value outlives it": {mutation{put: func(m *mutant, ctx context.Context, h locker.Hold, data []byte, keep time.Duration) (uint64, error) {
		f, err := m.Backend.Put(ctx, h, data, keep)
		if keep > 0 {
			time.AfterFunc(keep, func() { m.Backend.Remove(context.Background(), h) }) //nolint:errcheck // a mutant
		}
		return f, err
	}}, "valueExpires"},
	"too much is cut off": {mutation{put: func(m *mutant, ctx context.Context, h locker.Hold, data []byte, keep time.Duration) (uint64, error) {
		return m.Backend.Put(ctx, h, data[:min(len(data), 64<<10)], keep)
	}}, "valueSize"},
	"the error of the size has none": {mutation{put: func(m *mutant, ctx context.Context, h locker.Hold, data []byte, keep time.Duration) (uint64, error) {
		f, err := m.Backend.Put(ctx, h, data, keep)
		if errors.Is(err, locker.ErrTooLarge) {
			err = locker.ErrTooLarge
		}
		return f, err
	}}, "valueSize"},
	"what was removed is there": {mutation{get: func(m *mutant, ctx context.Context, key string) (locker.Value, error) {
		if _, err := m.remembered(ctx, key, func(locker.Value, error) bool { return false }); err == nil {
			return m.Backend.Get(ctx, key)
		}
		return locker.Value{Data: []byte("v")}, nil
	}}, "valueRemoved"},
	"a put that was given up comes back": {mutation{put: func(m *mutant, ctx context.Context, h locker.Hold, data []byte, keep time.Duration) (uint64, error) {
		f, err := m.Backend.Put(ctx, h, data, keep)
		if errors.Is(err, context.DeadlineExceeded) {
			go func() {
				if m.Backend.Renew(context.Background(), nil); true { // once the server answers
					time.Sleep(10 * time.Millisecond)
					m.Backend.Put(context.Background(), h, data, keep) //nolint:errcheck // a mutant
				}
			}()
		}
		return f, err
	}}, "putInAFreeze"},
	"a join takes any value": {mutation{join: func(m *mutant, ctx context.Context, r locker.Request, _ time.Duration) (locker.Grant, *locker.Value, error) {
		return m.Backend.Join(ctx, r, locker.AnyAge)
	}}, "joinLeads"},
	"a join takes no value that is there": {mutation{join: func(m *mutant, ctx context.Context, r locker.Request, _ time.Duration) (locker.Grant, *locker.Value, error) {
		return m.Backend.Join(ctx, r, 0)
	}}, "joinFresh"},
	"a join is never answered": {mutation{join: func(m *mutant, ctx context.Context, r locker.Request, _ time.Duration) (locker.Grant, *locker.Value, error) {
		g, err := m.Backend.Acquire(ctx, r)
		return g, nil, err
	}}, "joinAnswered"},
	"who leads gets a value too": {mutation{join: func(m *mutant, ctx context.Context, r locker.Request, fresh time.Duration) (locker.Grant, *locker.Value, error) {
		g, v, err := m.Backend.Join(ctx, r, fresh)
		if err == nil && v == nil {
			v = &locker.Value{}
		}
		return g, v, err
	}}, "joinHandsOver"},
	"a join gives up when a leader dies": {mutation{join: func(m *mutant, ctx context.Context, r locker.Request, fresh time.Duration) (locker.Grant, *locker.Value, error) {
		short, cancel := context.WithTimeout(ctx, r.TTL/50)
		defer cancel()
		return m.Backend.Join(short, r, fresh)
	}}, "joinLeaderDies"},
	"a join polls": {mutation{join: func(m *mutant, ctx context.Context, r locker.Request, fresh time.Duration) (locker.Grant, *locker.Value, error) {
		for r.Try = true; ; {
			g, v, err := m.Backend.Join(ctx, r, fresh)
			if !errors.Is(err, locker.ErrLocked) {
				return g, v, err
			}
			select {
			case <-time.After(time.Millisecond):
			case <-ctx.Done():
				return locker.Grant{}, nil, ctx.Err()
			}
		}
	}}, "joinInOrder"},
	"a cancelled join leaks": {mutation{join: func(m *mutant, ctx context.Context, r locker.Request, fresh time.Duration) (locker.Grant, *locker.Value, error) {
		over := make(chan struct{})
		var g locker.Grant
		var v *locker.Value
		var err error
		go func() {
			g, v, err = m.Backend.Join(context.WithoutCancel(ctx), r, fresh)
			close(over)
		}()
		select {
		case <-over:
			return g, v, err
		case <-ctx.Done():
			return locker.Grant{}, nil, ctx.Err()
		}
	}}, "joinCancelLeaksNothing"},
	"Close leaves joins alone": {mutation{
		join: func(m *mutant, ctx context.Context, r locker.Request, fresh time.Duration) (locker.Grant, *locker.Value, error) {
			return m.shared.server.Backend().Join(ctx, r, fresh)
		},
	}, "joinCloses"},
}

// mutantOf says to the test in the other process which mutation to run.
const mutantOf = "MEMORY_TEST_MUTANT"

// TestSuiteCatches runs the suite on backends that do something wrong, each in a
// process of its own, because a case that fails is to be seen there and not here.
func TestSuiteCatches(t *testing.T) {
	if name, other := os.LookupEnv(mutantOf); other {
		runMutant(t, catches[name].mutation)
		return
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	play := func(name, by string) (string, error) {
		cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestSuiteCatches$/^"+by+"$", "-test.v") //nolint:gosec // this very test
		cmd.Env = append(os.Environ(), mutantOf+"="+name)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, name := range slices.Sorted(maps.Keys(catches)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			by := catches[name].by
			out, err := play(name, by)
			var exit *exec.ExitError
			if !errors.As(err, &exit) || !strings.Contains(out, "--- FAIL: TestSuiteCatches/"+by) || strings.Contains(out, "panic:") {
				t.Fatalf("%s does not catch it: %v\n%s", by, err, out)
			}
		})
	}
	t.Run("nothing without a mutation", func(t *testing.T) {
		t.Parallel()
		out, err := play("none", ".*")
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for _, c := range catches {
			if !strings.Contains(out, "--- PASS: TestSuiteCatches/"+c.by+" ") {
				t.Errorf("%s did not run", c.by)
			}
		}
	})
}

func runMutant(t *testing.T, m mutation) {
	lockertest.Run(t, lockertest.Harness{
		Start: func(t *testing.T) lockertest.Env {
			s := memory.NewServer()
			shared := &mutants{server: s, values: make(map[string]locker.Value), put: make(map[string]locker.Hold)}
			return lockertest.Env{
				Backend:    func() locker.Backend { return &mutant{s.Backend(), shared, m} },
				Disconnect: func(b locker.Backend) { b.(*mutant).Disconnect() },
				Freeze:     s.Freeze,
				Thaw:       s.Thaw,
			}
		},
		Bubble: true,
		TTL:    time.Second,
		Fences: true, Semaphores: true, Weights: true, Queue: true,
		HandOver: true, Force: true, Holders: true, Values: true,
	})
}
