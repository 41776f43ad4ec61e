package demo

import (
	"context"
	"fmt"
	"time"
)

const (
	slotWorkers = 6
	slotLimit   = 3
	slotRounds  = 10
	slotHold    = 10 * time.Millisecond
)

var semaphoreRow = Row{
	Name:  "semaphore",
	Claim: fmt.Sprintf("of %d processes %d are inside at some time, and never more", slotWorkers, slotLimit),
	play:  playSemaphore,
}

func playSemaphore(ctx context.Context, s *Stage) (v Verdict, err error) {
	url, err := s.Serve()
	if err != nil {
		return v, err
	}
	workers, err := s.Start(ctx, slotWorkers, url, 0)
	if err != nil {
		return v, err
	}
	for _, w := range workers {
		if err := w.Tell("slots slots %d %d %v", slotLimit, slotRounds, slotHold); err != nil {
			return v, err
		}
	}
	for _, w := range workers {
		if _, err := w.Await(ctx, evDone); err != nil {
			return v, err
		}
	}
	records, err := s.settled()
	if err != nil {
		return v, err
	}
	return judgeSemaphore(records, slotWorkers, slotLimit, slotRounds), nil
}

// judgeSemaphore wants every worker to have been inside for all its rounds, and
// the most at any time to be the limit exactly.
func judgeSemaphore(records []Record, workers, limit, rounds int) (v Verdict) {
	most, rests := concurrency(records, &v)
	entries := make(map[int]int)
	for _, r := range records {
		if r.Event == evEnter {
			entries[r.Worker]++
		}
	}
	total := 0
	for w, n := range entries {
		total += n
		if n != rounds {
			v.fault("worker %d was inside %d times, not %d", w, n, rounds)
		}
	}
	if len(entries) != workers {
		v.fault("%d processes were inside at all, not %d", len(entries), workers)
	}
	switch {
	case most > limit:
		v.fault("%d were inside at once, %d is the limit", most, limit)
	case most < limit:
		v.fault("no more than %d were inside at once, %d may", most, limit)
	}
	if rests != 0 {
		v.fault("%d never left", rests)
	}
	v.Saw = fmt.Sprintf("%d at most, in %d entries", most, total)
	return v
}

// concurrency returns how many were inside at once at most, and how many were
// at the end. It faults those who entered twice, or left without having
// entered. A worker that was killed is inside no more.
func concurrency(records []Record, v *Verdict) (most, rests int) {
	inside := make(map[int]bool)
	for _, r := range records {
		switch r.Event {
		case evEnter:
			if inside[r.Worker] {
				v.fault("worker %d entered twice", r.Worker)
			}
			inside[r.Worker] = true
		case evExit:
			if !inside[r.Worker] {
				v.fault("worker %d left without having entered", r.Worker)
			}
			delete(inside, r.Worker)
		case evKill:
			delete(inside, r.N)
		}
		most = max(most, len(inside))
	}
	return most, len(inside)
}
