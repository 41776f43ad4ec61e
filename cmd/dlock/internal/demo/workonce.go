package demo

import (
	"context"
	"os"
	"strconv"
	"time"

	"github.com/distributed-go/distributed"
)

// under is what a function of a Once, a Value or a Group does: it begins, waits for
// the file to be there, which the demo makes, and ends.
func (p *player) under(ctx context.Context, key, file string, n int) error {
	if err := p.note(Record{Event: evEnter, Key: key, N: n}); err != nil {
		return err
	}
	for {
		_, err := os.Stat(file)
		if err == nil {
			break
		}
		if !os.IsNotExist(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(time.Millisecond):
		}
	}
	return p.note(Record{Event: evExit, Key: key, N: n})
}

// once KEY FILE has a function run that waits for a file, unless it is done. It
// notes the fence of the mark.
func (p *player) once(ctx context.Context, args []string) error {
	if err := p.note(Record{Event: evAsks, Key: args[0]}); err != nil {
		return err
	}
	o := distributed.NewOnce(p.client, args[0])
	if err := o.Do(ctx, func(ctx context.Context) error { return p.under(ctx, args[0], args[1], 0) }); err != nil {
		return err
	}
	mark, err := o.Mark(ctx)
	if err != nil {
		return err
	}
	return p.note(Record{Event: evGot, Key: args[0], Fence: mark.Fence})
}

// value KEY FILE gets a value, which is the number of the worker that computes it,
// when a file is there.
func (p *player) value(ctx context.Context, args []string) error {
	if err := p.note(Record{Event: evAsks, Key: args[0]}); err != nil {
		return err
	}
	v := distributed.NewValue(p.client, args[0], func(ctx context.Context) (int, error) {
		return p.id, p.under(ctx, args[0], args[1], 0)
	})
	n, err := v.Get(ctx)
	if err != nil {
		return err
	}
	return p.note(Record{Event: evGot, Key: args[0], N: n})
}

// perRound is more than there are workers: a result of a Group says its round and
// its worker.
const perRound = 100

// group KEY ROUND FILE gets the result of a round, which is made when a file is
// there.
func (p *player) group(ctx context.Context, args []string) error {
	round, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	if err := p.note(Record{Event: evAsks, Key: args[0], N: round}); err != nil {
		return err
	}
	if p.flights == nil {
		p.flights = distributed.NewGroup[int](p.client, groupName)
	}
	n, _, err := p.flights.Do(ctx, args[0], func(ctx context.Context) (int, error) {
		return round*perRound + p.id, p.under(ctx, args[0], args[2], round)
	})
	if err != nil {
		return err
	}
	return p.note(Record{Event: evGot, Key: args[0], N: n})
}
