package demo

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/distributed-go/distributed/once"
)

const (
	groupWorkers = 5
	groupRounds  = 12
	groupName    = "users"
	groupKey     = "42"
)

var groupRow = Row{
	Name:  "group",
	Claim: fmt.Sprintf("%d processes that miss one key together ask once, and get no old answer, even when the one that asks is killed", groupWorkers),
	play:  playGroup,
}

// playGroup plays rounds, in each of which another worker comes first and runs. In
// the last of them that one is killed while the others wait.
func playGroup(ctx context.Context, s *Stage) (v Verdict, err error) {
	url, err := s.Serve()
	if err != nil {
		return v, err
	}
	workers, err := s.Start(ctx, groupWorkers, url, s.at.death().ttl)
	if err != nil {
		return v, err
	}
	for round := range groupRounds {
		i := round % len(workers)
		cast := slices.Concat(workers[i:], workers[:i])
		file := s.File(fmt.Sprintf("go%d", round))
		order := fmt.Sprintf("group %s %d %s", groupKey, round, file)
		if err := gather(ctx, s, url, once.GroupPrefix+groupName+"/"+groupKey, cast, order); err != nil {
			return v, err
		}
		if round == groupRounds-1 {
			if err := succeeded(ctx, s, cast[0]); err != nil {
				return v, err
			}
			cast = cast[1:]
		}
		if err := open(file); err != nil {
			return v, err
		}
		if err := have(ctx, cast); err != nil {
			return v, err
		}
	}
	records, err := s.settled()
	if err != nil {
		return v, err
	}
	return judgeGroup(records, groupWorkers, groupRounds, s.at.death().within), nil
}

// A flight is what the journal says of one round.
type flight struct {
	asked  map[int]bool
	got    map[int]int
	starts int
	by     int // who ended it; 0 if nobody did
}

// judgeGroup wants one function to end in each round, and all who asked in that
// round to have its result and no other; and in the last another one to run instead
// of the one that is killed, within a time.
func judgeGroup(records []Record, workers, rounds int, within time.Duration) (v Verdict) {
	if most, _ := concurrency(records, &v); most > 1 {
		v.fault("%d ran at once", most)
	}
	flights := make([]flight, rounds)
	for i := range flights {
		flights[i] = flight{asked: make(map[int]bool), got: make(map[int]int)}
	}
	var kill Record
	took := time.Duration(-1)
	in := make(map[int]int) // in which round each worker is
	for _, r := range records {
		switch r.Event {
		case evAsks, evEnter, evExit:
			if r.N < 0 || r.N >= rounds {
				v.fault("worker %d: %q in round %d", r.Worker, r.Event, r.N)
				continue
			}
			in[r.Worker] = r.N
		}
		f := &flights[in[r.Worker]]
		switch r.Event {
		case evAsks:
			f.asked[r.Worker] = true
		case evEnter:
			f.starts++
			if kill != (Record{}) && took < 0 {
				took = r.At - kill.At
			}
		case evExit:
			f.by = r.Worker
		case evKill:
			kill = r
			delete(flights[rounds-1].asked, r.N)
		case evGot:
			f.got[r.Worker]++
			if want := in[r.Worker]*perRound + f.by; f.by == 0 || r.N != want {
				v.fault("worker %d had the result %d in round %d, whose was to be %d", r.Worker, r.N, in[r.Worker], want)
			}
		}
	}
	starts := judgeFlights(&v, flights, workers)
	switch {
	case took < 0:
		v.fault("nobody was killed, or nobody ran after that")
	case took > within:
		v.fault("the next ran %v after the kill, %v are allowed", took, within)
	}
	v.Saw = fmt.Sprintf("%d calls in %d rounds of %d; the last was the next's, %v after the kill", starts, rounds, workers, took.Round(100*time.Microsecond))
	return v
}

// judgeFlights returns how many functions began. In the last flight one was killed.
func judgeFlights(v *Verdict, flights []flight, workers int) (starts int) {
	for i, f := range flights {
		want, alive := 1, workers
		if i == len(flights)-1 {
			want, alive = 2, workers-1
		}
		if f.starts != want {
			v.fault("%d ran in round %d, not %d", f.starts, i, want)
		}
		judgeAnswers(v, f.asked, f.got, alive)
		starts += f.starts
	}
	return starts
}
