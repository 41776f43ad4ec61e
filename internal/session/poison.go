package session

import (
	"time"

	"github.com/distributed-go/distributed/codec"
)

// maxPoisoned is how many connections in a row may end before the server has answered
// anything behind what was sent again: then one of those requests is given up.
const maxPoisoned = 6

// A poison finds requests over which a server, or what stands before it, ends every
// connection, such as a line that it takes for too long. They would be sent again
// over each connection for ever, and what comes behind them would never be answered,
// while the holds that are named before them go on. The zero value has seen nothing.
type poison struct {
	ended  int    // connections in a row without an answer to a later ID than behind
	behind uint64 // the latest ID when all was sent again; 0 if nothing was, or it is no poison
}

// sent takes note that so many requests were sent again.
func (p *poison) sent(n int, last uint64) {
	if n > 0 {
		p.behind = last
	}
}

// answered takes note of an answer: requests are read in their order.
func (p *poison) answered(id uint64) {
	if p.behind != 0 && id > p.behind {
		*p = poison{}
	}
}

// cut takes note that the connection has ended without answers to these calls. It
// returns the one to be given up, which is nearly always nil. The likeliest is the
// one with the longest line; then the first of those that need not wait.
func (p *poison) cut(calls []*Call) (suspect *Call) {
	last := p.behind
	if p.behind = 0; last == 0 {
		return nil
	}
	if p.ended++; p.ended < maxPoisoned {
		return nil
	}
	p.ended = 0
	for _, call := range calls {
		switch {
		case call.own || call.place || call.Request.ID > last || call.Request.Command == codec.Bye:
		case suspect == nil, len(call.Request.Value) > len(suspect.Request.Value):
			suspect = call
		case len(call.Request.Value) == len(suspect.Request.Value) && suspect.acquires() && !call.acquires():
			suspect = call
		}
	}
	return suspect
}

// keep keeps a call for the next connection. A change of a value is of no use there
// once the lease is over under which it was to be made; until when that lasts is
// known best now.
func (c *Client) keep(call *Call) {
	call.state = waiting
	switch call.Request.Command {
	case codec.Put, codec.Delete:
		if h := call.Hold; h != nil {
			call.until = max(call.until, c.Deadline(h))
		}
	}
}

// sendAgain sends a call over another connection, if it is of any use there.
func (c *Client) sendAgain(now time.Duration, call *Call) {
	if call.until != 0 && call.until <= now {
		c.finish(call, 0) // it may have been done
		return
	}
	c.send(now, call)
}
