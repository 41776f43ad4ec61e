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
	seen    uint64 // the fence of the value that a join has seen
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
		status := codec.Failed
		if r.Command == codec.Put {
			status = codec.Unavailable // or it would look as if the lease had ended
		}
		s.reply(x, r.ID, status)
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
	p := parked{link: x.link, request: *r, seen: s.seen(r)}
	p.request.Key, p.request.Value = bytes.Clone(r.Key), bytes.Clone(r.Value)
	s.parked = append(s.parked, p)
	if ordered(r) {
		if s.queued == nil {
			s.queued = make(map[parkedKey]int)
		}
		s.queued[parkedKey{KindOf(r), string(r.Key)}]++
	}
}

// ordered says whether a parked request holds up those that come later for its
// key: acquisitions, and changes of its value.
func ordered(r *codec.Request) bool {
	switch r.Command {
	case codec.Lock, codec.Enqueue, codec.Join, codec.Put, codec.Delete:
		return true
	}
	return false
}

// A parkedKey is a key for which requests are parked.
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
	if r := &s.parked[i].request; ordered(r) {
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
	s.now = now
	all := s.parked
	s.parked, s.queued = nil, nil
	for i := range all {
		s.proceed(now, &all[i])
	}
}

// proceed goes on with a request that was held up.
func (s *Server) proceed(now time.Duration, p *parked) {
	x := p.link.session
	switch {
	case x == nil || x.link != p.link:
		return
	case p.lease == nil:
		s.carryOut(now, x, p)
	case p.lease.State() == table.Granted:
		s.grant(x, p.request.ID, p.status, p.lease)
	default:
		s.reply(x, p.request.ID, codec.LeaseExpired)
	}
	s.Settle()
}

// carryOut carries out a request that was held up before it was.
func (s *Server) carryOut(now time.Duration, x *session, p *parked) {
	switch r := &p.request; r.Command {
	case codec.Renew:
		s.renew(now, x, r)
	case codec.Claim:
		s.claim(now, x, r, false)
	case codec.Put:
		s.put(now, x, r, false)
	case codec.Delete:
		s.del(now, x, r, false)
	case codec.Get: // what waited for a change sees that, and not those after it
		v, _ := s.table.LookupValue(now, r.Key)
		s.found(x, r.ID, v)
	case codec.Join:
		s.join(now, x, r, late, p.seen)
	default:
		s.acquire(now, x, r, late)
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
