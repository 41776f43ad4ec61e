package mutex_test

import (
	"context"
	"errors"
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

// A process of the random test has one Mutex, which many goroutines share.
type process struct {
	t       *testing.T
	backend *memory.Backend
	mu      *mutex.Mutex
	inside  atomic.Int32 // goroutines that have locked mu
	held    *atomic.Int32
	locked  atomic.Int32 // how often
}

// TestRandomUse: goroutines of two processes lock one key in every way there is,
// while connections break. Goroutines that share a Mutex never are inside
// together, not even after a loss, those of different processes only after one,
// and all of them get their turns: a synctest bubble knows a deadlock.
func TestRandomUse(t *testing.T) {
	const goroutines, rounds = 12, 15
	for range 15 {
		synctest.Test(t, func(t *testing.T) {
			s := memory.NewServer()
			var held atomic.Int32
			var wg, faults sync.WaitGroup
			var processes []*process
			stop := make(chan struct{})
			for _, handovers := range []int{0, 3} {
				b := s.Backend()
				c := locker.New(b, locker.WithTTL(ttl), locker.WithLogger(slog.New(slog.DiscardHandler)))
				defer c.Close()
				p := &process{t: t, backend: b, mu: mutex.New(c, "k").WithLocalHandover(handovers), held: &held}
				processes = append(processes, p)
				for range goroutines {
					wg.Go(func() {
						for range rounds {
							p.round()
						}
					})
				}
				faults.Go(func() { p.breakConnections(stop) })
			}
			wg.Wait()
			close(stop)
			faults.Wait()
			synctest.Wait()
			for _, p := range processes {
				assert.Exactly(t, "inside in the end", p.inside.Load(), 0)
				if p.locked.Load() < rounds {
					t.Errorf("locked %d times only", p.locked.Load())
				}
				if p.mu.Lease() != nil {
					t.Error("still locked")
				}
			}
			// Tickets that were forgotten, or lost their connection, have their
			// turns one after the other. A lease that is kept alive stays.
			time.Sleep(2 * goroutines * ttl)
			free(t, s)
		})
	}
}

func (p *process) breakConnections(stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(rand.Int64N(int64(time.Minute)))):
			p.backend.Disconnect()
		}
	}
}

// round locks the Mutex, or not, in one of the ways there are.
func (p *process) round() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(rand.Int64N(int64(20*time.Second))))
	defer cancel()
	time.Sleep(time.Duration(rand.Int64N(int64(time.Second))))
	switch rand.IntN(6) {
	case 0:
		p.mu.Lock()
		p.work()
		p.mu.Unlock()
	case 1:
		if p.expected(p.mu.LockContext(ctx)) {
			p.work()
			p.expected(p.mu.UnlockContext(context.Background()))
		}
	case 2:
		if p.mu.TryLock() {
			p.work()
			p.expected(p.mu.UnlockContext(ctx))
		}
	case 3:
		p.expected(p.mu.Do(ctx, func(context.Context) error {
			p.work()
			return nil
		}))
	default:
		p.ticket(ctx)
	}
}

// ticket enqueues, and then waits, or gives up, or forgets.
func (p *process) ticket(ctx context.Context) {
	ticket, err := p.mu.Enqueue(ctx)
	if !p.expected(err) {
		return
	}
	time.Sleep(time.Duration(rand.Int64N(int64(3 * time.Second))))
	switch rand.IntN(6) {
	case 0:
		p.expected(ticket.Cancel(ctx))
		return
	case 1:
		return
	case 2:
		time.AfterFunc(time.Duration(rand.Int64N(int64(5*time.Second))), func() { p.expected(ticket.Cancel(context.Background())) })
	}
	if p.expected(ticket.Wait(ctx)) {
		p.work()
		p.mu.Unlock()
	}
}

// expected says whether there is no error, and complains about those that
// nothing here explains.
func (p *process) expected(err error) bool {
	for _, ok := range []error{nil, locker.ErrLost, locker.ErrLocked, locker.ErrUnavailable, context.DeadlineExceeded, context.Canceled} {
		if errors.Is(err, ok) {
			return err == nil
		}
	}
	p.t.Errorf("unexpected: %v", err)
	return false
}

// work is what the Mutex guards.
func (p *process) work() {
	p.locked.Add(1)
	if n := p.inside.Add(1); n != 1 {
		p.t.Errorf("%d goroutines of one process are inside", n)
	}
	defer p.inside.Add(-1)
	l := p.mu.Lease()
	if l == nil {
		p.t.Error("inside without a lease")
		return
	}
	for range 3 {
		if p.believes(l) {
			time.Sleep(time.Duration(rand.Int64N(int64(time.Second))))
		}
	}
}

// believes says whether the lease is held, and checks that then no other is.
func (p *process) believes(l *locker.Lease) bool {
	if l.Check() != nil {
		return false
	}
	defer p.held.Add(-1)
	if n := p.held.Add(1); n != 1 && l.Check() == nil {
		p.t.Errorf("%d processes believe in their lease", n)
	}
	return true
}
