package session

import (
	"testing"
	"time"

	"github.com/distributed-go/distributed/codec"
)

// offering answers hello over a new connection by a server that takes values of so
// many bytes.
func (p *phone) offering(maxValue string) {
	p.Helper()
	p.conn = p.Connect(p.now)
	p.sent = nil
	p.line(codec.Answer{Status: codec.OK, Version: 1, Session: sessionID, Offers: []byte(codec.OfferMaxValue + "=" + maxValue)})
}

// puts asks for a put under what is held, if anything is.
func (p *phone) puts(tag string, h *Hold, size int) *Call {
	c := &Call{Tag: tag, Hold: h, Request: codec.Request{Command: codec.Put, Key: []byte("k"), Value: make([]byte, size)}}
	if h != nil {
		c.Request.Token = h.Token
	}
	p.Do(p.now, c)
	return c
}

// A server that is back and takes less than the one before would end every
// connection over a line that is too long for it.
func TestAPutIsNotSentToWhoTakesLess(t *testing.T) {
	p := newPhone(t)
	p.offering("100")
	p.locks("k")
	p.line(grantOf(1))
	p.puts("fits", nil, 50)
	p.puts("large", nil, 100)
	p.puts("too large", nil, 101)
	p.sends("1 l", "2 put", "3 put")
	p.hears("k ok", "too large error_too_large")
	p.Cut(p.now, p.conn)
	p.puts("queued", nil, 100)
	p.puts("empty", nil, 0)
	p.offering("50")
	p.sends("5 n", "2 put", "7 put", "8 sync")
	p.hears("large error_too_large", "queued error_too_large")
}

func TestClaimsGoBeforeWhatIsTooLarge(t *testing.T) {
	p := newPhone(t)
	p.offering("100")
	c := p.locks("k")
	p.line(grantOf(1))
	p.puts("large", c.Hold, 100)
	p.Cut(p.now, p.conn)
	p.said = nil
	p.restarted() // it offers nothing
	p.claims(3, "k", 10*time.Second, 1, 1)
	p.sends()
	p.hears("large error_too_large")
	if !c.Hold.Held() {
		t.Error("the hold is lost with it")
	}
}

// A change of a value is of no use once its lease is over. Whether it was made
// before that nobody knows.
func TestAPutIsNotSentAgainWhenItsLeaseIsOver(t *testing.T) {
	p := newPhone(t)
	p.offering("100")
	c := p.locks("k")
	p.line(grantOf(1))
	p.puts("a", c.Hold, 1)
	p.Do(p.now, &Call{Tag: "del", Hold: c.Hold, Request: codec.Request{Command: codec.Delete, Key: []byte("k"), Token: c.Hold.Token}})
	p.puts("not ours", nil, 1)
	p.now += time.Second
	p.Release(p.now, c.Hold, &Call{Tag: "r"})
	p.Cut(p.now, p.conn)
	p.hears("k ok")
	p.now += 8 * time.Second
	p.offering("100") // it is still good
	p.sends("2 put", "3 del", "4 put", "5 r", "6 sync")
	p.Cut(p.now, p.conn)
	p.now += time.Second
	p.offering("100")
	p.sends("4 put", "5 r", "7 sync")
	p.hears("a invalid", "del invalid")
}

// poisons makes one connection after the other, each of which ends after what the
// functions do.
func (p *phone) poisons(times int, answers ...func()) {
	p.Helper()
	for range times {
		p.offering("100")
		for _, f := range answers {
			f()
		}
		p.Cut(p.now, p.conn)
		p.now += time.Millisecond
	}
}

// What ends every connection is given up after a while: first what has the longest
// line, then what should have been answered at once, and then what comes first.
func TestWhatEndsEveryConnectionIsGivenUp(t *testing.T) {
	p := newPhone(t)
	p.offering("100")
	p.locks("waits")
	p.Do(p.now, &Call{Tag: "ping", Request: codec.Request{Command: codec.Ping}})
	p.puts("short", nil, 10)
	p.puts("long", nil, 50)
	p.locks("too")
	p.Cut(p.now, p.conn)
	for _, tag := range []string{"long", "short", "ping"} {
		p.poisons(maxPoisoned - 1)
		p.hears()
		p.poisons(1)
		p.hears(tag + " invalid")
	}
	p.poisons(maxPoisoned - 1)
	p.poisons(1, func() { p.line(codec.Answer{ID: p.next, Status: codec.OK}) }) // the sync
	p.poisons(maxPoisoned - 1)
	p.hears()
	p.poisons(1)
	p.hears("waits invalid")
	if !p.Orphans(p.now) {
		t.Error("the server may have granted it")
	}
	p.offering("100")
	if len(p.sent) != 2 || p.sent[0].ID != 5 || p.sent[1].Command != codec.Sync {
		t.Errorf("sent %v", p.sent)
	}
}

// Neither connections that were never made count, nor those with nothing to say
// again.
func TestAnOutageIsNoPoison(t *testing.T) {
	p := newPhone(t)
	p.offering("100")
	c := p.locks("k")
	p.line(grantOf(1))
	p.hears("k ok")
	p.poisons(3 * maxPoisoned)
	p.puts("later", c.Hold, 1)
	for range 3 * maxPoisoned {
		p.conn = p.Connect(p.now)
		p.Cut(p.now, p.conn)
	}
	p.hears()
	if !c.Hold.Held() {
		t.Error("the hold was lost")
	}
}

// A client sends beats of its own accord when the server has much to keep in mind.
func TestManyPutsBeat(t *testing.T) {
	d := newDesk(t)
	server, _, token := d.holds("k")
	client := newPhone(t)
	client.offering("100")
	client.next = 1
	ask := codec.Request{Command: codec.Put, Key: []byte("k"), Value: []byte("v"), Token: token}
	call := new(Call)
	for n := range maxOutcomes + maxOutcomes/2 {
		call.Request = ask
		client.Do(client.now, call)
		if call.Done() {
			t.Fatalf("put %d: %v", n, call.Status)
		}
		for i := range client.sent {
			d.server.Request(d.now, server.link, &client.sent[i])
		}
		for i := range server.down {
			client.line(server.down[i])
		}
		client.sent, server.down, client.said = client.sent[:0], server.down[:0], client.said[:0]
		if call.Status != codec.OK {
			t.Fatalf("put %d: %v", n, call.Status)
		}
	}
	if x := server.link.session; len(x.outcomes.recent)+len(x.outcomes.older) > maxOutcomes/2 {
		t.Errorf("%d outcomes are kept", len(x.outcomes.recent)+len(x.outcomes.older))
	}
}
