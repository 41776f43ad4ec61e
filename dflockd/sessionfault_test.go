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

	"github.com/distributed-go/distributed/locker"
)

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
					mustRelease(t, b, hold("k", g))
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
		mustRelease(t, b, hold("k", mustAcquire(t, b, lock("k"))))
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
		mustRelease(t, s.all[1], hold("k", theirs))
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
		wantErr(t, b.Release(ctx, hold("k", g)), context.DeadlineExceeded)
		wantErr(t, b.Release(ctx, hold("h", h)), context.DeadlineExceeded)
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
