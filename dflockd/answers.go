package dflockd

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/locker"
)

// ErrRefused says that a server answered a request with a bare "error". It
// does not say why: the request may be malformed to it, or one that it is too
// old to know, such as semaphores before version 1.2. Trying again is no use.
var ErrRefused = errors.New("server refused the request (error)")

var (
	// errNoAnswer ends calls after requestTimeout.
	errNoAnswer = fmt.Errorf("%w: no answer within %v", locker.ErrUnavailable, requestTimeout)

	// errUnasked poisons a connection: the next answer would be paired with
	// the wrong request.
	errUnasked = errors.New("the server sent a line that nothing had asked for")

	// errMispaired poisons a connection for the same reason.
	errMispaired = errors.New("the server sent an answer that does not fit the request")

	// errIdle, errDiscarded and errCanceled are why we close connections.
	errClosedByServer = errors.New("the server closed it")
	errIdle           = errors.New("connection was idle")
	errDiscarded      = errors.New("connection was given up")
	errCanceled       = errors.New("wait was cancelled")
)

// An endedError says that a connection ended before an answer came.
type endedError struct {
	addr  string
	cause error
	sent  bool // the request may have reached the server
	stale bool // the connection had been in use before: the server may have closed it while it was idle
}

func (e *endedError) Error() string {
	return fmt.Sprintf("connection to %s ended: %v", e.addr, e.cause)
}

// Unwrap makes the error match ErrClosed after Close, else ErrUnavailable and
// its cause.
func (e *endedError) Unwrap() []error {
	if errors.Is(e.cause, locker.ErrClosed) {
		return []error{locker.ErrClosed}
	}
	return []error{locker.ErrUnavailable, blameless(e.cause)}
}

// blameless hides an error that matches a context's: a timeout of our own must
// not look as if the caller's context had ended.
func blameless(err error) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return errors.New(err.Error())
	}
	return err
}

// fits says whether an answer can be one to the command.
func fits(c codec.Command, a *codec.Answer) bool {
	grant := a.HasToken && a.TTL > 0
	switch a.Status {
	case codec.OK:
		switch c {
		case codec.Lock, codec.Wait:
			return grant
		case codec.Renew:
			return a.HasTTL && !a.HasToken
		case codec.Stats:
			return a.JSON != nil
		case codec.Force:
			return a.HasCount
		case codec.Enqueue:
			return false
		}
		return !a.HasTTL && a.JSON == nil
	case codec.Acquired:
		return c == codec.Enqueue && grant
	case codec.Queued:
		return c == codec.Enqueue
	case codec.Timeout:
		return c == codec.Lock || c == codec.Wait
	}
	return true
}

// refusals are the errors for answers that have a reason.
var refusals = map[codec.Status]error{
	codec.ErrAuth:       locker.ErrAuth,
	codec.MaxLocks:      locker.ErrTooManyKeys,
	codec.MaxWaiters:    locker.ErrTooManyWaiters,
	codec.LimitMismatch: locker.ErrLimitMismatch,
	codec.Draining:      locker.ErrDraining,
	codec.LeaseExpired:  locker.ErrPlaceExpired,
	codec.NotQueued:     locker.ErrPlaceExpired,
	codec.AlreadyQueued: ErrRefused,
	codec.Failed:        ErrRefused,
	codec.Timeout:       locker.ErrLocked,
}

// refusal is the error for an answer to an acquisition that grants nothing.
func refusal(req *locker.Request, a *codec.Answer) error {
	err := refusals[a.Status]
	switch {
	case a.Status == codec.LimitMismatch:
		return fmt.Errorf("%w: %d was asked for", err, req.Limit)
	case a.Text != "":
		return fmt.Errorf("%w: %s", err, a.Text)
	case err == ErrRefused && req.Kind == locker.Counting:
		return fmt.Errorf("%w; servers before dflockd 1.2 know no semaphores", err)
	case err == nil:
		return errMispaired // fits lets nothing else through
	}
	return err
}

// seconds rounds a lease up to what the wire can say.
func seconds(d time.Duration) time.Duration {
	if rest := d % time.Second; rest > 0 && d < math.MaxInt64-time.Second {
		return d - rest + time.Second
	}
	return d
}

// grantOf makes a Grant of an answer: the lease is what was asked for, unless
// the server granted less or nothing was asked for.
func (s *server) grantOf(req *locker.Request, a *codec.Answer, session *locker.Session) locker.Grant {
	g := locker.Grant{Token: locker.Token(a.Token), TTL: a.TTL, Session: session}
	if req.TTL > 0 {
		g.TTL = min(a.TTL, seconds(req.TTL))
	}
	if s.b.cfg.fences {
		g.Fence = a.Token.Fence()
	}
	return g
}
