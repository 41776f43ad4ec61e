// Package demo shows what distributed promises, with real processes, real
// faults and a verdict on each promise.
//
// It is made of rows. A row plays on a Stage: servers in this process or an etcd
// (see Venue), workers in processes of their own, and one journal that all of them write to. Workers
// do what they are told, line by line, and write down what they did; the row
// tells them, hurts them, and then judges the journal. The judges are functions
// of what was recorded and nothing else, so that each can be shown to fail. To
// add a row, write a play and a judge, and put it into Rows.
package demo

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// A row, and the demo as a whole, end in time even if a promise is broken and a
// worker waits for ever. See Venue.timeouts.
const (
	rowTimeout  = 8 * time.Second
	demoTimeout = 28 * time.Second
)

// A Row is one promise and the play that puts it to the test.
type Row struct {
	// Name is a word or two.
	Name string
	// Claim is what must hold, in a line.
	Claim string
	// atEtcd is the claim where the servers are an etcd; "" is Claim.
	atEtcd string
	// needs says what the row needs that an etcd is not; "" is nothing.
	needs string
	// play returns an error if it could not be played to its end.
	play func(ctx context.Context, s *Stage) (Verdict, error)
}

// Rows are all rows, in the order in which they are played.
var Rows = []Row{mutexRow, semaphoreRow, orderRow, ticketRow, crashRow, pauseRow, shardRow, onceRow, onceCrashRow, valueRow, groupRow}

// A Verdict is what a judge found.
type Verdict struct {
	// Saw is what was observed, in a line.
	Saw string
	// Faults are the ways in which the promise was broken; none if it held.
	Faults []string
}

// fault notes a way in which the promise was broken.
func (v *Verdict) fault(format string, args ...any) {
	v.Faults = append(v.Faults, fmt.Sprintf(format, args...))
}

// A Result is what became of a row.
type Result struct {
	Name  string `json:"name"`
	Claim string `json:"claim"`
	// Holds is the verdict.
	Holds bool `json:"holds"`
	// Saw is what was observed, whether the promise held or not.
	Saw string `json:"saw,omitempty"`
	// Faults say why it does not hold.
	Faults []string `json:"faults,omitempty"`
	// Seconds is how long the row took.
	Seconds float64 `json:"seconds"`
	// Processes is how many workers it started.
	Processes int `json:"processes"`
}

// Reason is what there is to say about a result in one line.
func (r Result) Reason() string {
	if r.Holds {
		return r.Saw
	}
	return strings.Join(r.Faults, "; ")
}

// A Watcher hears of the demo while it runs. Its methods are called from one
// goroutine.
type Watcher interface {
	// Began says that row i, counted from 0, begins on the stage.
	Began(i int, r Row, s *Stage)
	// Ended says what became of it.
	Ended(i int, r Result)
}

// Run plays the rows at the venue, one after the other, and returns their results.
// Work starts workers. The error is that of ctx, or says that nothing could be
// played; nothing is left of the demo when it returns.
func Run(ctx context.Context, at Venue, rows []Row, work Start, w Watcher) ([]Result, error) {
	var results []Result
	_, all := at.timeouts()
	bounded, cancel := context.WithTimeout(ctx, all)
	defer cancel()
	for i, row := range rows {
		r, err := play(bounded, at, i, row, work, w)
		if err != nil {
			return results, err
		}
		if ctx.Err() != nil {
			return results, context.Cause(ctx)
		}
		w.Ended(i, r)
		results = append(results, r)
	}
	return results, nil
}

func play(ctx context.Context, at Venue, i int, row Row, work Start, w Watcher) (r Result, err error) {
	one, _ := at.timeouts()
	ctx, cancel := context.WithTimeout(ctx, one)
	defer cancel()
	s, err := newStage(at, work)
	if err != nil {
		return r, err
	}
	defer func() {
		if closed := s.close(); err == nil {
			err = closed
		}
	}()
	w.Began(i, row, s)
	began := time.Now()
	v, err := row.play(ctx, s)
	if err != nil {
		v.fault("not played to its end: %v", err)
	}
	return Result{
		Name: row.Name, Claim: row.Claim, Holds: len(v.Faults) == 0, Saw: v.Saw, Faults: v.Faults,
		Seconds: time.Since(began).Seconds(), Processes: s.Processes(),
	}, nil
}
