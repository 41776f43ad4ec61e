package dflockd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/stocktest"
	"github.com/distributed-go/distributed/locker"
	lockserver "github.com/distributed-go/distributed/server"
)

func TestAContextThatHasEndedSendsNothing(t *testing.T) {
	scriptBubble(t, func(s *script, _ int) { s.skip() }, func(t *testing.T, b *Backend, n *network) {
		why := errors.New("no more")
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(why)
		_, err := b.Acquire(ctx, lock("k"))
		wantErr(t, err, why)
		_, err = b.Enqueue(ctx, lock("k"))
		wantErr(t, err, why)
		wantErr(t, b.Release(ctx, locker.Hold{Key: "k"}), why)
		_, err = b.Inspect(ctx)
		wantErr(t, err, why)
		r := []locker.Renewal{{Hold: locker.Hold{Key: "k"}, TTL: time.Second}}
		b.Renew(ctx, r)
		wantErr(t, r[0].Err, why)
		if n.dialled(where) != 0 {
			t.Error("it dialled")
		}
	})
}

func TestTheContextsDeadlineGoesOverTheWireRoundedUp(t *testing.T) {
	scriptBubble(t, func(s *script, _ int) {
		for s.next() == "l|k|0" {
			s.say("timeout")
		}
	}, func(t *testing.T, b *Backend, n *network) {
		for _, d := range []time.Duration{time.Millisecond, 2500 * time.Millisecond, 7 * time.Second, 48 * time.Hour} {
			ctx, cancel := context.WithTimeout(context.Background(), d)
			began := time.Now()
			_, err := b.Acquire(ctx, lock("k"))
			cancel()
			wantErr(t, err, locker.ErrUnavailable) // the script closes where it does not wait
			if time.Since(began) != 0 {
				t.Error("it took time")
			}
		}
		n.expectSeen(t, "1 l|k|0", "2 l|k|1", "1 l|k|0", "3 l|k|3", "1 l|k|0", "4 l|k|7", "1 l|k|0", "5 l|k|86400")
	})
}

func TestAWaitThatTheServerEndsEarlyIsResumed(t *testing.T) {
	scriptBubble(t, func(s *script, _ int) {
		for r := s.next(); r != ""; r = s.next() {
			time.Sleep(time.Second)
			s.say("timeout")
		}
	}, func(t *testing.T, b *Backend, n *network) {
		ctx, cancel := context.WithTimeout(context.Background(), 4500*time.Millisecond)
		defer cancel()
		_, err := b.Acquire(ctx, lock("k"))
		wantErr(t, err, context.DeadlineExceeded)
		n.expectSeen(t, "1 l|k|0", "2 l|k|4", "2 l|k|3", "2 l|k|2", "2 l|k|1")
	})
}

func TestACancelledWaitReturnsAtOnceAndLeavesTheQueue(t *testing.T) {
	for name, pipe := range map[string]func() (a, b net.Conn){"half-close": newDuplex, "close": net.Pipe} {
		t.Run(name, func(t *testing.T) {
			stockBubble(t, stocktest.Config{}, func(t *testing.T, s *stock) {
				s.net.pipe = pipe
				g := mustAcquire(t, s.b, lock("k"))
				ctx, cancel := context.WithTimeout(context.Background(), 1500*time.Millisecond)
				defer cancel()
				began := time.Now()
				_, err := s.b.Acquire(ctx, lock("k"))
				wantErr(t, err, context.DeadlineExceeded)
				if took := time.Since(began); took != 1500*time.Millisecond {
					t.Errorf("took %v", took)
				}
				// v1.0 does not notice before the wait is over.
				time.Sleep(6 * time.Second)
				s.expect(t, 1, 1, 0)
				mustRelease(t, s.b, hold("k", g))
			})
		})
	}
}

func TestAGrantOnItsWayToACancelledWaitIsGivenBack(t *testing.T) {
	scriptBubble(t, func(s *script, number int) {
		s.expect("l|k|0")
		s.say("timeout")
		s.expect("r|k|" + token(7))
		s.say("ok")
		s.skip()
	}, func(t *testing.T, b *Backend, n *network) {
		n.listen(where, chain(n, t, func(s *script) {
			s.expect("l|k|86400")
			if s.next() != "" {
				t.Error("something was sent after the wait was cancelled")
			}
			time.Sleep(time.Second)
			s.say(granted(7)) // it had left before we heard of the cancellation
		}))
		ctx, cancel := context.WithCancel(context.Background())
		time.AfterFunc(time.Second, cancel)
		_, err := b.Acquire(ctx, lock("k"))
		wantErr(t, err, context.Canceled)
		time.Sleep(2 * time.Second)
		n.expectSeen(t, "1 l|k|0", "2 l|k|86400", "1 r|k|"+token(7))
	})
}

// chain lets the listener that is there serve the first connection, and f the
// second.
func chain(n *network, t *testing.T, f func(*script)) func(net.Conn) {
	first := n.serve[where]
	var number atomic.Int64
	return func(nc net.Conn) {
		if number.Add(1) == 1 {
			first(nc)
			return
		}
		defer nc.Close()
		f(newScript(t, n, nc, 2))
	}
}

func TestACancelledConnectionDoesNotLingerForEver(t *testing.T) {
	scriptBubble(t, func(s *script, _ int) {
		if s.next() == "l|k|0" {
			s.say("timeout")
		}
		time.Sleep(time.Minute) // deaf
	}, func(t *testing.T, b *Backend, _ *network) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_, err := b.Acquire(ctx, lock("k"))
		wantErr(t, err, context.DeadlineExceeded)
		synctest.Wait()
		if left := len(b.servers[0].all()); left != 2 {
			t.Errorf("%d connections", left)
		}
		time.Sleep(lingerTimeout)
		synctest.Wait()
		if left := len(b.servers[0].all()); left != 1 {
			t.Errorf("%d connections are left", left)
		}
	})
}

func TestCancelledConnectionsDoNotCountAgainstTheCap(t *testing.T) {
	stockBubble(t, stocktest.Config{}, func(t *testing.T, s *stock) {
		mustAcquire(t, s.b, lock("k"))
		for range 20 {
			ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
			_, err := s.b.Acquire(ctx, lock("k"))
			cancel()
			wantErr(t, err, context.DeadlineExceeded)
		}
	}, WithMaxConns(2))
}

// A storm cancels acquisitions at random instants around their grant. Whoever
// wins, nothing may be left on the server afterwards.
func storm(t *testing.T, addr string, n int, counts func() (held, waiting int), opts ...Option) {
	b := newBackend(t, []string{addr}, opts...)
	defer b.Close()
	var won, lost atomic.Int64
	var wg sync.WaitGroup
	const workers, keys = 16, 4
	for w := range workers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), uint64(n)))
			for range n / workers {
				key := fmt.Sprint("k", r.IntN(keys))
				req := lock(key)
				req.Try = r.IntN(4) == 0
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(r.IntN(20000))*time.Microsecond)
				g, err := b.Acquire(ctx, req)
				cancel()
				switch {
				case err == nil:
					won.Add(1)
					if err := b.Release(context.Background(), hold(key, g)); err != nil {
						t.Error(err)
					}
				case errors.Is(err, context.DeadlineExceeded), errors.Is(err, locker.ErrLocked):
					lost.Add(1)
				default:
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("%d acquired, %d not", won.Load(), lost.Load())
	if won.Load() == 0 || lost.Load() == 0 {
		t.Error("the storm missed the grants")
	}
	held, waiting := counts()
	for range 1000 { // real time: the sockets are real
		if held == 0 && waiting == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
		held, waiting = counts()
	}
	t.Errorf("%d held and %d waiting are left", held, waiting)
}

const stormSize = 2000

func TestCancelStormOnAStockServer(t *testing.T) {
	for _, keep := range []bool{false, true} {
		t.Run(fmt.Sprint("keep=", keep), func(t *testing.T) {
			s, addr := stocktest.Start(t, stocktest.Config{Keep: keep})
			var opts []Option
			if keep {
				opts = append(opts, WithKeepOnDisconnect())
			}
			storm(t, addr, stormSize, func() (int, int) {
				_, held, waiting := s.Counts()
				return held, waiting
			}, opts...)
		})
	}
}

func TestCancelStormOnOurServer(t *testing.T) {
	for _, keep := range []bool{false, true} {
		t.Run(fmt.Sprint("keep=", keep), func(t *testing.T) {
			addr := startServer(t, lockserver.Config{KeepOnDisconnect: keep})
			watch := newBackend(t, []string{addr})
			defer watch.Close()
			var opts []Option
			if keep {
				opts = append(opts, WithKeepOnDisconnect())
			}
			storm(t, addr, stormSize, func() (held, waiting int) {
				r, err := watch.Inspect(context.Background())
				if err != nil {
					t.Fatal(err)
				}
				for _, k := range r.Keys {
					held, waiting = held+k.Holders, waiting+k.Waiters
				}
				return held, waiting
			}, opts...)
		})
	}
}

// startServer serves on a free port until the test ends.
func startServer(t testing.TB, cfg lockserver.Config) (addr string) {
	t.Helper()
	cfg.Logger = slog.New(slog.DiscardHandler)
	s, err := lockserver.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		s.Serve(l)
	}()
	t.Cleanup(func() {
		s.Close()
		<-served
	})
	return l.Addr().String()
}
