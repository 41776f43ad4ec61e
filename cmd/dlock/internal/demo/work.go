package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/distributed-go/distributed"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/mutex"
)

// player is a worker process: it uses the library as any program would, and
// writes down what it does.
type player struct {
	id      int
	client  *distributed.Client
	journal *os.File

	mu     *distributed.Mutex // of the last lock or enqueue
	ticket *mutex.Ticket      // of the last enqueue

	flights *distributed.Group[int] // of the first group
}

// Work is a worker process. Args are its number, the URL of the servers and the
// lease to ask for; stdin says what to do, stdout is the journal. It returns
// when stdin ends, whatever it is doing then: that is how a worker ends with
// the demo, and the process must end with it. A nil open is distributed.Open.
func Work(ctx context.Context, args []string, stdin io.Reader, stdout *os.File, open Open) error {
	if len(args) != 3 {
		return fmt.Errorf("want the number, the URL and the lease of a worker, not %q", args)
	}
	id, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	ttl, err := time.ParseDuration(args[2])
	if err != nil {
		return err
	}
	client, err := open.open(args[1], locker.WithTTL(ttl))
	if err != nil {
		return err
	}
	p := &player{id: id, client: client, journal: stdout}
	if err := p.note(Record{Event: evReady}); err != nil {
		return err
	}
	orders := make(chan string)
	go func() {
		for line := range orders {
			if err := p.obey(ctx, strings.Fields(line)); err != nil {
				_ = p.note(Record{Event: evFailed, Err: fmt.Sprintf("%.200s: %.200v", line, err)})
			}
		}
	}()
	for lines := bufio.NewScanner(stdin); lines.Scan(); {
		orders <- lines.Text()
	}
	return nil
}

func (p *player) note(r Record) error {
	r.Worker = p.id
	return r.write(p.journal)
}

// verbs are what a worker can be told.
var verbs = map[string]func(p *player, ctx context.Context, args []string) error{
	"lock":    (*player).lock,
	"unlock":  (*player).unlock,
	"enqueue": (*player).enqueue,
	"prepare": (*player).prepare,
	"wait":    (*player).wait,
	"count":   (*player).count,
	"slots":   (*player).slots,
	"visit":   (*player).visit,
	"check":   (*player).check,
	"write":   (*player).write,
	"once":    (*player).once,
	"value":   (*player).value,
	"group":   (*player).group,
}

func (p *player) obey(ctx context.Context, words []string) error {
	if len(words) == 0 {
		return errors.New("told nothing")
	}
	do, ok := verbs[words[0]]
	if !ok {
		return fmt.Errorf("told to %q, which is not known", words[0])
	}
	return do(p, ctx, words[1:])
}

// entered notes that a lock was given, with its fence.
func (p *player) entered(l *distributed.Lease) error {
	fence, _ := l.Fence()
	return p.note(Record{Event: evEnter, Key: l.Key(), Fence: fence})
}

// lock KEY waits for a mutex.
func (p *player) lock(ctx context.Context, args []string) error {
	p.mu = distributed.NewMutex(p.client, args[0])
	if err := p.note(Record{Event: evAsks, Key: args[0]}); err != nil {
		return err
	}
	if err := p.mu.LockContext(ctx); err != nil {
		return err
	}
	return p.entered(p.mu.Lease())
}

// unlock gives it back.
func (p *player) unlock(ctx context.Context, _ []string) error {
	if err := p.note(Record{Event: evExit, Key: p.mu.Lease().Key()}); err != nil {
		return err
	}
	return p.mu.UnlockContext(ctx)
}

// enqueue KEY takes a place in the queue of a mutex.
func (p *player) enqueue(ctx context.Context, args []string) error {
	p.mu = distributed.NewMutex(p.client, args[0])
	t, err := p.mu.Enqueue(ctx)
	if err != nil {
		return err
	}
	p.ticket = t
	event := evQueued
	if t.Acquired() {
		event = evAcquired
	}
	return p.note(Record{Event: event, Key: args[0]})
}

// prepare does something else while the place is kept.
func (p *player) prepare(context.Context, []string) error {
	return p.note(Record{Event: evDone, N: 1})
}

// wait waits for the turn of the place.
func (p *player) wait(ctx context.Context, _ []string) error {
	if err := p.ticket.Wait(ctx); err != nil {
		return err
	}
	return p.entered(p.mu.Lease())
}

// count FILE N [KEY] increments the number in a file, under the mutex of KEY,
// or under none.
func (p *player) count(_ context.Context, args []string) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	lock, unlock := func() {}, func() {}
	if len(args) > 2 {
		mu := distributed.NewMutex(p.client, args[2])
		lock, unlock = mu.Lock, mu.Unlock
	}
	for range n {
		lock()
		err := increment(args[0])
		unlock()
		if err != nil {
			return err
		}
	}
	return p.note(Record{Event: evDone, N: n})
}

// slots KEY LIMIT ROUNDS HOLD holds a slot of a semaphore for a while, round
// after round.
func (p *player) slots(ctx context.Context, args []string) error {
	limit, err1 := strconv.ParseInt(args[1], 10, 64)
	rounds, err2 := strconv.Atoi(args[2])
	hold, err3 := time.ParseDuration(args[3])
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	slots := distributed.NewSemaphore(p.client, args[0], limit)
	for range rounds {
		err := slots.Do(ctx, 1, func(context.Context) error {
			if err := p.note(Record{Event: evEnter, Key: args[0]}); err != nil {
				return err
			}
			time.Sleep(hold)
			return p.note(Record{Event: evExit, Key: args[0]})
		})
		if err != nil {
			return err
		}
	}
	return p.note(Record{Event: evDone, N: rounds})
}

// visit KEY... holds each key once, one after the other.
func (p *player) visit(ctx context.Context, keys []string) error {
	for _, key := range keys {
		err := distributed.NewMutex(p.client, key).Do(ctx, func(context.Context) error {
			if err := p.note(Record{Event: evEnter, Key: key}); err != nil {
				return err
			}
			return p.note(Record{Event: evExit, Key: key})
		})
		if err != nil {
			return err
		}
	}
	return p.note(Record{Event: evDone, N: len(keys)})
}

// check checks the lease of the mutex that is, or was, held.
func (p *player) check(context.Context, []string) error {
	r := Record{Event: evChecked, Key: p.mu.Lease().Key()}
	switch err := p.mu.Lease().Check(); {
	case errors.Is(err, distributed.ErrLost):
		r.Err = lost
	case err != nil:
		return err
	}
	return p.note(r)
}

// write FILE TEXT writes to a guarded file, with the fence of the mutex that
// is, or was, held. It does not check first: the guard is what is to refuse.
func (p *player) write(_ context.Context, args []string) error {
	fence, ok := p.mu.Lease().Fence()
	if !ok {
		return errors.New("the lease has no fence")
	}
	r := Record{Event: evWrote, Fence: fence}
	switch err := guard(args[0]).write(fence, args[1]); {
	case errors.Is(err, errStale):
		r.Event, r.Err = evRefused, err.Error()
	case err != nil:
		return err
	}
	return p.note(r)
}
