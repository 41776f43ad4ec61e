package session

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/distributed-go/distributed/codec"
)

// A phone is a client whose other end is the test.
type phone struct {
	*testing.T
	*Client
	conn uint64
	now  time.Duration
	sent []codec.Request
	said []string // what the Caller was told
}

func (p *phone) Send(r *codec.Request)         { p.sent = append(p.sent, *r) }
func (p *phone) Done(c *Call)                  { p.said = append(p.said, fmt.Sprintf("%v %v", c.Tag, c.Status)) }
func (p *phone) Lost(h *Hold, reason string)   { p.said = append(p.said, "lost "+h.Key+" "+reason) }
func (p *phone) Over(reason string)            { p.said = append(p.said, "over "+reason) }
func (p *phone) line(a codec.Answer) (ok bool) { return p.Line(p.now, p.conn, &a) }

func newPhone(t *testing.T) *phone {
	p := &phone{T: t, now: time.Hour}
	p.Client = NewClient(p, codec.Greeting{Name: "n"})
	return p
}

var sessionID = codec.SessionID{7}

// connects makes a connection, on which hello is answered.
func (p *phone) connects() {
	p.Helper()
	p.sent = nil
	p.conn = p.Connect(p.now)
	p.sends("0 hello")
	p.line(codec.Answer{Status: codec.OK, Version: 1, Session: sessionID})
}

// sends wants these requests to have been sent since the last time.
func (p *phone) sends(want ...string) {
	p.Helper()
	var got []string
	for _, r := range p.sent {
		s := fmt.Sprint(r.ID, " ", r.Command)
		if r.Ticket != 0 {
			s += fmt.Sprint(" ", r.Ticket)
		}
		got = append(got, s)
	}
	p.sent = nil
	if !slices.Equal(got, want) {
		p.Fatalf("sent %q, want %q", got, want)
	}
}

// hears wants the caller to have been told this since the last time.
func (p *phone) hears(want ...string) {
	p.Helper()
	got := p.said
	p.said = nil
	if !slices.Equal(got, want) {
		p.Fatalf("told %q, want %q", got, want)
	}
}

func (p *phone) locks(key string) *Call {
	c := &Call{Tag: key, Hold: &Hold{Key: key}, Request: codec.Request{
		Command: codec.Lock, Key: []byte(key), NoTimeout: true, TTL: 10 * time.Second,
	}}
	p.Do(p.now, c)
	return c
}

func grantOf(id uint64) codec.Answer {
	return codec.Answer{ID: id, Status: codec.OK, Token: codec.Token{15: byte(id)}, HasToken: true, TTL: 10 * time.Second, HasTTL: true}
}

func TestWhatIsAskedBeforeTheConnectionIsSentOnIt(t *testing.T) {
	p := newPhone(t)
	c := p.locks("a")
	gone := p.locks("b")
	p.locks("c")
	p.Cancel(p.now, gone)
	p.hears("b canceled")
	p.connects()
	p.sends("1 l", "2 l")
	p.line(grantOf(1))
	p.hears("a ok")
	if !c.Done() || !c.Hold.Held() || p.Holds() != 1 || !p.Up() {
		t.Fatalf("done %t, held %t, %d holds", c.Done(), c.Hold.Held(), p.Holds())
	}
}

func TestResumeSaysAllThatIsKnown(t *testing.T) {
	p := newPhone(t)
	p.connects()
	p.locks("held")                                                                                // 1
	p.locks("waits")                                                                               // 2
	p.Do(p.now, &Call{Tag: "ticket", Request: codec.Request{Command: codec.Enqueue, TTL: 1e9}})    // 3
	dropped := p.locks("dropped")                                                                  // 4
	p.Do(p.now, &Call{Tag: "ping", Request: codec.Request{Command: codec.Ping}})                   // 5
	p.Beat(p.now)                                                                                  // 6
	p.Do(p.now, &Call{Tag: "renew", Request: codec.Request{Command: codec.Renew, TTL: time.Hour}}) // 7
	p.line(grantOf(1))
	p.line(codec.Answer{ID: 3, Status: codec.Queued, Position: 4})
	p.Cancel(p.now, dropped) // 8
	p.sends("1 l", "2 l", "3 e", "4 l", "5 ping", "6 beat", "7 n", "8 cancel 4")
	p.hears("held ok", "ticket queued")
	p.Cut(p.now, p.conn)
	p.hears("dropped canceled", "renew invalid")
	late := p.locks("late")
	p.now += time.Second
	p.connects()
	p.sends("9 n", "2 l", "3 e", "5 ping", "10 sync", "11 l")
	p.line(codec.Answer{ID: 3, Status: codec.Queued, Position: 3}) // it was only named
	p.hears()
	p.line(grantOf(2))
	p.hears("waits ok")
	p.line(codec.Answer{ID: 9, Status: codec.Failed})
	p.hears("lost held expired")
	if late.Done() {
		t.Fatal("what was asked last was answered first")
	}
}

func TestBeatsCountAfterTheOwnRenewal(t *testing.T) {
	p := newPhone(t)
	p.connects()
	c := p.locks("k")
	first := p.now
	p.line(grantOf(1))
	since := func(want time.Duration, when string) {
		t.Helper()
		if got := p.Since(c.Hold); got != want {
			t.Fatalf("%s: counts from %v, want %v", when, got, want)
		}
	}
	since(first, "granted")
	p.now += time.Second
	p.Beat(p.now)
	p.Beat(p.now) // the other is on its way
	beaten := p.now
	p.now += time.Second
	since(first, "beat sent")
	p.line(codec.Answer{ID: 2, Status: codec.OK})
	since(beaten, "beat answered")
	p.Cut(p.now, p.conn)
	p.connects()
	renewed := p.now
	p.now += time.Second
	p.Beat(p.now)
	p.line(codec.Answer{ID: 5, Status: codec.OK})
	since(beaten, "beat answered before the renewal")
	p.line(codec.Answer{ID: 3, Status: codec.OK, TTL: 8 * time.Second, HasTTL: true})
	if c.Hold.TTL() != 8*time.Second {
		t.Fatalf("TTL %v", c.Hold.TTL())
	}
	since(max(renewed, renewed+time.Second), "renewed, after a beat was answered")
}

// TestGrantAfterALongWait: it counts from the beat that was answered before it,
// because it was made after that.
func TestGrantAfterALongWait(t *testing.T) {
	p := newPhone(t)
	p.connects()
	c := p.locks("k")
	p.now += time.Minute
	p.Beat(p.now)
	beaten := p.now
	p.now += time.Second
	p.line(codec.Answer{ID: 2, Status: codec.OK})
	p.line(grantOf(1))
	if got := p.Since(c.Hold); got != beaten {
		t.Fatalf("counts from %v, want %v", got-p.now, beaten-p.now)
	}
}

func TestGrantThatNobodyWaitsForIsGivenBack(t *testing.T) {
	p := newPhone(t)
	p.connects()
	c := p.locks("k")
	p.Cancel(p.now, c)
	p.Cancel(p.now, c)
	p.sends("1 l", "2 cancel 1")
	p.hears()
	p.line(grantOf(1))
	p.sends("3 r")
	p.hears("k canceled")
	if p.Holds() != 0 || c.Hold.Held() {
		t.Fatal("it is held")
	}
}

func TestPlaces(t *testing.T) {
	p := newPhone(t)
	p.connects()
	ticket := &Call{Tag: "e", Request: codec.Request{Command: codec.Enqueue, Key: []byte("k")}}
	p.Do(p.now, ticket)
	p.line(codec.Answer{ID: 1, Status: codec.Queued, Position: 2})
	if !ticket.Place() || ticket.Position != 2 {
		t.Fatalf("place %t at %d", ticket.Place(), ticket.Position)
	}
	wait := &Call{Tag: "w", Ticket: ticket, Hold: &Hold{Key: "k"}, Request: codec.Request{Command: codec.Wait, Key: []byte("k"), NoTimeout: true}}
	p.Do(p.now, wait)
	p.Cancel(p.now, wait)
	p.sends("1 e", "2 w 1", "3 cancel 1")
	p.line(codec.Answer{ID: 2, Status: codec.Canceled})
	p.hears("e queued", "w canceled")
	if ticket.Place() {
		t.Fatal("the place is still there")
	}
	p.Do(p.now, ticket)
	p.line(codec.Answer{ID: 4, Status: codec.Acquired, HasToken: true})
	p.Cancel(p.now, ticket)
	p.sends("4 e", "5 cancel 4")
}

func TestTimeoutShrinksWhenItIsSentAgain(t *testing.T) {
	p := newPhone(t)
	for _, timeout := range []time.Duration{0, time.Second, 5 * time.Second} {
		p.Do(p.now, &Call{Hold: new(Hold), Request: codec.Request{Command: codec.Lock, Timeout: timeout}})
	}
	p.now += 2 * time.Second
	p.conn = p.Connect(p.now)
	p.line(codec.Answer{Status: codec.OK, Version: 1, Session: sessionID})
	var got []time.Duration
	for _, r := range p.sent[1:] {
		got = append(got, r.Timeout)
	}
	if !slices.Equal(got, []time.Duration{0, 0, 3 * time.Second}) {
		t.Fatalf("timeouts %v", got)
	}
}

func TestEndsOfASession(t *testing.T) {
	for name, end := range map[string]struct {
		do   func(*phone)
		want []string
	}{
		"displaced": {func(p *phone) { p.line(codec.Answer{Notice: codec.NoticeDisplaced}) },
			[]string{"lost a displaced", "b error_session", "over displaced"}},
		"gone": {func(p *phone) {
			p.conn = p.Connect(p.now)
			p.locks("c")
			p.line(codec.Answer{Status: codec.ErrSession})
		}, []string{"lost a session gone", "b error_session", "c error_session", "over session gone"}},
		"bye": {func(p *phone) {
			p.Bye(p.now, &Call{Tag: "bye"})
			p.line(codec.Answer{ID: 3, Status: codec.OK})
		}, []string{"bye ok", "lost a bye", "b error_session", "over bye"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPhone(t)
			p.connects()
			p.locks("a")
			p.locks("b")
			p.line(grantOf(1))
			p.hears("a ok")
			end.do(p)
			p.hears(end.want...)
			p.sent = nil
			p.locks("later")
			p.Connect(p.now)
			p.Beat(p.now)
			p.Cut(p.now, p.conn)
			p.line(grantOf(2))
			p.hears("later error_session")
			p.sends()
		})
	}
}

func TestNotices(t *testing.T) {
	p := newPhone(t)
	p.connects()
	p.locks("a")
	p.locks("b")
	p.line(grantOf(1))
	p.line(grantOf(2))
	p.said = nil
	lost := codec.Answer{Notice: codec.NoticeLost, Key: []byte("b"), Token: codec.Token{15: 2}, HasToken: true, Reason: codec.ReasonRevoked}
	p.line(lost)
	p.line(lost)
	p.hears("lost b revoked")
	if !p.line(codec.Answer{Notice: codec.NoticeOther}) || p.line(codec.Answer{Notice: codec.NoticeError}) {
		t.Fatal("an error of the protocol is no reason to close the connection, or an unknown notice is")
	}
}

// TestOldAndUnknownLinesAreIgnored: what comes late or was never asked for does
// nothing, and nothing panics.
func TestOldAndUnknownLinesAreIgnored(t *testing.T) {
	p := newPhone(t)
	p.connects()
	p.locks("a")
	old := p.conn
	p.Cut(p.now, old)
	p.Cut(p.now, old)
	p.connects()
	a := grantOf(1)
	p.Line(p.now, old, &a)
	p.line(grantOf(99))
	p.line(codec.Answer{ID: 2, Status: codec.OK})
	p.hears()
	if p.Holds() != 0 {
		t.Fatal("an answer over an old connection counts")
	}
}

func TestWrongWelcomes(t *testing.T) {
	for _, a := range []codec.Answer{
		{Status: codec.Failed},
		{Status: codec.ErrSession},
		{Status: codec.OK, Version: 2, Session: sessionID},
	} {
		p := newPhone(t)
		p.conn = p.Connect(p.now)
		if p.line(a) || p.Up() {
			t.Errorf("%v is taken for a welcome", a)
		}
	}
	p := newPhone(t)
	p.connects()
	p.conn = p.Connect(p.now)
	if p.line(codec.Answer{Status: codec.OK, Version: 1, Session: codec.SessionID{8}}) {
		t.Error("another session is taken for the own")
	}
}

func TestBeatEvery(t *testing.T) {
	p := newPhone(t)
	p.connects()
	if d := p.BeatEvery(); d != 2*time.Second {
		t.Fatalf("every %v with nothing", d)
	}
	c := p.locks("k")
	c2 := &Call{Hold: new(Hold), Request: codec.Request{Command: codec.Lock, TTL: 3 * time.Second}}
	p.Do(p.now, c2)
	if d := p.BeatEvery(); d != time.Second {
		t.Fatalf("every %v with a lease of 3 s", d)
	}
	p.line(codec.Answer{ID: 1, Status: codec.Timeout})
	p.line(codec.Answer{ID: 2, Status: codec.Timeout})
	if d := p.BeatEvery(); d != 2*time.Second || !c.Done() {
		t.Fatalf("every %v with nothing again", d)
	}
}

// TestDeadline pins the rule that package locker has too: one per cent and two
// milliseconds less than the lease, and never an overflow.
func TestDeadline(t *testing.T) {
	for _, c := range []struct{ stamp, ttl, want time.Duration }{
		{0, 10 * time.Second, 9898 * time.Millisecond},
		{time.Second, 100 * time.Millisecond, 1097 * time.Millisecond},
		{time.Second, math.MaxInt64, math.MaxInt64 - 1},
	} {
		if got := Deadline(c.stamp, c.ttl); got != c.want && c.ttl != math.MaxInt64 || got < c.stamp {
			t.Errorf("Deadline(%v, %v) = %v, want %v", c.stamp, c.ttl, got, c.want)
		}
	}
}

// TestPendingIsAMap plays the ring against a map.
func TestPendingIsAMap(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a test repeats itself
	var p pending
	m := make(map[uint64]*Call)
	for id := uint64(1); id < 20_000; id++ {
		c := &Call{Request: codec.Request{ID: id}}
		p.add(c)
		m[id] = c
		for range random.IntN(3) {
			old := id - min(id-1, random.Uint64N(2000))
			if p.get(old) != m[old] {
				t.Fatalf("call %d: got %v, want %v", old, p.get(old), m[old])
			}
			p.remove(old)
			delete(m, old)
		}
		if p.n != len(m) {
			t.Fatalf("%d are pending, want %d", p.n, len(m))
		}
	}
	for _, c := range p.all() {
		if m[c.Request.ID] != c {
			t.Fatalf("call %d is pending", c.Request.ID)
		}
		delete(m, c.Request.ID)
	}
	if len(m) != 0 {
		t.Fatalf("%d are missing", len(m))
	}
}

// TestClientAllocations pins that a call, its answer and a beat allocate nothing
// of their own: callers keep calls and holds for the next time.
func TestClientAllocations(t *testing.T) {
	p := newPhone(t)
	p.connects()
	c := p.locks("k")
	p.said = make([]string, 0, 10)
	call := &Call{own: true, Request: codec.Request{Command: codec.Ping}}
	n := testing.AllocsPerRun(1000, func() {
		p.sent = p.sent[:0]
		p.Do(p.now, call)
		p.line(codec.Answer{ID: call.Request.ID, Status: codec.OK})
		p.Beat(p.now)
		p.line(codec.Answer{ID: call.Request.ID + 1, Status: codec.OK})
	})
	if n > 2 || c.Done() { // the answers, which the test takes the addresses of
		t.Errorf("a call and a beat allocate %v times", n)
	}
}
