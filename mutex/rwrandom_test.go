package mutex_test

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/memory"
	"github.com/distributed-go/distributed/mutex"
)

// A house counts who is inside.
type house struct{ readers, writers atomic.Int32 }

// enter checks that no writer is in the house with anybody else. It returns the
// way out.
func (h *house) enter(t *testing.T, what string, writes bool) (leave func()) {
	t.Helper()
	mine := &h.readers
	if writes {
		mine = &h.writers
	}
	mine.Add(1)
	if r, w := h.readers.Load(), h.writers.Load(); w > 1 || w == 1 && r > 0 {
		t.Errorf("%d writers and %d readers %s", w, r, what)
	}
	return func() { mine.Add(-1) }
}

// An rwProcess of the random test has one RW, which many goroutines share.
type rwProcess struct {
	process
	rw     *mutex.RW
	inside house  // goroutines that have locked rw, lost or not
	world  *house // those of all processes, where connections do not break
}

// TestRWRandomUse: goroutines of three processes read and write in every way
// there is. A writer is never inside with anybody else: of the same handle not
// even when connections break and leases are lost, of all processes when they do
// not. All of them get their turns: a synctest bubble knows a deadlock.
func TestRWRandomUse(t *testing.T) {
	for _, breaks := range []bool{false, true} {
		for range 10 {
			synctest.Test(t, func(t *testing.T) { rwRandomUse(t, breaks) })
		}
	}
}

func rwRandomUse(t *testing.T, breaks bool) {
	const processes, goroutines, rounds = 3, 10, 12
	s := memory.NewServer()
	var world house
	var wg, faults sync.WaitGroup
	stop := make(chan struct{})
	for i := range processes {
		b := s.Backend()
		c := locker.New(b, locker.WithTTL(ttl), locker.WithLogger(slog.New(slog.DiscardHandler)))
		defer c.Close()
		p := &rwProcess{process: process{t: t, backend: b}, rw: mutex.NewRW(c, "k").WithLocalHandover(i * 3)}
		if breaks {
			faults.Go(func() { p.breakConnections(stop) })
		} else {
			p.world = &world
		}
		for range goroutines {
			wg.Go(func() {
				for range rounds {
					p.round()
				}
			})
		}
	}
	wg.Wait()
	close(stop)
	faults.Wait()
	synctest.Wait()
	free(t, s)
}

// round locks the RW, or not, in one of the ways there are.
func (p *rwProcess) round() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rand.Int64N(int64(20*time.Second))))
	defer cancel()
	time.Sleep(time.Duration(rand.Int64N(int64(time.Second))))
	switch mu := p.rw; rand.IntN(8) {
	case 0:
		mu.Lock()
		p.stay(true)
		mu.Unlock()
	case 1:
		mu.RLock()
		p.stay(false)
		mu.RUnlock()
	case 2:
		if p.expected(mu.LockContext(ctx)) {
			p.stay(true)
			p.expected(mu.UnlockContext(ctx))
		}
	case 3:
		if p.expected(mu.RLockContext(ctx)) {
			p.stay(false)
			p.expected(mu.RUnlockContext(ctx))
		}
	case 4:
		if mu.TryLock() {
			p.stay(true)
			mu.Unlock()
		}
	case 5:
		if mu.TryRLock() {
			p.stay(false)
			mu.RUnlock()
		}
	case 6:
		p.expected(mu.Do(ctx, p.visit(true)))
	default:
		p.expected(mu.RDo(ctx, p.visit(false)))
	}
}

func (p *rwProcess) visit(writes bool) func(context.Context) error {
	return func(ctx context.Context) error {
		p.stay(writes)
		assert.Matches(p.t, p.rw.RLockContext(ctx), mutex.ErrUpgrade)
		return nil
	}
}

// stay is what the RW guards.
func (p *rwProcess) stay(writes bool) {
	defer p.inside.enter(p.t, "of one process are inside", writes)()
	if p.world != nil {
		defer p.world.enter(p.t, "of all processes are inside", writes)()
	}
	time.Sleep(time.Duration(rand.Int64N(int64(time.Second))))
}
