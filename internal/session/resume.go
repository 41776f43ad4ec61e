package session

import (
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/internal/table"
)

// resume makes the session ready for what the client says after hello: which
// holds it still knows of, and which requests it waits for. No answer of before
// is certain to have arrived, so none is outstanding from here on.
func (s *Server) resume(now time.Duration, x *session) {
	for _, c := range x.calls {
		c.asked, c.wait = false, 0
	}
	s.table.Resume(now, x.owner)
	s.Settle()
	x.resuming, x.fresh, x.resent = true, 0, 0
	x.granted = make(map[uint64]*table.Lease)
	x.owner.Leases(func(l *table.Lease) bool {
		switch tag := l.Tag.(type) {
		case *grantedTo:
			x.granted[tag.id] = l
		case *call:
			if tag.collected {
				x.granted[tag.id], x.granted[tag.wait] = l, l
			}
		}
		return true
	})
}

// repeat answers an l, e or w that came again from the place or the lease that
// it has; it is false if there is none (any more), and the request is to run
// anew.
//
// A lease starts its TTL anew when the answer that carries it is given again:
// the client counts it from when it asked again.
func (s *Server) repeat(x *session, r *codec.Request) bool {
	if l := x.granted[r.ID]; l != nil && l.State() == table.Granted {
		switch {
		case l.Key() != string(r.Key) || r.Command != codec.Claim && l.Kind() != KindOf(r):
			s.reply(x, r.ID, codec.Failed)
		case r.Command == codec.Enqueue:
			s.table.Name(l)
			s.grant(x, r.ID, codec.Acquired, l)
		default:
			s.again(x, r.ID, l)
		}
		return true
	}
	c := x.calls[r.ID]
	switch {
	case c == nil:
		return false
	case c.lease.State() == table.Ended:
		delete(x.calls, c.id)
		return false
	case c.lease.Key() != string(r.Key) || c.lease.Kind() != KindOf(r) || c.ticket != (r.Command == codec.Enqueue):
		s.reply(x, r.ID, codec.Failed)
		return true
	}
	s.table.Name(c.lease)
	switch {
	case c.ticket:
		s.place(x, c)
	case c.lease.State() == table.Granted:
		answered(c.lease, c.id)
		delete(x.calls, c.id)
		s.again(x, c.id, c.lease)
	default:
		c.asked = true
	}
	return true
}

// again answers a request with a lease that was granted before.
func (s *Server) again(x *session, id uint64, l *table.Lease) {
	if s.faults.oldTTLAgain {
		s.table.Name(l)
	} else if s.table.Collect(0, l) != nil {
		s.reply(x, id, codec.LeaseExpired)
		return
	}
	s.grant(x, id, codec.OK, l)
}

// sync ends a resume: what the client has not named it does not know of.
func (s *Server) sync(now time.Duration, x *session) {
	if !x.resuming {
		return
	}
	if !s.faults.noDrop {
		s.table.Sync(now, x.owner)
	}
	for id, c := range x.calls {
		if c.lease.Reason() == table.Dropped {
			delete(x.calls, id)
		}
	}
	x.resuming, x.granted = false, nil
	s.Settle()
}
