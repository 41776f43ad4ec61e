package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/distributed-go/distributed/cmd/dlock/internal/supervise"
)

// endTimeout is how long a worker may take to end by itself.
const endTimeout = 2 * time.Second

// A Worker is a process on a stage, as the demo sees it. Work is what it runs.
type Worker struct {
	stage  *Stage
	id     int
	group  *supervise.Group
	stdin  *os.File
	cursor int  // in the journal: what was awaited lies before it
	doomed bool // the demo killed it
}

// Start starts n workers that use the servers at this URL with this lease (0 is
// the server's default), and waits until they run.
func (s *Stage) Start(ctx context.Context, n int, url string, ttl time.Duration) ([]*Worker, error) {
	var started []*Worker
	for range n {
		w, err := s.startOne(url, ttl)
		if err != nil {
			return nil, err
		}
		started = append(started, w)
	}
	for _, w := range started {
		if _, err := w.Await(ctx, evReady); err != nil {
			return nil, err
		}
	}
	return started, nil
}

func (s *Stage) startOne(url string, ttl time.Duration) (*Worker, error) {
	r, stdin, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	w := &Worker{stage: s, id: len(s.workers) + 1, stdin: stdin}
	w.group, err = s.start([]string{strconv.Itoa(w.id), url, ttl.String()}, r, s.journal.w, s.stderr)
	if err != nil {
		stdin.Close()
		return nil, fmt.Errorf("worker %d: %w", w.id, err)
	}
	s.workers = append(s.workers, w)
	s.count.Add(1)
	return w, nil
}

// Tell tells the worker what to do next. It does not wait for it.
func (w *Worker) Tell(format string, args ...any) error {
	if _, err := fmt.Fprintf(w.stdin, format+"\n", args...); err != nil {
		return fmt.Errorf("worker %d: %w", w.id, err)
	}
	return nil
}

// Await waits for the worker's next record of one of the events, behind the
// last that was awaited.
func (w *Worker) Await(ctx context.Context, events ...string) (Record, error) {
	ended := w.group.Ended()
	for {
		records, more, err := w.stage.journal.since(w.cursor)
		if err != nil {
			return Record{}, err
		}
		for _, r := range records {
			w.cursor++
			if r.Worker != w.id {
				continue
			}
			if r.Event == evFailed {
				return r, fmt.Errorf("worker %d: %s", w.id, r.Err)
			}
			if slices.Contains(events, r.Event) {
				return r, nil
			}
		}
		if ended == nil {
			return Record{}, fmt.Errorf("worker %d ended (%v) before %q: %s", w.id, w.group.Status(), events, w.stage.complaint())
		}
		select {
		case <-more:
		case <-ended:
			// What it wrote at its end may still be on its way: look once more.
			ended = nil
			select {
			case <-more:
			case <-time.After(100 * time.Millisecond):
			}
		case <-ctx.Done():
			return Record{}, fmt.Errorf("waiting for %q of worker %d: %w", events, w.id, context.Cause(ctx))
		}
	}
}

// Kill kills the worker, after a note in the journal.
func (w *Worker) Kill() error {
	w.doomed = true
	if err := w.stage.Note(evKill, w); err != nil {
		return err
	}
	w.group.Kill()
	<-w.group.Ended()
	return nil
}

// Pause stops the worker, after a note in the journal.
func (w *Worker) Pause() error {
	if err := w.stage.Note(evStop, w); err != nil {
		return err
	}
	w.group.Signal(syscall.SIGSTOP)
	return nil
}

// Resume continues the worker, after a note in the journal.
func (w *Worker) Resume() error {
	if err := w.stage.Note(evWake, w); err != nil {
		return err
	}
	w.group.Signal(syscall.SIGCONT)
	return nil
}

// ended waits for the worker to end by itself.
func (w *Worker) ended() error {
	select {
	case <-w.group.Ended():
	case <-time.After(endTimeout):
		w.kill()
		return fmt.Errorf("worker %d did not end", w.id)
	}
	if s := w.group.Status(); s.ExitCode() != 0 && !w.doomed {
		return fmt.Errorf("worker %d: %v: %s", w.id, s, w.stage.complaint())
	}
	return nil
}

// kill ends the worker whatever it does.
func (w *Worker) kill() {
	if err := w.stdin.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		panic("bug: closing a pipe: " + err.Error())
	}
	w.group.Kill()
	<-w.group.Ended()
}
