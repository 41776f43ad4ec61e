package session

import (
	"bytes"
	"maps"
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
	seen    uint64        // the fence of the value that a join has seen
	asked   time.Duration // when it was parked, for the latest time
	until   time.Duration // it gives up then; 0 is never
}

// patience is how long a request may be parked at least that has no time to lose:
// most often that is a try, for which the disk needs a few milliseconds.
const patience = time.Second

// valuePatience is that of requests about values that have no timeout: the disk is
// not waited for any longer to tell of what it has, or before it is asked to write.
// A put that it is about to write waits for as long as that takes: nobody knows what
// will become of it.
const valuePatience = 10 * time.Second

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
	p := parked{link: x.link, request: *r, seen: s.seen(r), asked: s.now}
	p.request.Key, p.request.Value = bytes.Clone(r.Key), bytes.Clone(r.Value)
	s.parked = append(s.parked, p)
	s.limit(r)
	if ordered(r) {
		if s.queued == nil {
			s.queued = make(map[parkedKey]int)
		}
		s.queued[parkedKey{KindOf(r), string(r.Key)}]++
	}
}

// limit says how long the request parked last may be so.
func (s *Server) limit(r *codec.Request) {
	if until := s.limitOf(r); until != 0 {
		s.setLimit(until)
	}
}

// limitOf returns until when a request may be held up; 0 is for ever. A renewal has
// no time to lose because the lease can be renewed as it is.
func (s *Server) limitOf(r *codec.Request) time.Duration {
	switch r.Command {
	case codec.Lock, codec.Join:
		if !r.NoTimeout {
			return s.now + max(min(r.Timeout, longest), patience)
		}
	case codec.Renew:
		return s.now + patience
	case codec.Put, codec.Get, codec.Delete:
		return s.now + valuePatience
	}
	return 0
}

func (s *Server) setLimit(until time.Duration) {
	s.parked[len(s.parked)-1].until = until
	s.wakeAt(until)
}

// wakeAt sees to it that giveUp looks at that instant, if it is not 0.
func (s *Server) wakeAt(until time.Duration) {
	if until == 0 {
		return
	}
	if s.impatient == 0 || until < s.impatient {
		s.impatient = until
	}
}

// giveUp answers those of the requests whose time is up, of those that are parked
// and of those that wait for a change.
func (s *Server) giveUp(now time.Duration) {
	if s.impatient == 0 || now < s.impatient {
		return
	}
	s.impatient = 0
	var over []parked
	tooLate := func(p parked) bool {
		if p.until == 0 || p.until > now {
			s.wakeAt(p.until)
			return false
		}
		over = append(over, p)
		return true
	}
	s.parked = slices.DeleteFunc(s.parked, tooLate)
	for i := range over {
		if p := &over[i]; p.lease == nil && ordered(&p.request) {
			s.queued[parkedKey{KindOf(&p.request), string(p.request.Key)}]--
		}
	}
	for _, key := range slices.Sorted(maps.Keys(s.changes)) {
		for _, c := range s.changes[key] {
			c.waiting = slices.DeleteFunc(c.waiting, tooLate)
		}
	}
	s.now = now
	for i := range over {
		s.tooLate(now, &over[i])
	}
}

// tooLate answers a request that was held up and waits no longer. What was renewed
// goes on for as long as before.
func (s *Server) tooLate(now time.Duration, p *parked) {
	x, r := p.link.session, &p.request
	switch {
	case x == nil || x.link != p.link:
		return
	case p.lease != nil:
		s.table.Cancel(now, p.lease)
		s.Settle()
		s.reply(x, r.ID, codec.Timeout)
	case r.Command == codec.Renew:
		ttl := s.ttl(r)
		if l := s.table.Find(now, KindOf(r), r.Key, FromWire(r.Token)); l != nil {
			ttl = min(ttl, l.TTL())
		}
		s.renewed(now, x, r, ttl)
	case r.Command == codec.Put, r.Command == codec.Get, r.Command == codec.Delete:
		s.reply(x, r.ID, codec.Unavailable)
	default:
		s.refuse(x, r.ID, KindOf(r), r.Key)
	}
	s.Settle()
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
	s.parked, s.queued = nil, nil // of impatient others may be the reason
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
		s.stillLimited(p)
	case p.lease.State() == table.Granted:
		n := len(s.parked)
		if s.grant(x, p.request.ID, p.status, p.lease); len(s.parked) > n && p.until != 0 {
			s.setLimit(p.until)
		}
	default:
		s.reply(x, p.request.ID, codec.LeaseExpired)
	}
	s.Settle()
}

// stillLimited keeps the limit of a request that was held up once more.
func (s *Server) stillLimited(p *parked) {
	if n := len(s.parked); n > 0 && p.until != 0 {
		if last := &s.parked[n-1]; last.link == p.link && last.lease == nil && last.request.ID == p.request.ID {
			s.setLimit(p.until)
		}
	}
}

// carryOut carries out a request that was held up before it was.
func (s *Server) carryOut(now time.Duration, x *session, p *parked) {
	r := &p.request
	r.Timeout = max(r.Timeout-(now-p.asked), 0)
	switch r.Command {
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
		Kind: table.Lock, Key: r.Key, Owner: x.owner, TTL: s.ttl(r), Limit: r.Limit, Weight: r.Weight, Tag: &grantedTo{r.ID},
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
