package memory

import (
	"fmt"

	"github.com/distributed-go/distributed/locker"
)

// errDisconnected ends a session as a broken connection would.
var errDisconnected = fmt.Errorf("%w: connection closed", locker.ErrUnavailable)

// Freeze makes the server stop answering, as one does that was sent SIGSTOP:
// every call blocks until its context ends, its Backend is closed or
// disconnected, or Thaw is called. The error of a call whose context ended
// matches locker.ErrUnavailable besides, unless it waited for its turn already:
// from there nobody can tell a frozen server from a held key. Nothing runs out
// and no turn comes meanwhile. It is for tests, and does nothing to a server
// that is frozen.
func (s *Server) Freeze() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.frozen == nil {
		s.frozenAt = s.nowLocked()
		s.frozen = make(chan struct{})
		s.settleLocked()
	}
}

// Thaw lets the server go on after Freeze. Leases that would have run out
// meanwhile run out now, before any of the calls that waited is answered: a
// server that was stopped cannot tell how long its clients believed. It is for
// tests, and does nothing to a server that is not frozen.
func (s *Server) Thaw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.frozen != nil {
		close(s.frozen)
		s.frozen = nil
		s.settleLocked() // the alarm rings at once for what is due
	}
}

// Fail makes every call fail with an error that matches locker.ErrUnavailable
// and err, as if no connection could be made, and so do waits whose turn comes
// meanwhile; what is held stays held. A nil err ends that. It is for tests.
func (s *Server) Fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failure = nil
	if err != nil {
		s.failure = fmt.Errorf("%w: %w", locker.ErrUnavailable, err)
	}
}

// Disconnect does what a broken connection to a dflockd server does: what the
// Backend holds is lost and released, its places in queues are gone, calls in
// flight fail with an error that matches locker.ErrUnavailable. Later calls
// work again, as on a new connection. It is for tests, and does nothing to a
// Backend that is closed.
func (b *Backend) Disconnect() { b.end(errDisconnected) }
