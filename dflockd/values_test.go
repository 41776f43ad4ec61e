package dflockd

import (
	"context"
	"errors"
	"testing"

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
