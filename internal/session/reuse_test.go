package session

import (
	"testing"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/internal/table"
)

// leaseOf returns the first lease of the session over the pipe.
func leaseOf(p *pipe) (first *table.Lease) {
	p.link.session.owner.Leases(func(l *table.Lease) bool {
		first = l
		return false
	})
	return first
}

func releaseOf(id uint64, key string, t codec.Token) codec.Request {
	return codec.Request{ID: id, Command: codec.Release, Key: []byte(key), Token: t}
}

func TestReleasedLeasesComeAgain(t *testing.T) {
	d := newDesk(t)
	p, _ := d.hello()
	q, _ := d.hello()
	a := d.ask(p, lockOf(1, "k"), line(1, codec.OK))
	l := leaseOf(p)
	d.ask(p, releaseOf(2, "k", a.Token), line(2, codec.OK))
	d.ask(q, lockOf(7, "other"), line(7, codec.OK))
	if leaseOf(q) != l || *l.Tag.(*grantedTo) != (grantedTo{7}) {
		t.Errorf("a released lease did not come again, with what it answered now")
	}
}

// What a resume can still ask for, or a call, must not be somebody else's lease.
func TestLeasesDoNotComeAgainWhereTheyAreStillKnown(t *testing.T) {
	d := newDesk(t)
	p, id := d.hello()
	q, _ := d.hello()
	a := d.ask(p, lockOf(1, "k"), line(1, codec.OK))
	p, _ = d.hello(resuming(id))
	d.ask(p, releaseOf(2, "k", a.Token), line(2, codec.OK))
	d.ask(q, lockOf(1, "k"), line(1, codec.OK))
	d.ask(p, lockOf(1, "k")) // it waits, and is not told of q's lease
	d.held(1)

	d = newDesk(t)
	p, _ = d.hello()
	q, _ = d.hello()
	a = d.ask(p, enqueueOf(1, "k"), line(1, codec.Acquired))
	ticket := leaseOf(p)
	d.ask(p, releaseOf(2, "k", a.Token), line(2, codec.OK))
	d.ask(q, lockOf(1, "k"), line(1, codec.OK))
	if leaseOf(q) == ticket {
		t.Errorf("the lease of a ticket came again")
	}
	// Who else knows the token releases it: the client hears of that lease.
	d.ask(p, releaseOf(3, "k", leaseToken(q)), line(3, codec.OK))
	d.comes(q, codec.Answer{Notice: codec.NoticeLost, Reason: codec.ReasonReleased})
}

// An answer that is held up is for the lease that it was held up with.
func TestALeaseWhoseAnswerIsHeldUpDoesNotComeAgain(t *testing.T) {
	d, disk := newDurableDesk(t)
	p, id := d.hello()
	q, _ := d.hello()
	a := d.ask(p, lockOf(1, "k"), line(1, codec.OK))
	p, _ = d.hello(resuming(id))
	disk.long, disk.keep = time.Second, Later
	d.ask(p, lockOf(1, "k"))
	d.ask(p, plain(2, codec.Sync), line(2, codec.OK))
	d.ask(p, releaseOf(3, "k", a.Token), line(3, codec.OK))
	disk.keep = Now
	d.ask(q, lockOf(1, "k"), line(1, codec.OK))
	d.retry(p, line(1, codec.LeaseExpired))
}

// A claim of what the session has already leaves a ticket what it is: no client of
// this project sends one, but what others send must not get them another's lease.
func TestAClaimedTicketDoesNotComeAgain(t *testing.T) {
	d := newDesk(t)
	p, _ := d.hello()
	q, _ := d.hello()
	a := d.ask(p, enqueueOf(1, "k"), line(1, codec.Acquired))
	d.ask(p, claimOf(2, "k", a.Token, 1, 1), line(2, codec.OK))
	d.ask(p, releaseOf(3, "k", a.Token), line(3, codec.OK))
	w := codec.Request{ID: 4, Command: codec.Wait, Key: []byte("k"), Ticket: 1, NoTimeout: true}
	d.ask(p, w, line(4, codec.NotQueued))
	d.ask(q, lockOf(1, "k"), line(1, codec.OK))
	w.ID = 5
	d.ask(p, w, line(5, codec.NotQueued))
}

func leaseToken(p *pipe) codec.Token { return ToWire(leaseOf(p).Token()) }
