package session

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/distributed-go/distributed/codec"
)

func tokenOf(n int) (t codec.Token) {
	binary.BigEndian.PutUint64(t[:8], uint64(n))
	return t
}

// TestWalkWhileHoldsComeAndGo wants a walk to come by every hold once that is
// there from its beginning to when it is passed, whatever happens to others.
func TestWalkWhileHoldsComeAndGo(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	var s chain
	var held, ended []*Hold
	end := func(i int) *Hold {
		h := held[i]
		held = slices.Delete(held, i, i+1)
		h.held = false
		s.drop(h)
		ended = append(ended, h)
		return h
	}
	for round := range 500 {
		for range rng.IntN(200) {
			h := new(Hold)
			if len(ended) > 0 && rng.IntN(3) == 0 {
				i := rng.IntN(len(ended))
				h = ended[i]
				ended = slices.Delete(ended, i, i+1)
			}
			h.held = true
			s.push(h)
			held = append(held, h)
		}
		want := make(map[*Hold]bool)
		for _, h := range held {
			want[h] = true
		}
		s.walk()
		for h := s.step(); h != nil; h = s.step() {
			if !h.held {
				t.Fatalf("round %d: the walk came by what is not held", round)
			}
			delete(want, h)
			for n := rng.IntN(4); n > 0 && len(held) > 0; n-- {
				delete(want, end(rng.IntN(len(held))))
			}
		}
		if len(want) > 0 {
			t.Fatalf("round %d: the walk left out %d", round, len(want))
		}
	}
}

// TestChainAgainstAModel grants, ends and looks for holds at random, and uses
// ended ones again.
func TestChainAgainstAModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var s chain
	held := make(map[codec.Token]*Hold)
	var ended []*Hold
	for step := range 50_000 {
		switch n := rng.IntN(10); {
		case n < 5 || len(held) == 0:
			h := new(Hold)
			if len(ended) > 0 && n == 0 {
				i := rng.IntN(len(ended))
				h = ended[i]
				ended = slices.Delete(ended, i, i+1)
			}
			h.Token, h.held = tokenOf(step), true
			s.push(h)
			held[h.Token] = h
		case n < 9:
			for token, h := range held { // any
				delete(held, token)
				h.held = false
				s.drop(h)
				ended = append(ended, h)
				break
			}
		case n == 9:
			for token, h := range held {
				if s.find(token) != h {
					t.Fatalf("step %d: a hold was not found", step)
				}
				break
			}
			if s.find(codec.Token{15: 1}) != nil {
				t.Fatal("found what is not there")
			}
			if rng.IntN(20) == 0 {
				s.index = nil
			}
		}
		if s.held != len(held) || s.dead > s.held+fewDead {
			t.Fatalf("step %d: %d held and %d dead, want %d held", step, s.held, s.dead, len(held))
		}
	}
	walked := 0
	s.all(func(h *Hold) {
		if held[h.Token] != h {
			t.Error("a walk came to what is not held")
		}
		walked++
	})
	if walked != len(held) {
		t.Errorf("walked over %d of %d", walked, len(held))
	}
}

// TestLosingAMillionInAnyOrder is a matter of steps: to walk the list for each
// would take hours.
func TestLosingAMillionInAnyOrder(t *testing.T) {
	n := 1_000_000
	if testing.Short() || underRace {
		n = 100_000
	}
	c := NewClient(new(silent), codec.Greeting{Name: "n"})
	conn := c.Connect(0)
	c.Line(0, conn, &codec.Answer{Status: codec.OK, Version: 1, Session: sessionID})
	for i := range n {
		c.hold(&Hold{Key: "k"}, tokenOf(i+1), time.Minute, 0)
	}
	for _, i := range rand.Perm(n) {
		c.Line(0, conn, &codec.Answer{Notice: codec.NoticeLost, Token: tokenOf(i + 1), HasToken: true, Key: []byte("k"), Reason: codec.ReasonExpired})
	}
	if c.Holds() != 0 || c.holds.head != nil {
		t.Errorf("%d holds are left", c.Holds())
	}
}

func TestTTLIsInWholeMilliseconds(t *testing.T) {
	for _, c := range []struct{ ttl, want time.Duration }{
		{-1, 0}, {0, 0}, {999 * time.Microsecond, 0}, {1500 * time.Microsecond, time.Millisecond},
		{time.Minute, time.Minute}, {1 << 62, (1<<32 - 1) * time.Millisecond},
	} {
		var h Hold
		if h.setTTL(c.ttl); h.TTL() != c.want {
			t.Errorf("%v became %v, want %v", c.ttl, h.TTL(), c.want)
		}
	}
}

func TestBusyCallsAndEnd(t *testing.T) {
	p := newPhone(t)
	p.connects()
	if p.Busy() || p.Beating() {
		t.Error("busy from the beginning")
	}
	p.Beat(p.now)
	if p.Busy() || !p.Beating() {
		t.Error("a beat alone keeps a session busy")
	}
	first, second := p.locks("a"), p.locks("b")
	p.Cut(p.now, p.conn)
	third := p.locks("c")
	if got := p.Calls(); !slices.Equal(got, []*Call{first, second, third}) || !p.Busy() {
		t.Errorf("calls %v, busy %t", got, p.Busy())
	}
	p.Cancel(p.now, second)
	p.connects()
	p.line(grantOf(2))
	if got := p.Calls(); !slices.Equal(got, []*Call{third}) {
		t.Errorf("calls %v after an answer and a cancel", got)
	}
	p.said = nil
	p.End("enough")
	p.End("again")
	p.hears("lost a enough", "c error_session", "over enough")
	if p.Busy() || p.Holds() != 0 {
		t.Error("busy after the end")
	}
}

func TestAttemptsAreCounted(t *testing.T) {
	p := newPhone(t)
	for want := uint64(1); want < 4; want++ {
		p.sent = nil
		p.Connect(p.now)
		if got := p.sent[0].Hello.Attempt; got != want {
			t.Errorf("attempt %d, want %d", got, want)
		}
	}
}

// TestForceIsNotRepeated: the second time it would hit the next holder.
func TestForceIsNotRepeated(t *testing.T) {
	p := newPhone(t)
	p.connects()
	p.Do(p.now, &Call{Tag: "force", Request: codec.Request{Command: codec.Force, Key: []byte("k")}})
	p.Cut(p.now, p.conn)
	p.hears("force invalid")
	p.connects()
	p.sends("2 sync")
}
