package dflockd

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/locker"
)

// pingLines is how a ping looks on the wire.
const pingLines = "r|_|00000000000000000000000000000000"

// sayOK answers everything that a holder sends.
func sayOK(s *script) {
	for r := s.next(); r != ""; r = s.next() {
		switch {
		case r == pingLines:
			s.say("error")
		case r[0] == 'l':
			s.say("ok " + token(1) + " 3600")
		case r[0] == 'n':
			s.say("ok 33")
		default:
			s.say("ok")
		}
	}
}

func TestOnlyConnectionsThatHoldArePinged(t *testing.T) {
	for _, keepalive := range []time.Duration{200 * time.Millisecond, time.Second, DefaultKeepalive} {
		scriptBubble(t, func(s *script, _ int) { sayOK(s) }, func(t *testing.T, b *Backend, n *network) {
			pings := func() (count int) {
				for _, r := range n.seen() {
					if r == "1 "+pingLines {
						count++
					}
				}
				return count
			}
			g := mustAcquire(t, b, lock("k"))
			time.Sleep(10 * keepalive)
			if got := pings(); got < 10 || got > 14 {
				t.Errorf("keepalive %v: %d pings in ten times that", keepalive, got)
			}
			if held := g.Session.Ref().(*tie).count.Load(); held != 1 {
				t.Errorf("connection counts %d holds", held)
			}
			mustRelease(t, b, hold("k", g))
			before := pings()
			time.Sleep(keepalive + keepalive/2)
			if got := pings() - before; got != 0 {
				t.Errorf("keepalive %v: %d pings although nothing is held", keepalive, got)
			}
		}, WithKeepalive(keepalive))
	}
}

// Traffic of the holder's own makes pings superfluous.
func TestABusyConnectionIsNotPinged(t *testing.T) {
	scriptBubble(t, func(s *script, _ int) { sayOK(s) }, func(t *testing.T, b *Backend, n *network) {
		g := mustAcquire(t, b, lock("k"))
		for range 20 {
			time.Sleep(5 * time.Second)
			if r := renewOnce(b, hold("k", g), 33*time.Second, 1); r.Err != nil {
				t.Fatal(r.Err)
			}
		}
		if slices.Contains(n.seen(), "1 "+pingLines) {
			t.Error("it was pinged")
		}
	})
}

// A server that answers nothing is pinged once, and not closed while it may
// still hold; a hold that has run out lets its connection go.
func TestAFrozenServerIsPingedOnce(t *testing.T) {
	scriptBubble(t, func(s *script, _ int) {
		s.next()
		s.say(granted(1))
		s.skip()
	}, func(t *testing.T, b *Backend, n *network) {
		g := mustAcquire(t, b, lock("k"))
		time.Sleep(32 * time.Second)
		n.expectSeen(t, "1 l|k|0", "1 "+pingLines)
		if err := g.Session.Err(); err != nil {
			t.Error(err)
		}
		time.Sleep(20 * time.Second)
		wantErr(t, g.Session.Err(), locker.ErrLost)
		synctest.Wait()
		if left := len(b.servers[0].all()); left != 0 {
			t.Errorf("%d connections are left", left)
		}
	})
}
