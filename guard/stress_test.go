package guard

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// A resource is something guarded, with a record of what reached it.
type resource struct {
	// write writes under the guard, with the fence.
	write func(ctx context.Context, fence uint64) error

	mu      sync.Mutex
	written []uint64 // the fences of the writes, in the order in which they took effect; guarded by mu
}

func (r *resource) wrote(fence uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.written = append(r.written, fence)
}

// late returns how many writes came after one with a larger fence.
func (r *resource) late() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var largest uint64
	for _, f := range r.written {
		if f < largest {
			n++
		}
		largest = max(largest, f)
	}
	return n
}

// A kind makes a resource. lag takes some time, between any two steps.
type kind func(t *testing.T, lag func()) *resource

// campaign lets holders with growing fences, some of whom pause, write to a
// resource in virtual time, and returns it and how many writes were refused.
func campaign(t *testing.T, open kind, seed uint64) (r *resource, refused int64) {
	const holders, rounds, writes = 6, 6, 3
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // a seed is what we want
		lag := func() {
			mu.Lock()
			d := time.Duration(random.IntN(1000)) * time.Microsecond
			if random.IntN(10) == 0 {
				d *= 20 // a pause
			}
			mu.Unlock()
			time.Sleep(d)
		}
		r = open(t, lag)
		var fences atomic.Uint64
		var stale atomic.Int64
		var all sync.WaitGroup
		for range holders {
			all.Go(func() {
				for range rounds {
					fence := fences.Add(1)
					for range writes {
						lag()
						switch err := r.write(t.Context(), fence); {
						case errors.Is(err, ErrStale):
							stale.Add(1)
						case err != nil:
							t.Errorf("fence %d: %v", fence, err)
						}
					}
				}
			})
		}
		all.Wait()
		refused = stale.Load()
		if got, want := int64(len(r.written))+refused, int64(holders*rounds*writes); got != want {
			t.Errorf("%d writes went through and %d were refused, want %d in all", len(r.written), refused, want)
		}
	})
	return r, refused
}

const seeds = 20

var guarded = map[string]kind{
	"store":      storeKind(func(s Store) Store { return s }),
	"handler":    handlerKind(func(h *Handler) http.Handler { return h }),
	"postgresql": tableKind(checkedWrite(Table{})),
	"mysql":      tableKind(checkedWrite(Table{Dialect: MySQL})),
	"sqlite":     tableKind(checkedWrite(Table{Dialect: SQLite})),
	"file":       fileKind(func(ctx context.Context, f File, fence uint64, data []byte) error { return f.Write(ctx, fence, data) }),
}

func TestNoSmallerFenceAfterALarger(t *testing.T) {
	for name, kind := range guarded {
		t.Run(name, func(t *testing.T) {
			var went, refused int64
			for seed := range uint64(seeds) {
				r, n := campaign(t, kind, seed)
				if late := r.late(); late > 0 {
					t.Errorf("seed %d: %d of %d writes came late: %v", seed, late, len(r.written), r.written)
				}
				went, refused = went+int64(len(r.written)), refused+n
			}
			t.Logf("%d writes accepted, %d refused", went, refused)
			if went == 0 || refused == 0 {
				t.Error("a campaign in which not both happens tests nothing")
			}
		})
	}
}

// The same campaigns must catch guards that check and write in two steps, each
// in the way in which it could come about.
var broken = map[string]kind{
	"a store whose swap does not compare":          storeKind(func(s Store) Store { return careless{s} }),
	"a store whose version is a hash of the value": storeKind(func(s Store) Store { return hashed{s} }),
	"a handler that checks and then serves":        handlerKind(checkThenServe),
	"a file that is checked and then replaced":     fileKind(checkThenReplace),
	"SQL that selects, compares and updates":       tableKind(selectThenUpdate),
	"a check in a transaction of its own":          tableKind(checkApart),
	"a read of MySQL's snapshot":                   tableKind(readSnapshot),
	"no guard":                                     func(_ *testing.T, lag func()) *resource { return unguarded(lag) },
}

func TestTheCampaignsCatchBrokenGuards(t *testing.T) {
	for name, kind := range broken {
		t.Run(name, func(t *testing.T) {
			caught, late := 0, 0
			for seed := range uint64(seeds) {
				r, _ := campaign(t, kind, seed)
				if n := r.late(); n > 0 {
					caught, late = caught+1, late+n
				}
			}
			t.Logf("caught in %d of %d campaigns, %d late writes", caught, seeds, late)
			if caught == 0 {
				t.Error("not caught")
			}
		})
	}
}

func unguarded(lag func()) *resource {
	r := new(resource)
	r.write = func(_ context.Context, fence uint64) error {
		lag()
		r.wrote(fence)
		return nil
	}
	return r
}

// storeKind makes resources of Write on a Memory as seen through wrap.
func storeKind(wrap func(Store) Store) kind {
	return func(_ *testing.T, lag func()) *resource {
		r := new(resource)
		s := &watched{Store: wrap(new(Memory)), r: r, lag: lag}
		r.write = func(ctx context.Context, fence uint64) error {
			return Write(ctx, s, "k", fence, []byte("v"))
		}
		return r
	}
}

// watched is a store at a distance, which reports what was swapped in.
type watched struct {
	Store
	r   *resource
	lag func()
}

func (w *watched) Load(ctx context.Context, key string) (Record, error) {
	w.lag()
	defer w.lag()
	return w.Store.Load(ctx, key)
}

func (w *watched) CompareAndSwap(ctx context.Context, key, old string, next Record) (bool, error) {
	w.lag()
	defer w.lag()
	w.r.mu.Lock()
	defer w.r.mu.Unlock()
	swapped, err := w.Store.CompareAndSwap(ctx, key, old, next)
	if swapped {
		w.r.written = append(w.r.written, next.Fence)
	}
	return swapped, err
}

// careless swaps without comparing.
type careless struct{ Store }

func (c careless) CompareAndSwap(ctx context.Context, key, _ string, next Record) (bool, error) {
	r, err := c.Load(ctx, key)
	if err != nil {
		return false, err
	}
	return c.Store.CompareAndSwap(ctx, key, r.Version, next)
}

// hashed has versions that say nothing of the fence, as S3's ETag with the fence
// in metadata.
type hashed struct{ Store }

func (h hashed) Load(ctx context.Context, key string) (Record, error) {
	r, err := h.Store.Load(ctx, key)
	r.Version = string(r.Value)
	return r, err
}

func (h hashed) CompareAndSwap(ctx context.Context, key, old string, next Record) (bool, error) {
	r, err := h.Store.Load(ctx, key)
	if err != nil || string(r.Value) != old {
		return false, err
	}
	return h.Store.CompareAndSwap(ctx, key, r.Version, next)
}

// handlerKind makes resources behind HTTP. The handler itself knows no fences.
func handlerKind(wrap func(*Handler) http.Handler) kind {
	return func(t *testing.T, lag func()) *resource {
		r := new(resource)
		server := wrap(&Handler{Next: http.HandlerFunc(func(_ http.ResponseWriter, req *http.Request) {
			lag()
			fence, err := strconv.ParseUint(req.URL.Query().Get("fence"), 10, 64)
			if err != nil {
				t.Error(err)
			}
			r.wrote(fence)
			lag()
		})})
		r.write = func(ctx context.Context, fence uint64) error {
			req := httptest.NewRequestWithContext(ctx, http.MethodPut, "/?fence="+strconv.FormatUint(fence, 10), nil)
			if err := SetHeader(req, hold{"k", fence}); err != nil {
				return err
			}
			w := httptest.NewRecorder()
			server.ServeHTTP(w, req)
			answer := w.Result()
			answer.Request = req
			return ResponseError(answer)
		}
		return r
	}
}

func checkThenServe(h *Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, err := h.claim(r)
		if err == nil {
			err = Check(r.Context(), h.store(), c.key, c.fence)
		}
		if err != nil {
			refuse(w, statusOf(err), err)
			return
		}
		h.Next.ServeHTTP(w, r)
	})
}

// hold is a Lease for tests; a fence of 0 is none.
type hold struct {
	key   string
	fence uint64
}

func (h hold) Key() string           { return h.key }
func (h hold) Fence() (uint64, bool) { return h.fence, h.fence != 0 }
