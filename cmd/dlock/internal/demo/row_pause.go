package demo

import (
	"context"
	"fmt"
	"slices"
	"time"
)

const (
	pauseTTL = 2 * time.Second
	// pauseBound is how much later than the lease the next must hold.
	pauseBound = time.Second
)

var pauseRow = Row{
	Name:  "SIGSTOP",
	Claim: "a holder stopped beyond its lease sees the loss when it wakes, and its late write is refused",
	play:  playPause,
}

// The parts, by the numbers of their workers.
const (
	pauseSleeper = 1 + iota // holds and is stopped
	pauseNext               // waits
)

// lost is what a worker writes of a lease that it finds lost.
const lost = "lost"

// pauseScript is what must happen.
var pauseScript = []moment{
	{pauseSleeper, evAsks}, {pauseSleeper, evEnter}, {pauseSleeper, evChecked}, {pauseSleeper, evWrote},
	{pauseNext, evAsks},
	{pauseSleeper, evStop},
	{pauseNext, evEnter}, {pauseNext, evWrote},
	{pauseSleeper, evWake},
	{pauseSleeper, evChecked}, {pauseSleeper, evRefused},
	{pauseNext, evExit},
}

func playPause(ctx context.Context, s *Stage) (v Verdict, err error) {
	url, err := s.Serve()
	if err != nil {
		return v, err
	}
	workers, err := s.Start(ctx, 2, url, pauseTTL)
	if err != nil {
		return v, err
	}
	file := s.File("guarded")
	sleeper, next := workers[pauseSleeper-1], workers[pauseNext-1]
	if err := perform(ctx,
		step{sleeper, "lock pause", evEnter}, step{sleeper, "check", evChecked}, step{sleeper, "write " + file + " early", evWrote},
		step{next, "lock pause", evAsks},
	); err != nil {
		return v, err
	}
	if err := s.awaitWaiters(ctx, url, "pause", 1); err != nil {
		return v, err
	}
	if err := sleeper.Pause(); err != nil {
		return v, err
	}
	if _, err := next.Await(ctx, evEnter); err != nil {
		return v, err
	}
	if err := perform(ctx, step{next, "write " + file + " next", evWrote}); err != nil {
		return v, err
	}
	if err := sleeper.Resume(); err != nil {
		return v, err
	}
	if err := perform(ctx, step{sleeper, "check", evChecked}, step{sleeper, "write " + file + " late", ""}); err != nil {
		return v, err
	}
	if _, err := sleeper.Await(ctx, evWrote, evRefused); err != nil {
		return v, err
	}
	if err := perform(ctx, step{next, "unlock", evExit}); err != nil {
		return v, err
	}
	final, err := guard(file).read()
	if err != nil {
		return v, err
	}
	records, err := s.settled()
	if err != nil {
		return v, err
	}
	return judgePause(records, final, pauseTTL, s.at.death().late), nil
}

// judgePause wants the script; the lease to be good before the pause and lost
// after it; the next to hold soon after the lease, with a larger fence; and the
// file to say what the next wrote.
func judgePause(records []Record, final guarded, ttl, late time.Duration) (v Verdict) {
	follow(records, pauseScript, &v)
	before, after := find(records, moment{pauseSleeper, evEnter}), find(records, moment{pauseNext, evEnter})
	took := after.At - find(records, moment{pauseSleeper, evStop}).At
	if took > ttl+late {
		v.fault("the next held %v after the pause began, the lease is %v", took, ttl)
	}
	if before.Fence == 0 || after.Fence <= before.Fence {
		v.fault("the next got the fence %d after %d", after.Fence, before.Fence)
	}
	if final != (guarded{Fence: after.Fence, Text: "next"}) {
		v.fault("the file says %q of fence %d, and the next wrote it last", final.Text, final.Fence)
	}
	var checks, writes []string
	for _, r := range records {
		switch {
		case r.Event == evChecked:
			checks = append(checks, r.Err)
		case r.Worker == pauseSleeper && (r.Event == evWrote || r.Event == evRefused):
			writes = append(writes, r.Event)
		}
	}
	if !slices.Equal(checks, []string{"", lost}) {
		v.fault("the checks before and after the pause say %q, want nothing and %q", checks, lost)
	}
	v.Saw = fmt.Sprintf("next held after %v, fence +%d; then the sleeper: checks %q, writes %q",
		took.Round(time.Millisecond), after.Fence-before.Fence, checks, writes)
	return v
}
