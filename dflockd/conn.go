package dflockd

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/locker"
)

// congested is the number of unanswered bytes from which on a caller does not
// write itself any more. It is well below what fits into any socket's buffers,
// so that a caller never hangs in a write to a server that does not read.
const congested = 16 << 10

// keepBuffer is the largest write buffer that is kept after a burst.
const keepBuffer = 64 << 10

// A conn is one connection on the base protocol. Callers append requests to a
// buffer and themselves to a queue; whoever finds nobody writing writes for
// all. One goroutine reads, always, and pairs answers with calls in order.
type conn struct {
	srv     *server
	nc      net.Conn
	answers *codec.AnswerReader
	own     bool // not the shared connection, but one for waits and places
	inline  bool // a write of little never blocks

	// deserted counts the unanswered calls whose callers have left: what is
	// in the way of those behind them.
	deserted atomic.Int64

	mu         sync.Mutex      // guards everything below
	err        error           // why the connection ended; nil while it lasts
	out        []byte          // requests that nobody writes yet
	spare      []byte          // the buffer that was written last
	flushing   bool            // somebody writes, or is about to
	pending    callQueue       // calls without an answer
	unanswered int             // bytes of the calls in pending
	wrote      time.Time       // when something was written last
	proven     bool            // something was answered
	stalled    bool            // a call was given up, and nothing answered since
	lingering  bool            // the wait was cancelled: nothing more is sent
	busy       bool            // an acquisition or a place uses this connection
	pinged     bool            // a ping is unanswered
	tie        *tie            // of this use; nil if holds do not depend on connections
	session    *locker.Session // of this use; nil as tie
}

func newConn(s *server, nc net.Conn, answers *codec.AnswerReader, own, inline bool) *conn {
	c := &conn{srv: s, nc: nc, answers: answers, own: own, inline: inline, wrote: time.Now(), busy: own}
	c.bindLocked()
	return c
}

// bindLocked begins a use of the connection.
func (c *conn) bindLocked() {
	if !c.srv.b.cfg.keep {
		c.tie = &tie{c: c}
		c.session = locker.NewSession(c.tie)
	}
}

// roundTrip sends a request and waits for its answer. T is the tie of the hold
// that the request is about; acquisitions take that of the connection.
func (c *conn) roundTrip(ctx context.Context, req *request, t *tie) (codec.Answer, error) {
	cl := c.newCall(req, t)
	if err := c.send(cl); err != nil {
		cl.free()
		return codec.Answer{}, err
	}
	c.flush()
	return cl.wait(ctx)
}

// send queues a call. The caller then calls flush.
func (c *conn) send(cl *call) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return &endedError{addr: c.srv.addr.String(), cause: c.err}
	}
	c.sendLocked(cl)
	return nil
}

func (c *conn) sendLocked(cl *call) {
	before := len(c.out)
	c.out = codec.AppendRequest(c.out, &cl.wire)
	cl.size = len(c.out) - before
	cl.tick = c.srv.b.ticks.Load()
	switch cl.wire.Command {
	case codec.Lock, codec.Enqueue, codec.Wait:
		cl.tie = c.tie
	}
	c.pending.push(cl)
	c.unanswered += cl.size
}

// flush sees that what was sent is written: by the caller, if that cannot
// block, else in the background.
func (c *conn) flush() {
	c.mu.Lock()
	if c.flushing || len(c.out) == 0 || c.err != nil {
		c.mu.Unlock()
		return
	}
	c.flushing = true
	inline := c.inline && c.unanswered < congested
	if !inline {
		c.flushInBackgroundLocked()
	}
	c.mu.Unlock()
	if inline {
		// Others who are about to send get the chance to join this write: it
		// is what makes a hundred goroutines on one connection fast. A timer
		// instead would cost the lone caller more than its round trip.
		runtime.Gosched()
		c.write(true)
	}
}

// flushSoon is flush for those who must not block at all: the reader, which a
// server that waits for us to read would wait for, and tend.
func (c *conn) flushSoon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.flushing && len(c.out) > 0 && c.err == nil {
		c.flushing = true
		c.flushInBackgroundLocked()
	}
}

// flushInBackgroundLocked may add to the WaitGroup: the connection has not
// ended, so its reader is still counted.
func (c *conn) flushInBackgroundLocked() { c.srv.b.wg.Go(func() { c.write(false) }) }

// write writes until nothing is left, or for a caller once: its own request is
// in the first write, and what came meanwhile is for others to wait for.
func (c *conn) write(once bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.out) > 0 && c.err == nil {
		buf := c.out
		c.out, c.spare = c.spare[:0], nil
		c.mu.Unlock()
		_, err := c.nc.Write(buf)
		c.mu.Lock()
		if err != nil {
			c.mu.Unlock()
			c.end(err)
			c.mu.Lock()
			break
		}
		c.wrote = time.Now()
		if cap(buf) <= keepBuffer {
			c.spare = buf
		}
		if once && len(c.out) > 0 && c.err == nil {
			c.flushInBackgroundLocked()
			return
		}
	}
	c.flushing = false
}

// read is the connection's reader.
func (c *conn) read() {
	var a codec.Answer
	for {
		if err := c.answers.Read(&a); err != nil {
			c.end(err)
			return
		}
		cl, err := c.pair(&a)
		if err != nil {
			c.end(err)
			return
		}
		if !cl.settle(&a, nil) && a.HasToken {
			c.giveBack(cl, a.Token)
		}
	}
}

// pair takes the call that an answer belongs to, and notes what the answer
// changes for the connection.
func (c *conn) pair(a *codec.Answer) (*call, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	cl := c.pending.pop()
	if cl == nil {
		return nil, errUnasked
	}
	if !fits(cl.wire.Command, a) {
		cl.settle(nil, &endedError{addr: c.srv.addr.String(), cause: errMispaired, sent: true, stale: c.proven})
		return nil, errMispaired
	}
	c.unanswered -= cl.size
	c.proven, c.stalled = true, false
	if cl.ping {
		c.pinged = false
	}
	if t := cl.tie; t != nil {
		switch {
		case a.HasToken:
			t.granted(a.TTL)
		case a.Status == codec.OK && cl.wire.Command == codec.Release:
			t.count.Add(-1)
		case a.Status == codec.OK && cl.wire.Command == codec.Renew:
			t.extended(max(a.TTL, cl.wire.TTL))
		}
	}
	return cl, nil
}

// giveBack releases a grant that nobody looks at any more. The shared
// connection does that itself, on the spot, unless it has
// ended just now, which releases the grant too except where leases survive. A
// connection whose wait was cancelled cannot send any more.
func (c *conn) giveBack(cl *call, token codec.Token) {
	req := request{command: codec.Release, kind: cl.kind(), key: string(cl.key), token: token}
	if c.own || c.post(&req, cl.tie) != nil && c.srv.b.cfg.keep {
		c.srv.giveBack(req)
		return
	}
	c.flushSoon()
}

// post sends a request whose answer nobody looks at.
func (c *conn) post(req *request, t *tie) error {
	return c.send(c.newPost(req, t))
}

// end ends the connection; the first cause stands. What depends on it is lost,
// and its calls fail.
func (c *conn) end(cause error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	if c.lingering {
		cause = errCanceled
	}
	if errors.Is(cause, io.EOF) {
		cause = errClosedByServer
	}
	c.err = cause
	pending, session, stale := c.pending, c.session, c.proven
	c.pending, c.out = callQueue{}, nil
	c.mu.Unlock()

	c.srv.forget(c)
	c.nc.Close() //nolint:errcheck // nothing is left that could depend on it
	if session != nil {
		session.End(&endedError{addr: c.srv.addr.String(), cause: cause})
	}
	if pending.len() == 0 {
		return
	}
	err := &endedError{addr: c.srv.addr.String(), cause: cause, sent: true, stale: stale}
	for cl := pending.pop(); cl != nil; cl = pending.pop() {
		cl.settle(nil, err)
	}
}
