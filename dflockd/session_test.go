package dflockd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/locker"
	lockserver "github.com/distributed-go/distributed/server"
)

// clockOf returns a clock that starts now.
func clockOf() func() time.Duration {
	start := time.Now()
	return func() time.Duration { return time.Since(start) }
}

// A sessions is a server and what reaches it in session mode.
type sessions struct {
	*testing.T
	net *network
	cfg lockserver.Config
	srv *lockserver.Server
	all []*Backend
}

// sessionBubble runs a test in virtual time with this project's server. What
// the test leaves must be nothing, once its backends are closed.
func sessionBubble(t *testing.T, f func(*sessions)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &sessions{T: t, net: newNetwork()}
		s.start()
		f(s)
		for _, b := range s.all {
			b.Close()
		}
		s.srv.Close()
		s.net.wg.Wait()
	})
}

func (s *sessions) start() {
	s.srv = ours(s.T, s.cfg)
	s.net.listen(where, s.srv.ServeConn)
}

// restart replaces the server by one that knows nothing.
func (s *sessions) restart() {
	s.net.listen(where, nil)
	s.srv.Close()
	s.start()
}

func (s *sessions) backend(opts ...Option) *Backend {
	return s.backendOver(s.net.dial, opts...)
}

func (s *sessions) backendOver(dial DialFunc, opts ...Option) *Backend {
	b := newBackend(s.T, []string{where}, append([]Option{WithDialer(dial)}, opts...)...)
	b.UseClock(clockOf())
	s.all = append(s.all, b)
	return b
}

// expect checks what the server knows, once all is quiet.
func (s *sessions) expect(holders, waiters int) {
	s.Helper()
	synctest.Wait()
	b := newBackend(s.T, []string{where}, WithDialer(func(context.Context, string) (net.Conn, error) {
		near, far := newDuplex()
		s.net.wg.Go(func() { s.srv.ServeConn(far) })
		return near, nil
	}))
	defer b.Close()
	r, err := b.Inspect(context.Background())
	if err != nil {
		s.Fatal(err)
	}
	h, w := 0, 0
	for _, k := range r.Keys {
		h += k.Holders
		w += k.Waiters
	}
	if h != holders || w != waiters {
		s.Errorf("the server knows of %d holders and %d waiters, want %d and %d: %+v", h, w, holders, waiters, r.Keys)
	}
}

// brief is a request with a lease of two seconds.
func brief(key string) locker.Request {
	r := lock(key)
	r.TTL = 2 * time.Second
	return r
}

func kept(key string, g locker.Grant) locker.Hold {
	h := hold(key, g)
	h.Kept = g.Kept
	return h
}

// A loser notes what it is told.
type loser struct {
	mu     sync.Mutex
	causes []error // guarded by mu
}

func (l *loser) Lose(cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.causes = append(l.causes, cause)
}

// told returns what the loser was told, once all is quiet.
func (l *loser) told() []error {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.causes
}

// bind binds a new loser.
func (s *sessions) bind(g locker.Grant) *loser {
	s.Helper()
	l := new(loser)
	if err := g.Kept.Bind(l); err != nil {
		s.Fatal(err)
	}
	return l
}

// wantLost checks that the loser was told once, by an error that matches all of
// these.
func (s *sessions) wantLost(l *loser, want ...error) {
	s.Helper()
	told := l.told()
	if len(told) != 1 {
		s.Fatalf("told %v, want to be told once", told)
	}
	for _, w := range append(want, locker.ErrLost) {
		wantErr(s.T, told[0], w)
	}
}

func TestSessionGrantsAreKept(t *testing.T) {
	sessionBubble(t, func(s *sessions) {
		b := s.backend(WithName("me"))
		g := mustAcquire(t, b, brief("k"))
		if g.Kept == nil || g.Session != nil || g.Fence == 0 || g.TTL != 2*time.Second {
			t.Fatalf("granted %+v", g)
		}
		l := s.bind(g)
		time.Sleep(time.Minute)
		s.expect(1, 0)
		if age := b.clock() - g.Kept.Since(); age > time.Second {
			t.Errorf("it counts from %v ago", age)
		}
		_, err := b.Acquire(context.Background(), try("k"))
		wantErr(t, err, locker.ErrLocked)
		held := new(locker.HeldError)
		if !errors.As(err, &held) || held.Holder != "me" || held.For != time.Minute {
			t.Errorf("a try says %v", err)
		}
		mustRelease(t, b, kept("k", g))
		s.expect(0, 0)
		wantErr(t, b.Release(context.Background(), kept("k", g)), locker.ErrNotHeld)
		wantErr(t, g.Kept.Bind(l), locker.ErrNotHeld)
		if told := l.told(); len(told) != 0 {
			t.Errorf("released, and told %v", told)
		}
		if n := s.net.dialled(where); n != 1 {
			t.Errorf("%d connections", n)
		}
	})
}

func TestSessionCarriesWeightsLimitsAndFences(t *testing.T) {
	sessionBubble(t, func(s *sessions) {
		b := s.backend()
		req := locker.Request{Kind: locker.Counting, Key: "rw", Limit: 1 << 30, Weight: 1 << 30, TTL: 1500 * time.Millisecond, Fences: 100}
		g := mustAcquire(t, b, req)
		if g.TTL != req.TTL {
			t.Errorf("granted for %v", g.TTL)
		}
		req.Weight, req.Try, req.Fences = 1, true, 0
		_, err := b.Acquire(context.Background(), req)
		wantErr(t, err, locker.ErrLocked)
		h := kept("rw", g)
		h.Kind = locker.Counting
		mustRelease(t, b, h)
		next := mustAcquire(t, b, req)
		if next.Fence < g.Fence+100 {
			t.Errorf("fence %d after %d with 100", next.Fence, g.Fence)
		}
		req.Limit = 7
		_, err = b.Acquire(context.Background(), req)
		wantErr(t, err, locker.ErrLimitMismatch)
	})
}

// The base protocol refuses at once what it cannot do.
func TestTheBaseProtocolKnowsOneFenceForAGrant(t *testing.T) {
	sessionBubble(t, func(s *sessions) {
		req := lock("k")
		req.Fences = 2
		b := s.backend(WithBaseProtocol())
		_, err := b.Acquire(context.Background(), req)
		wantErr(t, err, errUnsupported)
		_, err = b.Enqueue(context.Background(), req)
		wantErr(t, err, errUnsupported)
		g := mustAcquire(t, b, lock("k"))
		if g.Kept != nil || g.Session == nil {
			t.Errorf("granted %+v", g)
		}
	})
}

func TestSessionTickets(t *testing.T) {
	sessionBubble(t, func(s *sessions) {
		b := s.backend()
		ctx := context.Background()
		first := mustEnqueue(t, b, brief("k"), true)
		second, third := mustEnqueue(t, b, brief("k"), false), mustEnqueue(t, b, brief("k"), false)
		g := mustWait(t, first)
		_, err := first.Wait(ctx)
		wantErr(t, err, locker.ErrNotHeld)
		if err := second.Cancel(ctx); err != nil {
			t.Error(err)
		}
		s.expect(1, 1)
		mustRelease(t, b, kept("k", g))
		late := mustEnqueue(t, b, brief("k"), false)
		mustRelease(t, b, kept("k", mustWait(t, third)))
		time.Sleep(3 * time.Second) // its turn came, and its lease ran out
		_, err = late.Wait(ctx)
		wantErr(t, err, locker.ErrPlaceExpired)
		over, cancel := context.WithCancel(ctx)
		cancel()
		_, err = mustEnqueue(t, b, brief("k"), true).Wait(over)
		wantErr(t, err, context.Canceled)
		s.expect(0, 0)
		if n := s.net.dialled(where); n != 1 {
			t.Errorf("%d connections", n)
		}
	})
}

func TestSessionRenewsByToken(t *testing.T) {
	sessionBubble(t, func(s *sessions) {
		b := s.backend()
		g := mustAcquire(t, b, brief("k"))
		time.Sleep(100 * time.Millisecond)
		before := b.clock()
		if r := renewOnce(b, kept("k", g), time.Second, 1); r.Err != nil || r.Granted != time.Second {
			t.Errorf("renewed for %v, %v", r.Granted, r.Err)
		}
		if since := g.Kept.Since(); since < before {
			t.Errorf("it counts from %v, and was renewed at %v", since, before)
		}
		wantErr(t, renewOnce(b, kept("k", g), 0, 1).Err, locker.ErrInvalid)
		mustRelease(t, b, kept("k", g))
		wantErr(t, renewOnce(b, kept("k", g), time.Second, 1).Err, locker.ErrLost)
	})
}

func TestForceTellsTheHolder(t *testing.T) {
	for _, base := range []bool{true, false} {
		sessionBubble(t, func(s *sessions) {
			b, op := s.backend(), s.backend()
			if base {
				op = s.backend(WithBaseProtocol())
			}
			l := s.bind(mustAcquire(t, b, brief("k")))
			n, err := op.Force(context.Background(), locker.Exclusive, "k")
			if n != 1 || err != nil {
				t.Errorf("forced %d, %v", n, err)
			}
			s.wantLost(l, locker.ErrRevoked)
			if n, err := op.Force(context.Background(), locker.Exclusive, "k"); n != 0 || err != nil {
				t.Errorf("forced %d, %v", n, err)
			}
			s.expect(0, 0)
		})
	}
}

// A loss before anybody was bound is told to who wants to be.
func TestBindAfterTheLoss(t *testing.T) {
	sessionBubble(t, func(s *sessions) {
		b := s.backend()
		g := mustAcquire(t, b, brief("k"))
		if _, err := b.Force(context.Background(), locker.Exclusive, "k"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		l := new(loser)
		wantErr(t, g.Kept.Bind(l), locker.ErrRevoked)
		if len(l.told()) != 0 {
			t.Error("told twice")
		}
		wantErr(t, renewOnce(b, kept("k", g), time.Second, 1).Err, locker.ErrLost)
	})
}

// Ten thousand wait on one connection, and all get their turn in order.
func TestTenThousandWaitersOnOneConnection(t *testing.T) {
	sessionBubble(t, func(s *sessions) {
		s.srv.Close()
		s.cfg.MaxWaiters = 0
		s.start()
		const waiters = 10_000
		b := s.backend()
		first := mustAcquire(t, b, lock("k"))
		var wg sync.WaitGroup
		last := first.Fence
		for range waiters {
			wg.Go(func() {
				g := mustAcquire(t, b, lock("k"))
				if g.Fence <= last { // guarded by the lock
					t.Errorf("fence %d after %d", g.Fence, last)
				}
				last = g.Fence
				mustRelease(t, b, kept("k", g))
			})
		}
		s.expect(1, waiters)
		time.Sleep(time.Minute) // only beats
		mustRelease(t, b, kept("k", first))
		wg.Wait()
		s.expect(0, 0)
		if n := s.net.dialled(where); n != 1 {
			t.Errorf("%d connections", n)
		}
	})
}

// What waits is taken back at once, also while the answer is on its way.
func TestCancellingInASession(t *testing.T) {
	sessionBubble(t, func(s *sessions) {
		b, other := s.backend(), s.backend()
		for i := range 300 {
			g := mustAcquire(t, other, lock("k"))
			ctx, cancel := context.WithCancel(context.Background())
			ended := make(chan error, 1)
			go func() {
				g, err := b.Acquire(ctx, lock("k"))
				if err == nil {
					mustRelease(t, b, kept("k", g))
				}
				ended <- err
			}()
			if i%3 > 0 {
				synctest.Wait()
			}
			go other.Release(context.Background(), kept("k", g)) //nolint:errcheck // it is raced with
			if i%3 > 1 {
				cancel()
			} else {
				go cancel()
			}
			if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
				t.Fatal(err)
			}
			cancel()
		}
		s.expect(0, 0)
	})
}

func TestACancelledWaitReturnsAtOnceFromAFrozenServer(t *testing.T) {
	sessionBubble(t, func(s *sessions) {
		f := new(freezer)
		ln := &line{freezer: f, serve: s.srv.ServeConn}
		b := s.backendOver(ln.dial)
		mustAcquire(t, b, brief("k"))
		f.freeze()
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer cancel()
		began := time.Now()
		_, err := b.Acquire(ctx, lock("other"))
		wantErr(t, err, context.DeadlineExceeded)
		if took := time.Since(began); took != 300*time.Millisecond {
			t.Errorf("took %v", took)
		}
		f.thaw()
		ln.cut()
	})
}

// Nothing is dialled for those who want nothing, but a link is kept.
func TestAnIdleSession(t *testing.T) {
	sessionBubble(t, func(s *sessions) {
		b := s.backend()
		mustRelease(t, b, kept("k", mustAcquire(t, b, lock("k"))))
		time.Sleep(10 * time.Minute)
		if n := s.net.dialled(where); n != 1 {
			t.Errorf("%d connections: it was not kept", n)
		}
		mustAcquire(t, b, try("k"))
		if n := s.net.dialled(where); n != 1 {
			t.Errorf("%d connections", n)
		}
		_, _ = b.Force(context.Background(), locker.Exclusive, "k")
		s.net.listen(where, nil)
		s.srv.Close()
		time.Sleep(time.Hour)
		if n := s.net.dialled(where); n > 2 {
			t.Errorf("%d connections: somebody dials for nobody", n)
		}
		s.start()
		mustAcquire(t, b, try("k"))
	})
}

func TestCloseSaysBye(t *testing.T) {
	sessionBubble(t, func(s *sessions) {
		b, other := s.backend(), s.backend()
		l := s.bind(mustAcquire(t, b, lock("k")))
		waits := make(chan error, 1)
		go func() {
			_, err := b.Acquire(context.Background(), lock("k"))
			waits <- err
		}()
		s.expect(1, 1)
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		wantErr(t, <-waits, locker.ErrClosed)
		s.wantLost(l, locker.ErrClosed)
		mustAcquire(t, other, try("k"))
		_, err := b.Acquire(context.Background(), lock("k"))
		wantErr(t, err, locker.ErrClosed)
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
}

// Close does not wait for long for a server that does not answer.
func TestCloseWithAFrozenServer(t *testing.T) {
	sessionBubble(t, func(s *sessions) {
		f := new(freezer)
		ln := &line{freezer: f, serve: s.srv.ServeConn}
		b := s.backendOver(ln.dial)
		l := s.bind(mustAcquire(t, b, lock("k")))
		f.freeze()
		began := time.Now()
		b.Close()
		if took := time.Since(began); took > byeTimeout {
			t.Errorf("took %v", took)
		}
		s.wantLost(l, locker.ErrClosed)
		f.thaw()
		ln.cut()
	})
}

func TestSessionInspect(t *testing.T) {
	sessionBubble(t, func(s *sessions) {
		b := s.backend(WithName("me"))
		mustAcquire(t, b, brief("k"))
		time.Sleep(1500 * time.Millisecond)
		r, err := b.Inspect(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		if len(r.Keys) != 1 || r.Keys[0].Name != "me" || r.Keys[0].HeldFor != 1500*time.Millisecond || r.Connections != 1 {
			t.Errorf("report %+v", r)
		}
	})
}

// Requests that are too many for the buffers of the kernel, to a server that
// says hello and then reads nothing: callers are free when their context ends.
func TestNobodyHangsInASessionWithAFrozenServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			defer nc.Close()
			nc.Read(make([]byte, 512)) //nolint:errcheck // hello
			fmt.Fprintf(nc, "ok 1 %032x\n", 1)
		}
	})
	b := newBackend(t, []string{l.Addr().String()})
	b.UseClock(clockOf())
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	var callers sync.WaitGroup
	for i := range 20_000 {
		callers.Go(func() {
			_, err := b.Acquire(ctx, lock(fmt.Sprintf("%s%d", strings.Repeat("k", 200), i)))
			wantErr(t, err, context.DeadlineExceeded)
		})
	}
	callers.Wait()
	b.Close()
	l.Close()
	wg.Wait()
}

// A wait ends when its context does, and then says who was in the way.
func TestAWaitThatIsOverSaysWhoHolds(t *testing.T) {
	sessionBubble(t, func(s *sessions) {
		mustAcquire(t, s.backend(WithName("holder")), lock("k"))
		b := s.backend()
		for _, wait := range []time.Duration{100 * time.Millisecond, 10 * time.Second, time.Hour} {
			ctx, cancel := context.WithTimeout(context.Background(), wait)
			began := time.Now()
			_, err := b.Acquire(ctx, lock("k"))
			if took := time.Since(began); took != wait {
				t.Errorf("a wait of %v took %v", wait, took)
			}
			held := new(locker.HeldError)
			if !errors.As(err, &held) || held.Holder != "holder" {
				t.Errorf("a wait of %v says %v", wait, err)
			}
			cancel()
			p := mustEnqueue(t, b, lock("k"), false)
			ctx, cancel = context.WithTimeout(context.Background(), wait)
			_, err = p.Wait(ctx)
			wantErr(t, err, locker.ErrLocked)
			cancel()
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Millisecond) // too short to tell
		defer cancel()
		_, err := b.Acquire(ctx, lock("k"))
		wantErr(t, err, context.DeadlineExceeded)
		s.expect(1, 0)
	})
}
