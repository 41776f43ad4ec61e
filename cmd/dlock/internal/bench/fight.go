//go:build unix

package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"

	"github.com/distributed-go/distributed"
	"github.com/distributed-go/distributed/internal/figures"
	"github.com/distributed-go/distributed/internal/measure"
	"github.com/distributed-go/distributed/locker"
)

// A brawl is a way to fight for one key.
type brawl struct {
	name  string
	label string
	limit string // how the limit is called
	locks []measure.Lock
	// every is Fight's Every.
	every  int
	shared bool
	// missing is why it cannot be.
	missing error
	c       *measure.Contestant
}

// oneKey is goroutines that want the same key, in all ways there are.
func (s *stage) oneKey(ctx context.Context) ([]Row, error) {
	yards := s.yards(1, true)
	cs := append([]*measure.Contestant(nil), yards...)
	brawls := []*brawl{s.ownMutexes(), s.readWrite(ctx, 90), s.readWrite(ctx, 50), s.handOvers(ctx)}
	for _, b := range brawls {
		if b.missing != nil {
			continue
		}
		f := &measure.Fight{Locks: b.locks, Every: b.every, Shared: b.shared}
		b.c = &measure.Contestant{Name: b.name, ServerCPU: s.ownCPU(), Turn: func(ctx context.Context) (measure.Block, error) { return f.Run(ctx, s.Block) }}
		cs = append(cs, b.c)
	}
	if err := s.turns(ctx, s.Rounds, fmt.Sprintf("%d goroutines, one key", few), cs...); err != nil {
		return nil, err
	}
	rows := make([]Row, len(brawls))
	for i, b := range brawls {
		rows[i] = b.row(yards)
	}
	return rows, nil
}

func (b *brawl) row(yards []*measure.Contestant) Row {
	if b.missing != nil {
		return Row{Name: b.name, LimitName: b.limit, Missing: reason(b.missing)}
	}
	rate := (*measure.Block).ChangeRate
	if b.shared {
		rate = (*measure.Block).Rate
	}
	r := row(b.name, b.label, "/s", b.limit, b.c, rate, yards, (*measure.Block).Rate)
	r.P99 = figures.Known(b.c.All(func(b *measure.Block) figures.Sample { return b.Handovers }).Quantile(0.99))
	r.Fairness = figures.Known(b.c.Fairness())
	return r
}

// reason is what went wrong, without the key and server that a user of the bench
// did not choose.
func reason(err error) string {
	var e *locker.Error
	if errors.As(err, &e) {
		err = e.Err
	}
	return err.Error()
}

// mutexLock is a Mutex as a contender.
type mutexLock struct{ *distributed.Mutex }

// Lock locks.
func (l mutexLock) Lock(ctx context.Context) error { return l.LockContext(ctx) }

// Unlock unlocks.
func (l mutexLock) Unlock(ctx context.Context) error { return l.UnlockContext(ctx) }

// ownMutexes is a Mutex for each goroutine.
func (s *stage) ownMutexes() *brawl {
	b := &brawl{name: fmt.Sprintf("%d goroutines, one key: owner changes", few), label: "Mutex, owner changes", limit: oneEcho}
	for range few {
		b.locks = append(b.locks, mutexLock{distributed.NewMutex(s.client, key("one", 0))})
	}
	return b
}

// handOvers is one Mutex that all share, with local hand-over.
func (s *stage) handOvers(ctx context.Context) *brawl {
	b := &brawl{
		name: fmt.Sprintf("%d goroutines, one key, local hand-over: owner changes", few), label: "Mutex, local hand-over",
		limit: "pairs of the echo, over a socket", every: handoverEvery,
	}
	m := distributed.NewMutex(s.client, key("local", 0)).WithLocalHandover(handovers)
	for range few {
		b.locks = append(b.locks, mutexLock{m})
	}
	b.missing = m.LockContext(ctx)
	if b.missing == nil {
		b.missing = m.UnlockContext(ctx)
	}
	return b
}

const (
	// oneEcho is the limit of what goes through a server from hand to hand.
	oneEcho = "pairs of the echo, one goroutine"

	// handovers is how often the lock stays in the process, and handoverEvery
	// how many of them there are to one whose time is taken.
	handovers     = 100_000
	handoverEvery = 64
)

// readWrite is readers and writers of one key, in a mix of so many readers of a
// hundred.
func (s *stage) readWrite(ctx context.Context, percent int) *brawl {
	b := &brawl{name: fmt.Sprintf("%d goroutines, one key, %d%% readers", few, percent), label: fmt.Sprintf("RWMutex, %d%% readers", percent), limit: oneEcho, shared: true}
	for range few {
		b.locks = append(b.locks, &readWriter{rw: distributed.NewRWMutex(s.client, key("rw", percent)), percent: percent})
	}
	// Whether the servers know weights is for them to say.
	probe := distributed.NewRWMutex(s.client, key("rw", percent))
	if b.missing = probe.LockContext(ctx); b.missing == nil {
		b.missing = probe.UnlockContext(ctx)
	}
	return b
}

// A readWriter reads or writes, as chance will have it.
type readWriter struct {
	rw      *distributed.RWMutex
	percent int
	reads   bool
}

// Lock locks.
func (w *readWriter) Lock(ctx context.Context) error {
	if w.reads = rand.IntN(100) < w.percent; w.reads {
		return w.rw.RLockContext(ctx)
	}
	return w.rw.LockContext(ctx)
}

// Unlock unlocks.
func (w *readWriter) Unlock(ctx context.Context) error {
	if w.reads {
		return w.rw.RUnlockContext(ctx)
	}
	return w.rw.UnlockContext(ctx)
}
