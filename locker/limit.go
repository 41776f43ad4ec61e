package locker

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// errRanOut is what a release ends with when the lease ends first.
var errRanOut = fmt.Errorf("%w: the lease ran out before its release was answered", ErrUnavailable)

// errLimit is errRanOut as a context has it.
var errLimit = fmt.Errorf("%w: %w", errRanOut, context.DeadlineExceeded)

// A limit is the context of one release to which its caller sets none. It does
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
type limits struct{ idle sync.Pool }

// start returns a limit that ends after d.
func (s *limits) start(d time.Duration) *limit {
	l, ok := s.idle.Get().(*limit)
	if ok {
		l.timer.Reset(d)
	} else {
		done := make(chan struct{})
		l = &limit{done: done, timer: time.AfterFunc(d, func() { close(done) })}
	}
	l.deadline = time.Now().Add(d)
	return l
}

// stop ends the use of a limit.
func (s *limits) stop(l *limit) {
	if l.timer.Stop() {
		s.idle.Put(l)
	}
}
