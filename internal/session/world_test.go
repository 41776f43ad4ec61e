package session

import (
	"fmt"
	"slices"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/internal/table"
)

// A world is both ends with a network between them, in one piece: the server
// that others run, the clients that others run, and connections that deliver
// what they carry one message at a time, late, or never. It moves by its steps
// alone, so that the same steps always lead to the same state.
type world struct {
	now    time.Duration
	jump   time.Duration // since the server's timer fired: what was due on the way happens in its order
	table  *table.Table
	server *Server
	actors []*actor
	pipes  []*pipe
	serial *uint64           // numbers sessions
	window int               // of resumes; 0 is the usual one
	slack  time.Duration     // the most that a grant may be late in this step
	fence  uint64            // the last one at the check before
	forced map[string]uint64 // the last fence before the latest force of a key
	hash   uint64            // of everything that happened
	broken error             // the first claim that did not hold

	mark    time.Duration // the longest lease that may be out
	opens   time.Duration // nothing may be granted before
	grace   func(mark time.Duration) time.Duration
	sf      serverFaults
	crashes int
	stops   int // the clean ones among them
	claims  int // that were answered with a lease

	kept ledger
}

// A pipe is one connection.
type pipe struct {
	actor int
	life  int // how many more messages it delivers; 0 is no limit
	of    *Client
	num   uint64 // by which the client knows it
	link  *Link  // by which the server does
	up    []codec.Request
	down  []codec.Answer

	clientOpen, serverOpen bool
	said                   int           // lines at the end of down that are to be looked at
	dead                   bool          // its server is: nothing arrives there
	stalled                time.Duration // nothing is delivered before
}

func (p *pipe) Answer(a *codec.Answer) {
	p.down = append(p.down, *a)
	p.said++
}

func (p *pipe) Report(id uint64) { p.Answer(&codec.Answer{ID: id, Status: codec.OK}) }
func (p *pipe) Close()           { p.serverOpen = false }

// An actor is a program that uses locks through a client.
type actor struct {
	index  int
	heard  time.Duration // when something of it came to the server last
	rate   int64         // how fast its clock runs, in thousandths
	now    time.Duration
	client *Client
	pipe   *pipe
	tasks  []*task
	over   string // why the session is over

	refused *Hold   // its claim was refused, though the program believed in it
	told    []*Call // answers to joins, puts and removals that are to be looked at

	nextBeat, frozen time.Duration
}

// A task is one lock that the program wants, from asking to having released it.
type task struct {
	key    int
	weight int
	state  taskState
	call   *Call // l or e
	wait   *Call // w
	hold   *Hold
	quit   bool // the program has called Cancel
	forget bool // the program will never collect it
	began  time.Duration

	changes []*Call // puts and removals by this hold, in their order
	came    bool    // it is a join, and the server has seen it
	seen    uint64  // the fence of what was there then
	cameAt  time.Duration
}

type taskState uint8

const (
	asking   taskState = iota // l or e is not answered
	placed                    // e was answered
	awaiting                  // w is not answered
	holding                   // the program was told that it holds
	ended
)

// A key of the world: a lock, or a semaphore if its limit is above 1.
type key struct {
	name  string
	limit int
}

var worldKeys = []key{{"a", 1}, {"b", 1}, {"c", 3}}

func newWorld(clients int, sf serverFaults, cf clientFaults) *world {
	return newNarrowWorld(clients, 0, sf, cf)
}

// newNarrowWorld returns one in which resumes name so many holds at once.
func newNarrowWorld(clients, window int, sf serverFaults, cf clientFaults) *world {
	w := &world{now: time.Second, serial: new(uint64), window: window, sf: sf, grace: fullGrace, forced: make(map[string]uint64), hash: 14695981039346656037}
	w.server, w.table = newServer(w, table.Config{})
	w.server.faults = sf
	for i := range clients {
		a := &actor{index: i, rate: 1000}
		a.begin(w, cf)
		w.actors = append(w.actors, a)
	}
	return w
}

// begin gives the actor a new session.
func (a *actor) begin(w *world, cf clientFaults) {
	a.client = NewClient(a, codec.Greeting{Name: fmt.Sprint("actor", a.index)})
	a.client.faults = cf
	if w.window > 0 {
		a.client.naming.window = w.window
	}
	a.tasks, a.over, a.pipe = nil, "", nil
	a.tick(w)
}

// tick reads the actor's clock.
func (a *actor) tick(w *world) { a.now = time.Duration(int64(w.now) / 1000 * a.rate) }

func (a *actor) Send(r *codec.Request) {
	if !a.pipe.dead {
		a.pipe.up = append(a.pipe.up, *r)
	}
}

func (a *actor) Done(c *Call) {
	if c.Request.Command >= codec.Put {
		a.told = append(a.told, c)
	}
	t, _ := c.Tag.(*task)
	if t == nil {
		return
	}
	switch {
	case c.Status == codec.OK && c.acquires():
		t.state = holding
	case c == t.call && (c.Status == codec.Queued || c.Status == codec.Acquired):
		t.state = placed
	default:
		t.state = ended
	}
}

func (a *actor) Lost(h *Hold, reason string) {
	if t, _ := h.Tag.(*task); t != nil && t.hold == h {
		if reason == ReasonGone && a.client.claims && Deadline(h.stamp, h.TTL()) > a.now {
			a.refused = h
		}
		t.state = ended
	}
}

func (a *actor) Over(reason string) { a.over = reason }

// believes says whether the program may act on the lock at this instant.
func (a *actor) believes(t *task) bool {
	return t.state == holding && a.client.Deadline(t.hold) > a.now
}

// settle does what a program does at once: what it does not believe in any more
// it gives back, and what is over it forgets.
func (w *world) settle(a *actor) {
	for _, t := range a.tasks {
		if t.state == holding && !a.believes(t) {
			w.release(a, t)
		}
	}
	a.tasks = slices.DeleteFunc(a.tasks, func(t *task) bool { return t.state == ended })
}

func (w *world) release(a *actor, t *task) {
	t.state = ended
	a.client.Release(a.now, t.hold, &Call{})
}

func (w *world) acquire(a *actor, k int, command codec.Command, weight int, timeout, ttl time.Duration) {
	a.begins(w.task(k, command, weight, timeout, ttl))
}

// join lets a program lead, or have a value.
func (w *world) join(a *actor, k int, timeout, ttl, fresh time.Duration) {
	t := w.task(k, codec.Join, 1, timeout, ttl)
	t.call.Request.Fresh = fresh
	a.begins(t)
}

func (w *world) task(k int, command codec.Command, weight int, timeout, ttl time.Duration) *task {
	w.mark = max(w.mark, ttl)
	t := &task{key: k, weight: weight, began: w.now}
	t.hold = &Hold{Key: worldKeys[k].name, Semaphore: worldKeys[k].limit > 1, Tag: t}
	t.call = &Call{Tag: t, Hold: t.hold, Request: codec.Request{
		Command: command, Key: []byte(t.hold.Key), Semaphore: t.hold.Semaphore, Limit: worldKeys[k].limit, Weight: weight,
		NoTimeout: timeout < 0, Timeout: max(timeout, 0), TTL: ttl,
	}}
	return t
}

func (a *actor) begins(t *task) {
	a.tasks = append(a.tasks, t)
	a.client.Do(a.now, t.call)
}

func (w *world) wait(a *actor, t *task, timeout time.Duration) {
	t.state = awaiting
	t.wait = &Call{Tag: t, Hold: t.hold, Ticket: t.call, Request: codec.Request{
		Command: codec.Wait, Key: t.call.Request.Key, Semaphore: t.hold.Semaphore,
		NoTimeout: timeout < 0, Timeout: max(timeout, 0), TTL: t.call.Request.TTL,
	}}
	a.client.Do(a.now, t.wait)
}

func (w *world) cancel(a *actor, t *task) {
	t.quit = true
	c := t.call
	if t.state == awaiting {
		c = t.wait
	}
	if t.state == placed {
		t.state = ended
	}
	a.client.Cancel(a.now, c)
}

func (w *world) connect(a *actor) {
	p := &pipe{actor: a.index, of: a.client, clientOpen: true, serverOpen: true}
	if a.pipe != nil {
		a.pipe.clientOpen = false
	}
	a.pipe = p
	w.pipes = append(w.pipes, p)
	p.num = a.client.Connect(a.now)
}

// cut ends the actor's connection at its end.
func (w *world) cut(a *actor) {
	a.pipe.clientOpen = false
	a.client.Cut(a.now, a.pipe.num)
	a.pipe = nil
}

// deliverUp brings the next request of a pipe to the server, or its end.
func (w *world) deliverUp(p *pipe) {
	switch {
	case len(p.up) == 0:
		if p.link != nil {
			w.server.Closed(w.now, p.link)
		}
		p.serverOpen = false
	default:
		r := p.up[0]
		p.up = p.up[1:]
		w.note(uint64(r.Command), r.ID)
		switch {
		case r.Command == codec.Hello:
			link, answer := w.server.Hello(w.now, 0, r.Hello, p)
			p.link = link
			w.actors[p.actor].heard = w.now
			p.Answer(&answer)
		case p.link != nil:
			if p.link.session != nil {
				w.actors[p.actor].heard = w.now
			}
			w.request(p, &r)
		}
	}
}

// deliverDown brings the next line of a pipe to the client, or its end.
func (w *world) deliverDown(p *pipe) {
	a := w.actors[p.actor]
	if len(p.down) == 0 {
		p.clientOpen = false
		if a.pipe == p {
			w.cut(a)
		}
		return
	}
	line := p.down[0]
	p.down = p.down[1:]
	w.note(uint64(line.Status), line.ID)
	if c := a.client.pending.get(line.ID); c != nil && a.pipe == p && c.Request.Command == codec.Claim && line.Status == codec.OK {
		w.claims++
	}
	if p.of != a.client {
		return // it has ended
	}
	over := a.over
	if !a.client.Line(a.now, p.num, &line) && a.pipe == p && !(p.num%2 == 0 && a.client.Greet(p.num)) {
		w.cut(a)
	}
	if line.Claim && a.over != over && w.broken == nil {
		w.broken = fmt.Errorf("actor %d: its session is over, though it could claim", a.index)
	}
}

// kill ends a pipe with all that is on it but the first requests, as many as
// given.
func (w *world) kill(p *pipe, arrive int, silently bool) {
	p.up, p.down = p.up[:min(arrive, len(p.up))], nil
	if a := w.actors[p.actor]; a.pipe == p {
		w.cut(a)
	}
	p.clientOpen = silently && p.serverOpen // the server will find out by the silence
}

// A server may have read requests that it comes to after it closed the pipe.
func (w *world) canUp(p *pipe) bool   { return len(p.up) > 0 || p.serverOpen && !p.clientOpen }
func (w *world) canDown(p *pipe) bool { return len(p.down) > 0 || !p.serverOpen && p.clientOpen }

// tidy forgets the pipes that are over.
func (w *world) tidy() {
	w.pipes = slices.DeleteFunc(w.pipes, func(p *pipe) bool { return !p.clientOpen && !p.serverOpen && len(p.down)+len(p.up) == 0 })
}

// pass lets time go on; the server's timer may be late.
func (w *world) pass(d time.Duration, late bool) {
	w.now += d
	w.jump += d
	w.slack = w.jump
	if !late {
		w.server.Advance(w.now)
		w.jump = 0
	}
	for _, a := range w.actors {
		a.tick(w)
		w.settle(a)
		if at, ok := a.client.ClaimAt(); ok && at <= a.now && a.frozen <= w.now {
			a.client.Claim(a.now)
		}
	}
}

func (w *world) note(xs ...uint64) {
	for _, x := range xs {
		w.hash = (w.hash ^ x) * 1099511628211
	}
}

// check holds the claims against the world as it is.
func (w *world) check() error {
	if w.broken != nil {
		return w.broken
	}
	if err := w.checkValues(); err != nil {
		return err
	}
	var used [8]int
	for _, a := range w.actors {
		for _, t := range a.tasks {
			if a.believes(t) && t.hold.Token.Fence() > w.forced[t.hold.Key] {
				used[t.key] += t.weight
			}
		}
	}
	for k := range worldKeys {
		if used[k] > worldKeys[k].limit {
			return fmt.Errorf("two believers: %d of %q are held, limit %d", used[k], worldKeys[k].name, worldKeys[k].limit)
		}
	}
	for _, a := range w.actors {
		if h := a.refused; h != nil && h.Token.Fence() > w.forced[h.Key] {
			return fmt.Errorf("actor %d: its claim of %q was refused, and it believes", a.index, h.Key)
		}
		if a.over == ReasonDisplaced { // each session has one client
			return fmt.Errorf("actor %d was displaced by itself", a.index)
		}
		if err := w.checkActor(a); err != nil {
			return fmt.Errorf("actor %d: %w", a.index, err)
		}
	}
	return w.checkGrants()
}

// checkGrants wants nothing to have been granted to the absent.
func (w *world) checkGrants() error {
	before, slack := w.fence, w.slack
	w.slack = w.jump
	w.fence = w.table.Fence()
	switch {
	case before == w.fence:
		return nil
	case w.now < w.opens:
		return fmt.Errorf("a grant %v before the end of the grace", w.opens-w.now)
	case w.fence < before:
		return fmt.Errorf("fence %d after %d", w.fence, before)
	}
	for _, a := range w.actors {
		x := w.server.sessions[a.client.greeting.Resume]
		if x == nil {
			continue
		}
		var err error
		x.owner.Leases(func(l *table.Lease) bool {
			if l.State() == table.Granted && l.Token().Fence > before && l.Kind() == table.Lock && len(w.kept.writes[l.Key()]) > 0 {
				err = fmt.Errorf("actor %d: a grant of %q while its value is pending", a.index, l.Key())
			}
			if l.State() == table.Granted && l.Token().Fence > before && w.now-a.heard >= min(l.TTL()/2, 5*time.Second)+slack {
				err = fmt.Errorf("actor %d: a grant after %v of silence", a.index, w.now-a.heard)
			}
			return err == nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// checkActor compares what an actor knows with what the server knows of it, if
// nothing is on its way between them.
func (w *world) checkActor(a *actor) error {
	p := a.pipe
	if p == nil || p.link == nil || !a.client.Up() || a.client.naming.claim != nil || len(p.up)+len(p.down) > 0 || !p.clientOpen || !p.serverOpen {
		return nil
	}
	x := p.link.session
	if x == nil || x.link != p.link {
		return nil
	}
	if x.resuming {
		return fmt.Errorf("never synced: the resume does not end")
	}
	var err error
	x.owner.Leases(func(l *table.Lease) bool {
		if !slices.ContainsFunc(a.tasks, func(t *task) bool { return t.knows(l) }) {
			err = fmt.Errorf("orphan: a lease on %q in state %d, and the client knows nothing of it", l.Key(), l.State())
		}
		return err == nil
	})
	if err != nil {
		return err
	}
	for _, t := range a.tasks {
		if err := t.check(w.server, x); err != nil {
			return err
		}
	}
	return nil
}

// knows says whether the program knows of the lease.
func (t *task) knows(l *table.Lease) bool {
	if l.State() == table.Granted && t.state == holding {
		return ToWire(l.Token()) == t.hold.Token
	}
	c, _ := l.Tag.(*call)
	return c != nil && !c.collected && t.state != holding && t.state != ended && c.id == t.call.Request.ID
}

// check wants the server to know of what the program waits for or holds.
func (t *task) check(s *Server, x *session) error {
	for _, c := range t.changes {
		if !c.Done() && !s.serves(x, c) {
			return fmt.Errorf("not served: request %d for the value of %q", c.Request.ID, t.hold.Key)
		}
	}
	switch t.state {
	case holding:
		known := false
		x.owner.Leases(func(l *table.Lease) bool {
			known = known || l.State() == table.Granted && ToWire(l.Token()) == t.hold.Token
			return !known
		})
		if !known {
			return fmt.Errorf("a hold on %q that the server does not know of", t.hold.Key)
		}
	case asking, awaiting:
		if s.serves(x, t.call) {
			return nil
		}
		c := x.calls[t.call.Request.ID]
		if c == nil || c.lease.State() != table.Queued || !c.asked {
			return fmt.Errorf("not served: request %d for %q is not answered, and to the server it is %+v", t.call.Request.ID, t.hold.Key, c)
		}
	}
	return nil
}
