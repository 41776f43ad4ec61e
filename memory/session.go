package memory

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/distributed-go/distributed/internal/table"
	"github.com/distributed-go/distributed/locker"
)

// A session is what stands for a connection: what is granted in it ends with
// it. A Backend has one at a time.
type session struct {
	server *Server
	holds  *locker.Session
	owner  *table.Owner

	err  error         // why it is over, nil while it is not; guarded by server.mu
	over chan struct{} // closed after err is set and everything was released
}

// sessionLocked starts a session.
func (s *Server) sessionLocked() *session {
	s.owners++
	c := &session{server: s, owner: s.table.NewOwner(s.owners), over: make(chan struct{})}
	c.holds = locker.NewSession(c)
	s.sessions[c.owner] = c
	return c
}

// do calls f, which must not block, with the table locked and brought to the
// instant now, as soon as the server answers. It does not call f, and returns
// why, if ctx or the session ended before.
func (c *session) do(ctx context.Context, f func(now time.Duration) error) error {
	if ctx.Err() != nil {
		return ended(ctx)
	}
	s := c.server
	s.mu.Lock()
	for s.frozen != nil && c.err == nil {
		thawed := s.frozen
		s.mu.Unlock()
		select {
		case <-thawed:
		case <-c.over:
		case <-ctx.Done():
			return fmt.Errorf("%w: no answer: %w", locker.ErrUnavailable, ended(ctx))
		}
		s.mu.Lock()
	}
	defer s.mu.Unlock()
	switch {
	case c.err != nil:
		return c.err
	case s.failure != nil:
		return s.failure
	}
	err := f(s.nowLocked())
	s.settleLocked()
	return err
}

// end ends the session, whose err must be set. Its holders hear of it before
// anybody else is granted what they held. (The server of a real connection does
// not wait for that: holders there may hear of it too late.)
func (c *session) end() {
	s := c.server
	c.holds.End(c.err)
	s.mu.Lock()
	s.table.Drop(s.nowLocked(), c.owner, false)
	delete(s.sessions, c.owner)
	s.settleLocked()
	s.mu.Unlock()
	close(c.over)
}

// ended returns what a context ended with: its error, and its cause where that
// says more.
func ended(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) {
		return cause
	}
	return fmt.Errorf("%w: %w", err, cause)
}
