package session

import (
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/internal/table"
)

// The faults are bugs planted to show that the searches and simulations of the
// tests find them. They are unexported and nothing but a test sets them, so
// that none can be switched on from outside the package.

type serverFaults struct {
	staleWins         bool // what an older connection says after a newer one still counts
	anyID             bool // IDs that were used before are carried out again
	anyAttempt        bool // a hello counts although a later attempt came before it
	beatRenewsTickets bool // a beat renews grants that were not collected
	oldTTLAgain       bool // a lease answered again does not start anew
	noDrop            bool // sync drops nothing
	lostLate          bool // a loss is told after an answer that was made later
	placeLost         bool // a waiter that was passed over loses its place
	grantToAbsent     bool // silence does not matter

	anyValue    bool // a join is answered with a value that was there before it came
	oldToken    bool // a put counts although its lease has ended
	putAgain    bool // a put or a removal that came again is carried out again
	forgetEarly bool // what those were answered is forgotten at the next beat
	seenEarly   bool // a put counts before it is on disk
	okEarly     bool // a put is answered before it is on disk
	coverDisk   bool // what is volatile takes the place of what is on disk
	twoLeaders  bool // a grant to one who joined is told to another one too
}

type clientFaults struct {
	fromReceipt   bool // leases count from the answer's arrival
	beatBeforeN   bool // a resume begins with a beat, and that counts for all holds
	reuseIDs      bool // a new connection starts counting IDs anew
	noSync        bool // a resume ends without sync
	syncEarly     bool // sync is sent before all holds are named
	forgetPending bool // what was not answered is not sent again
	cancelLost    bool // a request that was taken back is sent again all the same
	keepGrants    bool // a grant of a request that was taken back is kept by nobody
	heldAgain     bool // a hold that is being released is named, its release forgotten
	lateAnswers   bool // lines of connections before the present one count
	noClaims      bool // a restart of the server is the end of everything
	claimLate     bool // what is not believed in any more is claimed
	claimReleased bool // what was released is claimed, and the release forgotten
	noDrift       bool // the deadline leaves nothing for clocks that differ
}

// losePlaces is placeLost.
func (s *Server) losePlaces(now time.Duration, x *session) {
	s.table.Advance(now)
	for id, c := range x.calls {
		if c.lease.Absent() {
			s.table.Cancel(now, c.lease)
			delete(x.calls, id)
		}
	}
}

// anyToken is oldToken: it returns the token of whoever holds the key.
func (s *Server) anyToken(key []byte) (t table.Token) {
	for _, x := range s.sessions {
		x.owner.Leases(func(l *table.Lease) bool {
			if l.State() == table.Granted && l.Kind() == table.Lock && l.Key() == string(key) {
				t = l.Token()
			}
			return true
		})
	}
	return t
}

// leadTwice is twoLeaders.
func (s *Server) leadTwice(l *table.Lease) {
	for _, x := range s.sessions {
		for id, c := range x.calls {
			if c.asked && !c.ticket && c.lease.State() == table.Queued && c.lease.Key() == l.Key() && c.lease.Kind() == l.Kind() {
				delete(x.calls, id)
				s.table.Cancel(0, c.lease)
				s.grant(x, id, codec.OK, l)
				return
			}
		}
	}
}
