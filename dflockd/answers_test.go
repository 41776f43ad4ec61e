package dflockd

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/locker"
)

func TestAnswersToRenewals(t *testing.T) {
	for _, c := range []struct {
		answer string
		want   time.Duration
		err    error
	}{
		{"ok 10", 10 * time.Second, nil},
		{"ok 9", 10 * time.Second, nil}, // v1.0 says a second less
		{"ok 8", 8 * time.Second, nil},
		{"ok 1", time.Second, nil},
		{"ok 20", 10 * time.Second, nil}, // never more than was asked for
		{"ok 0", 0, locker.ErrLost},
		{"error", 0, locker.ErrLost},
		{"error_not_leader", 0, locker.ErrLost},
		{"ok", 0, locker.ErrUnavailable},
		{"ok " + token(1) + " 10", 0, locker.ErrUnavailable},
		{"timeout", 0, locker.ErrUnavailable},
	} {
		scriptBubble(t, func(s *script, _ int) {
			s.expect("n|k|" + token(1) + " 10")
			s.say(c.answer)
			s.skip()
		}, func(t *testing.T, b *Backend, _ *network) {
			tok, _ := locker.ParseToken(token(1))
			r := renewOnce(b, locker.Hold{Key: "k", Token: tok}, 10*time.Second, 1)
			if r.Granted != c.want {
				t.Errorf("%q grants %v, want %v", c.answer, r.Granted, c.want)
			}
			if c.err == nil && r.Err != nil || c.err != nil {
				wantErr(t, r.Err, c.err)
			}
		})
	}
}

func TestAnswersToAcquisitions(t *testing.T) {
	for answer, want := range map[string]error{
		"timeout":              locker.ErrLocked,
		"error_max_locks":      locker.ErrTooManyKeys,
		"error_max_waiters":    locker.ErrTooManyWaiters,
		"error_limit_mismatch": locker.ErrLimitMismatch,
		"error_draining":       locker.ErrDraining,
		"error_auth":           locker.ErrAuth,
		"error_not_leader":     ErrRefused,
	} {
		scriptBubble(t, func(s *script, _ int) {
			for s.next() != "" {
				s.say(answer)
			}
		}, func(t *testing.T, b *Backend, _ *network) {
			req := slot("k", 5)
			req.Try = true
			for range 2 { // the second goes over the shared connection
				_, err := b.Acquire(context.Background(), req)
				wantErr(t, err, want)
			}
		})
	}
}

func TestTheLeaseIsTheSmallerOfAskedAndGranted(t *testing.T) {
	for _, c := range []struct{ asked, answered, want int }{{60, 20, 20}, {10, 33, 10}, {0, 33, 33}, {7, 7, 7}} {
		scriptBubble(t, func(s *script, _ int) {
			s.next()
			s.say(fmt.Sprint("ok ", token(1), " ", c.answered))
			s.skip()
		}, func(t *testing.T, b *Backend, _ *network) {
			req := lock("k")
			req.TTL = time.Duration(c.asked) * time.Second
			if g := mustAcquire(t, b, req); g.TTL != time.Duration(c.want)*time.Second {
				t.Errorf("asked for %d s, granted %d s: %v", c.asked, c.answered, g.TTL)
			}
		})
	}
}

func TestGarbagePoisonsTheConnection(t *testing.T) {
	for _, garbage := range []string{
		"", " ", "OK", "ok", "yes", "\x00", "ok 33", "ok x 33", "ok " + token(1), "ok " + token(1) + " 0", "ok " + token(1) + " -1",
		"ok " + strings.ToUpper(token(1)) + " 33", granted(1) + " 1", "acquired " + token(1) + " 33", "queued", "ok {}",
		strings.Repeat("x", 600), "\xff\xfe", "HTTP/1.1 400 Bad Request", "ok " + token(1) + " 99999999999999999999",
	} {
		scriptBubble(t, func(s *script, _ int) {
			s.expect("l|k|0")
			s.say(garbage)
			s.skip()
		}, func(t *testing.T, b *Backend, _ *network) {
			_, err := b.Acquire(context.Background(), try("k"))
			wantErr(t, err, locker.ErrUnavailable)
			synctest.Wait()
			if len(b.servers[0].all()) != 0 {
				t.Errorf("after %q the connection is still used", garbage)
			}
		})
	}
}

func TestAnswersMayComeByteByByte(t *testing.T) {
	scriptBubble(t, func(s *script, _ int) {
		for i := 1; s.next() != ""; i++ {
			for _, c := range []byte(granted(i) + "\r\n") {
				s.nc.Write([]byte{c})
				time.Sleep(time.Millisecond)
			}
		}
	}, func(t *testing.T, b *Backend, _ *network) {
		for i := 1; i <= 3; i++ {
			g := mustAcquire(t, b, try("k"))
			if g.Token.Hex() != token(i) {
				t.Errorf("token %s, want %s", g.Token.Hex(), token(i))
			}
		}
	})
}

func TestAConnectionCutInsideAnAnswer(t *testing.T) {
	whole := granted(1) + "\n"
	for cut := range len(whole) {
		scriptBubble(t, func(s *script, _ int) {
			if s.next() != "" {
				s.nc.Write([]byte(whole[:cut]))
			}
		}, func(t *testing.T, b *Backend, _ *network) {
			_, err := b.Acquire(context.Background(), try("k"))
			wantErr(t, err, locker.ErrUnavailable)
		})
	}
}

func TestAnUnaskedLineIsALoss(t *testing.T) {
	scriptBubble(t, func(s *script, number int) {
		s.expect("l|k|0")
		s.say(granted(number))
		if number == 1 {
			time.Sleep(time.Second)
			s.say("error")
		}
		s.skip()
	}, func(t *testing.T, b *Backend, n *network) {
		g := mustAcquire(t, b, lock("k"))
		time.Sleep(500 * time.Millisecond)
		if err := g.Session.Err(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
		wantErr(t, g.Session.Err(), locker.ErrLost)
		wantErr(t, g.Session.Err(), errUnasked)
		mustAcquire(t, b, lock("k"))
		if n.dialled(where) != 2 {
			t.Errorf("%d dials", n.dialled(where))
		}
	})
}

func TestASurplusAnswerPoisonsTheConnection(t *testing.T) {
	scriptBubble(t, func(s *script, _ int) {
		s.expect("l|k|0")
		s.say(granted(1) + "\n" + granted(2))
		s.skip()
	}, func(t *testing.T, b *Backend, _ *network) {
		g := mustAcquire(t, b, lock("k"))
		synctest.Wait()
		wantErr(t, g.Session.Err(), errUnasked)
	})
}

// A server that kicks a silent connection says "error" first. If we send just
// then, the line looks like the answer.
func TestAFarewellIsNotMistakenForARefusal(t *testing.T) {
	scriptBubble(t, func(s *script, number int) {
		switch number {
		case 1:
			s.expect("l|k|0")
			s.say("timeout")
			s.expect("l|k|0")
			s.say("error")
		case 2:
			s.expect("l|k|0")
			s.say(granted(2))
			s.skip()
		}
	}, func(t *testing.T, b *Backend, _ *network) {
		_, err := b.Acquire(context.Background(), try("k"))
		wantErr(t, err, locker.ErrLocked)
		mustAcquire(t, b, try("k"))
	})
}

func TestARefusalByAFreshConnectionIsFinal(t *testing.T) {
	scriptBubble(t, func(s *script, _ int) {
		for s.next() != "" {
			s.say("error")
		}
	}, func(t *testing.T, b *Backend, _ *network) {
		for _, req := range []locker.Request{lock("k"), try("k"), slot("k", 2)} {
			_, err := b.Acquire(context.Background(), req)
			wantErr(t, err, ErrRefused)
			if strings.Contains(fmt.Sprint(err), "semaphore") != (req.Kind == locker.Counting) {
				t.Errorf("error %v", err)
			}
			_, err = b.Enqueue(context.Background(), req)
			wantErr(t, err, ErrRefused)
		}
	})
}
