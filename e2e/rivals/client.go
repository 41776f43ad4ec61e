package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/distributed-go/distributed/internal/echo"
	"github.com/distributed-go/distributed/internal/measure"
	"github.com/distributed-go/distributed/internal/proc"
)

const (
	// onePairs is how many pairs one goroutine makes before the next system has
	// its turn.
	onePairs = 50
	// crowd is the number of goroutines where there are many, and few where
	// they fight for one key.
	crowd = 100
	few   = 16
)

// clientArgs is what a client process is told.
type clientArgs struct{ System, Addr string }

// A worker is what a client process works with.
type worker struct {
	pairs []measure.Pair // of each of the crowd
	fight measure.Fight
	rival rival // nil of the echo
	held  []holding
	close func() error
}

// clientRole is a process that uses one system.
func clientRole(c *proc.Child) error {
	var args clientArgs
	if err := c.Args(&args); err != nil {
		return err
	}
	s := find(args.System)
	if s == nil {
		return fmt.Errorf("no system is called %q", args.System)
	}
	w, err := newWorker(s, args.Addr)
	if err != nil {
		return err
	}
	ctx := context.Background()
	c.Handle("one", proc.Handle(func(n int) (measure.Block, error) { return measure.One(ctx, n, w.pairs[0]) }))
	c.Handle("many", proc.Handle(func(d time.Duration) (measure.Block, error) { return measure.Many(ctx, d, w.pairs) }))
	c.Handle("fight", proc.Handle(func(d time.Duration) (measure.Block, error) {
		if w.rival == nil { // the yardstick of hand-overs is one goroutine
			return measure.Many(ctx, d, w.pairs[:1])
		}
		return w.fight.Run(ctx, d)
	}))
	c.Handle("take", proc.Handle(w.take))
	c.Handle("release", proc.Handle(w.releaseAll))
	c.Handle("hold", proc.Handle(w.hold))
	c.Handle("lost", proc.Handle(w.lost))
	if err := c.Serve(nil); err != nil {
		return err
	}
	return w.close()
}

func newWorker(s *system, addr string) (*worker, error) {
	if s.dial == nil {
		return newEchoWorker(addr)
	}
	r, err := s.dial(addr)
	if err != nil {
		return nil, err
	}
	w := &worker{rival: r, close: r.close, pairs: make([]measure.Pair, crowd)}
	for g := range w.pairs {
		l, err := r.mutex(fmt.Sprintf("a-key-of-about-the-usual-length-%02d", g), false)
		if err != nil {
			return nil, err
		}
		w.pairs[g] = func(ctx context.Context) error {
			if err := l.Lock(ctx); err != nil {
				return err
			}
			return l.Unlock(ctx)
		}
	}
	for range few {
		l, err := r.mutex("the-one-key-that-everybody-wants", true)
		if err != nil {
			return nil, err
		}
		w.fight.Locks = append(w.fight.Locks, l)
	}
	return w, nil
}

func newEchoWorker(addr string) (*worker, error) {
	c, err := echo.Dial(addr)
	if err != nil {
		return nil, err
	}
	w := &worker{close: func() error { c.Close(); return nil }, pairs: make([]measure.Pair, crowd)}
	for g := range w.pairs {
		w.pairs[g] = func(context.Context) error {
			if err := c.RoundTrip(); err != nil {
				return err
			}
			return c.RoundTrip()
		}
	}
	return w, nil
}

// A heldReport is what many locks cost while they are held.
type heldReport struct {
	Locks      int     `json:"locks"`
	Taken      float64 `json:"taken_s"`
	Released   float64 `json:"released_s"`
	Heap       float64 `json:"heap_bytes_per_lock"`
	Stack      float64 `json:"stack_bytes_per_lock"`
	Goroutines float64 `json:"goroutines_per_lock"`
	Sockets    int     `json:"sockets"`
	// Stuck says that not all were taken and released in 20 s; nothing else is
	// known then.
	Stuck bool `json:"stuck,omitempty"`
}

// stacks is the memory of all stacks.
func stacks() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.StackInuse
}

// take holds so many locks, taken by the crowd.
func (w *worker) take(n int) (r heldReport, err error) {
	ctx := context.Background()
	keys := make([]string, n) // keys are the caller's
	for i := range keys {
		keys[i] = fmt.Sprintf("held-%06d", i)
	}
	warm, err := w.rival.hold(ctx, "warm")
	if err != nil {
		return r, err
	}
	w.held = make([]holding, n)
	before, stack := proc.Measure(true), stacks()
	r.Locks = n
	r.Taken, err = each(n, func(i int) (err error) {
		w.held[i], err = w.rival.hold(ctx, keys[i])
		return err
	})
	if err != nil {
		return r, err
	}
	during := proc.Measure(true)
	per := func(after, before float64) float64 { return (after - before) / float64(n) }
	r.Heap = per(float64(during.Heap), float64(before.Heap))
	r.Stack = per(float64(stacks()), float64(stack))
	r.Goroutines = per(float64(during.Goroutines), float64(before.Goroutines))
	r.Sockets = during.Sockets
	runtime.KeepAlive(keys)
	return r, warm.release(ctx)
}

// releaseAll releases what take holds, and returns the seconds that took.
func (w *worker) releaseAll(struct{}) (float64, error) {
	took, err := each(len(w.held), func(i int) error { return w.held[i].release(context.Background()) })
	w.held = nil
	return took, err
}

// each does something n times, by the crowd, and returns the seconds that took.
func each(n int, f func(i int) error) (float64, error) {
	errs := make([]error, crowd)
	var wg sync.WaitGroup
	began := time.Now()
	for g := range crowd {
		wg.Go(func() {
			for i := g; i < n && errs[g] == nil; i += crowd {
				errs[g] = f(i)
			}
		})
	}
	wg.Wait()
	return time.Since(began).Seconds(), errors.Join(errs...)
}

// hold takes one lock whose loss is to be noticed; it is false where the library
// has no way to tell.
func (w *worker) hold(struct{}) (tells bool, err error) {
	h, err := w.rival.hold(context.Background(), "to-be-lost")
	w.held = []holding{h}
	return err == nil && h.lost() != nil, err
}

// lost waits until the library says that the lock is lost, and returns when it
// did, in ns of the machine's clock; 0 if it did not in the time given.
func (w *worker) lost(patience time.Duration) (int64, error) {
	select {
	case <-w.held[0].lost():
		return time.Now().UnixNano(), nil
	case <-time.After(patience):
		return 0, nil
	}
}
