package locker

import (
	"errors"
	"fmt"
	"sync"
)

// A Session is what holds depend on besides their TTL, such as a connection
// whose close makes the server release them. A backend makes one, puts it into
// the grants that depend on it, and calls End when it is over: that loses all
// of them at once. It is safe for concurrent use.
type Session struct {
	ref any

	mu     sync.Mutex
	err    error  // why the session ended; nil while it lasts; guarded by mu
	leases *Lease // the first of those that depend on it; a list, as a map would take as much as a lease; guarded by mu
}

// NewSession returns a session that lasts. Ref is the backend's own, for it to
// find its way back from a Hold.
func NewSession(ref any) *Session { return &Session{ref: ref} }

// Ref returns what NewSession was given.
func (s *Session) Ref() any { return s.ref }

// Err returns why the session ended, and nil while it lasts.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// errSessionEnded stands for a cause that was not given.
var errSessionEnded = errors.New("session ended")

// End ends the session: every lease that depends on it is lost, with a cause
// that matches ErrLost and the given one. Later calls do nothing.
func (s *Session) End(cause error) {
	if cause == nil {
		cause = errSessionEnded
	}
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return
	}
	s.err = fmt.Errorf("%w: %w", ErrLost, cause)
	var leases []*Lease
	for l := s.leases; l != nil; l = l.next {
		leases = append(leases, l)
	}
	s.mu.Unlock()
	for _, l := range leases {
		l.lose(s.err)
	}
}

// attach makes the lease depend on the session. It returns the reason if the
// session has already ended, so that no end between a grant and its
// registration is missed.
func (s *Session) attach(l *Lease) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	l.next = s.leases
	if l.next != nil {
		l.next.previous = l
	}
	s.leases = l
	return nil
}

// detach forgets a lease.
func (s *Session) detach(l *Lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.next != nil {
		l.next.previous = l.previous
	}
	if l.previous != nil {
		l.previous.next = l.next
	} else if s.leases == l {
		s.leases = l.next
	}
	l.next, l.previous = nil, nil
}
