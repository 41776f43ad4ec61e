package session

import (
	"math"
	"slices"
	"time"

	"github.com/distributed-go/distributed/codec"
)

// longestBeat is the most that may pass between two beats: the server passes a
// silent session over after five seconds, or less.
const longestBeat = 2 * time.Second

// A Caller hears of what happens to a client's calls and holds, on whatever
// goroutine brought it about. Its methods must not call the Client.
type Caller interface {
	// Send sends a request over the present connection. The struct is the
	// Client's and changes afterwards.
	Send(*codec.Request)
	// Done says that the call has been answered, or has ended without.
	Done(*Call)
	// Lost says that a hold ended other than by Client.Release. The reason is
	// one of codec's, or what ended the session.
	Lost(h *Hold, reason string)
	// Over says that the session is no more: all its holds were lost and all
	// its calls ended. The Client is of no use any more.
	Over(reason string)
}

// The reasons for which a session ends, beside those of codec for a hold.
const (
	ReasonGone      = "session gone" // the server does not know it (any more)
	ReasonDisplaced = "displaced"    // another connection has taken it over
	ReasonBye       = "bye"          // the client ended it
)

// A Client is the client's end of one session, over as many connections as it
// takes, one after the other. It is not safe for concurrent use. Make one with
// NewClient.
//
// All instants are readings of the caller's clock. An instant that comes with a
// request must have been read before the request was handed over, and before
// any lock was waited for.
type Client struct {
	caller   Caller
	greeting codec.Greeting
	state    clientState
	conn     uint64 // counts the connections

	next    uint64 // the latest ID
	pending pending
	queued  list[Call, *Call] // without an ID, until there is a connection
	places  list[Call, *Call]
	holds   chain
	naming  naming
	claims  bool            // the server was restarted, and may not know the holds yet
	spread  time.Duration   // over how long claims are sent
	slots   map[*Hold]slots // of what is held of semaphores, to claim it

	maxValue int  // what the server last offered; 0 is no values
	durable  bool // and that they are there after its restart

	beaten   time.Duration // the stamp of the latest beat of this connection that was answered
	beat     *Call         // the one that is on its way, or was last
	shortest time.Duration // no lease of a hold or call is shorter

	// orphans is until when the server may have a lease or a place for this
	// session of which nobody here knows, unless a resume drops it before; 0 is
	// that it has none.
	orphans time.Duration

	poison  poison
	changes int           // how many requests the server keeps in mind since the latest beat
	request codec.Request // the one being sent
	faults  clientFaults
}

type clientState uint8

const (
	down     clientState = iota // there is no connection
	greeting                    // hello is on its way
	up                          // requests can be sent
	over                        // the session has ended
)

// NewClient returns the client's end of a new session. The greeting says who
// it is; Version and Resume are filled in.
func NewClient(caller Caller, g codec.Greeting) *Client {
	g.Version, g.Resuming = Version, false
	return &Client{caller: caller, greeting: g, shortest: math.MaxInt64, naming: naming{window: nameWindow}}
}

// Connect begins a new connection, the only one that counts from here on. It
// returns a number to name it by, and sends hello, which has no ID: it goes
// over the wire as a request of the base protocol.
func (c *Client) Connect(now time.Duration) (conn uint64) {
	c.Cut(now, c.conn)
	c.conn++
	if c.state != over {
		c.state = greeting
		c.hello()
	}
	return c.conn
}

func (c *Client) hello() {
	hello := c.greeting
	hello.Attempt = c.conn
	c.request = codec.Request{Command: codec.Hello, Hello: &hello}
	c.caller.Send(&c.request)
}

// Cut says that the connection has ended. What was asked and not answered waits
// for the next one, but for what is of no use there.
func (c *Client) Cut(now time.Duration, conn uint64) {
	if conn != c.conn || c.state == over || c.state == down {
		return
	}
	c.state = down
	c.unname()
	calls := c.sorted()
	suspect := c.poison.cut(calls)
	for _, call := range calls {
		switch {
		case call.place:
			c.pending.remove(call.Request.ID) // it will be named
		case c.faults.heldAgain && call.Request.Command == codec.Release:
			c.hold(call.Hold, call.Request.Token, call.Hold.TTL(), now)
			c.finish(call, codec.OK)
		case call == suspect:
			c.orphan(now, call)
			c.finish(call, 0)
		case call.again():
			c.keep(call)
		case c.faults.cancelLost && call.taken && call.acquires():
			call.state, call.taken, call.Status = waiting, false, codec.Canceled
			c.caller.Done(call)
		case call.taken:
			c.orphan(now, call)
			c.finish(call, codec.Canceled)
		default:
			c.orphan(now, call)
			c.finish(call, 0)
		}
	}
}

// Up says whether requests are sent at once, but for what waits for the end of a
// resume.
func (c *Client) Up() bool { return c.state == up }

// Offers returns what the server said of values when the latest connection was
// made: how many bytes one may have, 0 if it keeps none, and whether they and all
// leases are there after a restart of it. Before the first answer to hello it keeps
// none.
func (c *Client) Offers() (maxValue int, durable bool) { return c.maxValue, c.durable }

// Holds counts the holds that are neither released nor lost.
func (c *Client) Holds() int { return c.holds.held }

// Busy says whether there is anything to keep the session for: a hold, a place,
// or a call without an answer. A beat is none.
func (c *Client) Busy() bool {
	calls := c.pending.n
	if c.Beating() {
		calls--
	}
	return calls > 0 || c.holds.held > 0 || c.places.head != nil || c.queued.head != nil
}

// Beating says whether a beat is on its way.
func (c *Client) Beating() bool { return c.beat != nil && c.beat.state == sent }

// Calls returns the callers' calls that have no answer yet, in the order in
// which they were made. It takes time for each of them.
func (c *Client) Calls() []*Call {
	calls := c.sorted()
	for call := c.queued.head; call != nil; call = call.links.next {
		calls = append(calls, call)
	}
	return slices.DeleteFunc(calls, func(call *Call) bool { return call.own || call.state == done })
}

// Do begins a call. Without a connection it is sent when there is one again,
// after everything that was asked before.
func (c *Client) Do(now time.Duration, call *Call) {
	call.Request.ID = 0
	call.since, call.stamp = now, now
	call.Status, call.TTL, call.Position, call.Count, call.JSON = 0, 0, 0, 0, nil
	call.Holder, call.HeldFor = "", 0
	call.Fence, call.Age, call.Value = 0, 0, nil
	call.place, call.taken, call.until = false, false, 0
	if ttl := call.Request.TTL; ttl > 0 {
		c.shortest = min(c.shortest, ttl)
	}
	switch {
	case c.state == up && !c.waits(call):
		c.begin(now, call)
	case c.state == over:
		c.finish(call, codec.ErrSession)
	default:
		call.state = queued
		c.queued.push(call)
	}
}

// begin sends a call for the first time. It gets its ID only now, because IDs
// grow from request to request as they are sent.
func (c *Client) begin(now time.Duration, call *Call) {
	c.next++
	call.Request.ID, call.state = c.next, sent
	if call.Ticket != nil {
		call.Request.Ticket = call.Ticket.Request.ID
	}
	c.pending.add(call)
	c.send(now, call)
	switch call.Request.Command {
	case codec.Put, codec.Delete, codec.Join:
		c.changed(now)
	}
}

// maxChanges is how many requests that the server must keep in mind are sent before
// a beat which is not due yet: with those that were not answered when it was sent,
// and as many before the beat before, they are far fewer than the server's cap.
const maxChanges = maxOutcomes / 8

// changed counts a request that the server must keep in mind until two beats have
// shown that it was answered, see outcomes.
func (c *Client) changed(now time.Duration) {
	if c.changes++; c.changes >= maxChanges {
		c.Beat(now)
	}
}

// send sends the call's request, with what is left of its timeout.
func (c *Client) send(now time.Duration, call *Call) {
	call.stamp = now
	r := &call.Request
	if r.Command == codec.Put && len(r.Value) > c.maxValue {
		c.finish(call, codec.TooLarge) // the server would end the connection over such a line
		return
	}
	if waited := now - call.since; waited > 0 && r.Timeout > 0 {
		c.request = *r // only here: it is large, and most are sent as they are
		r = &c.request
		r.Timeout = max(0, r.Timeout-waited)
	}
	c.caller.Send(r)
}

// Cancel takes a call back: one that waits, or the place of an Enqueue that was
// answered. The caller hears that it is Done, at once or with its answer; a
// grant that was on its way is given back by the Client, and the Status is then
// Canceled too. A call that is done and has no place is left alone.
func (c *Client) Cancel(now time.Duration, call *Call) {
	switch {
	case call.state == done && !call.place || call.taken:
		return
	case call.place:
		c.leave(call)
	case call.state == sent:
		call.taken = true
	default:
		if call.state == waiting {
			c.orphan(now, call)
		}
		c.finish(call, codec.Canceled)
		if call.Ticket == nil {
			return
		}
		// A Wait that had to wait itself: its place may be known to the server.
	}
	id := call.Request.ID
	if call.Ticket != nil {
		// The place goes with it: by its name the server finds it at once.
		id = call.Ticket.Request.ID
	}
	if c.state == up {
		c.Do(now, &Call{Request: codec.Request{Command: codec.Cancel, Ticket: id, TTL: call.Request.TTL}, own: true})
		return
	}
	c.orphan(now, call)
}

// leave ends the place of a ticket.
func (c *Client) leave(ticket *Call) {
	if ticket.place {
		ticket.place = false
		c.places.remove(ticket)
		c.pending.remove(ticket.Request.ID) // where it is being named
	}
}

// Release ends a hold, by the given call: its Status is OK, or Failed where
// there was no such hold any more. A hold whose Deadline has passed must be
// released too: the server may still have it, and beats would renew it.
func (c *Client) Release(now time.Duration, h *Hold, call *Call) {
	c.drop(h)
	call.Ask(codec.Release, h.Semaphore, h.Key).Token = h.Token
	call.Hold, call.Ticket = h, nil
	c.Do(now, call)
}

// Beat renews all holds, and shows the server that the session is there. It is
// due every BeatEvery; while one is on its way there is no other.
func (c *Client) Beat(now time.Duration) {
	if c.state != up || c.Beating() {
		return
	}
	if c.beat == nil {
		c.beat = &Call{Request: codec.Request{Command: codec.Beat}, own: true}
	}
	c.changes = 0
	c.Do(now, c.beat)
}

// Beaten returns the instant that came with the latest beat that was sent, also by
// the Client itself after very many puts; 0 is that there was none.
func (c *Client) Beaten() time.Duration {
	if c.beat == nil {
		return 0
	}
	return c.beat.stamp
}

// BeatEvery returns the time from one beat to the next: a third of the shortest
// lease that is held or waited for, and two seconds at most.
func (c *Client) BeatEvery() time.Duration {
	if !c.Busy() {
		c.shortest = math.MaxInt64
	}
	return min(c.shortest/3, longestBeat)
}

// Bye ends the session by the given call: the server releases everything.
func (c *Client) Bye(now time.Duration, call *Call) {
	call.Request = codec.Request{Command: codec.Bye}
	call.Hold, call.Ticket = nil, nil
	c.Do(now, call)
}

// finish ends a call with a status.
func (c *Client) finish(call *Call, status codec.Status) {
	if call.state == queued {
		c.queued.remove(call)
	} else {
		c.pending.remove(call.Request.ID)
	}
	call.state, call.Status = done, status
	if call.Ticket != nil {
		c.leave(call.Ticket)
	}
	if !call.own {
		c.caller.Done(call)
	}
}

// End ends the session at this end alone, for a reason of the caller's: the
// server hears nothing of it, and keeps what it has until that runs out.
func (c *Client) End(reason string) {
	if c.state != over {
		c.end(reason)
	}
}

// end ends the session: everything is lost.
func (c *Client) end(reason string) {
	c.state = over
	c.unname()
	holds := c.holds
	c.holds, c.slots = chain{}, nil
	for h := holds.head; h != nil; {
		next := h.next
		h.next, h.chained = nil, false
		if h.held {
			h.held = false
			c.caller.Lost(h, reason)
		}
		h = next
	}
	for ticket := c.places.head; ticket != nil; ticket = c.places.head {
		c.leave(ticket)
	}
	for _, call := range c.sorted() {
		c.finish(call, codec.ErrSession)
	}
	for call := c.queued.head; call != nil; call = c.queued.head {
		c.finish(call, codec.ErrSession)
	}
	c.caller.Over(reason)
}
