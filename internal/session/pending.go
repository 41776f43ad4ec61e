package session

// Pending finds calls by the IDs of their requests. Nearly all requests are
// answered before many others are sent, so a ring with the ID as index does
// for them; a call that waits for longer moves to a map when its slot is
// wanted again. A map for all would take a tenth of the throughput of a
// connection.
type pending struct {
	ring [ringSize]*Call
	rest map[uint64]*Call
	n    int
}

const ringSize = 256

func (p *pending) add(c *Call) {
	slot := &p.ring[c.Request.ID%ringSize]
	if old := *slot; old != nil {
		if p.rest == nil {
			p.rest = make(map[uint64]*Call)
		}
		p.rest[old.Request.ID] = old
	}
	*slot = c
	p.n++
}

func (p *pending) get(id uint64) *Call {
	if c := p.ring[id%ringSize]; c != nil && c.Request.ID == id {
		return c
	}
	return p.rest[id]
}

func (p *pending) remove(id uint64) {
	slot := &p.ring[id%ringSize]
	switch {
	case *slot != nil && (*slot).Request.ID == id:
		*slot = nil
	case p.rest[id] != nil:
		delete(p.rest, id)
	default:
		return
	}
	p.n--
}

// all returns the calls, in no order.
func (p *pending) all() []*Call {
	calls := make([]*Call, 0, p.n)
	for _, c := range p.ring {
		if c != nil {
			calls = append(calls, c)
		}
	}
	for _, c := range p.rest {
		calls = append(calls, c)
	}
	return calls
}
