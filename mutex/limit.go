package mutex

import (
	"context"
	"time"
)

// unlockTimeout bounds how long Unlock blocks. The release goes on in the
// background for as long as the lease lasts.
const unlockTimeout = time.Second

// idleLimits is how many limits a handle keeps for later. More are in use only
// while as many goroutines unlock it at once.
const idleLimits = 4

// A limit is the context of one Unlock: it ends after unlockTimeout. It does
// what context.WithTimeout does, without the five allocations of that, because
// a handle uses it again. So whoever it is given to must have done with it when
// the call returns, as backends have.
type limit struct {
	deadline time.Time
	timer    *time.Timer
	done     chan struct{} // closed by timer
}

var _ context.Context = (*limit)(nil)

// start begins the time of a limit, which may be nil for a new one.
func (l *limit) start() *limit {
	if l == nil {
		done := make(chan struct{})
		l = &limit{done: done, timer: time.AfterFunc(unlockTimeout, func() { close(done) })}
	} else {
		l.timer.Reset(unlockTimeout)
	}
	l.deadline = time.Now().Add(unlockTimeout)
	return l
}

// stop ends the use of a limit, and says whether it can be used again.
func (l *limit) stop() bool { return l.timer.Stop() }

func (l *limit) Deadline() (time.Time, bool) { return l.deadline, true }
func (l *limit) Done() <-chan struct{}       { return l.done }
func (l *limit) Value(any) any               { return nil }

func (l *limit) Err() error {
	select {
	case <-l.done:
		return context.DeadlineExceeded
	default:
		return nil
	}
}

// Limits are those of a handle that are not in use, guarded by its mu.
type limits struct {
	idle [idleLimits]*limit
	n    int
}

// take returns one that is idle, or nil.
func (s *limits) take() *limit {
	if s.n == 0 {
		return nil
	}
	s.n--
	l := s.idle[s.n]
	s.idle[s.n] = nil
	return l
}

// put keeps one for later, if there is room.
func (s *limits) put(l *limit) {
	if s.n < idleLimits {
		s.idle[s.n] = l
		s.n++
	}
}
