package demo

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/distributed-go/distributed/once"
)

const onceWorkers = 5

var onceRow = Row{
	Name:  "once",
	Claim: fmt.Sprintf("of %d processes that start together one runs, the others wait for it, and a later one has nothing to do", onceWorkers),
	play:  playOnce,
}

var onceCrashRow = Row{
	Name:  "once, SIGKILL",
	Claim: "when the one that runs is killed midway exactly one of those who wait runs, and it is done once",
	play:  playOnceCrash,
}

// open makes a file, for which a function waits.
func open(file string) error { return os.WriteFile(file, nil, 0o600) }

// gather has the first of the workers run, and the others wait for it.
func gather(ctx context.Context, s *Stage, url, key string, workers []*Worker, order string) error {
	if err := perform(ctx, step{workers[0], order, evEnter}); err != nil {
		return err
	}
	for _, w := range workers[1:] {
		if err := perform(ctx, step{w, order, evAsks}); err != nil {
			return err
		}
	}
	return s.awaitWaiters(ctx, url, key, len(workers)-1)
}

// succeeded kills the one that runs, and waits until one of the others does: whichever
// was the first in the queue, where those who asked may have overtaken each other.
func succeeded(ctx context.Context, s *Stage, runs *Worker) error {
	before := count(s.Records(), evEnter)
	if err := runs.Kill(); err != nil {
		return err
	}
	for count(s.Records(), evEnter) == before {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for another to run: %w", context.Cause(ctx))
		case <-time.After(time.Millisecond):
		}
	}
	return nil
}

// count counts the records of an event.
func count(records []Record, event string) (n int) {
	for _, r := range records {
		if r.Event == event {
			n++
		}
	}
	return n
}

// have waits until all the workers have what they asked for.
func have(ctx context.Context, workers []*Worker) error {
	for _, w := range workers {
		if _, err := w.Await(ctx, evGot); err != nil {
			return err
		}
	}
	return nil
}

// together has n workers ask at the same time, and waits until all have it.
func together(ctx context.Context, s *Stage, url, key string, n int, order string) error {
	workers, err := s.Start(ctx, n, url, 0)
	if err != nil {
		return err
	}
	if err := gather(ctx, s, url, key, workers, order); err != nil {
		return err
	}
	if err := open(s.File("go")); err != nil {
		return err
	}
	return have(ctx, workers)
}

func playOnce(ctx context.Context, s *Stage) (v Verdict, err error) {
	url, err := s.ServeLasting()
	if err != nil {
		return v, err
	}
	s.Done(url, "migrate")
	order := "once migrate " + s.File("go")
	if err := together(ctx, s, url, once.Prefix+"migrate", onceWorkers, order); err != nil {
		return v, err
	}
	late, err := s.Start(ctx, 1, url, 0)
	if err != nil {
		return v, err
	}
	if err := perform(ctx, step{late[0], order, evGot}); err != nil {
		return v, err
	}
	records, err := s.settled()
	if err != nil {
		return v, err
	}
	return judgeOnce(records, onceWorkers+1, 0, 0), nil
}

// playOnceCrash kills the one that runs while the others wait.
func playOnceCrash(ctx context.Context, s *Stage) (v Verdict, err error) {
	url, err := s.ServeLasting()
	if err != nil {
		return v, err
	}
	s.Done(url, "migrate")
	workers, err := s.Start(ctx, onceWorkers, url, s.at.death().ttl)
	if err != nil {
		return v, err
	}
	if err := gather(ctx, s, url, once.Prefix+"migrate", workers, "once migrate "+s.File("go")); err != nil {
		return v, err
	}
	if err := succeeded(ctx, s, workers[0]); err != nil {
		return v, err
	}
	if err := open(s.File("go")); err != nil {
		return v, err
	}
	if err := have(ctx, workers[1:]); err != nil {
		return v, err
	}
	records, err := s.settled()
	if err != nil {
		return v, err
	}
	return judgeOnce(records, onceWorkers, 1, s.at.death().within), nil
}

// judgeOnce wants one function to end, and each that was killed to be followed by
// another within a time; all others to find it done, but not before that end, and done by the
// same run.
func judgeOnce(records []Record, workers, kills int, within time.Duration) (v Verdict) {
	if most, _ := concurrency(records, &v); most > 1 {
		v.fault("%d ran at once", most)
	}
	var (
		starts, ends, killed int
		kill                 Record
		took                 time.Duration
		marks                = make(map[uint64]bool)
		asked, got           = make(map[int]bool), make(map[int]int)
	)
	for _, r := range records {
		switch r.Event {
		case evAsks:
			asked[r.Worker] = true
		case evEnter:
			starts++
			if kill != (Record{}) {
				took, kill = r.At-kill.At, Record{}
			}
		case evExit:
			ends++
		case evKill:
			kill = r
			killed++
			delete(asked, r.N)
		case evGot:
			got[r.Worker]++
			marks[r.Fence] = true
			if ends == 0 {
				v.fault("worker %d found it done before it was", r.Worker)
			}
		}
	}
	if starts != kills+1 || ends != 1 || killed != kills {
		v.fault("%d began, %d were killed and %d ended, want %d, %d and 1", starts, killed, ends, kills+1, kills)
	}
	if took > within {
		v.fault("the next ran %v after the kill, %v are allowed", took, within)
	}
	if len(marks) != 1 || marks[0] {
		v.fault("marks of the fences %v, want one", marks)
	}
	judgeAnswers(&v, asked, got, workers-kills)
	v.Saw = fmt.Sprintf("%d asked, %d began, %d ended, all see one mark", workers, starts, ends)
	if kills > 0 {
		v.Saw += fmt.Sprintf("; the next ran %v after the kill", took.Round(100*time.Microsecond))
	}
	return v
}

// judgeAnswers wants so many workers to have asked, and each to have had one answer.
func judgeAnswers(v *Verdict, asked map[int]bool, got map[int]int, workers int) {
	if len(asked) != workers {
		v.fault("%d workers asked and lived, not %d", len(asked), workers)
	}
	for w := range asked {
		if got[w] != 1 {
			v.fault("worker %d had %d answers, not 1", w, got[w])
		}
	}
}
