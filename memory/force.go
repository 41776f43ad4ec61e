package memory

import (
	"context"
	"time"

	"github.com/distributed-go/distributed/internal/table"
	"github.com/distributed-go/distributed/locker"
)

// A victim is a hold that Force ended, of which its Backend's Client is to hear.
type victim struct {
	session *session
	token   locker.Token
}

// Force implements locker.Forcer. When it returns those who held the key have
// lost it. It may have been granted to the next a moment before, as on a server
// with connections.
func (b *Backend) Force(ctx context.Context, kind locker.Kind, key string) (n int, err error) {
	err = b.do(ctx, func(now time.Duration) error {
		n = b.server.table.Force(now, kindOf(kind), []byte(key))
		return nil
	})
	for _, v := range b.server.takeVictims() {
		v.session.holds.Lose(v.token, locker.ErrRevoked)
	}
	return n, err
}

// revokedLocked takes note of a hold that was taken away.
func (s *Server) revokedLocked(l *table.Lease) {
	if c := s.sessions[l.Owner()]; c != nil {
		s.victims = append(s.victims, victim{c, lockerToken(l.Token())})
	}
}

func (s *Server) takeVictims() []victim {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.victims
	s.victims = nil
	return v
}
