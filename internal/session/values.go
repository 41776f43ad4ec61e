package session

import (
	"bytes"
	"slices"
	"strconv"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/internal/table"
)

// A Write is a change of the value under a key that is to be there after a restart
// before anybody learns of it.
type Write struct {
	Key string
	// Remove takes away what is there. All else but Fence is zero then.
	Remove bool
	// Data are the Server's no more.
	Data []byte
	// Fence is that of the put; of a removal one that is not below that of what is
	// removed, and below all those of later puts.
	Fence uint64
	// Keep is after how long the value goes by itself, counted from now; 0 is never.
	Keep time.Duration
}

// maxOutcomes is how many outcomes of one session are kept in mind.
const maxOutcomes = 1 << 18

// An outcome is how a request ended that must not be carried out twice.
type outcome struct {
	status codec.Status
	fence  uint64 // of a put, or of the value that a join was answered with
}

// Outcomes are what the puts, removals and joins of a session were answered, by
// the IDs of the requests, for as long as the client may ask again. It sends a
// beat only when the one before was answered, and all that was not answered over
// one connection before any beat over the next. So at a beat it has had all answers
// that came before the answer to the beat before.
type outcomes struct{ recent, older map[uint64]outcome }

func (o *outcomes) add(id uint64, x outcome) {
	if o.recent == nil {
		o.recent = make(map[uint64]outcome)
	}
	o.recent[id] = x
}

// again finds the outcome of a request that came again, and keeps it in mind for
// as long as if it was new: its answer can be lost once more.
func (o *outcomes) again(id uint64) (x outcome, ok bool) {
	if x, ok = o.recent[id]; !ok {
		if x, ok = o.older[id]; ok {
			delete(o.older, id)
			o.add(id, x)
		}
	}
	return x, ok
}

func (o *outcomes) beat() { o.older, o.recent = o.recent, nil }

func (o *outcomes) full() bool { return len(o.recent)+len(o.older) >= maxOutcomes }

// A change is one that is pending in the table, and which Persist was told of.
type change struct {
	session *session
	link    *Link // over which it was asked for last
	id      uint64
	outcome outcome  // if it settles
	waiting []parked // what came meanwhile
}

// values says whether there are any, and else refuses the request.
func (s *Server) values(x *session, r *codec.Request) bool {
	if !s.cfg.Values {
		s.reply(x, r.ID, codec.Failed)
	}
	return s.cfg.Values
}

// put carries out put.
func (s *Server) put(now time.Duration, x *session, r *codec.Request, again bool) {
	switch {
	case !s.values(x, r) || again && s.wroteBefore(x, r):
		return
	case x.outcomes.full(): // this client does not beat
		s.reply(x, r.ID, codec.Unavailable)
		return
	case !s.admitted(x, r, 0, 1):
		return
	}
	durable := s.writes(now, r)
	fence, err := s.publish(now, r, durable)
	switch err {
	case nil:
	case table.ErrNoFence:
		s.park(x, r)
		return
	default:
		s.wrote(x, r.ID, outcome{status: unpublished(err)})
		return
	}
	done := outcome{status: codec.OK, fence: fence}
	if !durable {
		s.Settle() // those who joined hear of it first
		s.wrote(x, r.ID, done)
		return
	}
	w := Write{Key: string(r.Key), Data: bytes.Clone(r.Value), Fence: fence, Keep: r.Keep}
	s.change(now, x, r.ID, w, done)
}

// writes says whether a change of a value has to be written down. What is volatile has
// not, and neither has its removal; but where a restart could bring something older
// back in its place, which somebody knows to be over, it is written like all else.
func (s *Server) writes(now time.Duration, r *codec.Request) bool {
	switch {
	case s.cfg.Persist == nil:
		return false
	case r.Command == codec.Put && !r.Volatile || s.unsure:
		return true
	}
	return !s.table.Unwritten(now, r.Key) && (r.Command == codec.Delete || !s.faults.coverDisk)
}

func (s *Server) publish(now time.Duration, r *codec.Request, durable bool) (fence uint64, err error) {
	if s.cfg.Persist != nil && !durable {
		return s.table.PublishVolatile(now, r.Key, FromWire(r.Token), r.Value, min(r.Keep, longest))
	}
	pending := durable && !s.faults.seenEarly
	fence, err = s.table.Publish(now, r.Key, FromWire(r.Token), r.Value, min(r.Keep, longest), pending)
	if err == table.ErrNotHeld && s.faults.oldToken {
		fence, err = s.table.Publish(now, r.Key, s.anyToken(r.Key), r.Value, min(r.Keep, longest), pending)
	}
	return fence, err
}

// unpublished is what a put is answered that the table refused.
func unpublished(err error) codec.Status {
	switch err {
	case table.ErrValueTooLarge:
		return codec.TooLarge
	case table.ErrValuesFull:
		return codec.Full
	}
	return codec.Failed
}

// del carries out del.
func (s *Server) del(now time.Duration, x *session, r *codec.Request, again bool) {
	switch {
	case !s.values(x, r) || again && s.wroteBefore(x, r):
		return
	case x.outcomes.full():
		s.reply(x, r.ID, codec.Unavailable)
		return
	case s.queued[parkedKey{table.Lock, string(r.Key)}] > 0: // it may be a put
		s.park(x, r)
		return
	}
	durable := s.writes(now, r)
	had, err := s.table.Unpublish(now, r.Key, FromWire(r.Token), durable)
	switch {
	case err != nil:
		s.wrote(x, r.ID, outcome{status: codec.Failed})
	case had && durable:
		w := Write{Key: string(r.Key), Remove: true, Fence: s.table.Fence()}
		s.change(now, x, r.ID, w, outcome{status: codec.OK})
	case had:
		s.wrote(x, r.ID, outcome{status: codec.OK})
	case s.waitForChange(x, r, 0): // what took it away can still fail
		x.outcomes.add(r.ID, outcome{status: codec.None})
	default:
		s.wrote(x, r.ID, outcome{status: codec.None})
	}
}

// change begins a change that is pending.
func (s *Server) change(now time.Duration, x *session, id uint64, w Write, done outcome) {
	if s.changes == nil {
		s.changes = make(map[string][]*change)
	}
	s.changes[w.Key] = append(s.changes[w.Key], &change{session: x, link: x.link, id: id, outcome: done})
	if s.faults.okEarly {
		s.wrote(x, id, done)
	}
	if !s.cfg.Persist(w) {
		s.settleLast(now, w.Key)
	}
}

// settleLast ends a change that Persist would not take, after those before it.
// Where those are still on their way it can only wait for them.
func (s *Server) settleLast(now time.Duration, key string) {
	s.unsure = true
	all := s.changes[key]
	if len(all) == 1 {
		s.Settled(now, []byte(key), false)
		return
	}
	all[len(all)-1].outcome.status = codec.Unavailable
}

// Settled says that the first change of a key that was handed to Persist and did
// not settle yet is there after a restart, or that it never will be. It answers
// who asked for it, and those who waited.
func (s *Server) Settled(now time.Duration, key []byte, ok bool) {
	s.unsure = s.unsure || !ok
	all := s.changes[string(key)]
	if len(all) == 0 {
		return
	}
	s.now = now
	c := all[0]
	s.changes[string(key)] = all[1:]
	if len(all) == 1 {
		delete(s.changes, string(key))
	}
	s.table.Settle(now, key, ok)
	s.Settle()
	if !ok {
		c.outcome = outcome{status: codec.Unavailable}
	}
	s.concluded(c)
	for i := range c.waiting {
		s.waited(now, &c.waiting[i], ok)
	}
	// Those that Persist would not take come to an end with what was before them.
	if rest := s.changes[string(key)]; len(rest) > 0 && rest[0].outcome.status == codec.Unavailable {
		s.Settled(now, key, false)
	}
}

// waited goes on with a request that waited for a change.
func (s *Server) waited(now time.Duration, p *parked, ok bool) {
	x := p.link.session
	switch {
	case x == nil || x.link != p.link:
	case p.request.Command != codec.Delete:
		s.proceed(now, p)
	case ok: // there was nothing to remove, and what is there now came later
		s.wrote(x, p.request.ID, outcome{status: codec.None})
	default:
		s.wrote(x, p.request.ID, outcome{status: codec.Unavailable})
	}
}

// concluded answers who asked for a change, over the connection on which it did,
// and keeps that in mind for others.
func (s *Server) concluded(c *change) {
	if c.link == c.session.link && c.link != nil {
		s.wrote(c.session, c.id, c.outcome)
		return
	}
	c.session.outcomes.add(c.id, c.outcome)
}

// wrote answers a put or a removal, and keeps that in mind.
func (s *Server) wrote(x *session, id uint64, o outcome) {
	x.outcomes.add(id, o)
	s.answer = codec.Answer{ID: id, Status: o.status, Fence: o.fence, HasFence: o.fence != 0}
	s.send(x)
}

// wroteBefore answers a put or a removal that came again as it was answered, or
// lets it wait for the change that it began; it is false if it did neither, and
// is to be carried out.
func (s *Server) wroteBefore(x *session, r *codec.Request) bool {
	if s.faults.putAgain {
		return false
	}
	if o, ok := x.outcomes.again(r.ID); ok {
		if o.status != codec.None || !s.waitForChange(x, r, 0) {
			s.wrote(x, r.ID, o)
		}
		return true
	}
	for _, c := range s.changes[string(r.Key)] {
		if c.session == x && c.id == r.ID {
			c.link = x.link
			return true
		}
	}
	return false
}

// get carries out get.
func (s *Server) get(now time.Duration, x *session, r *codec.Request) {
	if s.values(x, r) && !s.waitForChange(x, r, 0) {
		v, _ := s.table.LookupValue(now, r.Key)
		s.found(x, r.ID, v)
	}
}

// found answers with a value, or that there is none.
func (s *Server) found(x *session, id uint64, v *table.Value) {
	if v == nil {
		s.reply(x, id, codec.None)
		return
	}
	s.answer = codec.Answer{ID: id, Status: codec.Found, Fence: v.Fence, HasFence: true, Age: s.now - v.At, Value: v.Data}
	s.send(x)
}

// join carries out join: a value that is young enough answers it, and else it is
// an acquisition that a put answers too. A value with a fence above seen was put
// after it came.
func (s *Server) join(now time.Duration, x *session, r *codec.Request, how coming, seen uint64) {
	if !s.values(x, r) || how == again && (s.joinedBefore(x, r) || s.repeat(x, r)) {
		return
	}
	v, pending := s.table.LookupValue(now, r.Key)
	if v != nil && (v.Fence > seen || !pending && young(v, now, r.Fresh) || s.faults.anyValue) {
		s.found(x, r.ID, v)
		return
	}
	if how == again {
		how = anew
	}
	s.acquire(now, x, r, how)
}

// young says whether a value is young enough to answer a join that has just come.
func young(v *table.Value, now, fresh time.Duration) bool {
	return fresh == codec.AnyAge || now-v.At < fresh
}

// noneSeen is what a join has seen that comes for the first time.
const noneSeen = 1<<64 - 1

// seen returns the fence of the value that is there when a join must wait.
func (s *Server) seen(r *codec.Request) uint64 {
	if v, _ := s.table.LookupValue(0, r.Key); v != nil && r.Command == codec.Join {
		return v.Fence
	}
	return 0
}

// joinedBefore answers a join that came again, and was answered with a value, with
// that or the one in its place. To keep the very same for everybody could take any
// amount of memory; where there is none any more the join is carried out again.
func (s *Server) joinedBefore(x *session, r *codec.Request) bool {
	o, ok := x.outcomes.again(r.ID)
	v, _ := s.table.LookupValue(0, r.Key)
	if !ok || o.status != codec.Found || v == nil || v.Fence < o.fence {
		return false
	}
	s.found(x, r.ID, v)
	return true
}

// joined answers a join with what was put, or keeps that in mind for when the
// client asks again.
func (s *Server) joined(x *session, c *call) {
	delete(x.calls, c.id)
	v := c.lease.Published()
	if !x.outcomes.full() {
		x.outcomes.add(c.id, outcome{status: codec.Found, fence: v.Fence})
	}
	if c.asked {
		s.found(x, c.id, v)
	}
}

// waitForChange lets a request wait for the latest change of its key that has not
// settled, if there is one.
func (s *Server) waitForChange(x *session, r *codec.Request, seen uint64) bool {
	all := s.changes[string(r.Key)]
	if len(all) == 0 || s.faults.seenEarly {
		return false
	}
	p := parked{link: x.link, request: *r, seen: seen, asked: s.now, until: s.limitOf(r)}
	p.request.Key = bytes.Clone(r.Key)
	s.wakeAt(p.until)
	c := all[len(all)-1]
	c.waiting = append(c.waiting, p)
	return true
}

// refusedByChange says whether an acquisition that would not wait was refused for
// nothing but a change that is pending, or could get what that brings: it waits for
// that then, which is not long.
func (s *Server) refusedByChange(x *session, r *codec.Request, k table.Kind) bool {
	if k != table.Lock || len(s.changes[string(r.Key)]) == 0 {
		return false
	}
	if _, _, held := s.table.Holder(k, r.Key); held && r.Command != codec.Join {
		return false
	}
	return s.waitForChange(x, r, s.seen(r))
}

// unwait takes a request back that waits for a change.
func (s *Server) unwait(x *session, id uint64) bool {
	for _, all := range s.changes {
		for _, c := range all {
			if i := slices.IndexFunc(c.waiting, func(p parked) bool { return p.link == x.link && p.request.ID == id }); i >= 0 {
				c.waiting = slices.Delete(c.waiting, i, i+1)
				return true
			}
		}
	}
	return false
}

// offerValues appends what says how large values may be.
func offerValues(offers []byte, size int) []byte {
	offers = slices.Clip(offers)
	if len(offers) > 0 {
		offers = append(offers, ' ')
	}
	return strconv.AppendInt(append(offers, codec.OfferMaxValue+"="...), int64(size), 10)
}
