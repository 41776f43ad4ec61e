package session

import (
	"encoding/binary"
	"hash/maphash"
	"maps"
	"slices"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/internal/table"
)

// A digester makes a number of a world, the same for worlds of which the same
// can come: instants count by their distance from now.
type digester struct {
	seed  maphash.Seed
	bytes []byte
}

func (d *digester) world(w *world, budgets []budget, ticks int) uint64 {
	d.bytes = append(d.bytes[:0], byte(ticks))
	if w.crashes > 0 {
		d.num(uint64(w.crashes), uint64(w.stops), w.table.Fence())
		d.ago(w.opens, w.now)
		d.bytes = w.table.AppendPast(d.bytes, w.now)
	}
	if w.kept.puts != nil {
		d.values(w)
	}
	for i, a := range w.actors {
		d.bytes = budgets[i].append(d.bytes)
		d.actor(w, a)
	}
	return maphash.Bytes(d.seed, d.bytes)
}

func (d *digester) num(xs ...uint64) {
	for _, x := range xs {
		d.bytes = binary.AppendUvarint(d.bytes, x)
	}
}

func (d *digester) flag(xs ...bool) {
	b := byte(0)
	for _, x := range xs {
		b <<= 1
		if x {
			b |= 1
		}
	}
	d.bytes = append(d.bytes, b)
}

// ago appends an instant, all those that are too long ago alike.
func (d *digester) ago(now, at time.Duration) {
	d.num(uint64(min(max(now-at, 0), 20*time.Second)))
}

func (d *digester) actor(w *world, a *actor) {
	c := a.client
	x := w.server.sessions[c.greeting.Resume]
	d.flag(c.greeting.Resuming, a.over != "", x != nil, a.pipe != nil, c.beat != nil && c.beat.state == sent)
	d.flag(c.claims, c.naming.claim != nil)
	d.num(uint64(c.state), c.next, uint64(c.naming.asked)) //nolint:gosec // it is small
	d.flag(c.naming.under)
	if h := c.holds.cursor; h != nil {
		d.num(h.Token.Fence())
	}
	d.ago(w.now, c.beaten)
	for _, call := range c.sorted() {
		d.call(w, call)
	}
	d.bytes = append(d.bytes, 'q')
	for call := c.queued.head; call != nil; call = call.links.next {
		d.call(w, call)
	}
	d.bytes = append(d.bytes, 'p')
	for call := c.places.head; call != nil; call = call.links.next {
		d.num(call.Request.ID)
	}
	d.bytes = append(d.bytes, 'h')
	c.holds.all(func(h *Hold) {
		d.num(h.Token.Fence())
		d.ago(w.now, h.stamp)
		d.flag(h.confirmed)
	})
	d.bytes = append(d.bytes, 't')
	for _, t := range a.tasks {
		d.num(uint64(t.state), t.call.Request.ID, t.hold.Token.Fence())
		d.flag(t.quit, t.hold.held, t.wait != nil)
		if w.kept.puts != nil {
			d.num(uint64(len(t.changes)), t.seen)
			d.flag(t.came)
		}
	}
	if x != nil {
		d.num(c.conn - x.attempt)
		d.session(w, x)
		if w.kept.puts != nil {
			d.changes(w, x)
		}
	}
	for _, p := range w.pipes {
		if p.actor == a.index {
			d.pipe(p, c, x)
		}
	}
}

func (d *digester) call(w *world, c *Call) {
	d.num(c.Request.ID, uint64(c.Request.Command), uint64(c.state), c.Request.Ticket, c.Request.Token.Fence())
	d.flag(c.taken, c.place, c.own)
	d.ago(w.now, c.stamp)
	d.ago(c.until, w.now)
}

func (d *digester) session(w *world, x *session) {
	d.bytes = append(d.bytes, 's')
	d.num(x.last, x.fresh, x.resent, uint64(len(x.granted)))
	d.flag(x.resuming, x.link != nil)
	x.owner.Leases(func(l *table.Lease) bool {
		d.bytes = l.AppendState(d.bytes, w.now)
		d.num(uint64(l.Position()))
		switch tag := l.Tag.(type) {
		case *grantedTo:
			d.num(tag.id, 1)
		case *call:
			d.served(tag)
		}
		return true
	})
	if len(x.calls) > 0 { // those whose lease has ended are in no list
		ids := make([]uint64, 0, len(x.calls))
		for id, c := range x.calls {
			if c.lease.State() == table.Ended {
				ids = append(ids, id)
			}
		}
		slices.Sort(ids)
		for _, id := range ids {
			d.served(x.calls[id])
		}
	}
}

func (d *digester) served(c *call) {
	d.num(c.id, c.wait)
	d.flag(c.asked, c.ticket, c.collected)
}

func (d *digester) pipe(p *pipe, c *Client, x *session) {
	d.bytes = append(d.bytes, 'c')
	d.flag(p.dead, p.clientOpen, p.serverOpen, p.num == c.conn, p.link != nil, p.link != nil && x != nil && x.link == p.link)
	for _, r := range p.up {
		d.num(r.ID, uint64(r.Command), r.Ticket, r.Token.Fence())
		if r.Command == codec.Hello {
			d.flag(r.Hello.Resuming)
			d.num(c.conn - r.Hello.Attempt)
		}
	}
	d.bytes = append(d.bytes, 'd')
	for _, a := range p.down {
		d.num(a.ID, uint64(a.Status), uint64(a.Notice), a.Token.Fence(), uint64(a.TTL), a.Fence)
	}
}

// values appends what the table and the disk have.
func (d *digester) values(w *world) {
	d.num(w.table.Fence())
	d.bytes = w.table.AppendValues(d.bytes, w.now)
	for _, k := range worldKeys {
		for _, x := range w.kept.writes[k.name] {
			d.num(x.fence, uint64(x.nth)) //nolint:gosec // it is small
		}
		d.num(w.kept.newest[k.name])
	}
}

// changes appends what the server has to say of values to a session.
func (d *digester) changes(w *world, x *session) {
	d.bytes = append(d.bytes, 'v')
	d.outcomes(x.outcomes.recent)
	d.outcomes(x.outcomes.older)
	for _, k := range worldKeys {
		for i, c := range w.server.changes[k.name] {
			if c.session == x {
				d.num(uint64(i), c.id, uint64(c.outcome.status), c.outcome.fence) //nolint:gosec // it is small
				d.flag(c.link == x.link)
			}
			for j, p := range c.waiting {
				if p.link == x.link {
					d.num(uint64(i), uint64(j), p.request.ID, p.seen) //nolint:gosec // they are small
				}
			}
		}
	}
}

func (d *digester) outcomes(all map[uint64]outcome) {
	for _, id := range slices.Sorted(maps.Keys(all)) {
		d.num(id, uint64(all[id].status), all[id].fence)
	}
	d.bytes = append(d.bytes, 'o')
}
