package dflockd

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/stocktest"
	"github.com/distributed-go/distributed/locker"
)

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
