package session

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/internal/table"
)

// Version is the version of session mode that both ends speak.
const Version = 1

const (
	// defaultSilence is how long a link may be silent before it is closed. A
	// client beats every two seconds or more often.
	defaultSilence = 30 * time.Second
	// defaultMemory is how long a session with nothing to its name is known
	// after it lost its link, and is looked at again for as long as it has.
	defaultMemory = 60 * time.Second
	// longest is the longest lease and the longest wait: a hundred years, so
	// that no sum of instants overflows.
	longest = 100 * 365 * 24 * time.Hour
)

// A Server is the server's end of all sessions. It is not safe for concurrent
// use: whatever guards the table guards it too. Make one with NewServer.
type Server struct {
	cfg      ServerConfig
	table    *table.Table
	sessions map[codec.SessionID]*session

	draining bool // acquisitions are refused
	stopped  bool // and nobody is heard
	parked   []parked
	queued   map[parkedKey]int // how many of those want a key, or change its value
	// When the first of those who are held up gives up, or earlier; 0 is never.
	impatient time.Duration
	changes   map[string][]*change // of values, which have not settled, in their order
	unsure    bool                 // one did not settle, and may be there after a restart
	now       time.Duration        // of the latest call that can answer with a value

	// Links in the order in which they were heard, and sessions without a link
	// in the order in which they are to be looked at.
	links    list[Link, *Link]
	detached list[session, *session]

	answer    codec.Answer // the line being made, so that none is allocated
	releasing *session     // whose request to release is at hand
	faults    serverFaults
}

// A session is what the server knows of one.
type session struct {
	id    codec.SessionID
	owner *table.Owner
	link  *Link // nil while there is none

	// The highest ID seen. Up to it IDs are good only while resuming, for what is
	// sent again: below fresh, the first ID of the resume that was not seen
	// before, and above resent, the latest that was sent again. So each is good
	// once.
	last, fresh, resent uint64
	resuming            bool
	// The attempt of the latest hello: what says less was sent before it.
	attempt uint64

	// Calls are acquisitions without an outcome, and tickets until they are
	// collected or given up. Each is the Tag of its lease.
	calls map[uint64]*call
	// Granted finds, while resuming, leases by the ID of what they answered.
	granted map[uint64]*table.Lease

	outcomes outcomes

	purgeAt        int  // how many calls may gather before dead tickets are removed
	releaseOnClose bool // asked for in hello
	died           bool // its process did
	process        string

	detachedAt time.Duration
	links      links[session]
}

// A call is an acquisition that has not been answered to its end.
type call struct {
	lease *table.Lease
	id    uint64 // of the l or e
	wait  uint64 // of the w that is not answered, or was answered with the lease
	// Asked says that the client waits on this link for the answer: it is false
	// from the resume to when the request has come again.
	asked     bool
	ticket    bool // it came by e
	collected bool // and w was answered with the lease
}

// A grantedTo is the Tag of a lease that answered the l of that ID: all that is
// needed of a call then, for as long as the lease lasts.
type grantedTo struct{ id uint64 }

// answered makes the lease the answer to the l of that ID. It may have the Tag of
// one in whose place it came, which is used again.
func answered(l *table.Lease, id uint64) {
	if tag, ok := l.Tag.(*grantedTo); ok {
		tag.id = id
		return
	}
	l.Tag = &grantedTo{id}
}

// A Link is a connection that said hello.
type Link struct {
	session *session // nil once it is over
	out     Outlet
	heard   time.Duration
	links   links[Link]
}

func (l *Link) at() *links[Link] { return &l.links }

func (x *session) at() *links[session] { return &x.links }

// NewServer returns a server without sessions.
func NewServer(cfg ServerConfig) *Server {
	if cfg.Silence == 0 {
		cfg.Silence = defaultSilence
	}
	if cfg.Memory == 0 {
		cfg.Memory = defaultMemory
	}
	if cfg.Values {
		cfg.Offers = offerValues(cfg.Offers, cfg.Table.MaxValue())
	}
	return &Server{cfg: cfg, table: cfg.Table, sessions: make(map[codec.SessionID]*session)}
}

// Hello begins a session or goes on with one, over a connection that writes to
// out, and returns the answer, which is to be sent before anything else. The
// Link is nil if the answer is an error; the connection may then say hello
// again. A session's owner in the table gets the number of the connection that
// began it.
//
// Where the session is not known and the table is recovering, the answer says that
// there may be something to claim.
//
// A hello that goes on with a session and was overtaken by a later attempt of
// the same client is refused, so that it does not displace its own client.
func (s *Server) Hello(now time.Duration, conn uint64, g *codec.Greeting, out Outlet) (*Link, codec.Answer) {
	s.table.Advance(now)
	s.Settle()
	switch {
	case s.stopped:
		return nil, codec.Answer{Status: codec.Draining}
	case g.Version < 1:
		return nil, codec.Answer{Status: codec.Failed}
	}
	x := s.sessions[g.Resume]
	if !g.Resuming {
		x = s.begin(conn)
	}
	if x == nil || x.died {
		return nil, codec.Answer{Status: codec.ErrSession, Claim: x == nil && s.table.Recovering()}
	}
	if g.Attempt < x.attempt && !s.faults.anyAttempt {
		return nil, codec.Answer{Status: codec.Failed}
	}
	x.attempt = g.Attempt
	x.owner.Name, x.process, x.releaseOnClose = g.Name, g.Process, g.ReleaseOnClose
	l := &Link{session: x, out: out, heard: now}
	s.displace(x)
	if g.Resuming {
		s.resume(now, x)
	}
	s.detached.remove(x)
	x.link = l
	s.links.push(l)
	return l, codec.Answer{Status: codec.OK, Version: Version, Session: x.id, Offers: s.offers(now)}
}

// offers returns what a server with nothing special to offer leaves empty.
func (s *Server) offers(now time.Duration) []byte {
	end := s.table.GraceEnd()
	if end == 0 {
		return s.cfg.Offers
	}
	left := strconv.AppendInt([]byte("grace="), int64((end-now)/time.Millisecond), 10)
	if len(s.cfg.Offers) == 0 {
		return left
	}
	return append(append(slices.Clip(s.cfg.Offers), ' '), left...)
}

func (s *Server) begin(conn uint64) *session {
	x := &session{
		id: s.cfg.NewID(), owner: s.table.NewSession(conn),
		calls: make(map[uint64]*call), purgeAt: fewCalls,
	}
	x.owner.Tag = x
	s.sessions[x.id] = x
	return x
}

// displace takes the session's link away because there is a newer one. The
// older gets no answers any more, and nothing more that it says is heard: all
// that counts comes over the new one again.
func (s *Server) displace(x *session) {
	if l := x.link; l != nil {
		s.answer = codec.Answer{Notice: codec.NoticeDisplaced}
		l.out.Answer(&s.answer)
		s.cut(l)
	}
}

// cut ends a link, which frees nothing.
func (s *Server) cut(l *Link) {
	s.links.remove(l)
	l.session.link = nil
	if !s.faults.staleWins {
		l.session = nil
	}
	l.out.Close()
}

// Closed says that a link's connection has ended. What its session holds goes
// on, unless the session asked for something else or its process has died.
func (s *Server) Closed(now time.Duration, l *Link) {
	x := l.session
	if x == nil || x.link != l {
		return
	}
	s.hangUp(now, l)
	if x.releaseOnClose {
		s.end(now, x)
	}
}

// hangUp closes a link from this end. That frees nothing as long as the client
// may be there and believe. Its own close can mean something else.
func (s *Server) hangUp(now time.Duration, l *Link) {
	x := l.session
	s.cut(l)
	if x.died {
		s.end(now, x)
		return
	}
	x.detachedAt = now
	s.detached.push(x)
}

// Died says that there is proof that the session's process is no more. Once the
// connection has ended too, everything is released.
func (s *Server) Died(now time.Duration, id codec.SessionID) {
	x := s.sessions[id]
	if x == nil {
		return
	}
	x.died = true
	if x.link == nil {
		s.end(now, x)
	}
}

// Drain makes acquisitions be refused from here on, and those that wait too, each
// session's in the order of their IDs. What is held goes on.
func (s *Server) Drain(now time.Duration) {
	s.draining = true
	for _, x := range s.sessions {
		for _, id := range slices.Sorted(maps.Keys(x.calls)) {
			if c := x.calls[id]; c.lease.State() == table.Queued {
				s.table.Cancel(now, c.lease)
				s.conclude(x, c, codec.Draining)
			}
		}
	}
	s.Settle()
	s.Retry(now)
}

// Stop closes all links and hears nobody any more, so that nothing of what is held
// or waited for changes by a request from here on. Answers that were given are
// still written, and whoever has none asks the next server again: a grant without
// one is none of the table's Records.
func (s *Server) Stop() {
	s.stopped = true
	for l := s.links.head; l != nil; l = s.links.head {
		s.cut(l)
	}
	for i := range s.parked {
		if l := s.parked[i].lease; l != nil {
			s.table.Withhold(l)
		}
	}
	for _, x := range s.sessions {
		for _, c := range x.calls {
			s.table.Withhold(c.lease)
		}
	}
	s.parked, s.queued, s.impatient = nil, nil, 0
}

// Process returns the process that the link's session says that it is, empty if
// it did not say.
func (l *Link) Process() string {
	if l.session == nil {
		return ""
	}
	return l.session.process
}

// end releases all that the session has, and forgets it.
func (s *Server) end(now time.Duration, x *session) {
	s.table.Drop(now, x.owner, false)
	if x.link != nil {
		s.cut(x.link)
	}
	s.forget(x)
	s.Settle()
}

func (s *Server) forget(x *session) {
	s.detached.remove(x)
	delete(s.sessions, x.id)
}

// Advance brings the table and the sessions to the instant now: leases run out,
// silent links are closed, and sessions that have nothing are forgotten.
func (s *Server) Advance(now time.Duration) {
	if s.faults.grantToAbsent {
		for _, x := range s.sessions {
			s.table.Heard(now, x.owner)
		}
	}
	s.table.Advance(now)
	s.Settle()
	s.giveUp(now)
	for l := s.links.head; l != nil && l.heard+s.cfg.Silence <= now; l = s.links.head {
		s.hangUp(now, l)
	}
	for x := s.detached.head; x != nil && x.detachedAt+s.cfg.Memory <= now; x = s.detached.head {
		s.detached.remove(x)
		if x.owner.Idle() {
			s.forget(x)
			continue
		}
		x.detachedAt = now
		s.detached.push(x)
	}
}

// Next says when Advance has something to do, if nothing else happens before;
// false is never.
func (s *Server) Next() (at time.Duration, ok bool) {
	at, ok = s.table.Next()
	if l := s.links.head; l != nil && (!ok || l.heard+s.cfg.Silence < at) {
		at, ok = l.heard+s.cfg.Silence, true
	}
	if x := s.detached.head; x != nil && (!ok || x.detachedAt+s.cfg.Memory < at) {
		at, ok = x.detachedAt+s.cfg.Memory, true
	}
	if s.impatient != 0 && (!ok || s.impatient < at) {
		at, ok = s.impatient, true
	}
	return at, ok
}

// Sessions counts the sessions that are known.
func (s *Server) Sessions() int { return len(s.sessions) }

// Knows says whether there is a session of that name, which has not ended and
// was not forgotten.
func (s *Server) Knows(id codec.SessionID) bool { return s.sessions[id] != nil }
