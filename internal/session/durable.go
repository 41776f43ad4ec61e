package session

import (
	"bytes"
	"slices"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/internal/table"
)

// A parked request waits until it may be relied on what it asks for. With a lease
// it has been carried out, and its answer waits. Others pass it by, but for those
// who want the same key: to its client it looks as if the network had been slow.
type parked struct {
	link    *Link
	request codec.Request
	lease   *table.Lease
	status  codec.Status
}

// admitted says whether to go on with a request for a lease. If not it was parked
// or refused.
func (s *Server) admitted(x *session, r *codec.Request, ttl time.Duration, fences int) bool {
	if s.cfg.Admit == nil {
		return true
	}
	verdict := s.cfg.Admit(ttl, fences)
	if verdict == Now && s.queued[parkedKey{KindOf(r), string(r.Key)}] > 0 {
		verdict = Later // those who came before go first
	}
	switch verdict {
	case Later:
		s.park(x, r)
		return false
	case Never:
		s.reply(x, r.ID, codec.Failed)
		return false
	}
	return true
}

// kept says whether a client may hear of a lease of a TTL.
func (s *Server) kept(l *table.Lease, ttl time.Duration) Verdict {
	if s.cfg.Keep == nil {
		return Now
	}
	return s.cfg.Keep(l, ttl)
}

// mayLast says whether a lease may be renewed for a TTL.
func (s *Server) mayLast(l *table.Lease, ttl time.Duration) Verdict {
	return max(s.cfg.Admit(ttl, 0), s.kept(l, ttl))
}

func (s *Server) park(x *session, r *codec.Request) {
	p := parked{link: x.link, request: *r}
	p.request.Key = bytes.Clone(r.Key)
	s.parked = append(s.parked, p)
	if r.Command == codec.Lock || r.Command == codec.Enqueue {
		if s.queued == nil {
			s.queued = make(map[parkedKey]int)
		}
		s.queued[parkedKey{KindOf(r), string(r.Key)}]++
	}
}

// A parkedKey is a key for which acquisitions are parked.
type parkedKey struct {
	kind table.Kind
	key  string
}

// unpark takes a request back that has not been carried out, if it is parked.
func (s *Server) unpark(x *session, id uint64) bool {
	i := slices.IndexFunc(s.parked, func(p parked) bool {
		return p.link == x.link && p.lease == nil && p.request.ID == id
	})
	if i < 0 {
		return false
	}
	if r := &s.parked[i].request; r.Command == codec.Lock || r.Command == codec.Enqueue {
		s.queued[parkedKey{KindOf(r), string(r.Key)}]--
	}
	s.parked = slices.Delete(s.parked, i, i+1)
	return true
}

// Retry goes on with what Admit and Keep have held up, where they do so no more.
// Requests of links that are over are forgotten: they come again.
func (s *Server) Retry(now time.Duration) {
	if len(s.parked) == 0 {
		return
	}
	s.table.Advance(now)
	s.Settle()
	all := s.parked
	s.parked, s.queued = nil, nil
	for i := range all {
		p := &all[i]
		x := p.link.session
		switch {
		case x == nil || x.link != p.link:
		case p.lease == nil && p.request.Command == codec.Renew:
			s.renew(now, x, &p.request)
		case p.lease == nil && p.request.Command == codec.Claim:
			s.claim(now, x, &p.request, false)
		case p.lease == nil:
			s.acquire(now, x, &p.request, false)
		case p.lease.State() == table.Granted:
			s.grant(x, p.request.ID, p.status, p.lease)
		default:
			s.reply(x, p.request.ID, codec.LeaseExpired)
		}
		s.Settle()
	}
}

// claim carries out claim. It says no kind: with a limit above 1 it is about a
// semaphore, and else the token is good for one kind alone. What can be claimed
// is on disk already.
func (s *Server) claim(now time.Duration, x *session, r *codec.Request, again bool) {
	if again && s.repeat(x, r) {
		return
	}
	q := table.Request{
		Kind: table.Lock, Key: r.Key, Owner: x.owner, TTL: s.ttl(r), Limit: r.Limit, Weight: r.Weight, Tag: grantedTo(r.ID),
	}
	l, err := (*table.Lease)(nil), table.ErrNotHeld
	if r.Limit == 1 {
		l, err = s.table.Claim(now, q, FromWire(r.Token))
	}
	if err != nil {
		q.Kind = table.Semaphore
		l, err = s.table.Claim(now, q, FromWire(r.Token))
	}
	s.Settle()
	if err != nil || l.State() != table.Granted {
		s.reply(x, r.ID, codec.Failed)
		return
	}
	s.grant(x, r.ID, codec.OK, l)
}
