package memory

import (
	"hash/maphash"
	"sync"
	"time"

	"github.com/distributed-go/distributed/internal/table"
)

// DefaultTTL is the lease of requests that ask for none. It is dflockd's.
const DefaultTTL = 33 * time.Second

// The table forgets the limit of a semaphore that nobody uses any more after
// the same time as dflockd does.
const (
	maxIdle       = time.Minute
	pruneInterval = 5 * time.Second
)

// A Server is a lock table that any number of Backends share. It is safe for
// concurrent use; make one with NewServer. It needs no closing: once all its
// Backends are closed it holds nothing but memory.
type Server struct {
	origin time.Time // what the table's instants count from

	mu       sync.Mutex
	table    *table.Table              // guarded by mu, with all owners and leases
	backends int                       // those that are open; guarded by mu
	owners   uint64                    // counts sessions, for their numbers; guarded by mu
	sessions map[*table.Owner]*session // that are not over; guarded by mu
	victims  []victim                  // who have not heard of it yet; guarded by mu
	alarm    *time.Timer               // calls wake; nil until first needed; guarded by mu
	alarmAt  time.Duration             // the instant that alarm is set to; guarded by mu
	alarmSet bool                      // guarded by mu

	// Faults, for tests; guarded by mu.
	frozen   chan struct{} // closed by Thaw; nil while the server answers
	frozenAt time.Duration
	failure  error
}

// An Option changes a Server.
type Option func(*table.Config)

// WithMaxKeys caps the keys, as a server's setting does: when so many are held,
// or were lately and one more cannot take the place of an idle one,
// acquisitions of others fail with locker.ErrTooManyKeys. The default, 0, is no
// cap.
func WithMaxKeys(n int) Option { return func(c *table.Config) { c.MaxKeys = n } }

// WithMaxWaiters caps the queue of each key: when so many wait, acquisitions
// that would have to wait too fail with locker.ErrTooManyWaiters. The default,
// 0, is no cap.
func WithMaxWaiters(n int) Option { return func(c *table.Config) { c.MaxWaiters = n } }

// NewServer returns an empty Server.
func NewServer(opts ...Option) *Server {
	now := time.Now()
	seed := maphash.MakeSeed()
	cfg := table.Config{
		// Fences go on growing when the process starts again: by the wall
		// clock, of which there is nothing better without a file.
		FirstFence: uint64(max(0, now.UnixNano())), //nolint:gosec // not negative
		// Who could guess a token in this process could as well call Release
		// on it, so this needs to be unlikely, not unforgeable.
		Sign: func(_ table.Kind, _ string, fence uint64, _, _ int) uint64 {
			return maphash.Comparable(seed, fence)
		},
		MaxIdle:       maxIdle,
		PruneInterval: pruneInterval,
	}
	for _, o := range opts {
		o(&cfg)
	}
	return &Server{origin: now, table: table.New(cfg), sessions: make(map[*table.Owner]*session)}
}

// Backend returns a new client of the server. Close it when done.
func (s *Server) Backend() *Backend {
	b := &Backend{server: s}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.backends++
	b.session = s.sessionLocked()
	return b
}

// nowLocked is the table's time. It stands still while the server is frozen.
func (s *Server) nowLocked() time.Duration {
	if s.frozen != nil {
		return s.frozenAt
	}
	return time.Since(s.origin)
}

// settleLocked ends every use of the table: those whose turn came are told, and
// the alarm is set for what comes next.
func (s *Server) settleLocked() {
	for _, e := range s.table.Events() {
		switch e.Kind {
		case table.EventGranted, table.EventValue:
			if p, queued := e.Lease.Tag.(*place); queued {
				close(p.turn)
			}
		case table.EventRevoked:
			s.revokedLocked(e.Lease)
		}
	}
	at, ok := s.table.Next()
	switch {
	case s.frozen != nil || s.backends == 0:
		if s.alarmSet {
			s.alarm.Stop()
			s.alarmSet = false
		}
	case ok && (!s.alarmSet || at < s.alarmAt):
		// An alarm that is set too early is left alone: most of what it was
		// set for never happens, and setting it at each call would cost more
		// than looking once in vain.
		s.setAlarmLocked(at)
	}
}

// setAlarmLocked sets the alarm.
func (s *Server) setAlarmLocked(at time.Duration) {
	s.alarmAt, s.alarmSet = at, true
	d := max(0, at-s.nowLocked())
	if s.alarm == nil {
		s.alarm = time.AfterFunc(d, s.wake)
		return
	}
	s.alarm.Reset(d)
}

// wake does what has become due by itself.
func (s *Server) wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.alarmSet = false
	s.table.Advance(s.nowLocked())
	s.settleLocked()
}
