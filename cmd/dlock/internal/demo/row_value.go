package demo

import (
	"context"
	"fmt"

	"github.com/distributed-go/distributed/once"
)

const valueWorkers = 5

var valueRow = Row{
	Name:  "value",
	Claim: fmt.Sprintf("what one process computes %d others have, also one that starts after a crash of the server", valueWorkers),
	needs: "to crash the server",
	play:  playValue,
}

func playValue(ctx context.Context, s *Stage) (v Verdict, err error) {
	url, err := s.ServeLasting()
	if err != nil {
		return v, err
	}
	order := "value config " + s.File("go")
	if err := together(ctx, s, url, once.Prefix+"config", valueWorkers, order); err != nil {
		return v, err
	}
	s.Crash()
	if url, err = s.ServeLasting(); err != nil {
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
	return judgeValue(records, valueWorkers+1), nil
}

// judgeValue wants one to compute, and all to have its value, which is its number.
func judgeValue(records []Record, workers int) (v Verdict) {
	var starts, ends, by int
	asked, got := make(map[int]bool), make(map[int]int)
	for _, r := range records {
		switch r.Event {
		case evAsks:
			asked[r.Worker] = true
		case evEnter:
			starts++
		case evExit:
			ends++
			by = r.Worker
		case evGot:
			got[r.Worker]++
			switch {
			case ends == 0:
				v.fault("worker %d had the value before it was computed", r.Worker)
			case r.N != by:
				v.fault("worker %d had the value %d, and worker %d computed it", r.Worker, r.N, by)
			}
		}
	}
	if starts != 1 || ends != 1 {
		v.fault("%d began to compute it and %d ended, want 1 and 1", starts, ends)
	}
	judgeAnswers(&v, asked, got, workers)
	v.Saw = fmt.Sprintf("%d have the value of worker %d, computed %d time", len(got), by, ends)
	return v
}
