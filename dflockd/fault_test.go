package dflockd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/stocktest"
	"github.com/distributed-go/distributed/locker"
)

func TestASilentServerIsGivenUp(t *testing.T) {
	scriptBubble(t, func(s *script, _ int) { s.skip() }, func(t *testing.T, b *Backend, n *network) {
		h := locker.Hold{Key: "k"}
		for name, f := range map[string]func(context.Context) error{
			"try":     func(ctx context.Context) error { _, err := b.Acquire(ctx, try("k")); return err },
			"acquire": func(ctx context.Context) error { _, err := b.Acquire(ctx, lock("k")); return err },
			"enqueue": func(ctx context.Context) error { _, err := b.Enqueue(ctx, lock("k")); return err },
			"release": func(ctx context.Context) error { return b.Release(ctx, h) },
			"inspect": func(ctx context.Context) error { _, err := b.Inspect(ctx); return err },
			"renew": func(ctx context.Context) error {
				r := []locker.Renewal{{Hold: h, TTL: time.Second, Attempt: 1}}
				b.Renew(ctx, r)
				return r[0].Err
			},
		} {
			began := time.Now()
			wantErr(t, f(context.Background()), locker.ErrUnavailable)
			if took := time.Since(began); took < 5*time.Second || took > 6*time.Second+500*time.Millisecond {
				t.Errorf("%s: given up after %v", name, took)
			}
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			began = time.Now()
			wantErr(t, f(ctx), context.DeadlineExceeded)
			cancel()
			if took := time.Since(began); took != time.Second {
				t.Errorf("%s: context ended after %v", name, took)
			}
		}
		// Connections that answer nothing and hold nothing go, after a while.
		time.Sleep(time.Minute)
		synctest.Wait()
		if left := len(b.servers[0].all()); left != 0 {
			t.Errorf("%d connections are left", left)
		}
	})
}

// An answer that comes after its caller has left must not be paired with the
// next request, and what it grants must be given back.
func TestALateGrantOfATryIsGivenBack(t *testing.T) {
	scriptBubble(t, func(s *script, _ int) {
		s.expect("l|late|0")
		s.expect("l|next|0")
		s.say(granted(1))
		s.say(granted(2))
		s.expect("r|late|" + token(1))
		s.say("ok")
		s.skip()
	}, func(t *testing.T, b *Backend, n *network) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := b.Acquire(ctx, try("late"))
		wantErr(t, err, context.DeadlineExceeded)
		g := mustAcquire(t, b, try("next"))
		if g.Token.Hex() != token(2) {
			t.Errorf("token %s", g.Token.Hex())
		}
		synctest.Wait()
		if held := g.Session.Ref().(*tie).count.Load(); held != 1 {
			t.Errorf("connection counts %d holds", held)
		}
	})
}

func TestAGrantThatComesAfterItWasGivenUpIsGivenBack(t *testing.T) {
	scriptBubble(t, func(s *script, _ int) {
		s.expect("l|k|0")
		time.Sleep(10100 * time.Millisecond) // not at the instant of a tick
		s.say(granted(1))
		s.expect("r|k|" + token(1))
		s.say("ok")
		s.skip()
	}, func(t *testing.T, b *Backend, n *network) {
		_, err := b.Acquire(context.Background(), try("k"))
		wantErr(t, err, locker.ErrUnavailable)
		time.Sleep(10100 * time.Millisecond) // not at the instant of a tick
		n.expectSeen(t, "1 l|k|0", "1 r|k|"+token(1))
	})
}

// The attempt that has no answer must not take its successors with it, nor the
// connection that holds: closing it would release the hold.
func TestSecondAttemptsToRenewTakeAnotherWay(t *testing.T) {
	for _, own := range []bool{false, true} {
		holder := 1
		if own {
			holder = 2
		}
		slow := true
		scriptBubble(t, func(s *script, number int) {
			for r := s.next(); r != ""; r = s.next() {
				switch {
				case r == "l|k|0" && own:
					s.say("timeout")
				case r[0] == 'l':
					s.say(granted(1))
				case number == holder && slow:
					slow = false
					time.Sleep(3 * time.Second)
					s.say("ok 10")
				default:
					s.say("ok 10")
				}
			}
		}, func(t *testing.T, b *Backend, n *network) {
			g := mustAcquire(t, b, lock("k"))
			for attempt := range 3 {
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				r := []locker.Renewal{{Hold: hold("k", g), TTL: 10 * time.Second, Attempt: attempt + 1}}
				b.Renew(ctx, r)
				cancel()
				if attempt == 0 {
					wantErr(t, r[0].Err, context.DeadlineExceeded)
				} else if r[0].Err != nil {
					t.Errorf("attempt %d: %v", attempt+1, r[0].Err)
				}
			}
			time.Sleep(4 * time.Second) // the late answer has come
			if err := g.Session.Err(); err != nil {
				t.Errorf("the holding connection ended: %v", err)
			}
			if r := renewOnce(b, hold("k", g), 10*time.Second, 1); r.Err != nil {
				t.Error(r.Err)
			}
			renewal := " n|k|" + token(1) + " 10"
			if own {
				n.expectSeen(t, "1 l|k|0", "2 l|k|86400", "2"+renewal, "1"+renewal, "1"+renewal, "2"+renewal)
			} else {
				n.expectSeen(t, "1 l|k|0", "1"+renewal, "2"+renewal, "2"+renewal, "1"+renewal)
			}
		})
	}
}

func TestReleaseGoesAnotherWayWhereTheConnectionIsStuck(t *testing.T) {
	scriptBubble(t, func(s *script, number int) {
		for r := s.next(); r != ""; r = s.next() {
			switch {
			case r == "l|k|0":
				s.say("timeout")
			case r == "l|k|86400":
				s.say(granted(1))
			case number == 1:
				s.say("ok")
			}
		}
	}, func(t *testing.T, b *Backend, n *network) {
		g := mustAcquire(t, b, lock("k"))
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		r := []locker.Renewal{{Hold: hold("k", g), TTL: 10 * time.Second, Attempt: 1}}
		b.Renew(ctx, r)
		wantErr(t, r[0].Err, context.DeadlineExceeded)
		mustRelease(t, b, hold("k", g))
		n.expectSeen(t, "1 l|k|0", "2 l|k|86400", "2 n|k|"+token(1)+" 10", "1 r|k|"+token(1))
		if left := len(b.servers[0].all()); left != 1 {
			t.Errorf("%d connections are left", left)
		}
	})
}

func TestAServerThatRefusesConnectionsIsNotHammered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		b := newBackend(t, []string{where}, WithDialer(n.dial))
		defer b.Close()
		calls := 0
		for began := time.Now(); time.Since(began) < 10*time.Second; time.Sleep(time.Millisecond) {
			_, err := b.Acquire(context.Background(), lock("k"))
			wantErr(t, err, locker.ErrUnavailable)
			wantErr(t, err, errRefused)
			calls++
		}
		// 20 ms doubling to a second, half of it random: about 15.
		if dials := n.dialled(where); dials < 8 || dials > 40 {
			t.Errorf("%d dials for %d calls in 10 s", dials, calls)
		}
		n.listen(where, stock1(t).ServeConn)
		time.Sleep(2 * time.Second)
		mustAcquire(t, b, lock("k"))
	})
}

// stock1 returns a stock server that ends with the test.
func stock1(t *testing.T) *stocktest.Server {
	s := stocktest.New(stocktest.Config{})
	t.Cleanup(s.Close)
	return s
}

func TestManyCallersShareOneDial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		n.listen(where, stock1(t).ServeConn)
		b := newBackend(t, []string{where}, WithDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			time.Sleep(time.Second)
			return n.dial(ctx, addr)
		}))
		defer b.Close()
		impatient, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		var wg sync.WaitGroup
		wg.Go(func() { // who comes first and leaves must not take the dial along
			_, err := b.Acquire(impatient, try("first"))
			wantErr(t, err, context.DeadlineExceeded)
		})
		synctest.Wait()
		for i := range 100 {
			wg.Go(func() { mustAcquire(t, b, try(fmt.Sprint(i))) })
		}
		wg.Wait()
		if n.dialled(where) != 1 {
			t.Errorf("%d dials", n.dialled(where))
		}
	})
}

func TestDiallingHasATimeoutOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend(t, []string{where}, WithDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}))
		defer b.Close()
		began := time.Now()
		_, err := b.Acquire(context.Background(), lock("k"))
		wantErr(t, err, locker.ErrUnavailable)
		if took := time.Since(began); took != dialTimeout {
			t.Errorf("took %v", took)
		}
		// The caller's context has not ended, and must not seem to have.
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			t.Errorf("error %v matches a context's", err)
		}
	})
}

func TestAStaleConnectionIsReplacedOnce(t *testing.T) {
	for _, keep := range []bool{false, true} {
		var opts []Option
		if keep {
			opts = append(opts, WithKeepOnDisconnect())
		}
		scriptBubble(t, func(s *script, number int) {
			s.next()
			s.say(granted(number))
			s.next() // and closes on the second request
		}, func(t *testing.T, b *Backend, n *network) {
			mustAcquire(t, b, lock("a"))
			_, err := b.Acquire(context.Background(), lock("b"))
			if keep { // it may have been granted, and survive
				wantErr(t, err, locker.ErrUnavailable)
			} else if err != nil || n.dialled(where) != 2 {
				t.Errorf("error %v after %d dials", err, n.dialled(where))
			}
		}, opts...)
	}
}

func TestACallerAfterASilenceGetsAnotherConnection(t *testing.T) {
	scriptBubble(t, func(s *script, number int) {
		for i := 0; s.next() != ""; i++ {
			if number > 1 || i == 0 {
				s.say(granted(number))
			}
		}
	}, func(t *testing.T, b *Backend, n *network) {
		held := mustAcquire(t, b, lock("held"))
		_, err := b.Acquire(context.Background(), try("k"))
		wantErr(t, err, locker.ErrUnavailable)
		mustAcquire(t, b, try("k"))
		if err := held.Session.Err(); err != nil {
			t.Errorf("the silent connection was closed although it holds: %v", err)
		}
		n.expectSeen(t, "1 l|held|0", "1 l|k|0", "2 l|k|0")
	})
}

// Two releases of one hold at the same time must not make its connection idle
// twice: two waits would then share it.
func TestReleasingTwiceAtOnce(t *testing.T) {
	scriptBubble(t, func(s *script, number int) {
		for r := s.next(); r != ""; r = s.next() {
			time.Sleep(time.Second)
			switch {
			case r == "l|k|0":
				s.say("timeout")
			case r[0] == 'l':
				s.say(granted(1))
			default:
				s.say("ok")
			}
		}
	}, func(t *testing.T, b *Backend, _ *network) {
		g := mustAcquire(t, b, lock("k"))
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				// A connection that is not clean when the first is through
				// ends, and with it a second release on its way.
				if err := b.Release(context.Background(), hold("k", g)); err != nil {
					wantErr(t, err, locker.ErrUnavailable)
				}
			})
		}
		wg.Wait()
		s := b.servers[0]
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.idle) > 1 || len(s.conns) > 2 {
			t.Errorf("%d idle of %d connections", len(s.idle), len(s.conns))
		}
	})
}
