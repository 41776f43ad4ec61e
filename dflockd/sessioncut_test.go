package dflockd

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/locker"
)

// A scissors is a connection that breaks after so many bytes in one direction;
// below zero there is no end.
type scissors struct {
	net.Conn
	mu            sync.Mutex
	writes, reads int // guarded by mu
}

var errCut = errors.New("cut")

// take returns how many of n bytes may pass, and whether the connection breaks
// behind them.
func (c *scissors) take(left *int, n int) (int, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if *left < 0 {
		return n, false
	}
	pass := min(n, *left)
	*left -= pass
	return pass, *left == 0
}

func (c *scissors) Write(p []byte) (int, error) {
	n, cut := c.take(&c.writes, len(p))
	if n > 0 {
		if n, err := c.Conn.Write(p[:n]); err != nil {
			return n, err
		}
	}
	if cut {
		c.Conn.Close()
		return n, errCut
	}
	return n, nil
}

func (c *scissors) Read(p []byte) (int, error) {
	c.mu.Lock()
	left := c.reads
	c.mu.Unlock()
	if left > 0 {
		p = p[:min(len(p), left)]
	}
	n, err := c.Conn.Read(p)
	if _, cut := c.take(&c.reads, n); cut {
		c.Conn.Close()
		return n, errCut
	}
	return n, err
}

// TestCutsAtEveryByte breaks the first connection behind every byte of the
// requests and of the answers of a short scenario, and sometimes the second one
// too. Nothing may be lost, nothing left
// behind, and nobody may hold what somebody else holds.
func TestCutsAtEveryByte(t *testing.T) { cutEverywhere(t, scenario) }

// TestCutsOfValuesAtEveryByte does the same to puts, removals and joins.
func TestCutsOfValuesAtEveryByte(t *testing.T) { cutEverywhere(t, valueScenario) }

// A play is what two backends do, the first of which is cut.
type play func(s *sessions, b, other *Backend)

func cutEverywhere(t *testing.T, scene play) {
	for _, direction := range []string{"requests", "answers"} {
		t.Run(direction, func(t *testing.T) {
			for at := 1; ; at++ {
				if !cutScenario(t, scene, direction == "requests", at, -1) {
					t.Logf("%d positions", at)
					break
				}
				for again := 1 + at%53; again < 300; again += 53 {
					cutScenario(t, scene, direction == "requests", at, again)
				}
				if t.Failed() {
					t.Fatalf("position %d", at)
				}
			}
		})
	}
}

// cutScenario cuts the first connection behind byte at, and the second behind
// byte again, and says whether the first was cut at all.
func cutScenario(t *testing.T, scene play, requests bool, at, again int) (cut bool) {
	sessionBubble(t, func(s *sessions) {
		var number atomic.Int64
		other := s.backend()
		b := s.backendOver(func(ctx context.Context, addr string) (net.Conn, error) {
			nc, err := s.net.dial(ctx, addr)
			c := &scissors{Conn: nc, writes: -1, reads: -1}
			limit := map[int64]int{1: at, 2: again}[number.Add(1)]
			if limit == 0 {
				limit = -1
			}
			if requests {
				c.writes = limit
			} else {
				c.reads = limit
			}
			return c, err
		})
		scene(s, b, other)
		s.expect(0, 0)
		cut = number.Load() > 1
	})
	return cut
}

// stubborn does what a Client does in an outage.
func stubborn[T any](s *sessions, f func() (T, error)) T {
	s.Helper()
	for range 200 {
		v, err := f()
		if err == nil {
			return v
		}
		if !errors.Is(err, locker.ErrUnavailable) && !errors.Is(err, locker.ErrPlaceExpired) {
			s.Errorf("failed: %v", err)
			return v
		}
		time.Sleep(20 * time.Millisecond)
	}
	s.Error("tried in vain")
	var none T
	return none
}

func scenario(s *sessions, b, other *Backend) {
	ctx := context.Background()
	acquire := func(b *Backend, req locker.Request) locker.Grant {
		s.Helper()
		return stubborn(s, func() (locker.Grant, error) { return b.Acquire(ctx, req) })
	}
	release := func(b *Backend, h locker.Hold) {
		s.Helper()
		if err := b.Release(ctx, h); err != nil {
			s.Errorf("release: %v", err)
		}
	}
	req := lock("a")
	req.TTL = 10 * time.Second
	first := acquire(b, req)
	told := s.bind(first)
	theirs := acquire(other, lock("b"))
	var wg sync.WaitGroup
	var mine locker.Grant
	wg.Go(func() { mine = acquire(b, lock("b")) })
	synctest.Wait()
	over, cancel := context.WithCancel(ctx)
	wg.Go(func() {
		if g, err := b.Acquire(over, lock("b")); err == nil {
			s.Errorf("a wait that was cancelled is granted %v", g.Fence)
		}
	})
	synctest.Wait()
	cancel()
	synctest.Wait()
	wait := stubborn(s, func() (locker.Place, error) { return b.Enqueue(ctx, lock("c")) })
	third, err := wait.Wait(ctx)
	if errors.Is(err, locker.ErrPlaceExpired) || errors.Is(err, locker.ErrUnavailable) {
		third, err = acquire(b, lock("c")), nil
	}
	if err != nil {
		s.Errorf("wait: %v", err)
		return
	}
	time.Sleep(3 * time.Second) // beats
	release(other, hold("b", theirs))
	wg.Wait()
	if mine.Fence <= theirs.Fence {
		s.Errorf("fence %d after %d", mine.Fence, theirs.Fence)
	}
	if _, err := other.Acquire(ctx, try("a")); !errors.Is(err, locker.ErrLocked) {
		s.Errorf("a try at what is held: %v", err)
	}
	if lost := told.told(); len(lost) > 0 {
		s.Errorf("lost: %v", lost)
	}
	release(b, hold("a", first))
	release(b, hold("b", mine))
	release(b, hold("c", third))
}

// valueScenario puts, joins and removes, from both sides. What a put returns must
// be what others find: it was done once.
func valueScenario(s *sessions, b, other *Backend) {
	ctx := context.Background()
	mine := stubborn(s, func() (locker.Grant, error) { return b.Acquire(ctx, lock("k")) })
	var wg sync.WaitGroup
	var theirs *locker.Value
	wg.Go(func() {
		g, v, err := other.Join(ctx, lock("k"), 0)
		if theirs = v; v == nil {
			s.Errorf("who joined got %v, %v", g, err)
		}
	})
	synctest.Wait()
	fence := stubborn(s, func() (uint64, error) { return b.Put(ctx, hold("k", mine), []byte("one"), 0) })
	wg.Wait()
	if theirs != nil && (theirs.Fence != fence || string(theirs.Data) != "one") {
		s.Errorf("who joined got %q with the fence %d, and it was put with %d", theirs.Data, theirs.Fence, fence)
	}
	if v := stubborn(s, func() (locker.Value, error) { return b.Get(ctx, "k") }); v.Fence != fence {
		s.Errorf("the value has the fence %d, and was put with %d", v.Fence, fence)
	}
	stubborn(s, func() (struct{}, error) { return struct{}{}, b.Remove(ctx, hold("k", mine)) })
	if _, err := other.Get(ctx, "k"); !errors.Is(err, locker.ErrNoValue) {
		s.Errorf("after the removal: %v", err)
	}
	if err := b.Release(ctx, hold("k", mine)); err != nil {
		s.Errorf("release: %v", err)
	}
	joinTheirs(s, b, other)
}

// joinTheirs joins a flight that the other side leads.
func joinTheirs(s *sessions, b, other *Backend) {
	ctx := context.Background()
	lead, v, err := other.Join(ctx, lock("flight"), locker.AnyAge)
	if v != nil || err != nil {
		s.Errorf("nobody was there before: %v, %v", v, err)
	}
	var wg sync.WaitGroup
	var got *locker.Value
	wg.Go(func() {
		got = stubborn(s, func() (*locker.Value, error) {
			g, v, err := b.Join(ctx, lock("flight"), locker.AnyAge) // what is there when it asks again will do
			if err == nil && v == nil {
				s.Errorf("there are two leaders: %v", g)
			}
			return v, err
		})
	})
	time.Sleep(3 * time.Second) // beats
	fence, err := other.Put(ctx, hold("flight", lead), []byte("theirs"), 0)
	if err != nil {
		s.Errorf("put: %v", err)
	}
	wg.Wait()
	if got == nil || got.Fence != fence || string(got.Data) != "theirs" {
		s.Errorf("who joined got %v, and it was put with the fence %d", got, fence)
	}
	if err := other.Release(ctx, hold("flight", lead)); err != nil {
		s.Errorf("release: %v", err)
	}
}

// TestWhatIsGivenUpInACutIsLetGo breaks the connection at every byte of a grant,
// of a place and of their cancelling, with nothing else to connect again for: the
// server must not keep them for their TTL.
func TestWhatIsGivenUpInACutIsLetGo(t *testing.T) {
	req := lock("k")
	req.TTL = time.Minute
	for what, ask := range map[string]func(context.Context, *Backend){
		"grant": func(ctx context.Context, b *Backend) {
			if g, err := b.Acquire(ctx, req); err == nil {
				b.Release(context.Background(), hold("k", g))
			}
		},
		"place": func(ctx context.Context, b *Backend) {
			if p, err := b.Enqueue(ctx, req); err == nil {
				<-ctx.Done()
				p.Cancel(context.Background())
			}
		},
	} {
		for _, requests := range []bool{false, true} {
			for at := 1; cutGivenUp(t, ask, requests, at); at++ {
				if t.Failed() {
					t.Fatalf("%s, requests %t, position %d", what, requests, at)
				}
			}
		}
	}
}

func cutGivenUp(t *testing.T, ask func(context.Context, *Backend), requests bool, at int) (cut bool) {
	sessionBubble(t, func(s *sessions) {
		var first *scissors
		b := s.backendOver(func(ctx context.Context, addr string) (net.Conn, error) {
			nc, err := s.net.dial(ctx, addr)
			c := &scissors{Conn: nc, writes: -1, reads: -1}
			switch {
			case first != nil:
				return c, err
			case requests:
				c.writes = at
			default:
				c.reads = at
			}
			first = c
			return c, err
		})
		ctx, cancel := context.WithCancel(context.Background())
		var wg sync.WaitGroup
		wg.Go(func() { ask(ctx, b) })
		synctest.Wait()
		cancel()
		wg.Wait()
		time.Sleep(3 * time.Second) // the client connects again after a while
		s.expect(0, 0)
		cut = first.writes == 0 || first.reads == 0
	})
	return cut
}
