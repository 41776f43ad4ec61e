package dflockd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/distributed-go/distributed/locker"
)

// checkout returns a connection for a wait or a place, from the idle ones
// unless it must be fresh.
func (s *server) checkout(ctx context.Context, fresh bool) (*conn, error) {
	s.mu.Lock()
	for !fresh && len(s.idle) > 0 {
		c := s.idle[len(s.idle)-1]
		s.idle = s.idle[:len(s.idle)-1]
		if c.begin() {
			s.mu.Unlock()
			return c, nil
		}
	}
	surplus, err := s.makeRoomLocked()
	if err == nil {
		s.dials++
	}
	s.mu.Unlock()
	if surplus != nil {
		surplus.end(errDiscarded)
	}
	if err != nil {
		return nil, err
	}
	c, err := s.dial(ctx, true)
	s.mu.Lock()
	s.dials--
	s.mu.Unlock()
	return c, err
}

// makeRoomLocked keeps one more connection within WithMaxConns: it may return
// one to end first.
func (s *server) makeRoomLocked() (surplus *conn, err error) {
	limit := s.b.cfg.maxConns
	if limit == 0 {
		return nil, nil
	}
	used := 1 + s.dials // the shared connection always has its place
	for c := range s.conns {
		if c != s.main && !c.leaving() {
			used++
		}
	}
	if used < limit {
		return nil, nil
	}
	if len(s.idle) == 0 {
		return nil, fmt.Errorf("%w: %d to %v, as many as WithMaxConns allows", locker.ErrTooManyConns, used, s.addr)
	}
	surplus, s.idle = s.idle[0], s.idle[1:]
	return surplus, nil
}

// put ends the use of a connection of own: it becomes idle, or ends if it is
// not clean.
func (s *server) put(c *conn) {
	if !c.clean() {
		c.end(errDiscarded)
		return
	}
	var surplus *conn
	s.mu.Lock()
	if _, ok := s.conns[c]; ok {
		s.idle = append(s.idle, c)
		if len(s.idle) > maxIdle {
			surplus, s.idle = s.idle[0], s.idle[1:]
		}
	}
	s.mu.Unlock()
	if surplus != nil {
		surplus.end(errIdle)
	}
}

// begin starts a use of an idle connection; it returns false if the connection
// ended meanwhile.
func (c *conn) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return false
	}
	c.busy = true
	c.bindLocked()
	return true
}

// clean ends a use, and says whether nothing is left of it.
func (c *conn) clean() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy = false
	if c.tie != nil {
		c.tie.over.Store(true)
	}
	return c.err == nil && !c.lingering && c.pending.len() == 0
}

// leaving says whether the connection is only waiting for its end.
func (c *conn) leaving() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.lingering
}

// waiting says whether a request waits on the connection.
func (c *conn) waiting() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pending.len() > 0 && c.pending.at(0).waits
}

// cancel takes back what the connection waits for. Closing it at once would
// strand a grant that is already on its way, until its lease runs out, on a
// server that does not release on disconnect. So we say that nothing more will
// come, and the reader goes on until the server has closed its end or granted
// after all.
func (c *conn) cancel() {
	c.mu.Lock()
	ended := c.err != nil || c.lingering
	c.lingering, c.busy = true, false
	c.mu.Unlock()
	if ended {
		return
	}
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok {
		c.end(errCanceled)
		return
	}
	err := c.nc.SetReadDeadline(time.Now().Add(lingerTimeout))
	// In the background: under TLS it writes, and may have to wait for a
	// write that a server does not take.
	if err != nil || !c.srv.b.background(func() { c.halfClose(half) }) {
		c.end(errCanceled)
	}
}

func (c *conn) halfClose(half interface{ CloseWrite() error }) {
	if err := half.CloseWrite(); err != nil && !errors.Is(err, net.ErrClosed) {
		c.end(errCanceled)
	}
}
