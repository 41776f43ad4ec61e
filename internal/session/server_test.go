package session

import (
	"slices"
	"testing"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/internal/table"
)

// A desk is a server with links that keep what they are told.
type desk struct {
	*testing.T
	*world
}

func newDesk(t *testing.T) *desk { return &desk{t, newWorld(0, serverFaults{}, clientFaults{})} }

// hello begins a session, or goes on with the given one.
func (d *desk) hello(change ...func(*codec.Greeting)) (*pipe, codec.SessionID) {
	d.Helper()
	g := codec.Greeting{Version: 1, Name: "somebody"}
	for _, f := range change {
		f(&g)
	}
	p := &pipe{clientOpen: true, serverOpen: true}
	link, a := d.server.Hello(d.now, 0, &g, p)
	if a.Status != codec.OK || a.Version != Version || link == nil {
		d.Fatalf("hello: %v", a)
	}
	p.link = link
	return p, a.Session
}

func resuming(id codec.SessionID) func(*codec.Greeting) {
	return func(g *codec.Greeting) { g.Resume, g.Resuming = id, true }
}

// ask sends a request and wants lines with these statuses and IDs to come.
func (d *desk) ask(p *pipe, r codec.Request, want ...codec.Answer) codec.Answer {
	d.Helper()
	d.server.Request(d.now, p.link, &r)
	return d.comes(p, want...)
}

// comes wants these lines to have come, and returns the last.
func (d *desk) comes(p *pipe, want ...codec.Answer) (last codec.Answer) {
	d.Helper()
	got := p.down
	p.down = nil
	same := slices.EqualFunc(got, want, func(g, w codec.Answer) bool {
		return g.ID == w.ID && g.Status == w.Status && g.Notice == w.Notice && g.Reason == w.Reason && g.Position == w.Position
	})
	if !same {
		d.Fatalf("lines %v, want %v", got, want)
	}
	if len(got) > 0 {
		last = got[len(got)-1]
	}
	return last
}

func (d *desk) passes(t time.Duration) {
	d.now += t
	d.server.Advance(d.now)
}

func (d *desk) held(want int) {
	d.Helper()
	if n := d.table.Held(); n != want {
		d.Fatalf("%d are held, want %d", n, want)
	}
}

func line(id uint64, s codec.Status) codec.Answer { return codec.Answer{ID: id, Status: s} }

func lockOf(id uint64, key string) codec.Request {
	return codec.Request{ID: id, Command: codec.Lock, Key: []byte(key), NoTimeout: true, TTL: 10 * time.Second}
}

func enqueueOf(id uint64, key string) codec.Request {
	return codec.Request{ID: id, Command: codec.Enqueue, Key: []byte(key), TTL: 10 * time.Second}
}

func plain(id uint64, c codec.Command) codec.Request { return codec.Request{ID: id, Command: c} }

func TestRequestsAreAnswered(t *testing.T) {
	d := newDesk(t)
	p, _ := d.hello()
	q, _ := d.hello()
	a := d.ask(p, lockOf(1, "k"), line(1, codec.OK))
	if a.Token.Fence() != 1 || a.TTL != 10*time.Second {
		t.Fatalf("granted %d for %v", a.Token.Fence(), a.TTL)
	}
	d.ask(q, lockOf(1, "k"))
	d.ask(q, codec.Request{ID: 2, Command: codec.Lock, Key: []byte("k")}, line(2, codec.Timeout))
	d.ask(q, plain(3, codec.Ping), line(3, codec.OK))
	renew := codec.Request{ID: 2, Command: codec.Renew, Key: []byte("k"), Token: a.Token, TTL: 4 * time.Second}
	if a := d.ask(p, renew, line(2, codec.OK)); a.TTL != 4*time.Second {
		t.Fatalf("renewed for %v", a.TTL)
	}
	release := codec.Request{ID: 3, Command: codec.Release, Key: []byte("k"), Token: a.Token}
	d.ask(p, release, line(3, codec.OK))
	d.comes(q, line(1, codec.OK))
	release.ID = 4
	d.ask(p, release, line(4, codec.Failed))
	d.ask(p, codec.Request{ID: 5, Command: codec.Auth}, line(5, codec.Failed))
	d.server.Malformed(d.now, p.link, 6)
	d.comes(p, line(6, codec.Failed))
	d.ask(p, plain(7, codec.Stats), line(7, codec.OK)) // Report
}

func TestIDsGrow(t *testing.T) {
	for _, id := range []uint64{5, 4, 1} {
		d := newDesk(t)
		p, _ := d.hello()
		d.ask(p, plain(5, codec.Ping), line(5, codec.OK))
		d.ask(p, plain(id, codec.Ping), codec.Answer{Notice: codec.NoticeError})
		if p.serverOpen || d.server.Sessions() != 1 {
			t.Fatalf("ID %d: the link is open: %t; %d sessions", id, p.serverOpen, d.server.Sessions())
		}
		d.ask(p, plain(9, codec.Ping)) // the link is over
	}
}

func TestIDComesAgainOncePerResume(t *testing.T) {
	d := newDesk(t)
	p, id := d.hello()
	a := d.ask(p, lockOf(1, "k"), line(1, codec.OK))
	d.passes(3 * time.Second)
	q, _ := d.hello(resuming(id))
	d.comes(p, codec.Answer{Notice: codec.NoticeDisplaced})
	if p.serverOpen {
		t.Fatal("the older connection is not closed")
	}
	again := d.ask(q, lockOf(1, "k"), line(1, codec.OK))
	if again.Token != a.Token {
		t.Fatal("a request that came again was granted twice")
	}
	d.ask(q, plain(2, codec.Sync), line(2, codec.OK))
	d.held(1)
	d.passes(9 * time.Second) // it started anew when it was asked for again
	d.held(1)
	d.ask(q, lockOf(1, "k"), codec.Answer{Notice: codec.NoticeError})
}

// TestIDOfTheNewLinkIsGoodOnce: while resuming, old IDs may come after new ones,
// but one that was new on this link is no old one.
func TestIDOfTheNewLinkIsGoodOnce(t *testing.T) {
	for _, first := range []codec.Request{plain(9, codec.Ping), lockOf(9, "k")} {
		d := newDesk(t)
		p, id := d.hello()
		d.ask(p, plain(5, codec.Ping), line(5, codec.OK))
		d.server.Closed(d.now, p.link)
		p, _ = d.hello(resuming(id))
		d.ask(p, first, line(9, codec.OK))
		d.ask(p, plain(10, codec.Ping), line(10, codec.OK))
		d.ask(p, plain(4, codec.Ping), line(4, codec.OK))
		d.ask(p, plain(7, codec.Ping), line(7, codec.OK)) // it was lost on its way over the old link
		d.ask(p, first, codec.Answer{Notice: codec.NoticeError})
	}
}

func TestDelayedHelloIsRefused(t *testing.T) {
	attempt := func(n uint64) func(*codec.Greeting) { return func(g *codec.Greeting) { g.Attempt = n } }
	d := newDesk(t)
	_, id := d.hello(attempt(1))
	p, _ := d.hello(attempt(3), resuming(id))
	for _, late := range []uint64{2, 1, 0} {
		q := &pipe{clientOpen: true, serverOpen: true}
		link, a := d.server.Hello(d.now, 0, &codec.Greeting{Version: 1, Name: "late", Attempt: late, Resume: id, Resuming: true}, q)
		if link != nil || a.Status != codec.Failed {
			t.Fatalf("attempt %d: %v", late, a)
		}
		d.comes(p)
	}
	if p.link.session.owner.Name != "somebody" || !p.serverOpen {
		t.Fatal("the refused hello left something behind")
	}
	d.ask(p, plain(1, codec.Ping), line(1, codec.OK))
	d.hello(attempt(4), resuming(id))
	d.comes(p, codec.Answer{Notice: codec.NoticeDisplaced})
}

func TestTimeoutsSayWhoHolds(t *testing.T) {
	d := newDesk(t)
	p, _ := d.hello(func(g *codec.Greeting) { g.Name = "holder" })
	q, _ := d.hello()
	d.ask(p, lockOf(1, "k"), line(1, codec.OK))
	d.passes(2 * time.Second)
	says := func(a codec.Answer, want time.Duration) {
		t.Helper()
		if a.Holder != "holder" || a.HeldFor != want {
			t.Fatalf("held by %q for %v, want %v", a.Holder, a.HeldFor, want)
		}
	}
	try := codec.Request{ID: 1, Command: codec.Lock, Key: []byte("k"), TTL: 10 * time.Second}
	says(d.ask(q, try, line(1, codec.Timeout)), 2*time.Second)
	try.ID, try.Timeout = 2, 3*time.Second
	d.ask(q, try)
	d.passes(3 * time.Second)
	says(d.comes(q, line(2, codec.Timeout)), 5*time.Second)
	queued := line(3, codec.Queued)
	queued.Position = 1
	d.ask(q, enqueueOf(3, "k"), queued)
	says(d.ask(q, codec.Request{ID: 4, Command: codec.Wait, Key: []byte("k"), Ticket: 3}, line(4, codec.Timeout)), 5*time.Second)
	// It counts from the grant, also after a renewal.
	d.ask(p, plain(2, codec.Beat), line(2, codec.OK))
	try.ID, try.Timeout = 5, 0
	says(d.ask(q, try, line(5, codec.Timeout)), 5*time.Second)
}

func TestForce(t *testing.T) {
	d := newDesk(t)
	p, id := d.hello(func(g *codec.Greeting) { g.Name = "operator" })
	q, _ := d.hello()
	var by, key string
	d.server.cfg.Forced = func(b string, over Outlet, k table.Kind, name string, ended int) {
		by, key = b, name
		if over != p || k != table.Lock || ended != 1 {
			t.Errorf("kind %d, %d ended, over %v", k, ended, over)
		}
	}
	force := codec.Request{ID: 1, Command: codec.Force, Key: []byte("k")}
	held := d.ask(q, lockOf(1, "k"), line(1, codec.OK))
	d.ask(q, lockOf(2, "k"))
	if a := d.ask(p, force, line(1, codec.OK)); a.Count != 1 || !a.HasCount {
		t.Fatalf("answered %v", a)
	}
	if by != "operator" || key != "k" {
		t.Errorf("told of %q, by %q", key, by)
	}
	if a := d.comes(q, codec.Answer{Notice: codec.NoticeLost, Reason: codec.ReasonRevoked}, line(2, codec.OK)); a.Token.Fence() <= held.Token.Fence() {
		t.Errorf("fence %d after %d", a.Token.Fence(), held.Token.Fence())
	}
	d.ask(q, codec.Request{ID: 3, Command: codec.Renew, Key: []byte("k"), Token: held.Token}, line(3, codec.Failed))
	// Sent again it would hit whoever was granted the key since.
	p, _ = d.hello(resuming(id))
	d.ask(p, force, line(1, codec.Failed))
	d.held(1)
	d.server.cfg.Forced = nil
	force = codec.Request{ID: 2, Command: codec.Force, Semaphore: true, Key: []byte("k")}
	if a := d.ask(p, force, line(2, codec.OK)); a.Count != 0 || !a.HasCount {
		t.Fatalf("answered %v", a)
	}
}

func TestAnotherKeyUnderAnOldID(t *testing.T) {
	d := newDesk(t)
	p, id := d.hello()
	d.ask(p, lockOf(1, "held"), line(1, codec.OK))
	d.ask(p, lockOf(2, "held"))
	q, _ := d.hello(resuming(id))
	d.ask(q, lockOf(1, "other"), line(1, codec.Failed))
	d.ask(q, enqueueOf(2, "held"), line(2, codec.Failed))
}

func TestTickets(t *testing.T) {
	d := newDesk(t)
	p, _ := d.hello()
	q, _ := d.hello()
	wait := func(id, ticket uint64) codec.Request {
		return codec.Request{ID: id, Command: codec.Wait, Key: []byte("k"), NoTimeout: true, Ticket: ticket}
	}
	d.ask(p, enqueueOf(1, "k"), line(1, codec.Acquired))
	queued := line(1, codec.Queued)
	queued.Position = 1
	d.ask(q, enqueueOf(1, "k"), queued)
	queued.ID, queued.Position = 2, 2
	d.ask(q, enqueueOf(2, "k"), queued)
	d.ask(q, wait(3, 1))
	d.ask(q, wait(4, 1), line(4, codec.Failed))
	d.ask(q, wait(5, 77), line(5, codec.NotQueued))
	a := d.ask(p, wait(2, 1), line(2, codec.OK))
	d.ask(p, wait(3, 1), line(3, codec.NotQueued))
	d.ask(p, codec.Request{ID: 4, Command: codec.Release, Key: []byte("k"), Token: a.Token}, line(4, codec.OK))
	d.comes(q, line(3, codec.OK))
	// Ticket 2 gets its turn and is not collected, whatever is beaten.
	for i := range uint64(3) {
		d.passes(4 * time.Second)
		if i == 0 {
			d.ask(q, codec.Request{ID: 6, Command: codec.Cancel, Ticket: 1}, line(6, codec.OK)) // was collected
			d.table.Force(d.now, table.Lock, []byte("k"))
			d.server.Settle()
			d.comes(q, codec.Answer{Notice: codec.NoticeLost, Reason: codec.ReasonRevoked})
		}
		d.ask(q, plain(10+i, codec.Beat), line(10+i, codec.OK))
	}
	d.passes(4 * time.Second)
	d.ask(q, wait(20, 2), line(20, codec.LeaseExpired))
}

func TestCancel(t *testing.T) {
	d := newDesk(t)
	p, _ := d.hello()
	cancel := func(id, what uint64) codec.Request {
		return codec.Request{ID: id, Command: codec.Cancel, Ticket: what}
	}
	d.ask(p, lockOf(1, "k"), line(1, codec.OK))
	d.ask(p, lockOf(2, "k"))
	d.ask(p, cancel(3, 2), line(2, codec.Canceled), line(3, codec.OK))
	d.ask(p, cancel(4, 1), line(4, codec.OK)) // it was granted: that stands
	d.ask(p, cancel(5, 2), line(5, codec.OK))
	d.held(1)
	queued := line(6, codec.Queued)
	queued.Position = 1
	d.ask(p, enqueueOf(6, "k"), queued)
	d.ask(p, codec.Request{ID: 7, Command: codec.Wait, Key: []byte("k"), NoTimeout: true, Ticket: 6})
	d.ask(p, cancel(8, 7), line(7, codec.Canceled), line(8, codec.OK))
	if n := d.table.Waiting(); n != 0 {
		t.Fatalf("%d wait", n)
	}
}

func TestLossIsToldBeforeLaterAnswers(t *testing.T) {
	d := newDesk(t)
	p, _ := d.hello()
	q, _ := d.hello()
	a := d.ask(p, lockOf(1, "k"), line(1, codec.OK))
	d.now += 11 * time.Second // and no timer fired
	lost := d.ask(p, plain(2, codec.Beat), codec.Answer{Notice: codec.NoticeLost, Reason: codec.ReasonExpired}, line(2, codec.OK))
	_ = lost
	a = d.ask(p, lockOf(3, "k"), line(3, codec.OK))
	release := codec.Request{ID: 1, Command: codec.Release, Key: []byte("k"), Token: a.Token}
	d.ask(q, release, line(1, codec.OK)) // whoever knows the token may
	d.comes(p, codec.Answer{Notice: codec.NoticeLost, Reason: codec.ReasonReleased})
}

func TestSilenceEndsTheLinkAndFreesNothing(t *testing.T) {
	d := newDesk(t)
	p, id := d.hello(func(g *codec.Greeting) { g.ReleaseOnClose = true })
	r := lockOf(1, "k")
	r.TTL = time.Hour
	d.ask(p, r, line(1, codec.OK))
	d.passes(29 * time.Second)
	if !p.serverOpen {
		t.Fatal("closed too early")
	}
	if at, ok := d.server.Next(); !ok || at != d.now+time.Second {
		t.Fatalf("next at %v, %t", at-d.now, ok)
	}
	d.passes(time.Second)
	if p.serverOpen {
		t.Fatal("still open")
	}
	d.server.Closed(d.now, p.link)
	d.held(1)
	d.hello(resuming(id))
}

func TestSessionIsForgottenWhenItHasNothing(t *testing.T) {
	d := newDesk(t)
	p, id := d.hello()
	r := lockOf(1, "k")
	r.TTL = 90 * time.Second
	d.ask(p, r, line(1, codec.OK))
	d.server.Closed(d.now, p.link)
	for range 119 {
		d.passes(time.Second)
	}
	if d.server.Sessions() != 1 {
		t.Fatal("forgotten too early")
	}
	d.passes(time.Second)
	if d.server.Sessions() != 0 {
		t.Fatal("not forgotten")
	}
	_, a := d.server.Hello(d.now, 0, &codec.Greeting{Version: 1, Name: "n", Resume: id, Resuming: true}, p)
	if a.Status != codec.ErrSession {
		t.Fatalf("resumed: %v", a)
	}
	if _, a := d.server.Hello(d.now, 0, &codec.Greeting{Name: "n"}, p); a.Status != codec.Failed {
		t.Fatalf("hello of no version: %v", a)
	}
}

func TestEarlyReleases(t *testing.T) {
	process := func(g *codec.Greeting) { g.Process = "boot:ns:1" }
	for name, end := range map[string]struct {
		change func(*codec.Greeting)
		do     func(*desk, *pipe, codec.SessionID)
		held   int
	}{
		"close":            {process, func(d *desk, p *pipe, _ codec.SessionID) { d.server.Closed(d.now, p.link) }, 1},
		"release-on-close": {func(g *codec.Greeting) { g.ReleaseOnClose = true }, func(d *desk, p *pipe, _ codec.SessionID) { d.server.Closed(d.now, p.link) }, 0},
		"death alone":      {process, func(d *desk, _ *pipe, id codec.SessionID) { d.server.Died(d.now, id) }, 1},
		"death and close": {process, func(d *desk, p *pipe, id codec.SessionID) {
			d.server.Died(d.now, id)
			d.server.Closed(d.now, p.link)
		}, 0},
		"close and death": {process, func(d *desk, p *pipe, id codec.SessionID) {
			d.server.Closed(d.now, p.link)
			d.server.Died(d.now, id)
			d.server.Died(d.now, id)
		}, 0},
		"death and silence": {process, func(d *desk, p *pipe, id codec.SessionID) {
			d.ask(p, plain(2, codec.Beat), line(2, codec.OK))
			d.server.Died(d.now, id)
			d.ask(p, codec.Request{ID: 3, Command: codec.Renew, Key: []byte("k"), Token: heldBy(d), TTL: time.Hour}, line(3, codec.OK))
			d.passes(29 * time.Second)
			d.held(1) // a child of the process may have the connection
			d.passes(time.Second)
			if d.server.Sessions() != 0 {
				d.Error("the session goes on")
			}
		}, 0},
		"death and a wrong ID": {process, func(d *desk, p *pipe, id codec.SessionID) {
			d.server.Died(d.now, id)
			d.ask(p, plain(1, codec.Ping), codec.Answer{Notice: codec.NoticeError})
		}, 0},
		"bye": {process, func(d *desk, p *pipe, _ codec.SessionID) { d.ask(p, plain(2, codec.Bye), line(2, codec.OK)) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDesk(t)
			p, id := d.hello(end.change)
			d.ask(p, lockOf(1, "k"), line(1, codec.OK))
			if want := p.link.session.process; p.link.Process() != want {
				t.Errorf("process %q, want %q", p.link.Process(), want)
			}
			end.do(d, p, id)
			d.held(end.held)
		})
	}
}

func TestDrainRefusesAndEndsWaits(t *testing.T) {
	d := newDesk(t)
	p, _ := d.hello()
	d.ask(p, lockOf(1, "k"), line(1, codec.OK))
	var refused []codec.Answer
	for id := uint64(2); id < 50; id++ {
		d.ask(p, lockOf(id, "k"))
		refused = append(refused, line(id, codec.Draining))
	}
	d.server.Drain(d.now)
	d.comes(p, refused...)
	d.ask(p, lockOf(50, "other"), line(50, codec.Draining))
	d.held(1)
}

// heldBy returns the token of the one lock "k" that is held.
func heldBy(d *desk) (token codec.Token) {
	for _, x := range d.server.sessions {
		x.owner.Leases(func(l *table.Lease) bool {
			token = ToWire(l.Token())
			return false
		})
	}
	return token
}

// TestDeadTicketsGo wants no memory of tickets that nobody collects, however
// many.
func TestDeadTicketsGo(t *testing.T) {
	d := newDesk(t)
	p, _ := d.hello()
	for id := uint64(1); id < 20*fewCalls; id++ {
		d.ask(p, enqueueOf(id, "k"+string(rune('a'+id%20))), p.take(id)...)
		if id%20 == 0 {
			d.passes(11 * time.Second)
		}
		p.down = nil
	}
	if n := len(p.link.session.calls); n > 2*fewCalls+400 {
		t.Fatalf("%d tickets are kept", n)
	}
}

// take foresees whatever comes.
func (p *pipe) take(id uint64) []codec.Answer { return []codec.Answer{line(id, codec.Acquired)} }

// TestServerAllocations pins what a lock and its release cost.
func TestServerAllocations(t *testing.T) {
	d := newDesk(t)
	link, _ := d.server.Hello(d.now, 0, &codec.Greeting{Version: 1, Name: "n"}, new(mute))
	id := uint64(0)
	lock := lockOf(0, "k")
	out := link.out.(*mute)
	pair := func() {
		id += 2
		lock.ID = id
		d.server.Request(d.now, link, &lock)
		r := codec.Request{ID: id + 1, Command: codec.Release, Key: lock.Key, Token: out.token}
		d.server.Request(d.now, link, &r)
		id++
	}
	pair()
	if n := testing.AllocsPerRun(1000, pair); n > 2 { // the lease, and the ID that it answers
		t.Errorf("lock and release allocate %v times", n)
	}
	beat := func() {
		id++
		r := plain(id+2, codec.Beat)
		d.server.Request(d.now, link, &r)
	}
	if n := testing.AllocsPerRun(1000, beat); n > 0 {
		t.Errorf("a beat allocates %v times", n)
	}
}

type mute struct{ token codec.Token }

func (m *mute) Answer(a *codec.Answer) {
	if a.HasToken {
		m.token = a.Token
	}
}
func (m *mute) Report(uint64) {}
func (m *mute) Close()        {}
