package session

import (
	"fmt"
	"testing"
	"time"

	"github.com/distributed-go/distributed/codec"
)

var newSessionID = codec.SessionID{8}

// restarted makes a connection to a server that was restarted, and says hello to
// it twice over it.
func (p *phone) restarted() {
	p.Helper()
	p.sent = nil
	p.conn = p.Connect(p.now)
	if !p.sent[0].Hello.Resuming || p.Greet(p.conn) {
		p.Fatal("the session is given up already")
	}
	if p.line(codec.Answer{Status: codec.ErrSession, Claim: true}) {
		p.Fatal("the connection goes on by itself")
	}
	if !p.Greet(p.conn) || p.Greet(p.conn+1) || p.Up() {
		p.Fatal("Greet does not know whether it is its turn")
	}
	if h := p.sent[1].Hello; h.Resuming {
		p.Fatalf("hello %+v", h)
	}
	p.sends("0 hello", "0 hello")
	p.line(codec.Answer{Status: codec.OK, Version: 1, Session: newSessionID})
}

// claims wants the oldest request that was sent to be this claim.
func (p *phone) claims(id uint64, key string, ttl time.Duration, limit, weight int) {
	p.Helper()
	if len(p.sent) == 0 {
		p.Fatalf("no claim of %q", key)
	}
	r := p.sent[0]
	p.sent = p.sent[1:]
	if r.ID != id || r.Command != codec.Claim || r.Semaphore || string(r.Key) != key || r.TTL != ttl || r.Limit != limit || r.Weight != weight {
		p.Fatalf("sent %v, want the claim of %q", r, key)
	}
}

func (p *phone) shares(key string, c codec.Command) *Call {
	x := &Call{Tag: key, Hold: &Hold{Key: key, Semaphore: true}, Request: codec.Request{
		Command: c, Semaphore: true, Key: []byte(key), NoTimeout: true, TTL: 10 * time.Second, Limit: 5, Weight: 3,
	}}
	p.Do(p.now, x)
	return x
}

func TestClaimsComeFirst(t *testing.T) {
	p := newPhone(t)
	p.connects()
	held := p.locks("held")                // 1
	share := p.shares("s", codec.Lock)     // 2
	old := p.locks("old")                  // 3
	e := p.shares("t", codec.Enqueue)      // 4
	p.locks("waits")                       // 5
	released := p.locks("released")        // 6
	placed := p.shares("p", codec.Enqueue) // 7
	for _, id := range []uint64{1, 2, 3, 6} {
		p.line(grantOf(id))
	}
	p.line(codec.Answer{ID: 4, Status: codec.Acquired, Token: codec.Token{15: 4}, HasToken: true})
	p.line(codec.Answer{ID: 7, Status: codec.Queued, Position: 1})
	w := &Call{Tag: "w", Hold: &Hold{Key: "t", Semaphore: true}, Ticket: e, Request: codec.Request{Command: codec.Wait, Semaphore: true, Key: []byte("t"), NoTimeout: true}}
	p.Do(p.now, w) // 8
	p.line(grantOf(8))
	p.Do(p.now, &Call{Tag: "w2", Hold: &Hold{Key: "p", Semaphore: true}, Ticket: placed, Request: codec.Request{Command: codec.Wait, Semaphore: true, Key: []byte("p"), NoTimeout: true}}) // 9
	p.now += 5 * time.Second
	p.Release(p.now, released.Hold, &Call{Tag: "r"}) // 10
	p.Beat(p.now)                                    // 11
	p.Cut(p.now, p.conn)
	old.Hold.stamp -= 6 * time.Second // it was confirmed last before all others
	p.said = nil
	p.now += 4 * time.Second
	p.restarted()
	p.claims(12, "held", 10*time.Second, 1, 1)
	p.claims(13, "s", 10*time.Second, 5, 3)
	p.claims(14, "t", 10*time.Second, 5, 3)
	p.hears("lost old expired")
	p.sends("15 l", "16 e", "17 w 16", "18 r")
	claimed := p.now
	p.now += time.Second
	p.line(codec.Answer{ID: 12, Status: codec.OK, Token: held.Hold.Token, HasToken: true, TTL: 8 * time.Second, HasTTL: true})
	if p.Since(held.Hold) != claimed || held.Hold.TTL() != 8*time.Second || !held.Hold.Held() {
		t.Errorf("counts from %v for %v", p.Since(held.Hold), held.Hold.TTL())
	}
	if p.Since(share.Hold) >= claimed {
		t.Error("a hold counts from its claim, which was not answered")
	}
	p.line(codec.Answer{ID: 13, Status: codec.Failed})
	p.hears("lost s session gone")
	p.line(codec.Answer{ID: 14, Status: codec.OK, Token: w.Hold.Token, HasToken: true, TTL: 10 * time.Second, HasTTL: true})
	p.line(codec.Answer{ID: 18, Status: codec.OK})
	p.hears("r ok")
	if p.claimsLeft() {
		t.Error("it goes on claiming")
	}
}

// claimsLeft says whether another resume would claim again.
func (p *phone) claimsLeft() bool { return p.Client.claims }

func TestClaimsAreSpread(t *testing.T) {
	p := newPhone(t)
	p.SpreadClaims(100 * time.Millisecond)
	p.connects()
	for i := range 50 {
		p.locks(fmt.Sprint(i))
		p.line(grantOf(uint64(i + 1)))
	}
	p.Cut(p.now, p.conn)
	p.said = nil
	p.restarted()
	p.locks("new")
	renewal := &Call{Tag: "renewal", Request: codec.Request{Command: codec.Renew, Key: []byte("k"), TTL: time.Second}}
	p.Do(p.now, renewal)
	began, sent, calls := p.now, 0, 0
	for at, ok := p.ClaimAt(); ok; at, ok = p.ClaimAt() {
		p.now = max(p.now, at)
		p.Claim(p.now)
		for _, r := range p.sent {
			if r.Command != codec.Claim {
				break
			}
			sent++
		}
		if due := 50 * (p.now - began + 2*claimStep) / (100 * time.Millisecond); sent > int(due)+1 {
			t.Fatalf("%d claims after %v", sent, p.now-began)
		}
		if sent < 50 {
			p.sent = nil
		}
		if calls++; calls > 1000 {
			t.Fatal("it does not end")
		}
		p.now += time.Millisecond
	}
	if p.now-began > 120*time.Millisecond || p.now-began < 80*time.Millisecond {
		t.Errorf("%d claims in %v", sent, p.now-began)
	}
	if n := len(p.sent); n < 2 || p.sent[n-2].Command != codec.Lock || p.sent[n-1].Command != codec.Renew {
		t.Errorf("at the end came %v", p.sent)
	}
	for _, r := range p.pending.all() {
		if r.names {
			p.line(codec.Answer{ID: r.Request.ID, Status: codec.OK, Token: r.Request.Token, HasToken: true, TTL: time.Second, HasTTL: true})
		}
	}
	if p.claimsLeft() || p.Holds() != 50 {
		t.Errorf("it goes on claiming: %t; %d holds", p.claimsLeft(), p.Holds())
	}
}

func TestClaimsGoOnOverABreak(t *testing.T) {
	p := newPhone(t)
	p.connects()
	a, b := p.locks("a"), p.locks("b")
	p.line(grantOf(1))
	p.line(grantOf(2))
	p.Cut(p.now, p.conn)
	p.restarted()
	p.claims(3, "a", 10*time.Second, 1, 1)
	p.claims(4, "b", 10*time.Second, 1, 1)
	p.line(codec.Answer{ID: 3, Status: codec.OK, Token: a.Hold.Token, HasToken: true, TTL: 10 * time.Second, HasTTL: true})
	p.Cut(p.now, p.conn)
	p.conn = p.Connect(p.now)
	if h := p.sent[0].Hello; !h.Resuming || h.Resume != newSessionID {
		t.Fatalf("hello %+v", h)
	}
	p.sent = nil
	p.line(codec.Answer{Status: codec.OK, Version: 1, Session: newSessionID})
	p.claims(5, "a", 10*time.Second, 1, 1)
	p.claims(6, "b", 10*time.Second, 1, 1)
	p.sends("7 sync")
	for id, h := range map[uint64]*Hold{5: a.Hold, 6: b.Hold} {
		p.line(codec.Answer{ID: id, Status: codec.OK, Token: h.Token, HasToken: true, TTL: 10 * time.Second, HasTTL: true})
	}
	if p.claimsLeft() {
		t.Error("it goes on claiming")
	}
	p.said = nil
	p.Cut(p.now, p.conn)
	p.conn = p.Connect(p.now)
	p.line(codec.Answer{Status: codec.ErrSession})
	p.hears("lost a session gone", "lost b session gone", "over session gone")
}

func TestNothingIsClaimedTooLate(t *testing.T) {
	p := newPhone(t)
	p.connects()
	p.locks("a")
	p.line(grantOf(1))
	p.Cut(p.now, p.conn)
	p.said = nil
	p.now += 9898*time.Millisecond - 1
	early := p.now
	p.restarted()
	p.claims(2, "a", 10*time.Second, 1, 1)
	p.Cut(early, p.conn)
	p.now++
	p.restarted2()
	p.sends()
	p.hears("lost a expired")
}

// restarted2 is restarted by another connection, without Greet.
func (p *phone) restarted2() {
	p.conn = p.Connect(p.now)
	p.line(codec.Answer{Status: codec.ErrSession, Claim: true})
	p.Cut(p.now, p.conn)
	p.sent = nil
	p.conn = p.Connect(p.now)
	if p.sent[0].Hello.Resuming {
		p.Fatal("it resumes what is gone")
	}
	p.sent = nil
	p.line(codec.Answer{Status: codec.OK, Version: 1, Session: newSessionID})
}
