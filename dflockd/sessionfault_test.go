package dflockd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/stocktest"
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
func TestCutsAtEveryByte(t *testing.T) {
	for _, direction := range []string{"requests", "answers"} {
		t.Run(direction, func(t *testing.T) {
			for at := 1; ; at++ {
				if !cutScenario(t, direction == "requests", at, -1) {
					t.Logf("%d positions", at)
					break
				}
				for again := 1 + at%53; again < 300; again += 53 {
					cutScenario(t, direction == "requests", at, again)
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
func cutScenario(t *testing.T, requests bool, at, again int) (cut bool) {
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
		scenario(s, b, other)
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
	release(other, kept("b", theirs))
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
	release(b, kept("a", first))
	release(b, kept("b", mine))
	release(b, kept("c", third))
}

// A dark network swallows what is said, in both directions, and connections
// stay: so does a router that has forgotten them.
type dark struct {
	s *sessions
	f freezer

	mu    sync.Mutex
	blind int // how many further connections lead nowhere; guarded by mu
	dials []time.Time
	conns []net.Conn
}

func (d *dark) dial(ctx context.Context, addr string) (net.Conn, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.dials = append(d.dials, time.Now())
	if len(d.dials) > 1 && d.blind > 0 {
		d.blind--
		near, far := newDuplex()
		d.s.net.wg.Go(func() { io.Copy(io.Discard, far); far.Close() }) //nolint:errcheck // it ends with the other side
		return near, nil
	}
	nc, err := d.s.net.dial(ctx, addr)
	if len(d.dials) == 1 {
		nc = &heldConn{duplex: nc.(duplex), freezer: &d.f, gone: make(chan struct{})}
	}
	d.conns = append(d.conns, nc)
	return nc, err
}

// With a lease of two seconds and more, a link that leads nowhere costs no
// lease, and neither does another one after it.
func TestAHalfOpenLinkCostsNoLease(t *testing.T) {
	for _, ttl := range []time.Duration{2 * time.Second, 3 * time.Second, 6 * time.Second, 10 * time.Second, time.Minute} {
		for _, blind := range []int{0, 1} {
			for _, after := range []time.Duration{0, 100 * time.Millisecond, 650 * time.Millisecond, 667 * time.Millisecond, time.Second, 5 * time.Second} {
				sessionBubble(t, func(s *sessions) {
					d := &dark{s: s, blind: blind}
					b := s.backendOver(d.dial)
					req := lock("k")
					req.TTL = ttl
					g := mustAcquire(t, b, req)
					told := s.bind(g)
					time.Sleep(after)
					d.f.freeze()
					least := time.Duration(1 << 62)
					for range 200 {
						time.Sleep(ttl / 100)
						left := g.Kept.Since() + ttl - ttl/100 - 2*time.Millisecond - b.clock()
						least = min(least, left)
					}
					if least < 0 || len(told.told()) > 0 {
						t.Errorf("TTL %v, dark after %v, then %d blind: lease over by %v, told %v", ttl, after, blind, -least, told.told())
					}
					if len(d.dials) != 2+blind {
						t.Errorf("TTL %v: %d dials", ttl, len(d.dials))
					}
					d.f.thaw()
					mustRelease(t, b, kept("k", g))
				})
			}
		}
	}
}

// A link that leads nowhere is also found by those who only wait or ask.
func TestAHalfOpenLinkDelaysAWaitByLittle(t *testing.T) {
	sessionBubble(t, func(s *sessions) {
		d := &dark{s: s}
		b := s.backendOver(d.dial)
		mustRelease(t, b, kept("k", mustAcquire(t, b, lock("k"))))
		time.Sleep(time.Minute)
		d.f.freeze()
		began := time.Now()
		mustAcquire(t, b, lock("k"))
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("took %v", took)
		}
		d.f.thaw()
	})
}

func TestARestartedServerLosesHoldsAndNotWaits(t *testing.T) {
	sessionBubble(t, func(s *sessions) {
		c := locker.New(s.backend(), locker.WithTTL(10*time.Second))
		defer c.Close()
		l, err := c.Acquire(context.Background(), "k")
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan error, 1)
		go func() {
			l, err := c.Acquire(context.Background(), "k")
			if err == nil {
				err = l.Release(context.Background())
			}
			got <- err
		}()
		s.expect(1, 1)
		s.restart()
		<-l.Lost()
		wantErr(t, l.Err(), locker.ErrLost)
		if err := <-got; err != nil {
			t.Error(err)
		}
		s.expect(0, 0)
	})
}

// While the server is away, what has a place waits for it to come back, for as
// long as it can have kept the place; who wants to know at once, does.
func TestAnOutage(t *testing.T) {
	sessionBubble(t, func(s *sessions) {
		b := s.backend()
		g := mustAcquire(t, b, lock("other"))
		l := s.bind(g)
		theirs := mustAcquire(t, s.backend(), lock("k"))
		var began time.Time
		type outcome struct {
			took time.Duration
			err  error
		}
		waits := func(ttl time.Duration) <-chan outcome {
			c := make(chan outcome, 1)
			go func() {
				req := lock("k")
				req.TTL = ttl
				_, err := b.Acquire(context.Background(), req)
				c <- outcome{time.Since(began), err}
			}()
			return c
		}
		short, long := waits(3*time.Second), waits(time.Minute)
		s.expect(2, 2)
		serve := s.srv
		s.net.listen(where, nil)
		b.servers[0].talk.Load().cutForTest()
		began = time.Now()
		for range 50 {
			time.Sleep(10 * time.Millisecond)
			at := time.Now()
			_, err := b.Acquire(context.Background(), try("k"))
			wantErr(t, err, locker.ErrUnavailable)
			if took := time.Since(at); took > time.Second {
				t.Errorf("a try took %v", took)
			}
		}
		if o := <-short; !errors.Is(o.err, locker.ErrUnavailable) || o.took < 3*time.Second || o.took > 5*time.Second {
			t.Errorf("a wait with a TTL of 3 s: %v after %v", o.err, o.took)
		}
		s.net.listen(where, serve.ServeConn)
		time.Sleep(2 * time.Second)
		if len(l.told()) > 0 {
			t.Errorf("told %v", l.told())
		}
		mustRelease(t, s.all[1], kept("k", theirs))
		if o := <-long; o.err != nil {
			t.Errorf("a wait with a TTL of a minute: %v", o.err)
		}
	})
}

// cutForTest breaks the link.
func (x *conversation) cutForTest() {
	x.mu.Lock()
	l := x.link
	x.mu.Unlock()
	l.raw.Close()
	synctest.Wait()
}

// What is released while there is no connection is free once there is one.
func TestReleasingInAnOutage(t *testing.T) {
	sessionBubble(t, func(s *sessions) {
		b, other := s.backend(), s.backend()
		g := mustAcquire(t, b, lock("k"))
		h := mustAcquire(t, b, lock("h"))
		serve := s.srv.ServeConn
		s.net.listen(where, nil)
		b.servers[0].talk.Load().cutForTest()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		wantErr(t, b.Release(ctx, kept("k", g)), context.DeadlineExceeded)
		wantErr(t, b.Release(ctx, kept("h", h)), context.DeadlineExceeded)
		s.net.listen(where, serve)
		began := time.Now()
		mustAcquire(t, other, lock("k"))
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("free after %v", took)
		}
	})
}

// Another connection that takes the session over ends it here, for good.
func TestDisplaced(t *testing.T) {
	scriptBubble(t, func(s *script, number int) {
		if !strings.HasPrefix(s.next(), "hello|_|1 ") {
			s.t.Error("no hello")
		}
		s.say(fmt.Sprintf("ok 1 %032x", number))
		s.next() // l, perhaps behind a beat
		s.say("1 ok " + token(number) + " 10000ms")
		if number == 1 {
			s.say("0 displaced")
			return
		}
		s.skip()
	}, func(t *testing.T, b *Backend, n *network) {
		b.UseClock(clockOf())
		g := mustAcquire(t, b, lock("k"))
		l := new(loser)
		if err := g.Kept.Bind(l); err != nil {
			l.Lose(err)
		}
		if told := l.told(); len(told) != 1 || !errors.Is(told[0], locker.ErrLost) || !strings.Contains(told[0].Error(), "took it over") {
			t.Errorf("told %v", told)
		}
		time.Sleep(time.Hour)
		if n.dialled(where) != 1 {
			t.Error("it came back by itself")
		}
		mustAcquire(t, b, lock("k"))
		for _, line := range n.seen() {
			if strings.Contains(line, "resume=") {
				t.Errorf("it resumed: %s", line)
			}
		}
	})
}

// Stock servers answer hello with an error, and some close the connection.
func TestFallingBackToTheBaseProtocol(t *testing.T) {
	for name, hello := range map[string]func(s *script){
		"error":           func(s *script) { s.say("error"); s.skip() },
		"error and close": func(s *script) { s.say("error") },
	} {
		t.Run(name, func(t *testing.T) {
			scriptBubble(t, func(s *script, number int) {
				first := s.next()
				if strings.HasPrefix(first, "hello") {
					if number > 1 {
						s.t.Errorf("hello on connection %d", number)
					}
					hello(s)
					return
				}
				for ; first != ""; first = s.next() {
					switch first[0] {
					case 'l':
						s.say(granted(number))
					default:
						s.say("ok")
					}
				}
			}, func(t *testing.T, b *Backend, n *network) {
				b.UseClock(clockOf())
				for range 3 {
					g := mustAcquire(t, b, lock("k"))
					if g.Kept != nil || g.Session == nil {
						t.Errorf("granted %+v", g)
					}
					mustRelease(t, b, hold("k", g))
				}
				if d := n.dialled(where); d != 2 {
					t.Errorf("%d connections", d)
				}
			})
		})
	}
}

// A connection that ends without an answer to hello is an outage: who took it
// for a no would have weaker locks for as long as the next connection lasts.
func TestNoAnswerToHelloIsNotANo(t *testing.T) {
	sessionBubble(t, func(s *sessions) {
		b := s.backend()
		s.net.listen(where, func(nc net.Conn) { nc.Close() }) //nolint:errcheck // that is all it does
		for range 5 {
			_, err := b.Acquire(context.Background(), lock("k"))
			wantErr(t, err, locker.ErrUnavailable)
			time.Sleep(time.Minute)
		}
		s.net.listen(where, s.srv.ServeConn)
		if g := mustAcquire(t, b, lock("k")); g.Kept == nil {
			t.Errorf("granted %+v", g)
		}
	})
}

func TestFallingBackToAStockServer(t *testing.T) {
	stockBubble(t, stocktest.Config{}, func(t *testing.T, s *stock) {
		s.b.UseClock(clockOf())
		g := mustAcquire(t, s.b, lock("k"))
		go func() {
			time.Sleep(time.Second)
			mustRelease(t, s.b, hold("k", g))
		}()
		mustRelease(t, s.b, hold("k", mustAcquire(t, s.b, lock("k"))))
		s.expect(t, 2, 0, 0)
		time.Sleep(time.Hour)
		s.expect(t, 0, 0, 0)
	})
}

// A server that becomes one that knows session mode is spoken to in it, once
// the old connections have ended.
func TestAServerThatLearnsSessionMode(t *testing.T) {
	sessionBubble(t, func(s *sessions) {
		old := stocktest.New(stocktest.Config{})
		s.net.listen(where, old.ServeConn)
		b := s.backend()
		g := mustAcquire(t, b, lock("k"))
		if g.Kept != nil {
			t.Fatalf("granted %+v", g)
		}
		s.net.listen(where, s.srv.ServeConn)
		old.Close()
		synctest.Wait()
		wantErr(t, g.Session.Err(), locker.ErrLost)
		if g := mustAcquire(t, b, lock("k")); g.Kept == nil {
			t.Errorf("granted %+v", g)
		}
		wantErr(t, b.Release(context.Background(), hold("k", g)), locker.ErrNotHeld) // of the other protocol
	})
}

// What makes no sense is an error, and never a panic or a hang.
func TestHostileAnswersInASession(t *testing.T) {
	for _, lines := range []string{
		"1 ok", "1 queued 3", "1 acquired " + token(1) + " 5s", "1 ok 5s", "1 canceled", "1 error_session", "1 ok {}",
		"1 error", "1 error_odd", "1 error_auth", "1 error_limit_mismatch", "1 error_lease_expired", "1 error_draining",
		"0 error", "garbage", "1", "0 lost k " + token(3) + " expired\n1 error", "0 odd\n77 ok\n1 timeout a 5ms",
		"18446744073709551616 ok", strings.Repeat("x", 600),
	} {
		scriptBubble(t, func(s *script, number int) {
			if s.next() == "" {
				return
			}
			s.say(fmt.Sprintf("ok 1 %032x", 7))
			for s.next() != "" {
				s.say(lines)
			}
		}, func(t *testing.T, b *Backend, _ *network) {
			b.UseClock(clockOf())
			for _, req := range []locker.Request{lock("k"), try("k")} {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				_, err := b.Acquire(ctx, req)
				if err == nil {
					t.Errorf("granted by %q", lines)
				}
				_, err = b.Inspect(ctx)
				if err == nil && !strings.HasPrefix(lines, "1 ok {}") {
					t.Errorf("a report by %q", lines)
				}
				cancel()
			}
		})
	}
}

// What is said to hello is not always yes or no.
func TestAnswersToHello(t *testing.T) {
	for line, want := range map[string]error{
		"error_draining":                  locker.ErrDraining,
		"error_auth":                      locker.ErrAuth,
		"error_session":                   locker.ErrUnavailable,
		"what":                            locker.ErrUnavailable,
		"ok 2 " + strings.Repeat("0", 32): locker.ErrUnavailable,
	} {
		scriptBubble(t, func(s *script, _ int) {
			s.next()
			s.say(line)
		}, func(t *testing.T, b *Backend, _ *network) {
			b.UseClock(clockOf())
			_, err := b.Acquire(context.Background(), lock("k"))
			wantErr(t, err, want)
		})
	}
}

// A server that accepts and says nothing is given up.
func TestHelloWithoutAnAnswer(t *testing.T) {
	scriptBubble(t, func(s *script, _ int) { s.skip() }, func(t *testing.T, b *Backend, _ *network) {
		b.UseClock(clockOf())
		began := time.Now()
		_, err := b.Acquire(context.Background(), lock("k"))
		wantErr(t, err, locker.ErrUnavailable)
		if took := time.Since(began); took != dialTimeout {
			t.Errorf("took %v", took)
		}
	})
}

// Who waits for the attempt under way goes on when a later one succeeds, or
// fails when that one fails; nobody is forgotten with an attempt.
func TestWaitingForAConnection(t *testing.T) {
	for tries := range 4 {
		sessionBubble(t, func(s *sessions) {
			var dials atomic.Int64
			b := s.backendOver(func(ctx context.Context, addr string) (net.Conn, error) {
				nc, err := s.net.dial(ctx, addr)
				if n := int(dials.Add(1)); n > 1 && n <= 1+tries {
					return &scissors{Conn: nc, writes: 4, reads: -1}, err // in the middle of hello
				}
				return nc, err
			})
			mustAcquire(t, b, lock("held"))
			time.Sleep(2 * time.Second)
			b.servers[0].talk.Load().cutForTest()
			var wg sync.WaitGroup
			for i := range 50 {
				wg.Go(func() {
					time.Sleep(time.Duration(i) * 3 * time.Millisecond)
					stubborn(s, func() (locker.Grant, error) { return b.Acquire(context.Background(), lock(fmt.Sprint(i))) })
				})
			}
			wg.Wait()
			s.expect(51, 0)
		})
	}
}
