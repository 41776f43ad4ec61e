package session

import (
	"time"

	"github.com/distributed-go/distributed/codec"
)

// A Call is one request of a client from its beginning to its answer, and of an
// Enqueue to the end of its place. The caller makes it, fills in Request and
// Tag, and may use it again once it is over and is no Place; everything else is
// the Client's until then.
type Call struct {
	// Request is what to ask. Its ID is given by the Client; its Key and Value
	// must not change. Durations are rounded up to what the wire can say.
	Request codec.Request
	// Tag is the caller's own.
	Tag any
	// Hold is where a grant to the call goes. Lock, Wait and Join need one. The
	// Token of Put and Delete is in the Request; with the Hold too, which must not
	// be granted anything else before the call is done, they are not sent again
	// once its lease is over.
	Hold *Hold
	// Ticket is the Enqueue that a Wait waits for.
	Ticket *Call

	// Status is that of the answer, once the call is done. Canceled, ErrSession and
	// TooLarge may come from the Client itself; 0 is that there was no answer, and
	// that nobody knows what became of the request.
	Status codec.Status
	// TTL, Position, Count, Holder and HeldFor are what the answer says besides,
	// as in codec.Answer, and JSON is the report that Stats asked for.
	TTL      time.Duration
	Position int
	Count    int
	Holder   string
	HeldFor  time.Duration
	JSON     []byte
	// Fence is what Put took, or that of the value which answered Get or Join with
	// the Status Found, whose Age and Value these are then. Get is None else. Put
	// and Delete are Failed where the hold has ended, as far as the server knows.
	Fence uint64
	Age   time.Duration
	Value []byte
	// Heard is the instant that came with the answer.
	Heard time.Duration

	stamp time.Duration // before it was sent, over this connection
	until time.Duration // it is not sent again from then on; 0 is no limit
	since time.Duration // before it was begun: its timeout counts from here
	state callState
	// Place says that the call is an Enqueue whose place is not used up: it is
	// named at each resume, by asking again.
	place bool
	// Taken says that nobody waits for the answer: a grant is given back.
	taken bool
	own   bool // made by the Client itself
	names bool // the renewal of a hold in a resume, or its claim

	links links[Call] // in the list of those queued, or of places
}

func (c *Call) at() *links[Call] { return &c.links }

// Ask makes the Request one for this and nothing else, and returns it. The room of
// the Key before is used again, so nobody else may have that.
func (c *Call) Ask(command codec.Command, semaphore bool, key string) *codec.Request {
	r := &c.Request
	room := r.Key[:0]
	*r = codec.Request{} // one with fields would be made elsewhere and copied, and it is large
	r.Command, r.Semaphore, r.Key = command, semaphore, append(room, key...)
	return r
}

type callState uint8

const (
	idle    callState = iota
	queued            // not sent yet, because there is no connection
	sent              // over this connection
	waiting           // sent over an earlier one, to be sent again
	done              // answered
)

// Done says whether the call was answered, or ended without an answer.
func (c *Call) Done() bool { return c.state == done }

// Place says whether the call took a place in a queue that it still has, as far
// as the client knows.
func (c *Call) Place() bool { return c.place }

// acquires says whether the call can be answered with a hold.
func (c *Call) acquires() bool {
	switch c.Request.Command {
	case codec.Lock, codec.Wait, codec.Join:
		return true
	}
	return false
}

// wants says whether the call asks for what somebody else may have: a lease, a
// place, or the end of leases.
func (c *Call) wants() bool {
	switch c.Request.Command {
	case codec.Lock, codec.Enqueue, codec.Join, codec.Force:
		return true
	}
	return false
}

// claimed says whether the call is about a lease or a place, which a server that
// was restarted has to be told of first.
func (c *Call) claimed() bool {
	switch c.Request.Command {
	case codec.Renew, codec.Wait, codec.Put, codec.Delete:
		return true
	}
	return false
}

// again says whether the call is worth sending again over another connection.
// Renewals, claims and beats are not: the resume renews everything anyway. Nor is what
// takes leases from others: done twice, it would hit those who came after them.
func (c *Call) again() bool {
	switch c.Request.Command {
	case codec.Beat, codec.Sync, codec.Renew, codec.Cancel, codec.Force, codec.Claim:
		return false
	}
	return !c.taken
}
