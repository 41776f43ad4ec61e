package session

import (
	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/internal/table"
)

// Settle tells everybody what happened in the table since the last time. The
// Server does it itself before each answer that it makes, because what ended
// before must be told before; who else calls the table must do it afterwards.
func (s *Server) Settle() {
	for events := s.table.Events(); len(events) > 0; events = s.table.Events() {
		for _, e := range events {
			if s.cfg.Happened != nil {
				s.cfg.Happened(e)
			}
			if x, ours := e.Lease.Owner().Tag.(*session); ours {
				s.happened(x, e)
			}
		}
	}
}

// happened takes note of what happened to a lease of the session.
func (s *Server) happened(x *session, e table.Event) {
	c, _ := e.Lease.Tag.(*call)
	switch {
	case c == nil || c.collected:
		s.lost(x, e)
	case e.Kind == table.EventGranted:
		s.granted(x, c)
	case e.Kind == table.EventValue:
		s.joined(x, c)
	case e.Kind == table.EventTimedOut:
		s.conclude(x, c, codec.Timeout)
	case !c.ticket || c.wait != 0:
		// The place is gone, or what was granted ended before it was answered:
		// the same call of the table can have made it and ended it.
		s.conclude(x, c, codec.LeaseExpired)
	case e.Kind == table.EventReleased:
		delete(x.calls, c.id)
	}
	// A ticket for which nobody waits stays, to tell w that it is over.
}

// lost tells the client of a hold that ended without it.
func (s *Server) lost(x *session, e table.Event) {
	reason := codec.ReasonExpired
	switch e.Kind {
	case table.EventRevoked:
		reason = codec.ReasonRevoked
	case table.EventReleased:
		if s.releasing == x {
			s.reuse(x, e.Lease)
			return
		}
		reason = codec.ReasonReleased
	}
	if x.link != nil {
		s.answer = codec.Answer{
			Notice: codec.NoticeLost, Key: []byte(e.Lease.Key()),
			Token: ToWire(e.Lease.Token()), HasToken: true, Reason: reason,
		}
		s.send(x)
	}
}

// reuse gives back a lease that the session released, unless something may point to
// it yet: a call, an answer that is held up, or what is kept for a resume.
func (s *Server) reuse(x *session, l *table.Lease) {
	if _, plain := l.Tag.(*grantedTo); plain && len(s.parked) == 0 && x.granted == nil {
		s.table.Reuse(l)
	}
}

// granted answers a call whose turn has come, if the client waits for that on
// this link. If not it will be answered when it is asked again, or be dropped
// at sync, or run out.
func (s *Server) granted(x *session, c *call) {
	switch {
	case c.lease.State() != table.Granted || !c.asked:
	case c.ticket && c.wait != 0:
		s.collect(x, c)
	case !c.ticket:
		answered(c.lease, c.id)
		delete(x.calls, c.id)
		s.grant(x, c.id, codec.OK, c.lease)
		if s.faults.twoLeaders {
			s.leadTwice(c.lease)
		}
	}
}

// conclude ends a call without a grant, and answers the request that waits.
func (s *Server) conclude(x *session, c *call, status codec.Status) {
	delete(x.calls, c.id)
	id := c.id
	if c.ticket {
		id = c.wait
	}
	switch {
	case !c.asked || id == 0:
	case status == codec.Timeout:
		s.refuse(x, id, c.lease.Kind(), []byte(c.lease.Key()))
	default:
		s.reply(x, id, status)
	}
}

// refuse answers a request that was not granted in time, with who holds the key
// instead, and for how long.
func (s *Server) refuse(x *session, id uint64, k table.Kind, key []byte) {
	s.answer = codec.Answer{ID: id, Status: codec.Timeout}
	s.answer.Holder, s.answer.HeldFor, _ = s.table.Holder(k, key)
	s.send(x)
}

// grant answers the request with a lease, once that may be relied on.
func (s *Server) grant(x *session, id uint64, status codec.Status, l *table.Lease) {
	switch s.kept(l, l.TTL()) {
	case Later:
		if x.link != nil {
			s.parked = append(s.parked, parked{link: x.link, lease: l, status: status, request: codec.Request{ID: id}})
		}
		return
	case Never:
		s.table.Cancel(0, l)
		s.reply(x, id, codec.Failed)
		return
	case Full:
		s.table.Cancel(0, l)
		s.reply(x, id, codec.MaxLocks)
		return
	}
	if x.link == nil {
		s.table.Withhold(l)
		return
	}
	s.answer = codec.Answer{ID: id, Status: status, Token: ToWire(l.Token()), HasToken: true, TTL: l.TTL(), HasTTL: true}
	s.send(x)
}

// reply answers the request with a status alone.
func (s *Server) reply(x *session, id uint64, status codec.Status) {
	s.answer = codec.Answer{ID: id, Status: status}
	s.send(x)
}

// send sends the line over the session's link; without one the client will ask
// again.
func (s *Server) send(x *session) {
	if x.link != nil {
		x.link.out.Answer(&s.answer)
	}
}
