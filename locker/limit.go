package locker

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// errRanOut is what a release ends with when the lease ends first.
var errRanOut = fmt.Errorf("%w: the lease ran out before its release was answered", ErrUnavailable)

// errLimit is errRanOut as a context of nothing but a limit has it.
var errLimit = fmt.Errorf("%w: %w", errRanOut, context.DeadlineExceeded)

// A limit is the context of one release whose caller has a time instead, which the
// backend wants as a context. It does
// what context.WithTimeoutCause does, without the allocations of that, because a
// Client uses it again. So whoever it is given to must have done with it when the
// call returns, as backends have.
type limit struct {
	deadline time.Time
	timer    *time.Timer
	done     chan struct{} // closed by timer
}

var _ context.Context = (*limit)(nil)

func (l *limit) Deadline() (time.Time, bool) { return l.deadline, true }
func (l *limit) Done() <-chan struct{}       { return l.done }
func (l *limit) Value(any) any               { return nil }

func (l *limit) Err() error {
	select {
	case <-l.done:
		return errLimit
	default:
		return nil
	}
}

// limits are those of a Client that are not in use: a channel that is made in a
// bubble of testing/synctest must not leave it.
type limits struct {
	mu   sync.Mutex
	idle []*limit // at most releasers; guarded by mu
}

// take returns one that is not in use, or nil.
func (s *limits) take() *limit {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := len(s.idle) - 1
	if last < 0 {
		return nil
	}
	l := s.idle[last]
	s.idle = s.idle[:last]
	return l
}

// start returns a limit that ends after d.
func (s *limits) start(d time.Duration) *limit {
	l := s.take()
	if l == nil {
		done := make(chan struct{})
		l = &limit{done: done, timer: time.AfterFunc(d, func() { close(done) })}
	} else {
		l.timer.Reset(d)
	}
	l.deadline = time.Now().Add(d)
	return l
}

// stop ends the use of a limit.
func (s *limits) stop(l *limit) {
	if !l.timer.Stop() {
		return // it has ended, or is about to
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.idle) < releasers {
		s.idle = append(s.idle, l)
	}
}
