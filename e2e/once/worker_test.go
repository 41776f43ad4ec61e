//go:build unix

package once

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/distributed-go/distributed/internal/proc"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/once"
)

type workerArgs struct {
	Name  string
	Addr  string
	Dir   string // of the ledgers
	TTL   time.Duration
	Proof bool // of death
}

// A worker is a process whose goroutines call Do.
type worker struct {
	workerArgs
	backend *backend
	client  *locker.Client
	task    atomic.Pointer[task] // under way; nil if none

	lateness lateness
}

// A task is one key to be done.
type task struct {
	Key        string
	Goroutines int
	Handles    int           // that share the goroutines
	Work       time.Duration // that the function takes
	Point      string        // where to act, the first process that comes there
	Action     string
}

// Actions.
const (
	die    = "die"
	fail   = "fail"
	throw  = "panic"
	goexit = "exit"
)

// An outcome is what became of a task's calls in one process.
type outcome struct {
	Nils   int
	First  int64 // when the first of these returned
	Lost   int
	Doubts int
	Failed int // as they were told to
	Other  []string
}

var errTold = errors.New("told to fail")

func workerRole(c *proc.Child) error {
	w := new(worker)
	if err := c.Args(&w.workerArgs); err != nil {
		return err
	}
	var err error
	if w.backend, err = newBackend(w.Addr, w.Proof, w.reach); err != nil {
		return err
	}
	w.client = locker.New(w.backend, locker.WithTTL(w.TTL), locker.WithLogger(slog.New(slog.DiscardHandler)))
	c.Handle("do", proc.Handle(func(t task) (outcome, error) { return w.do(&t), nil }))
	c.Handle("late", proc.Handle(w.late))
	c.Handle("outcomes", proc.Handle(w.outcomes))
	c.Handle("mark", proc.Handle(w.mark))
	if err := c.Serve(nil); err != nil {
		return err
	}
	return w.client.Close()
}

// mark asks for the mark of a key, also of a server that has just started again.
func (w *worker) mark(key string) (once.Mark, error) {
	ctx, cancel := context.WithTimeout(context.Background(), *limit/2)
	defer cancel()
	for {
		m, err := once.New(w.client, key).Mark(ctx)
		if !errors.Is(err, locker.ErrUnavailable) || ctx.Err() != nil {
			return m, err
		}
		time.Sleep(50 * time.Millisecond) // real time: another process starts
	}
}

// do has the goroutines call Do of one key.
func (w *worker) do(t *task) outcome {
	w.task.Store(t)
	handles := make([]*once.Once, t.Handles)
	for i := range handles {
		handles[i] = once.New(w.client, t.Key)
	}
	var (
		all sync.WaitGroup
		sum = tally{}
	)
	for i := range t.Goroutines {
		all.Go(func() { // one that exits has its call counted by the defer
			var err error
			ended := false
			defer func() {
				if p := recover(); p != nil {
					err = fmt.Errorf("%v", p)
					if p == errTold {
						err = errTold
					}
				} else if !ended {
					err = errTold // by runtime.Goexit, which nothing else calls
				}
				sum.add(err, monotonic())
			}()
			err = handles[i%len(handles)].Do(context.Background(), w.function(t, fmt.Sprintf("%s.%d", w.Name, i)))
			ended = true
			w.reach("done", t.Key)
		})
	}
	all.Wait()
	return sum.outcome
}

// function is what may run once.
func (w *worker) function(t *task, who string) func(context.Context) error {
	l := ledgerOf(w.Dir, t.Key)
	return func(context.Context) error { // which looks at no context: the worst case
		fence := w.backend.fence(once.Prefix + t.Key)
		if err := l.start(fence, who); err != nil {
			return err
		}
		w.reach("function: begun", t.Key)
		time.Sleep(t.Work / 2) // real time: this is the work
		w.reach("function: before its commit", t.Key)
		if err := l.commit(fence, who); err != nil {
			return err
		}
		w.reach("function: after its commit", t.Key)
		time.Sleep(t.Work / 2)
		return w.act("function: returning")
	}
}

// A tally counts outcomes. It is safe for concurrent use.
type tally struct {
	mu sync.Mutex
	outcome
}

func (s *tally) add(err error, at int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil:
		if s.Nils++; s.First == 0 || at < s.First {
			s.First = at
		}
	case errors.Is(err, errTold):
		s.Failed++
	case errors.Is(err, locker.ErrLost), errors.Is(err, errStale):
		s.Lost++
	case errors.Is(err, once.ErrInDoubt):
		s.Doubts++
	default:
		s.Other = append(s.Other, err.Error())
	}
}

// reach kills this process, if that is the task and no other came first.
func (w *worker) reach(point, key string) {
	if point == "put: before" {
		w.lateness.put(key)
	}
	_ = w.act(point)
}

// act carries out what the task says of a point, if no other process came first.
func (w *worker) act(point string) error {
	t := w.task.Load()
	if t == nil || t.Point != point {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(w.Dir, t.Key+".acted"), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil //nolint:nilerr // another came first
	}
	f.Close()
	switch t.Action {
	case die:
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case fail:
		return errTold
	case throw:
		panic(errTold)
	case goexit:
		runtime.Goexit()
	}
	return nil
}
