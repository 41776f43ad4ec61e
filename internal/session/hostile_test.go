package session

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/internal/table"
)

// A mob is clients that keep to the form of the protocol and to nothing else: they
// send any command at any time, for tickets of any ID and with tokens of each other.
type mob struct {
	*desk
	random  *rand.Rand
	verdict Verdict // of the disk
	tokens  []codec.Token
	members []*member
}

type member struct {
	pipe *pipe
	id   codec.SessionID
	last uint64 // the ID of its latest request
}

func newMob(t *testing.T, seed uint64) *mob {
	m := &mob{desk: newDesk(t), random: rand.New(rand.NewPCG(seed, 1)), members: []*member{{}, {}, {}}}
	m.now = time.Second
	if seed%3 == 0 {
		m.restart()
	}
	if seed%2 == 0 {
		m.server.cfg.Keep = func(*table.Lease, time.Duration) Verdict { return m.verdict }
		m.server.cfg.Admit = func(time.Duration, int) Verdict { return min(m.verdict, Later) }
	}
	return m
}

var mobCommands = []codec.Command{
	codec.Lock, codec.Lock, codec.Join, codec.Enqueue, codec.Enqueue, codec.Wait, codec.Wait, codec.Release, codec.Release, codec.Release,
	codec.Claim, codec.Renew, codec.Cancel, codec.Beat, codec.Sync, codec.Force, codec.Put, codec.Delete,
}

// request returns one for a member, which may have come before if it has resumed.
func (m *mob) request(x *member, resumed bool) codec.Request {
	x.last++
	r := codec.Request{
		ID: x.last, Command: mobCommands[m.random.IntN(len(mobCommands))], Key: []byte{'a' + byte(m.random.IntN(2))},
		TTL: time.Duration(1+m.random.IntN(10)) * time.Second, Timeout: time.Duration(m.random.IntN(3)) * time.Second,
		NoTimeout: m.random.IntN(2) == 0, Ticket: x.last - min(uint64(m.random.IntN(6)), x.last), Limit: 1, Weight: 1,
	}
	if n := len(m.tokens); n > 0 {
		r.Token = m.tokens[max(0, n-1-m.random.IntN(6))]
	}
	if m.random.IntN(4) == 0 {
		r.Semaphore, r.Limit = r.Command != codec.Claim, 2
	}
	if resumed && x.last > 3 && m.random.IntN(2) == 0 {
		r.ID -= uint64(m.random.IntN(3))
	}
	return r
}

// step has one of them send a request.
func (m *mob) step() {
	x := m.members[m.random.IntN(len(m.members))]
	resumed := false
	switch n := m.random.IntN(12); {
	case !m.server.Knows(x.id):
		x.last = 0
		x.pipe, x.id = m.hello()
	case n == 0 || x.pipe.link.session == nil:
		x.pipe, _ = m.hello(resuming(x.id))
		resumed = true
	case n == 1:
		m.verdict = Verdict(m.random.IntN(4))
		m.server.Retry(m.now)
	case n == 2:
		m.passes(time.Duration(m.random.IntN(4)) * time.Second)
	}
	if x.pipe.link.session == nil {
		return
	}
	r := m.request(x, resumed)
	m.server.Request(m.now, x.pipe.link, &r)
	for _, x := range m.members {
		if x.pipe == nil {
			continue
		}
		for _, a := range x.pipe.down {
			if a.HasToken {
				m.tokens = append(m.tokens, a.Token)
			}
		}
		x.pipe.down = nil
	}
}

// pointers checks that what the sessions point to is theirs still.
func (m *mob) pointers() {
	for _, x := range m.server.sessions {
		for id, c := range x.calls {
			if c.lease.Owner() != x.owner || c.lease.Tag != any(c) {
				m.Errorf("the call %d has got another's lease", id)
			}
		}
		for id, l := range x.granted {
			if l.Owner() != x.owner {
				m.Errorf("what answered %d has become another's lease", id)
			}
		}
	}
	for _, p := range m.server.parked {
		if p.lease != nil && p.link.session != nil && p.lease.Owner() != p.link.session.owner {
			m.Errorf("an answer that is held up has got another's lease")
		}
	}
}

// TestClientsThatSendAnything neither end the server nor get at each other's leases
// by what comes in the place of their own.
func TestClientsThatSendAnything(t *testing.T) {
	for seed := range uint64(500) {
		m := newMob(t, seed)
		for range 120 {
			m.step()
			m.pointers()
		}
		m.server.Drain(m.now)
		m.passes(time.Minute)
		if t.Failed() {
			t.Fatalf("with the seed %d", seed)
		}
	}
}
