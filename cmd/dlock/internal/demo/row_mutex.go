package demo

import (
	"context"
	"fmt"
)

const (
	mutexWorkers    = 4
	mutexIncrements = 200 // by each
)

var mutexRow = Row{
	Name:  "mutex",
	Claim: fmt.Sprintf("a plain counter file that %d processes increment %d times each ends at %d", mutexWorkers, mutexIncrements, mutexWorkers*mutexIncrements),
	play:  playMutex,
}

// playMutex also lets the same processes do the same without the mutex, first:
// if that ended exact, the counter would prove nothing.
func playMutex(ctx context.Context, s *Stage) (v Verdict, err error) {
	url, err := s.Serve()
	if err != nil {
		return v, err
	}
	workers, err := s.Start(ctx, mutexWorkers, url, 0)
	if err != nil {
		return v, err
	}
	var ends []int
	for _, key := range []string{"", "counter"} {
		file := s.File("counter" + key)
		if err := writeNumber(file, 0); err != nil {
			return v, err
		}
		for _, w := range workers {
			if err := w.Tell("count %s %d %s", file, mutexIncrements, key); err != nil {
				return v, err
			}
		}
		for _, w := range workers {
			if _, err := w.Await(ctx, evDone); err != nil {
				return v, err
			}
		}
		n, err := readNumber(file)
		if err != nil {
			return v, err
		}
		ends = append(ends, n)
	}
	records, err := s.settled()
	if err != nil {
		return v, err
	}
	return judgeMutex(records, mutexWorkers, mutexIncrements, ends[0], ends[1]), nil
}

// judgeMutex wants every worker to have counted to each twice, without the
// mutex and with it, and the counter to be exact the second time.
func judgeMutex(records []Record, workers, each, without, with int) (v Verdict) {
	v.Saw = fmt.Sprintf("%d (without the mutex: %d)", with, without)
	if want := workers * each; with != want {
		v.fault("the counter ends at %d, not %d", with, want)
	}
	counted := make(map[int]int)
	for _, r := range records {
		if r.Event == evDone {
			counted[r.Worker] += r.N
		}
	}
	if len(counted) != workers {
		v.fault("%d processes counted, not %d", len(counted), workers)
	}
	for w, n := range counted {
		if n != 2*each {
			v.fault("worker %d counted to %d, not %d", w, n, 2*each)
		}
	}
	return v
}
