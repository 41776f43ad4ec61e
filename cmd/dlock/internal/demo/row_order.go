package demo

import (
	"context"
	"fmt"
	"slices"
)

const orderWorkers = 6

var orderRow = Row{
	Name:  "order",
	Claim: fmt.Sprintf("%d processes that wait are served in the order in which they asked", orderWorkers),
	play:  playOrder,
}

// playOrder lets the workers ask in an order that is not that of their numbers,
// each when the server knows the one before.
func playOrder(ctx context.Context, s *Stage) (v Verdict, err error) {
	url, err := s.Serve()
	if err != nil {
		return v, err
	}
	workers, err := s.Start(ctx, 1+orderWorkers, url, 0)
	if err != nil {
		return v, err
	}
	first, others := workers[0], workers[1:]
	if err := perform(ctx, step{first, "lock order", evEnter}); err != nil {
		return v, err
	}
	var asked []int
	for i := range others {
		w := others[(i*5+3)%len(others)]
		asked = append(asked, w.id)
		if err := w.Tell("lock order"); err != nil {
			return v, err
		}
		if err := s.awaitWaiters(ctx, url, "order", i+1); err != nil {
			return v, err
		}
		if err := w.Tell("unlock"); err != nil { // as soon as it has it
			return v, err
		}
	}
	if err := first.Tell("unlock"); err != nil {
		return v, err
	}
	for _, w := range others {
		if _, err := w.Await(ctx, evExit); err != nil {
			return v, err
		}
	}
	records, err := s.settled()
	if err != nil {
		return v, err
	}
	return judgeOrder(records, first.id, asked), nil
}

// judgeOrder wants the first to hold until all have asked, and the others to be
// served one at a time, in the order in which they asked, with growing fences.
func judgeOrder(records []Record, first int, asked []int) (v Verdict) {
	var served []int
	var fence uint64
	pending := len(asked)
	for _, r := range records {
		switch r.Event {
		case evAsks:
			if r.Worker != first {
				pending--
			}
		case evExit:
			if r.Worker == first && pending > 0 {
				v.fault("the first left before %d had asked", pending)
			}
		case evEnter:
			if r.Worker != first {
				served = append(served, r.Worker)
			}
			if r.Fence <= fence {
				v.fault("worker %d got the fence %d after %d", r.Worker, r.Fence, fence)
			}
			fence = r.Fence
		}
	}
	if most, _ := concurrency(records, &v); most != 1 {
		v.fault("%d held at once", most)
	}
	if !slices.Equal(served, asked) {
		v.fault("asked in the order %v, served in %v", asked, served)
	}
	v.Saw = fmt.Sprintf("asked %v, served %v", asked, served)
	return v
}
