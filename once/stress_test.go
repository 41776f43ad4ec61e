package once_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/once"
)

// A span is when a function ran that a flight was about, and where.
type span struct {
	process    int
	began, end time.Duration
	put        time.Duration // when the backend had the result, or refused it; 0 before
}

// spans are the runs of a test by their number, which is their result.
type spans struct {
	start time.Time

	mu   sync.Mutex
	runs []span // guarded by mu
}

func (s *spans) now() time.Duration { return time.Since(s.start) }

// fn returns a function that takes a while at random, in virtual or real time.
func (s *spans) fn(process int, took time.Duration) func(context.Context) (int64, error) {
	return func(context.Context) (int64, error) {
		began := s.now()
		time.Sleep(took)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.runs = append(s.runs, span{process: process, began: began, end: s.now()})
		return int64(len(s.runs) - 1), nil
	}
}

// put notes when the backend had, or refused, a record.
func (s *spans) put(record []byte) {
	_, data, _ := bytes.Cut(record, []byte{'\n'})
	n, err := strconv.Atoi(string(data))
	if err != nil {
		return // of a failure
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runs[n].put = s.now()
}

// some returns a time from 0 to d.
func some(r *rand.Rand, d time.Duration) time.Duration { return time.Duration(r.Int64N(int64(d))) }

// TestNobodyGetsAnOldResult of callers that come and go at random in several
// processes, whose puts take a while: in the process that ran it a result is for
// those who came before its function returned, and elsewhere for those who came
// before the put was answered. Some give up at odd times, alone and all at once, and
// some puts have no answer, and come through a while later or not. One run is at a
// time.
func TestNobodyGetsAnOldResult(t *testing.T) {
	for seed := range uint64(100) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble(t, func(w *world) {
				random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // a test repeats itself
				s := &spans{start: time.Now()}
				var wg sync.WaitGroup
				for process := range 4 {
					c, spy := w.spied()
					late := rand.New(rand.NewPCG(seed, uint64(process)+1)) //nolint:gosec // as above
					var mu sync.Mutex
					spy.put = func(ctx context.Context, h locker.Hold, data []byte, keep time.Duration) (uint64, error) {
						mu.Lock()
						before, after, fate := some(late, 25*time.Millisecond), some(late, 25*time.Millisecond), late.IntN(12)
						if fate < 2 {
							before = some(late, 3*time.Second)
						}
						mu.Unlock()
						put := func() (uint64, error) {
							time.Sleep(before)
							defer s.put(data)
							return spy.Backend.Put(context.WithoutCancel(ctx), h, data, keep)
						}
						if fate == 0 { // the answer is lost
							wg.Go(func() { _, _ = put() })
							<-ctx.Done()
							return 0, ctx.Err()
						}
						fence, err := put()
						time.Sleep(after)
						return fence, err
					}
					g := once.NewGroup[int64](c, "g")
					for range 50 {
						came, took, patience := some(random, 5*time.Second), some(random, 200*time.Millisecond), some(random, 10*time.Second)
						if random.IntN(2) == 0 {
							patience = some(random, 150*time.Millisecond)
						}
						wg.Go(func() {
							time.Sleep(came)
							ctx, cancel := context.WithTimeout(w.ctx, patience)
							defer cancel()
							at := s.now()
							n, _, err := g.Do(ctx, "k", s.fn(process, took))
							if err != nil {
								assert.Matches(t, err, context.DeadlineExceeded)
								return
							}
							s.mu.Lock()
							run := s.runs[n]
							s.mu.Unlock()
							until := run.end
							if run.process != process {
								until = cmp.Or(run.put, s.now()) // it is noted a moment after it was handed out
							}
							if at > until {
								t.Errorf("process %d: who came at %v got the result of %+v", process, at, run)
							}
						})
					}
				}
				wg.Wait()
				time.Sleep(5 * time.Second) // flights whose callers have given up end by themselves
				s.mu.Lock()
				defer s.mu.Unlock()
				for i, run := range s.runs[1:] {
					if run.began < s.runs[i].end {
						t.Errorf("%+v and %+v ran at the same time", s.runs[i], run)
					}
				}
			})
		})
	}
}

// TestOneMarkWhateverHappens: runners fail, panic, give up, lose their connection
// and hang at random, and one of them marks.
func TestOneMarkWhateverHappens(t *testing.T) {
	for seed := range uint64(100) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble(t, func(w *world) {
				random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // a test repeats itself
				var mu sync.Mutex
				marks := make(map[string]bool)
				var wg sync.WaitGroup
				for process := range 6 {
					c, spy := w.spied()
					spy.put = func(ctx context.Context, h locker.Hold, data []byte, keep time.Duration) (uint64, error) {
						fence, err := spy.Backend.Put(ctx, h, data, keep)
						if err == nil {
							mu.Lock()
							defer mu.Unlock()
							marks[string(data)] = true
						}
						return fence, err
					}
					o := once.New(c, "k", once.WithVolatile())
					for range 5 {
						came, took, fate := some(random, time.Minute), some(random, 30*time.Second), random.IntN(8)
						patience := time.Hour
						if random.IntN(4) == 0 {
							patience = some(random, time.Minute)
						}
						wg.Go(func() {
							time.Sleep(came)
							ctx, cancel := context.WithTimeout(w.ctx, patience)
							defer cancel()
							defer func() { _ = recover() }()
							err := o.Do(ctx, func(ctx context.Context) error {
								switch time.Sleep(took); fate {
								case 0:
									return errors.New("failed")
								case 1:
									panic("panicked")
								case 2:
									spy.Disconnect()
								case 3:
									spy.freeze()
									time.Sleep(time.Minute) // whatever ctx says
									spy.set(func() { spy.renew = nil })
								}
								return nil
							})
							done, doneErr := o.Done(w.ctx)
							assert.Sure(t, doneErr)
							if err == nil && !done {
								t.Errorf("process %d: Do returned nil, and it is not done", process)
							}
						})
					}
				}
				wg.Wait()
				o := once.New(w.process(), "k")
				done, err := o.Done(w.ctx)
				assert.Sure(t, err)
				assert.Exactly(t, "done", done, len(marks) == 1)
				if len(marks) > 1 {
					t.Errorf("%d marks were written", len(marks))
				}
			})
		})
	}
}

// TestManyGroupsAtOnce in real time, for the race detector: different keys, callers
// that give up, Forget.
func TestManyGroupsAtOnce(t *testing.T) {
	w := newWorld(t)
	var wg sync.WaitGroup
	for range 4 {
		g := once.NewGroup[int64](w.process(), "g")
		for i := range 16 {
			wg.Go(func() {
				key := fmt.Sprint("k", i%4)
				for n := range 30 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Duration(rand.Int64N(int64(20*time.Millisecond)))) //nolint:gosec // any will do
					if n%10 == 9 {
						g.Forget(key)
					}
					_, _, err := g.Do(ctx, key, func(ctx context.Context) (int64, error) { return 1, ctx.Err() })
					var remote *once.RemoteError
					if err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) && !errors.As(err, &remote) {
						t.Error(err)
					}
					cancel()
				}
			})
		}
	}
	wg.Wait()
}
