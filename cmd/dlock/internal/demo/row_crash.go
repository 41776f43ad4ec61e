package demo

import (
	"context"
	"fmt"
	"strings"
	"time"
)

const (
	crashWorkers = 4
	// crashBound is how soon after a kill the next must hold. The lease would
	// last for half a minute: it is the process that the server sees die.
	crashBound = 2 * time.Second
)

var crashRow = Row{
	Name:   "SIGKILL",
	Claim:  "when its holder is killed the lock passes on at once, with a larger fence",
	atEtcd: fmt.Sprintf("when its holder is killed the lock passes on after the rest of its lease of %v, with a larger fence", etcdTTL),
	play:   playCrash,
}

// playCrash kills each holder in turn but the last.
func playCrash(ctx context.Context, s *Stage) (v Verdict, err error) {
	url, err := s.Serve()
	if err != nil {
		return v, err
	}
	workers, err := s.Start(ctx, crashWorkers, url, s.at.death().ttl)
	if err != nil {
		return v, err
	}
	if err := perform(ctx, step{workers[0], "lock crash", evEnter}); err != nil {
		return v, err
	}
	for i, w := range workers[1:] {
		if err := perform(ctx, step{w, "lock crash", evAsks}); err != nil {
			return v, err
		}
		if err := s.awaitWaiters(ctx, url, "crash", i+1); err != nil {
			return v, err
		}
	}
	for i, w := range workers[1:] {
		if err := workers[i].Kill(); err != nil {
			return v, err
		}
		if _, err := w.Await(ctx, evEnter); err != nil {
			return v, err
		}
	}
	records, err := s.settled()
	if err != nil {
		return v, err
	}
	return judgeCrash(records, crashWorkers, s.at.death().within), nil
}

// judgeCrash wants every worker but the last to be killed while it holds, and
// after each kill another to hold, within a time and with a larger fence.
func judgeCrash(records []Record, workers int, within time.Duration) (v Verdict) {
	if most, _ := concurrency(records, &v); most > 1 {
		v.fault("%d held at once", most)
	}
	var (
		holder, killed Record // zero: nobody holds, nobody was killed
		fence          uint64
		waits          []string
	)
	for _, r := range records {
		switch {
		case r.Event == evKill && r.N != holder.Worker:
			v.fault("worker %d was killed and did not hold", r.N)
		case r.Event == evKill:
			killed, holder = r, Record{}
		case r.Event == evEnter:
			if r.Fence <= fence {
				v.fault("worker %d got the fence %d after %d", r.Worker, r.Fence, fence)
			}
			if killed != (Record{}) {
				took := r.At - killed.At
				waits = append(waits, took.Round(100*time.Microsecond).String())
				if took > within {
					v.fault("worker %d held %v after the kill, %v are allowed", r.Worker, took, within)
				}
			}
			holder, fence = r, r.Fence
		}
	}
	if len(waits) != workers-1 {
		v.fault("the lock was passed on %d times, not %d", len(waits), workers-1)
	}
	v.Saw = "held by the next after " + strings.Join(waits, ", ")
	return v
}
