package session

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/distributed-go/distributed/codec"
)

// inLots connects, has as many locks granted as given, and connects again with
// a window that is smaller. The requests have the IDs from 1 on.
func inLots(t *testing.T, locks, window int) (*phone, []*Call) {
	t.Helper()
	p := newPhone(t)
	p.naming.window = window
	p.connects()
	var calls []*Call
	for i := range locks {
		calls = append(calls, p.locks(fmt.Sprint("k", i+1)))
		p.line(grantOf(calls[i].Request.ID))
	}
	p.said = nil
	p.Cut(p.now, p.conn)
	return p, calls
}

func renewalOf(id uint64) codec.Answer {
	return codec.Answer{ID: id, Status: codec.OK, TTL: 10 * time.Second, HasTTL: true}
}

// TestHoldsAreNamedByAndBy: sync comes behind the last, and what wants a lease
// behind sync.
func TestHoldsAreNamedByAndBy(t *testing.T) {
	p, _ := inLots(t, 4, 2)
	p.connects()
	p.sends("5 n", "6 n")
	p.locks("new")
	p.Do(p.now, &Call{Tag: "e", Request: codec.Request{Command: codec.Enqueue}})
	p.Do(p.now, &Call{Tag: "ping", Request: codec.Request{Command: codec.Ping}})
	p.Beat(p.now)
	p.sends("7 ping", "8 beat")
	p.line(renewalOf(6))
	p.sends("9 n")
	p.line(renewalOf(5))
	p.sends("10 n")
	p.line(renewalOf(9))
	p.sends("11 sync", "12 l", "13 e")
	p.line(renewalOf(10))
	p.locks("newer")
	p.sends("14 l")
	if p.naming.spare.head != nil || p.naming.asked != 0 {
		t.Errorf("something is left of the naming: %+v", p.naming)
	}
}

// TestAHoldThatEndsBeforeItIsNamed is not named, and released at once.
func TestAHoldThatEndsBeforeItIsNamed(t *testing.T) {
	p, calls := inLots(t, 3, 1)
	p.connects()
	p.sends("4 n")
	p.Release(p.now, calls[1].Hold, &Call{Tag: "release"})
	p.sends("5 r")
	p.line(codec.Answer{ID: 5, Status: codec.OK})
	p.line(codec.Answer{Notice: codec.NoticeLost, Key: []byte("k3"), Token: calls[2].Hold.Token, HasToken: true, Reason: codec.ReasonRevoked})
	p.hears("release ok", "lost k3 revoked")
	p.line(renewalOf(4))
	p.sends("6 sync")
}

// TestBeatsCountForWhatIsNamed and for nothing else.
func TestBeatsCountForWhatIsNamed(t *testing.T) {
	p, calls := inLots(t, 2, 1)
	before := p.Since(calls[1].Hold)
	p.now += time.Second
	p.connects()
	p.Beat(p.now)
	p.sends("3 n", "4 beat")
	p.line(renewalOf(3))
	p.sends("5 n")
	p.line(codec.Answer{ID: 4, Status: codec.OK})
	if got := p.Since(calls[0].Hold); got != p.now {
		t.Errorf("the first counts from %v ago", p.now-got)
	}
	if got := p.Since(calls[1].Hold); got != before {
		t.Errorf("the second, which is not confirmed, counts from %v ago", p.now-got)
	}
	p.line(renewalOf(5))
	p.sends("6 sync")
}

// TestAResumeThatIsCutOff begins anew, and names everything.
func TestAResumeThatIsCutOff(t *testing.T) {
	p, calls := inLots(t, 3, 1)
	p.connects()
	p.sends("4 n")
	late := p.locks("new")
	p.line(renewalOf(4))
	p.sends("5 n")
	p.Cut(p.now, p.conn)
	p.connects()
	p.sends("6 n")
	p.line(codec.Answer{ID: 5, Status: codec.OK}) // nobody asked over this one
	p.line(renewalOf(6))
	p.line(renewalOf(7))
	p.line(renewalOf(8))
	p.sends("7 n", "8 n", "9 sync", "10 l")
	p.hears()
	if late.Done() || !slices.ContainsFunc(calls, func(c *Call) bool { return c.Hold.Held() }) {
		t.Error("something ended")
	}
}
