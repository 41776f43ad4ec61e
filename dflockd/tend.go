package dflockd

import (
	"time"

	"github.com/distributed-go/distributed/codec"
)

// A need is what a connection needs at a tick.
type need uint8

const (
	needNothing need = iota
	needPing         // to say something, so that the server does not close it
	needEnd          // to be closed: nothing depends on it, and nobody uses it
)

// A condition is what the need of a connection depends on.
type condition struct {
	lingering bool          // its reader sees to its end
	busy      bool          // somebody uses it
	holds     bool          // leases depend on it
	waits     bool          // the server is not reading: a request waits
	pending   bool          // something is unanswered
	pinged    bool          // a ping is unanswered
	silent    time.Duration // since something was written
	overdue   bool          // the oldest unanswered request was given up long ago
}

// need decides. It is pure, so that all cases can be tried.
func (c condition) need(cfg *config) need {
	switch {
	case c.lingering || c.waits:
		return needNothing
	case (c.holds || c.busy) && !c.pinged && c.silent >= cfg.keepalive-cfg.tick():
		return needPing
	case c.holds || c.busy:
		return needNothing
	case c.overdue, !c.pending && c.silent >= cfg.idle():
		return needEnd
	}
	return needNothing
}

// tend looks after all connections until none is left. It is one goroutine for
// all of them, and not a timer each, because nearly always there is nothing to
// do.
func (b *Backend) tend() {
	ticker := time.NewTicker(b.cfg.tick())
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-b.life.Done():
			return
		}
		now, tick := time.Now(), b.ticks.Add(1)
		for _, s := range b.servers {
			for _, c := range s.all() {
				s.look(c, now, tick)
			}
		}
		if b.rest() {
			return
		}
	}
}

// rest says whether tend may end, because no connection is left.
func (b *Backend) rest() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tending = b.conns > 0
	return !b.tending
}

// look gives up what is overdue on a connection, and does what it needs.
func (s *server) look(c *conn, now time.Time, tick int64) {
	if c.giveUpOverdue(tick - s.b.cfg.ticks(requestTimeout)) {
		// The next caller gets another connection; this one stays for as
		// long as anything depends on it.
		s.retire(c)
	}
	switch c.condition(now, tick).need(&s.b.cfg) {
	case needPing:
		c.sayPing()
	case needEnd:
		c.end(errIdle)
	}
}

// giveUpOverdue makes the callers of requests that were sent before the tick
// return, and says whether there are any such requests.
func (c *conn) giveUpOverdue(tick int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := false
	for i := range c.pending.len() {
		cl := c.pending.at(i)
		if cl.waits || cl.tick > tick {
			break
		}
		cl.giveUp()
		found = true
	}
	c.stalled = c.stalled || found
	return found
}

// overdueTimes request timeouts is when a connection that answers nothing, and
// holds nothing, is closed. Until then a late grant can be given back.
const overdueTimes = 6

func (c *conn) condition(now time.Time, tick int64) condition {
	c.mu.Lock()
	defer c.mu.Unlock()
	cond := condition{
		lingering: c.lingering, busy: c.busy, holds: c.tie != nil && !c.tie.over.Load() && c.tie.holds(),
		pending: c.pending.len() > 0, pinged: c.pinged, silent: now.Sub(c.wrote),
	}
	if cond.pending {
		oldest := c.pending.at(0)
		cond.waits = oldest.waits
		cond.overdue = oldest.tick < tick-overdueTimes*c.srv.b.cfg.ticks(requestTimeout)
	}
	return cond
}

// pingRequest is a release of nothing: on every server it is answered with
// "error" and changes nothing. Ping itself is unknown before 1.14, and the
// oldest servers close the connection on what they do not know.
var pingRequest = request{command: codec.Release, key: "_"}

// sayPing sends a ping.
func (c *conn) sayPing() {
	c.mu.Lock()
	if c.err == nil {
		cl := c.newPost(&pingRequest, nil)
		cl.ping, c.pinged = true, true
		c.sendLocked(cl)
	}
	c.mu.Unlock()
	c.flushSoon()
}
