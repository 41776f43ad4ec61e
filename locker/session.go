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

	mu    sync.Mutex
	err   error   // why the session ended; nil while it lasts; guarded by mu
	first *upkeep // of the leases that depend on it; a list, as a map would take as much as a lease; guarded by mu
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
	for u := s.first; u != nil; u = u.next {
		leases = append(leases, u.lease)
	}
	s.mu.Unlock()
	for _, l := range leases {
		l.lose(s.err)
	}
}

// Lose ends one hold of the session, as End ends all: for a backend that hears
// that a holder was revoked. It is cheap only where it is rare: it looks at every
// lease of the session.
func (s *Session) Lose(t Token, cause error) {
	s.mu.Lock()
	u := s.first
	for u != nil && u.lease.token != t {
		u = u.next
	}
	var l *Lease
	if u != nil {
		l = u.lease
	}
	s.mu.Unlock()
	if l != nil {
		l.keeper().loseHeir(u, cause)
	}
}

// attach makes the lease depend on the session, in the place of the one that the
// upkeep had before. It returns the reason if the session has already ended, so
// that no end between a grant and its registration is missed.
func (s *Session) attach(u *upkeep, l *Lease) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	if u.lease == nil {
		u.next = s.first
		if u.next != nil {
			u.next.previous = u
		}
		s.first = u
	}
	u.lease = l
	return nil
}

// detach forgets a lease.
func (s *Session) detach(u *upkeep) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u.next != nil {
		u.next.previous = u.previous
	}
	if u.previous != nil {
		u.previous.next = u.next
	} else if s.first == u {
		s.first = u.next
	}
	u.next, u.previous = nil, nil
}
