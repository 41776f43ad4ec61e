package mutex

import (
	"fmt"
	"time"

	"github.com/distributed-go/distributed/locker"
)

// MostHandovers is the largest n of WithLocalHandover: servers give no more
// fences than that to one grant.
const MostHandovers = locker.MaxFences - 1

// WithLocalHandover returns another Mutex on the key of m, with its options, for
// a key that many goroutines of this process want: those that share the new Mutex
// pass the lock on among themselves, without asking the backend, up to n times
// before another process has its turn. Each has a lease of its own, with a fence
// of its own, that is larger than those before.
//
// This is a trade, and off by default: more than a million hand-overs a second,
// against tens of thousands through a server, for the order over all processes.
// Others wait for longer than their turn: for n holds, but none that begins later
// than a third of the TTL after the backend's grant. Among themselves the
// goroutines are served in FIFO order. A place from Enqueue keeps its turn in the
// queue of the backend.
//
// Only goroutines that share the one handle pass it on; others on the same key,
// in this process too, take turns with it through the backend. N is from 0, which
// switches it off, to MostHandovers; others are an error, returned or thrown by
// the first use. So is, matching errors.ErrUnsupported, a backend that does not
// give several fences to one grant, as on the base protocol of dflockd.
func (m *Mutex) WithLocalHandover(n int) *Mutex {
	h := &Mutex{client: m.client, opts: m.opts, err: m.err, handover: handover{most: n}}
	if m.ready() == nil {
		h.prepareHandover(m.acquirer.Request())
	}
	return h
}

// WithLocalHandover returns another RW on the key of m, with its options, whose
// writers pass the lock on among themselves as Mutex.WithLocalHandover says. They
// wait for each other in this process, not at the backend, so readers may overtake
// those who have not asked it yet. Readers do not pass theirs on: they run
// together, as ever, and a writer of another process would have to wait for them.
func (m *RW) WithLocalHandover(n int) *RW {
	w := &m.writer
	h := &RW{writer: Mutex{client: w.client, opts: w.opts, err: w.err, direct: n == 0, handover: handover{most: n}}}
	if m.ready() == nil {
		h.writer.prepareHandover(w.acquirer.Request())
		h.reader = m.reader
	}
	return h
}

// prepareHandover prepares to lock by requests for as many fences as hand-overs
// take.
func (m *Mutex) prepareHandover(req locker.Request) {
	n := m.handover.most
	if n < 0 || n > MostHandovers {
		m.err = &locker.Error{
			Op: "acquire", Key: req.Key, Backend: m.client.Backend().String(),
			Err: fmt.Errorf("%w: WithLocalHandover(%d): must be from 0 to %d", locker.ErrInvalid, n, MostHandovers),
		}
		return
	}
	if req.Fences = 0; n > 0 {
		req.Fences = n + 1
	}
	m.prepare(req)
}

const (
	// turnDivisor of the TTL is how long after the backend's grant a lease is
	// handed over: then another process has its turn.
	turnDivisor = 3

	// freshDivisor of the TTL must be left of a lease that is handed over, for
	// the work that begins. As leases are renewed after a third of it, less is
	// left only where that fails, or a grant was late; then a release and a
	// grant make a new one.
	freshDivisor = 2
)

// A handover is what is left of the hand-overs that one grant allows. It is
// guarded by the mu of its Mutex, but for most.
type handover struct {
	most int // for each grant; 0 if the Mutex does not hand over

	left  int
	end   time.Time // no hand-over later
	until time.Time // end is not over, and enough left of the lease, at least until then
}

// granted begins the hand-overs of a grant.
func (h *handover) granted(l *locker.Lease) {
	if h.most > 0 {
		h.left, h.end, h.until = h.most, time.Now().Add(l.TTL()/turnDivisor), time.Time{}
	}
}

// may says whether the lease may be handed over now. It asks the lease only when
// what that last said of its deadline is used up.
func (h *handover) may(l *locker.Lease) bool {
	switch {
	case h.left <= 0:
		return false
	case time.Until(h.until) > 0:
		return true
	}
	h.until = l.Deadline().Add(-l.TTL() / freshDivisor)
	if h.until.After(h.end) {
		h.until = h.end
	}
	return time.Until(h.until) > 0
}
