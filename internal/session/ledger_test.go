package session

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/internal/table"
)

// A ledger is what a world knows of values besides the server: what was put, what
// the disk has, and what may be seen.
type ledger struct {
	// Take returns what Persist was told since the last time, nil where values are
	// not durable. Copies of a world share it, so it must be empty between steps.
	take    func() []Write
	refuse  *bool // Persist takes nothing any more
	failed  bool  // nor does the disk take what it was given
	survive func(n int) int

	writes   map[string][]*entered // on their way to the disk
	visible  map[string]*entered   // what settled last, and was not removed
	newest   map[string]uint64     // the fence of what settled last
	puts     map[uint64]*entered   // by fence
	accepted map[asked]*entered
	latest   map[codec.Token]int // the last change by that hold that settled
	joined   int                 // joins that a value answered
	settled  int
	again    int // requests that came again, and are known
	volatile int // puts that were not written down
}

// An asked names a request.
type asked struct {
	session codec.SessionID
	id      uint64
}

// An entered is a put or a removal that the server accepted.
type entered struct {
	key, data string
	fence     uint64 // 0 of a removal
	token     codec.Token
	nth       int // of its hold's changes
	at, until time.Duration
	settled   bool
	volatile  bool // it counts at once, and a restart forgets it
}

// keepValues makes the server of the world keep values.
func (w *world) keepValues(durable bool) {
	w.kept.writes, w.kept.visible = make(map[string][]*entered), make(map[string]*entered)
	w.kept.newest, w.kept.puts = make(map[string]uint64), make(map[uint64]*entered)
	w.kept.accepted, w.kept.latest = make(map[asked]*entered), make(map[codec.Token]int)
	if durable {
		w.hookDisk()
	}
}

func (w *world) hookDisk() {
	var told []Write
	refuse := new(bool)
	w.server.cfg.Persist = func(x Write) bool {
		if *refuse {
			return false
		}
		told = append(told, x)
		return true
	}
	w.kept.refuse = refuse
	w.kept.take = func() []Write {
		all := told
		told = nil
		return all
	}
}

// change lets a program put or remove the value of a key that it holds.
func (w *world) change(a *actor, t *task, command codec.Command, keep time.Duration) {
	c := &Call{Hold: t.hold, Request: codec.Request{Command: command, Key: []byte(t.hold.Key), Token: t.hold.Token, Keep: keep}}
	t.changes = append(t.changes, c)
	if command == codec.Put {
		c.Request.Volatile = keep%4 != 0 // chance made it
		c.Request.Value = strconv.AppendInt(nil, int64(len(t.changes)), 10)
	}
	a.client.Do(a.now, c)
}

// request brings a request to the server, and takes note of what that accepts.
func (w *world) request(p *pipe, r *codec.Request) {
	x := p.link.session
	if x != nil {
		_, recent := x.outcomes.recent[r.ID]
		if _, older := x.outcomes.older[r.ID]; recent || older {
			w.kept.again++
		}
	}
	switch r.Command {
	case codec.Join:
		w.arrives(p, x, r)
	case codec.Put, codec.Delete:
		if x == nil || w.kept.puts == nil {
			break
		}
		was, _ := w.table.LookupValue(w.now, r.Key)
		w.server.Request(w.now, p.link, r)
		w.accepts(p, asked{x.id, r.ID}, r, was)
		return
	}
	w.server.Request(w.now, p.link, r)
}

// arrives takes note of when a join came.
func (w *world) arrives(p *pipe, x *session, r *codec.Request) {
	a := w.actors[p.actor]
	if x == nil || x.link != p.link || p.of != a.client {
		return
	}
	if c := a.client.pending.get(r.ID); c != nil {
		if t, _ := c.Tag.(*task); t != nil && !t.came {
			t.came, t.seen, t.cameAt = true, w.kept.newest[t.hold.Key], w.now
		}
	}
}

// accepts takes note of what became of a put or a removal.
func (w *world) accepts(p *pipe, by asked, r *codec.Request, was *table.Value) {
	x := &entered{key: string(r.Key), token: r.Token, at: w.now}
	for _, t := range w.actors[p.actor].tasks {
		i := slices.IndexFunc(t.changes, func(c *Call) bool { return c.Request.ID == r.ID && c.Request.Token == r.Token })
		x.nth = max(x.nth, i+1)
	}
	if r.Keep > 0 {
		x.until = w.now + r.Keep
	}
	is, _ := w.table.LookupValue(0, r.Key)
	var told []Write
	if w.kept.take != nil {
		told = w.kept.take()
	}
	switch {
	case len(told) > 0:
		if !told[0].Remove {
			x.fence, x.data = told[0].Fence, string(told[0].Data)
		}
		w.kept.writes[x.key] = append(w.kept.writes[x.key], x)
	case r.Command == codec.Put && is != nil && (was == nil || is.Fence > was.Fence):
		x.fence, x.data, x.volatile = is.Fence, string(is.Data), w.kept.take != nil
		w.covers(x, r)
	case r.Command == codec.Delete && was != nil && is == nil:
		x.volatile = w.kept.take != nil
		w.covers(x, nil)
	default:
		if w.kept.refuse != nil && *w.kept.refuse && w.table.Fence() == w.fence+1 {
			w.fence++ // for nothing
		}
		return
	}
	switch {
	case w.table.Find(0, table.Lock, r.Key, FromWire(r.Token)) == nil:
		w.breaks("a change of %q was accepted from a holder whose lease has ended", r.Key)
	case w.kept.accepted[by] != nil:
		w.breaks("request %d for the value of %q was carried out twice", r.ID, r.Key)
	}
	w.kept.accepted[by] = x
	if x.fence > 0 {
		w.kept.puts[x.fence] = x
		if x.fence == w.fence+1 { // it was no grant that took this one
			w.fence = x.fence
		}
	}
	if w.kept.take == nil || x.volatile {
		w.settles(x)
	}
}

// covers wants a change that is not written down to be of what need not be, and in the
// place of nothing that is on the disk, or on its way there.
func (w *world) covers(x *entered, put *codec.Request) {
	if !x.volatile {
		return
	}
	was := w.kept.visible[x.key]
	switch {
	case put != nil && !put.Volatile:
		w.breaks("the value of %q with fence %d is not written down", x.key, x.fence)
	case was != nil && !was.volatile && (was.until == 0 || w.now < was.until):
		w.breaks("a volatile change of %q is in the place of fence %d, which is on the disk", x.key, was.fence)
	case len(w.kept.writes[x.key]) > 0:
		w.breaks("a volatile change of %q overtakes what is on its way to the disk", x.key)
	case w.kept.failed:
		w.breaks("a volatile change of %q after one that the disk may have taken all the same", x.key)
	}
	if put != nil {
		w.kept.volatile++
	}
}

func (w *world) breaks(format string, args ...any) {
	if w.broken == nil {
		w.broken = fmt.Errorf(format, args...)
	}
}

// settles takes note that a change counts.
func (w *world) settles(x *entered) {
	w.kept.settled++
	if x.nth > 0 && x.nth <= w.kept.latest[x.token] {
		w.breaks("the change %d by the holder of %q came after the change %d", x.nth, x.key, w.kept.latest[x.token])
	}
	w.kept.latest[x.token] = x.nth
	x.settled = true
	if x.fence == 0 {
		delete(w.kept.visible, x.key)
		return
	}
	w.kept.visible[x.key], w.kept.newest[x.key] = x, x.fence
}

// write lets the next change of a key be on disk.
func (w *world) write(key string) {
	all := w.kept.writes[key]
	w.kept.writes[key] = all[1:]
	if len(all) == 1 {
		delete(w.kept.writes, key)
	}
	if !w.kept.failed {
		w.settles(all[0])
	}
	w.server.Settled(w.now, []byte(key), !w.kept.failed)
	if more := w.kept.take(); len(more) > 0 {
		w.breaks("a change of %q began when another one settled", key)
	}
}

// restoreValues gives the next server what the disk has.
func (w *world) restoreValues() {
	k := &w.kept
	if k.puts == nil {
		return
	}
	clear(k.latest)
	if k.take == nil {
		clear(k.visible)
		return
	}
	for _, key := range worldKeys {
		all, n := k.writes[key.name], 0
		if k.survive != nil {
			n = k.survive(len(all) + 1)
		}
		for _, x := range all[:n] {
			w.settles(x)
		}
		x := k.visible[key.name]
		if x != nil && x.volatile {
			delete(k.visible, key.name)
			x = nil
		}
		if x != nil {
			w.table.RestoreValue(w.now, x.key, table.Value{Data: []byte(x.data), Fence: x.fence, At: x.at, Until: x.until})
		}
	}
	clear(k.latest)
	clear(k.writes)
	k.failed = false
	w.hookDisk()
}

// checkValues holds the claims about values against what was said since the last
// time, and what is there.
func (w *world) checkValues() error {
	if w.kept.puts == nil {
		return nil
	}
	for _, p := range w.pipes {
		for _, line := range p.down[len(p.down)-min(p.said, len(p.down)):] {
			if err := w.checkLine(&line); err != nil {
				return err
			}
		}
		p.said = 0
	}
	for _, a := range w.actors {
		for _, c := range a.told {
			if err := w.checkAnswer(a, c); err != nil {
				return fmt.Errorf("actor %d: %w", a.index, err)
			}
		}
		a.told = nil
	}
	for _, k := range worldKeys {
		is, _ := w.table.LookupValue(0, []byte(k.name))
		want := w.kept.visible[k.name]
		gone := want == nil || want.until != 0 && want.until <= w.now
		if is == nil && !gone || is != nil && (want == nil || is.Fence != want.fence || string(is.Data) != want.data) {
			return fmt.Errorf("under %q there is %v, and what settled last is %+v", k.name, is, want)
		}
	}
	return nil
}

// checkLine wants nothing to be said of what did not settle.
func (w *world) checkLine(a *codec.Answer) error {
	x := w.kept.puts[a.Fence]
	switch {
	case !a.HasFence:
		return nil
	case x == nil:
		return fmt.Errorf("the line %v is about no put", a)
	case !x.settled:
		return fmt.Errorf("the line %v is about what is not on disk", a)
	case a.Status == codec.Found && string(a.Value) != x.data:
		return fmt.Errorf("%q was put with fence %d, and %q is said", x.data, a.Fence, a.Value)
	}
	return nil
}

// checkAnswer looks at what the answer to a client's call tells it.
func (w *world) checkAnswer(a *actor, c *Call) error {
	x := w.kept.accepted[asked{a.client.greeting.Resume, c.Request.ID}]
	switch {
	case c.Request.Command == codec.Put && c.Status == codec.OK && (x == nil || x.fence != c.Fence):
		return fmt.Errorf("its put took fence %d, and is %+v", c.Fence, x)
	case c.Request.Command == codec.Delete && c.Status == codec.OK && x == nil:
		return fmt.Errorf("its removal of %q never was", c.Request.Key)
	case c.Status == codec.Failed && x != nil:
		return fmt.Errorf("its change of %q was refused, and is %+v", x.key, x)
	case c.Request.Command != codec.Join || c.Status != codec.Found:
		return nil
	}
	t, _ := c.Tag.(*task)
	w.kept.joined++
	if x = w.kept.puts[c.Fence]; x == nil || !t.came {
		return fmt.Errorf("its join was answered with a value that nobody put")
	}
	if c.Fence <= t.seen && c.Request.Fresh != codec.AnyAge && x.at+c.Request.Fresh <= t.cameAt {
		return fmt.Errorf("its join, which came after fence %d, was answered with fence %d, which is %v old", t.seen, c.Fence, t.cameAt-x.at)
	}
	return nil
}

// serves says whether a request waits for the disk, and the client for it on its
// present link.
func (s *Server) serves(x *session, c *Call) bool {
	for _, all := range s.changes {
		for _, ch := range all {
			if ch.session == x && ch.link == x.link && ch.id == c.Request.ID {
				return true
			}
			if slices.ContainsFunc(ch.waiting, func(p parked) bool { return p.link == x.link && p.request.ID == c.Request.ID }) {
				return true
			}
		}
	}
	return false
}
