package dflockd

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/distributed-go/distributed/locker"
)

// inSession is a script that begins a session, of a server that takes values of
// so many bytes, and grants token(1).
func (s *script) inSession(maxValue string) bool {
	s.next()
	s.say("ok 1 00000000000000000000000000000001 max-value=" + maxValue)
	for {
		switch r := s.next(); {
		case r == "":
			return false
		case r == "1 l|k|-":
			s.say("1 " + granted(1) + "000ms")
			return true
		}
	}
}

// A change that the server could not write is told from one without an answer.
func TestAChangeThatWasNotStored(t *testing.T) {
	scriptBubble(t, func(s *script, _ int) {
		if !s.inSession("100") {
			return
		}
		if s.expect("2 put|k|" + token(1) + " 0 eA==") {
			s.say("2 error_unavailable")
		}
		if s.expect("3 del|k|" + token(1)) {
			s.say("3 error_unavailable")
		}
		s.next() // bye
	}, func(t *testing.T, b *Backend, _ *network) {
		b.UseClock(clockOf())
		ctx := context.Background()
		g := mustAcquire(t, b, lock("k"))
		_, err := b.Put(ctx, hold("k", g), []byte("x"), 0)
		for _, err := range []error{err, b.Remove(ctx, hold("k", g))} {
			wantErr(t, err, locker.ErrNotStored)
			wantErr(t, err, locker.ErrUnavailable)
		}
		b.Close()
		if _, err = b.Put(ctx, hold("k", g), []byte("x"), 0); err == nil || errors.Is(err, locker.ErrNotStored) {
			t.Errorf("without an answer: %v", err)
		}
	})
}

// That a value need not survive a restart is said where others would.
func TestVolatileIsSaidToDurableServers(t *testing.T) {
	for offers, word := range map[string]string{"max-value=100": "", "durable max-value=100": " volatile"} {
		scriptBubble(t, func(s *script, _ int) {
			s.next()
			s.say("ok 1 00000000000000000000000000000001 " + offers)
			for r := s.next(); r != "1 l|k|-"; r = s.next() {
				if r == "" {
					return
				}
			}
			s.say("1 " + granted(1) + "000ms")
			if s.expect("2 put|k|" + token(1) + " 5 eA==" + word) {
				s.say("2 ok 7")
			}
			if s.expect("3 put|k|" + token(1) + " 5 eA==") {
				s.say("3 ok 8")
			}
			s.next() // bye
		}, func(t *testing.T, b *Backend, _ *network) {
			b.UseClock(clockOf())
			h := hold("k", mustAcquire(t, b, lock("k")))
			for i, put := range []func(context.Context, locker.Hold, []byte, time.Duration) (uint64, error){b.PutVolatile, b.Put} {
				if fence, err := put(context.Background(), h, []byte("x"), 5*time.Second); err != nil || fence != uint64(7+i) { //nolint:gosec // it is small
					t.Errorf("put %d: fence %d, %v", i, fence, err)
				}
			}
			if _, err := b.PutVolatile(context.Background(), h, nil, -1); !errors.Is(err, locker.ErrInvalid) {
				t.Errorf("kept for less than nothing: %v", err)
			}
			b.Close()
		})
	}
}

// A put that was on its way when the server was restarted, to take less from then
// on, is refused by what the new one offers: it would end each connection over the
// line, and nobody else would get anything.
func TestAPutAcrossARestartThatMakesItTooLarge(t *testing.T) {
	scriptBubble(t, func(s *script, number int) {
		if number == 1 {
			s.inSession("100")
			s.next() // the put is all that comes
			return
		}
		s.next()
		s.say("error_session claim")
		s.next()
		s.say("ok 1 00000000000000000000000000000002 max-value=10")
		for r := s.next(); r != ""; r = s.next() {
			id, command, _ := strings.Cut(strings.Split(r, "|")[0], " ")
			switch command {
			case "put":
				return // the line is too long
			case "claim":
				s.say(id + " " + granted(1) + "000ms")
			case "l":
				s.say(id + " " + granted(2) + "000ms")
			default:
				s.say(id + " ok")
			}
		}
	}, func(t *testing.T, b *Backend, n *network) {
		b.UseClock(clockOf())
		ctx := context.Background()
		g := mustAcquire(t, b, lock("k"))
		_, err := b.Put(ctx, hold("k", g), make([]byte, 50), 0)
		var size *locker.SizeError
		if wantErr(t, err, locker.ErrTooLarge); !errors.As(err, &size) || size.Size != 50 || size.Max != 10 {
			t.Errorf("error %v", err)
		}
		mustAcquire(t, b, lock("other"))
		if got := n.dialled(where); got != 2 {
			t.Errorf("%d connections were made", got)
		}
	})
}

// A put that ends every connection for no reason that anybody gave is given up, and
// what else the session has goes on.
func TestAPutThatEndsEveryConnection(t *testing.T) {
	scriptBubble(t, func(s *script, _ int) {
		if s.next() == "" {
			return
		}
		s.say("ok 1 00000000000000000000000000000001 max-value=100")
		for r := s.next(); r != ""; r = s.next() {
			id, command, _ := strings.Cut(strings.Split(r, "|")[0], " ")
			switch command {
			case "put":
				return
			case "l":
				s.say(id + " " + granted(1) + "000ms")
			case "n":
				s.say(id + " ok 33000ms")
			default:
				s.say(id + " ok")
			}
		}
	}, func(t *testing.T, b *Backend, _ *network) {
		b.UseClock(clockOf())
		ctx := context.Background()
		g := mustAcquire(t, b, lock("k"))
		if _, err := b.Put(ctx, hold("k", g), []byte("x"), 0); !errors.Is(err, locker.ErrUnavailable) || errors.Is(err, locker.ErrNotStored) {
			t.Errorf("error %v", err)
		}
		mustRelease(t, b, hold("k", g))
	})
}
