package session

import (
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/internal/table"
)

// fewCalls is the number of calls that are not worth a look for dead tickets.
const fewCalls = 1024

// Request carries out a request that came over the link. Requests of a link
// that is over are ignored: whatever of them is still wanted comes again.
func (s *Server) Request(now time.Duration, l *Link, r *codec.Request) {
	x, how, ok := s.accept(now, l, r.ID)
	if !ok {
		return
	}
	s.now = now
	switch r.Command {
	case codec.Lock, codec.Enqueue:
		s.acquire(now, x, r, how)
	case codec.Join:
		s.join(now, x, r, how, noneSeen)
	case codec.Put:
		s.put(now, x, r, how == again)
	case codec.Get:
		s.get(now, x, r)
	case codec.Delete:
		s.del(now, x, r, how == again)
	case codec.Wait:
		s.wait(now, x, r, how == again)
	case codec.Release:
		s.release(now, x, r)
	case codec.Renew:
		s.renew(now, x, r)
	case codec.Claim:
		s.claim(now, x, r, how == again)
	case codec.Cancel:
		s.cancel(now, x, r)
	case codec.Beat:
		s.beat(now, x)
		s.reply(x, r.ID, codec.OK)
	case codec.Sync:
		s.sync(now, x)
		s.reply(x, r.ID, codec.OK)
	case codec.Bye:
		s.table.Drop(now, x.owner, false)
		s.Settle()
		s.reply(x, r.ID, codec.OK)
		s.end(now, x)
	case codec.Force:
		s.force(l, x, now, r, how == again)
	case codec.Ping:
		s.reply(x, r.ID, codec.OK)
	case codec.Stats:
		l.out.Report(r.ID)
	default: // too late to say who one is
		s.reply(x, r.ID, codec.Failed)
	}
	s.Settle()
}

// Malformed answers a request of which nothing could be read but its ID.
func (s *Server) Malformed(now time.Duration, l *Link, id uint64) {
	if x, _, ok := s.accept(now, l, id); ok {
		s.reply(x, id, codec.Failed)
	}
}

// A coming says how a request comes to be carried out.
type coming uint8

const (
	anew  coming = iota
	again        // it may have been carried out before
	late         // it was held up, and its session may not be there any more
)

// accept takes note that the link was heard, and checks the ID: one above all
// before is new; another one is good only while resuming, if nothing of this
// resume had it, and then it comes again.
func (s *Server) accept(now time.Duration, l *Link, id uint64) (x *session, how coming, ok bool) {
	x = l.session
	if x == nil {
		return nil, anew, false
	}
	if s.faults.placeLost {
		s.losePlaces(now, x)
	}
	if x.link == l {
		l.heard = now
		s.links.touch(l)
	}
	s.table.Heard(now, x.owner)
	if !s.faults.lostLate {
		s.Settle()
	}
	switch {
	case x.link != l: // only with staleWins
		if id <= x.last {
			return x, again, true
		}
		return x, anew, true
	case id > x.last:
		x.last = id
		if x.fresh == 0 {
			x.fresh = id
		}
		return x, anew, true
	case x.resuming && id > x.resent && (x.fresh == 0 || id < x.fresh), s.faults.anyID:
		x.resent = id
		return x, again, true
	}
	s.answer = codec.Answer{Notice: codec.NoticeError}
	l.out.Answer(&s.answer)
	s.hangUp(now, l)
	return nil, anew, false
}

// acquire carries out l and e, and join where no value answers it.
func (s *Server) acquire(now time.Duration, x *session, r *codec.Request, how coming) {
	if how == again && s.repeat(x, r) {
		return
	}
	if s.draining {
		s.reply(x, r.ID, codec.Draining)
		return
	}
	if !s.admitted(x, r, s.ttl(r), max(r.Fences, 1)) {
		return
	}
	ticket := r.Command == codec.Enqueue
	q := table.Request{
		Kind: KindOf(r), Key: r.Key, Owner: x.owner, TTL: s.ttl(r), Limit: r.Limit, Weight: max(r.Weight, 1),
		Fences: r.Fences, Ticket: ticket, Joins: r.Command == codec.Join, Late: how == late,
	}
	if !ticket && !r.NoTimeout {
		q.Try, q.WaitUntil = r.Timeout <= 0, now+min(r.Timeout, longest)
	}
	l, err := s.table.Acquire(now, q)
	switch {
	case err == table.ErrLocked && s.refusedByChange(x, r, q.Kind):
	case err == table.ErrLocked:
		s.refuse(x, r.ID, q.Kind, r.Key)
	case err != nil:
		s.reply(x, r.ID, refusal(err))
	case l.State() == table.Granted && !ticket:
		answered(l, r.ID)
		n := len(s.parked)
		if s.grant(x, r.ID, codec.OK, l); len(s.parked) > n {
			s.limit(r)
		}
	default:
		c := &call{lease: l, id: r.ID, asked: true, ticket: ticket}
		l.Tag = c
		s.keep(x, c)
		if ticket {
			s.place(x, c)
		}
	}
}

func (s *Server) ttl(r *codec.Request) time.Duration {
	if r.TTL <= 0 {
		return s.cfg.TTL
	}
	return min(r.TTL, longest)
}

func refusal(err error) codec.Status {
	switch err {
	case table.ErrLimitMismatch:
		return codec.LimitMismatch
	case table.ErrTooManyKeys:
		return codec.MaxLocks
	case table.ErrTooManyWaiters:
		return codec.MaxWaiters
	}
	return codec.Failed
}

// keep remembers a call. Clients that never collect what they enqueue leave dead
// tickets behind; those go when there are many.
func (s *Server) keep(x *session, c *call) {
	if len(x.calls) >= x.purgeAt {
		for id, c := range x.calls {
			if c.lease.State() == table.Ended {
				delete(x.calls, id)
			}
		}
		x.purgeAt = max(fewCalls, 2*len(x.calls))
	}
	x.calls[c.id] = c
}

// place answers e.
func (s *Server) place(x *session, c *call) {
	if c.lease.State() == table.Granted {
		s.grant(x, c.id, codec.Acquired, c.lease)
		return
	}
	s.answer = codec.Answer{ID: c.id, Status: codec.Queued, Position: c.lease.Position()}
	s.send(x)
}

// wait carries out w: it collects the lease of a ticket, or waits for it.
func (s *Server) wait(now time.Duration, x *session, r *codec.Request, again bool) {
	if again && s.repeat(x, r) {
		return
	}
	c := x.calls[r.Ticket]
	switch {
	case c == nil || !c.ticket:
		s.reply(x, r.ID, codec.NotQueued)
	case c.wait != 0: // somebody waits for it already
		s.reply(x, r.ID, codec.Failed)
	case c.lease.State() == table.Granted:
		c.wait = r.ID
		s.collect(x, c)
	case c.lease.State() == table.Ended:
		delete(x.calls, c.id)
		s.reply(x, r.ID, codec.LeaseExpired)
	default:
		c.wait, c.asked = r.ID, true
		var until time.Duration
		if !r.NoTimeout {
			until = now + min(r.Timeout, longest)
		}
		s.table.Await(now, c.lease, until)
		s.Settle()
	}
}

// collect answers the w of a ticket with its lease, whose TTL starts anew.
func (s *Server) collect(x *session, c *call) {
	if s.table.Collect(0, c.lease) == nil {
		c.collected = true
		delete(x.calls, c.id)
		s.grant(x, c.wait, codec.OK, c.lease)
	}
}

func (s *Server) release(now time.Duration, x *session, r *codec.Request) {
	s.releasing = x
	err := s.table.Release(now, KindOf(r), r.Key, FromWire(r.Token))
	s.Settle()
	s.releasing = nil
	if err != nil {
		s.reply(x, r.ID, codec.Failed)
		return
	}
	s.reply(x, r.ID, codec.OK)
}

func (s *Server) renew(now time.Duration, x *session, r *codec.Request) {
	ttl := s.ttl(r)
	if l := s.table.Find(now, KindOf(r), r.Key, FromWire(r.Token)); l != nil && s.cfg.Admit != nil {
		switch s.mayLast(l, ttl) {
		case Later:
			s.table.Name(l) // or the end of a resume might drop it meanwhile
			s.park(x, r)
			return
		case Never, Full:
			ttl = min(ttl, l.TTL()) // as it was is what can be relied on
		}
	}
	s.renewed(now, x, r, ttl)
}

// renewed renews a lease for a TTL, and answers.
func (s *Server) renewed(now time.Duration, x *session, r *codec.Request, ttl time.Duration) {
	left, err := s.table.Renew(now, KindOf(r), r.Key, FromWire(r.Token), ttl)
	if err != nil {
		s.reply(x, r.ID, codec.Failed)
		return
	}
	s.answer = codec.Answer{ID: r.ID, Status: codec.OK, TTL: left, HasTTL: true}
	s.send(x)
}

// cancel takes a request back that has not been answered, or a ticket. What
// was granted in answer to l or w stays: the answer is on its way, and the
// client releases it. Taking back a w gives up the place that it waits for.
func (s *Server) cancel(now time.Duration, x *session, r *codec.Request) {
	c := x.calls[r.Ticket]
	if c == nil && (s.unpark(x, r.Ticket) || s.unwait(x, r.Ticket)) {
		s.reply(x, r.Ticket, codec.Canceled)
	}
	if c == nil {
		c = x.waits(r.Ticket)
	}
	if c != nil {
		s.table.Cancel(now, c.lease)
		s.conclude(x, c, codec.Canceled)
		s.Settle()
	}
	s.reply(x, r.ID, codec.OK)
}

// force takes a key away from all who hold it. It is not done again over another
// connection: it would hit those who were granted the key since.
func (s *Server) force(l *Link, x *session, now time.Duration, r *codec.Request, again bool) {
	if again {
		s.reply(x, r.ID, codec.Failed)
		return
	}
	ended := s.table.Force(now, KindOf(r), r.Key)
	s.Settle()
	s.answer = codec.Answer{ID: r.ID, Status: codec.OK, Count: ended, HasCount: true}
	s.send(x)
	if s.cfg.Forced != nil {
		s.cfg.Forced(x.owner.Name, l.out, KindOf(r), string(r.Key), ended)
	}
}

// waits returns the ticket for which the w of that ID waits, or nil. Clients
// that take back waits by the ticket never come here.
func (x *session) waits(id uint64) *call {
	for _, c := range x.calls {
		if c.wait == id {
			return c
		}
	}
	return nil
}

func (s *Server) beat(now time.Duration, x *session) {
	s.table.Beat(now, x.owner)
	x.outcomes.beat()
	if s.faults.forgetEarly {
		x.outcomes.beat()
	}
	if s.faults.beatRenewsTickets {
		for _, c := range x.calls {
			if c.lease.State() == table.Granted {
				_ = s.table.Collect(now, c.lease)
			}
		}
	}
}
