package mutex_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
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

// A census is a backend that counts what it is asked for.
type census struct {
	*memory.Backend
	acquires, releases atomic.Int32
	unfenced           atomic.Bool // it gives no fences
	mute               atomic.Bool // it answers no renewals
}

func (c *census) Renew(ctx context.Context, renewals []locker.Renewal) {
	if !c.mute.Load() {
		c.Backend.Renew(ctx, renewals)
		return
	}
	for i := range renewals {
		renewals[i].Err = locker.ErrUnavailable
	}
}

func (c *census) Acquire(ctx context.Context, req locker.Request) (locker.Grant, error) {
	c.acquires.Add(1)
	g, err := c.Backend.Acquire(ctx, req)
	if c.unfenced.Load() {
		g.Fence = 0
	}
	return g, err
}

func (c *census) Release(ctx context.Context, h locker.Hold) error {
	c.releases.Add(1)
	return c.Backend.Release(ctx, h)
}

// A handler is what Mutex and the writing side of RW have in common.
type handler interface {
	sync.Locker
	LockContext(ctx context.Context) error
	UnlockContext(ctx context.Context) error
	Do(ctx context.Context, f func(context.Context) error) error
	Lease() *locker.Lease
}

// handing runs a test of a Mutex, and of an RW, whose goroutines hand it on n
// times, and of the lock of another process.
func handing(t *testing.T, n int, f func(t *testing.T, b *census, mu, other handler)) {
	for name, pair := range map[string]func(a, b *locker.Client) (mu, other handler){
		"Mutex": func(a, b *locker.Client) (mu, other handler) {
			return mutex.New(a, "k").WithLocalHandover(n), mutex.New(b, "k")
		},
		"RW": func(a, b *locker.Client) (mu, other handler) {
			return mutex.NewRW(a, "k").WithLocalHandover(n), mutex.NewRW(b, "k")
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := memory.NewServer()
				b := &census{Backend: s.Backend()}
				c := locker.New(b, locker.WithTTL(ttl))
				defer c.Close()
				mu, other := pair(c, newClient(t, s))
				f(t, b, mu, other)
				free(t, s)
			})
		})
	}
}

// queue makes n goroutines, and then one of another process, lock in that order
// behind a holder who unlocks when all queue. Each stays for a while. It returns
// who had the lock, in order: "." for one of the goroutines, "o" for the other.
func queue(t *testing.T, n int, stay time.Duration, mu, other handler) string {
	t.Helper()
	var wg sync.WaitGroup
	var order strings.Builder // guarded by the lock
	var last, next int
	var fence uint64
	join := func(mu handler, sign byte) {
		i := next
		next++
		wg.Go(func() {
			mu.Lock()
			order.WriteByte(sign)
			if sign == '.' {
				if i < last {
					t.Errorf("goroutine %d comes after %d", i, last)
				}
				last = i
			}
			f, _ := mu.Lease().Fence()
			if f <= fence {
				t.Errorf("fence %d comes after %d", f, fence)
			}
			fence = f
			time.Sleep(stay)
			assert.Sure(t, mu.Lease().Check())
			mu.Unlock()
		})
		synctest.Wait()
	}
	mu.Lock()
	fence, _ = mu.Lease().Fence()
	for range n {
		join(mu, '.')
	}
	join(other, 'o')
	first := mu.Lease()
	mu.Unlock()
	assert.Matches(t, first.Check(), locker.ErrNotHeld)
	wg.Wait()
	return order.String()
}

// TestHandover: goroutines hand on in FIFO order, each with a larger fence, and
// the backend hears nothing of it.
func TestHandover(t *testing.T) {
	handing(t, 100, func(t *testing.T, b *census, mu, other handler) {
		assert.Exactly(t, "order", queue(t, 20, time.Second/10, mu, other), strings.Repeat(".", 20)+"o")
		assert.Exactly(t, "acquisitions", b.acquires.Load(), 1)
		assert.Exactly(t, "releases", b.releases.Load(), 1)
	})
}

// TestHandoverIsBound: after n of them, or a third of the TTL, another process
// has its turn.
func TestHandoverIsBound(t *testing.T) {
	for _, c := range []struct {
		n    int
		stay time.Duration
		want string
	}{
		{0, time.Millisecond, "o...................."},
		{1, time.Millisecond, ".o..................."},
		{5, time.Millisecond, ".....o..............."},
		{20, time.Millisecond, "....................o"},
		{1000, time.Second, "....o................"},
		{1000, ttl / 3, ".o..................."},
		{1000, 3 * ttl, ".o..................."},
	} {
		t.Run(fmt.Sprint(c.n, " ", c.stay), func(t *testing.T) {
			handing(t, c.n, func(t *testing.T, _ *census, mu, other handler) {
				want := c.want
				if _, rw := mu.(*mutex.RW); rw && c.n == 0 {
					want = "....................o" // all wait at the backend
				}
				assert.Exactly(t, "order", queue(t, 20, c.stay, mu, other), want)
			})
		})
	}
}

// TestHandoverIsBoundWithoutFences: not only because they are used up.
func TestHandoverIsBoundWithoutFences(t *testing.T) {
	handing(t, 3, func(t *testing.T, b *census, mu, other handler) {
		b.unfenced.Store(true)
		var wg sync.WaitGroup
		mu.Lock()
		for range 7 {
			wg.Go(func() {
				mu.Lock()
				mu.Unlock() //lint:ignore SA2001 there is nothing to guard
			})
		}
		synctest.Wait()
		mu.Unlock()
		wg.Wait()
		assert.Exactly(t, "acquisitions", b.acquires.Load(), 2)
	})
}

// TestHandoverOfALongHold: what was handed over is kept alive.
func TestHandoverOfALongHold(t *testing.T) {
	handing(t, 1, func(t *testing.T, b *census, mu, other handler) {
		mu.Lock()
		held := make(chan *locker.Lease)
		go func() {
			mu.Lock()
			held <- mu.Lease()
		}()
		synctest.Wait()
		mu.Unlock()
		l := <-held
		time.Sleep(10 * ttl)
		assert.Sure(t, l.Check())
		assert.Exactly(t, "acquisitions", b.acquires.Load(), 1)
		assert.Sure(t, mu.UnlockContext(t.Context()))
	})
}

// TestHandoverByDo, also of one that panics, or unlocks itself.
func TestHandoverByDo(t *testing.T) {
	handing(t, 10, func(t *testing.T, b *census, mu, other handler) {
		for _, f := range []func(context.Context) error{
			func(context.Context) error { return nil },
			func(context.Context) error { panic("boom") },
			func(context.Context) error { mu.Unlock(); return nil },
		} {
			before := b.acquires.Load()
			inside, leave, next := make(chan struct{}), make(chan struct{}), make(chan struct{})
			go func() {
				defer func() { recover() }() //nolint:errcheck // the panic above
				assert.Sure(t, mu.Do(context.Background(), func(ctx context.Context) error {
					close(inside)
					<-leave
					return f(ctx)
				}))
			}()
			<-inside
			go func() {
				defer close(next)
				assert.Sure(t, mu.Do(context.Background(), func(ctx context.Context) error { return mu.Lease().Check() }))
			}()
			synctest.Wait()
			close(leave)
			<-next
			synctest.Wait()
			assert.Exactly(t, "acquisitions", b.acquires.Load()-before, 1)
		}
	})
}

// TestHandoverAfterALoss: a lease that was lost, or released behind the Mutex's
// back, is not handed on. The next asks the backend.
func TestHandoverAfterALoss(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, b *census, l *locker.Lease){
		"lost":     func(_ *testing.T, b *census, _ *locker.Lease) { b.Disconnect() },
		"released": func(t *testing.T, _ *census, l *locker.Lease) { assert.Sure(t, l.Release(t.Context())) },
	} {
		t.Run(name, func(t *testing.T) {
			handing(t, 10, func(t *testing.T, b *census, mu, other handler) {
				mu.Lock()
				locked := make(chan struct{})
				go func() {
					mu.Lock()
					close(locked)
				}()
				synctest.Wait()
				end(t, b, mu.Lease())
				synctest.Wait()
				select {
				case <-locked:
					t.Error("a loss unlocked the lock")
				default:
				}
				err := mu.UnlockContext(t.Context())
				if name == "lost" {
					assert.Matches(t, err, locker.ErrLost)
				} else {
					assert.Sure(t, err)
				}
				<-locked
				assert.Sure(t, mu.Lease().Check())
				assert.Exactly(t, "acquisitions", b.acquires.Load(), 2)
				mu.Unlock()
			})
		})
	}
}

// TestHandoverOfWhatIsNearlyOver: a grant that came late, and is not renewed, is
// handed on while at least half of it is left, and not later: the next has a new
// one.
func TestHandoverOfWhatIsNearlyOver(t *testing.T) {
	handing(t, 10, func(t *testing.T, b *census, mu, other handler) {
		other.Lock()
		var locked [3]chan struct{}
		for i := range locked {
			locked[i] = make(chan struct{})
			go func() {
				mu.Lock()
				close(locked[i])
			}()
			synctest.Wait()
		}
		time.Sleep(ttl * 4 / 10)
		b.mute.Store(true)
		other.Unlock()
		for i, want := range []struct {
			acquisitions int32
			left         time.Duration
		}{{1, ttl / 2}, {1, ttl / 2}, {2, ttl * 9 / 10}} {
			<-locked[i]
			assert.Exactly(t, "acquisitions", b.acquires.Load(), want.acquisitions)
			if left := time.Until(mu.Lease().Deadline()); left < want.left {
				t.Errorf("%v are left of the lease, want at least %v", left, want.left)
			}
			time.Sleep(ttl / 20)
			mu.Unlock()
		}
	})
}

// TestHandoverToNobody: who gave up waiting is passed over.
func TestHandoverToNobody(t *testing.T) {
	handing(t, 10, func(t *testing.T, b *census, mu, other handler) {
		mu.Lock()
		ctx, cancel := context.WithCancel(t.Context())
		gone := make(chan error)
		go func() { gone <- mu.LockContext(ctx) }()
		synctest.Wait()
		locked := make(chan struct{})
		go func() {
			mu.Lock()
			close(locked)
		}()
		synctest.Wait()
		cancel()
		assert.Matches(t, <-gone, context.Canceled, locker.ErrLocked)
		mu.Unlock()
		<-locked
		assert.Exactly(t, "acquisitions", b.acquires.Load(), 1)
		mu.Unlock()
		synctest.Wait()
		assert.Exactly(t, "releases", b.releases.Load(), 1)
	})
}

// TestHandoverBehindATicket: who asked the backend before keeps its place before
// those who wait in the process.
func TestHandoverBehindATicket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.NewServer()
		mu := mutex.New(newClient(t, s), "k").WithLocalHandover(10)
		ticket := enqueue(t, mu)
		var order []int
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
			})
			synctest.Wait()
		}
		assert.Sure(t, ticket.Wait(t.Context()))
		mu.Unlock()
		wg.Wait()
		assert.Exactly(t, "order", fmt.Sprint(order), "[0 1 2]")
		free(t, s)
	})
}

// TestHandoverAndReaders: writers hand on, readers run together, and each side
// has its turn.
func TestHandoverAndReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memory.NewServer()
		b := &census{Backend: s.Backend()}
		c := locker.New(b, locker.WithTTL(ttl))
		defer c.Close()
		mu := mutex.NewRW(c, "k").WithLocalHandover(2)
		mu.Lock()
		var order strings.Builder
		var guard sync.Mutex
		var wg sync.WaitGroup
		for _, kind := range "RRWWWWW" {
			var l sync.Locker = mu
			if kind == 'R' {
				l = mu.RLocker()
			}
			wg.Go(func() {
				l.Lock()
				guard.Lock()
				order.WriteRune(kind)
				guard.Unlock()
				time.Sleep(time.Second)
				l.Unlock()
			})
			synctest.Wait()
		}
		began := time.Now()
		mu.Unlock()
		wg.Wait()
		// The holder hands over twice, the readers run, a writer hands over twice.
		assert.Exactly(t, "order", order.String(), "WWRRWWW")
		assert.Exactly(t, "took", time.Since(began), 6*time.Second)
		assert.Exactly(t, "acquisitions", b.acquires.Load(), 4)
		free(t, s)
	})
}

// TestHandoverArguments are returned, or thrown, by the first use.
func TestHandoverArguments(t *testing.T) {
	s := memory.NewServer()
	c := newClient(t, s)
	for n, want := range map[int]string{
		-1:                      "WithLocalHandover(-1): must be from 0 to 1048575",
		mutex.MostHandovers + 1: "WithLocalHandover(1048576): must be from 0 to 1048575",
	} {
		for _, mu := range []handler{mutex.New(c, "k").WithLocalHandover(n), mutex.NewRW(c, "k").WithLocalHandover(n)} {
			err := mu.LockContext(t.Context())
			assert.Matches(t, err, locker.ErrInvalid)
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("LockContext: %v", err)
			}
			assert.Matches(t, panics(t, "Lock", mu.Lock), locker.ErrInvalid)
		}
	}
	for _, mu := range []handler{mutex.New(c, "a b").WithLocalHandover(1), mutex.NewRW(c, "a b").WithLocalHandover(1)} {
		assert.Matches(t, mu.LockContext(t.Context()), locker.ErrInvalid)
	}
	for _, mu := range []handler{mutex.New(c, "k").WithLocalHandover(mutex.MostHandovers), mutex.NewRW(c, "k").WithLocalHandover(mutex.MostHandovers)} {
		mu.Lock()
		mu.Unlock() //lint:ignore SA2001 there is nothing to guard
	}
	first := mutex.New(c, "k", locker.WithTTL(time.Minute))
	second := first.WithLocalHandover(3)
	second.Lock()
	assert.Exactly(t, "TTL", second.Lease().TTL(), time.Minute)
	assert.Exactly(t, "TryLock of the first", first.TryLock(), false)
	second.Unlock()
	for _, f := range []func(){
		func() { new(mutex.Mutex).WithLocalHandover(1) },
		func() { new(mutex.RW).WithLocalHandover(1) },
	} {
		assert.Exactly(t, "of a zero value", panics(t, "WithLocalHandover", f) != nil, true)
	}
	free(t, s)
}

// TestHandoverOnTheBaseProtocol: a grant has one fence there, which is said at
// once, and no other is invented.
func TestHandoverOnTheBaseProtocol(t *testing.T) {
	mu := mutex.New(onBaseProtocol(t), "k").WithLocalHandover(1)
	assert.Matches(t, mu.LockContext(t.Context()), errors.ErrUnsupported)
	assert.Matches(t, mu.TryLockContext(t.Context()), errors.ErrUnsupported)
	assert.Matches(t, panics(t, "Lock", mu.Lock), errors.ErrUnsupported)
}
