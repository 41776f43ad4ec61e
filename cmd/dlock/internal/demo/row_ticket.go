package demo

import (
	"context"
	"fmt"
)

var ticketRow = Row{
	Name:  "two-phase",
	Claim: "a place in the queue is kept while its owner does something else",
	play:  playTicket,
}

// The parts, by the numbers of their workers.
const (
	ticketFirst = 1 + iota // takes a place while the lock is free, which is the lock
	ticketOwner            // takes a place, does something else, then waits
	ticketLate             // asks after the owner, and waits at once
)

// ticketScript is what must happen. The owner does something else even when its
// turn has come; that must not let the late one in.
var ticketScript = []moment{
	{ticketFirst, evAcquired}, {ticketFirst, evEnter},
	{ticketOwner, evQueued},
	{ticketLate, evAsks},
	{ticketOwner, evDone},
	{ticketFirst, evExit},
	{ticketOwner, evDone},
	{ticketOwner, evEnter}, {ticketOwner, evExit},
	{ticketLate, evEnter}, {ticketLate, evExit},
}

func playTicket(ctx context.Context, s *Stage) (v Verdict, err error) {
	url, err := s.Serve()
	if err != nil {
		return v, err
	}
	workers, err := s.Start(ctx, 3, url, 0)
	if err != nil {
		return v, err
	}
	first, owner, late := workers[ticketFirst-1], workers[ticketOwner-1], workers[ticketLate-1]
	if err := perform(ctx,
		step{first, "enqueue place", evAcquired}, step{first, "wait", evEnter},
		step{owner, "enqueue place", evQueued},
		step{late, "lock place", evAsks},
	); err != nil {
		return v, err
	}
	if err := s.awaitWaiters(ctx, url, "place", 2); err != nil {
		return v, err
	}
	if err := perform(ctx,
		step{owner, "prepare", evDone},
		step{first, "unlock", evExit},
		step{owner, "prepare", evDone},
		step{owner, "wait", evEnter}, step{owner, "unlock", evExit},
	); err != nil {
		return v, err
	}
	if _, err := late.Await(ctx, evEnter); err != nil {
		return v, err
	}
	if err := perform(ctx, step{late, "unlock", evExit}); err != nil {
		return v, err
	}
	records, err := s.settled()
	if err != nil {
		return v, err
	}
	return judgeTicket(records), nil
}

// judgeTicket wants the script, and growing fences.
func judgeTicket(records []Record) (v Verdict) {
	follow(records, ticketScript, &v)
	var served []int
	var fence uint64
	for _, r := range records {
		if r.Event != evEnter {
			continue
		}
		served = append(served, r.Worker)
		if r.Fence <= fence {
			v.fault("worker %d got the fence %d after %d", r.Worker, r.Fence, fence)
		}
		fence = r.Fence
	}
	v.Saw = fmt.Sprintf("served %v, though worker %d waited before worker %d did", served, ticketLate, ticketOwner)
	return v
}
