package dflockd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/locker"
)

// way returns how to speak with the server: by a conversation, or by the base
// protocol if that is nil. A shared connection of the base protocol decides for
// as long as there is one.
func (s *server) way(ctx context.Context) (*conversation, error) {
	if x := s.talk.Load(); x != nil || s.b.clock == nil || s.b.cfg.base {
		return x, nil
	}
	s.mu.Lock()
	if x := s.talk.Load(); x != nil || s.main != nil {
		s.mu.Unlock()
		return x, nil
	}
	d, err := s.dialLocked(true)
	s.mu.Unlock()
	if err == nil {
		err = s.waitFor(ctx, d)
	}
	if err != nil {
		return nil, err
	}
	return d.x, nil
}

// introduce asks the server for session mode. Without an error the conversation
// is nil if the server said that it knows none; then that connection is closed
// too, because nothing but another round trip would tell whether the server has
// done so. A connection that ends without an answer says nothing: it was cut, or
// is one too many, or nobody stands behind the proxy that accepted it, and a
// client that took it for a no would speak the base protocol, with its weaker
// promises, to a server that knows better. All stock servers say "error".
func (s *server) introduce(life context.Context) (*conversation, error) {
	x, err := s.sayHello(life)
	if errors.Is(err, errNoSessions) {
		return nil, nil
	}
	return x, err
}

func (s *server) sayHello(life context.Context) (*conversation, error) {
	ctx, cancel := context.WithTimeout(life, dialTimeout)
	defer cancel()
	t, err := s.reach(ctx)
	if err != nil {
		return nil, err
	}
	x := newConversation(s, s.b.cfg.processFor(t.raw))
	l, err := x.greet(ctx, t)
	switch {
	case life.Err() != nil:
		return nil, locker.ErrClosed
	case errors.Is(err, errNoSessions):
		return nil, err
	case err != nil:
		s.note(err)
		return nil, err
	}
	s.talk.Store(x)
	s.b.wg.Go(func() { x.listen(l) })
	s.b.wg.Go(func() { x.run(l) })
	return x, nil
}

// errNoSessions says that a server does not know session mode.
var errNoSessions = fmt.Errorf("%w: the server knows no session mode", locker.ErrUnavailable)

// greet says hello over a new connection, which becomes the link if the server
// agrees, and is closed otherwise.
func (x *conversation) greet(ctx context.Context, t transport) (*link, error) {
	l := &link{transport: t, gone: make(chan struct{})}
	now := x.clock()
	x.mu.Lock()
	if x.over != nil {
		x.mu.Unlock()
		l.close()
		return nil, errTooLate
	}
	x.link = l
	l.number = x.client.Connect(now)
	hello := l.out
	l.out, l.sent = nil, 0
	x.mu.Unlock()

	var err error
	for err == nil {
		var a codec.Answer
		if err = l.exchange(ctx, hello, &a); err != nil {
			err = x.unanswered(ctx, err)
		} else if hello, err = x.welcome(l, &a); err == nil && hello == nil {
			return l, nil
		}
	}
	now = x.clock()
	x.mu.Lock()
	x.unlinkLocked(now, l)
	x.leave(now)
	l.close()
	return nil, err
}

// exchange says hello and reads the answer. The end of ctx closes the
// connection.
func (l *link) exchange(ctx context.Context, hello []byte, a *codec.Answer) error {
	defer context.AfterFunc(ctx, l.close)()
	if _, err := l.nc.Write(hello); err != nil {
		return err
	}
	return l.answers.ReadHello(a)
}

// unanswered says why hello was not answered.
func (x *conversation) unanswered(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = errors.New("no answer to hello in time")
	}
	return x.srv.unreachable("begin a session with", err)
}

// welcome takes the answer to hello. Without an error the link is up, and what
// was to be said first is said; or there is another hello to say, because the
// server was restarted, and takes claims in a new session.
func (x *conversation) welcome(l *link, a *codec.Answer) (again []byte, err error) {
	now := x.clock()
	x.mu.Lock()
	if x.link != l {
		x.mu.Unlock()
		return nil, errTooLate
	}
	if !x.client.Line(now, l.number, a) {
		if x.client.Greet(l.number) {
			again = l.out
			l.out, l.sent = nil, 0
		}
		x.mu.Unlock()
		if again != nil {
			return again, nil
		}
		return nil, x.srv.unwelcome(a)
	}
	if x.over != nil { // the server does not know the session
		x.leave(now)
		return nil, errTooLate
	}
	l.answers.Frames()
	l.heard, x.beatAt, x.lookAt, x.failure = now, now, now, nil
	if x.client.Busy() {
		x.client.Beat(now) // so that a link that is none shows soon
	}
	x.concludeLocked(nil)
	x.leave(now)
	return nil, nil
}

// unwelcome is the error for an answer to hello that is none.
func (s *server) unwelcome(a *codec.Answer) error {
	switch a.Status {
	case codec.Failed:
		return errNoSessions
	case codec.ErrAuth:
		return fmt.Errorf("%w by %v", locker.ErrAuth, s.addr)
	case codec.Draining:
		return locker.ErrDraining
	}
	return s.unreachable("begin a session with", fmt.Errorf("it answered %v to hello", a))
}

// steady is how long a link must have lasted for the next one to be tried at
// once: who is cut off again and again should not hurry.
const steady = time.Second

// run looks after the conversation until it is over: after its link, and then
// after getting the next.
func (x *conversation) run(l *link) {
	pauses := newPauses()
	for l != nil {
		began := x.clock()
		x.tend(l)
		l.close()
		pause := time.Duration(0)
		if x.clock()-began < steady {
			pause = x.pause(pauses)
		} else {
			pauses.Reset()
		}
		l = x.reconnect(pauses, pause)
	}
}

// reconnect returns the next link, or nil when the conversation is over.
func (x *conversation) reconnect(pauses *backoff.ExponentialBackOff, pause time.Duration) *link {
	for try := 0; x.rest(pause) && x.worthwhile(); try++ {
		if try == 0 {
			x.tellLost()
		}
		l, err := x.connect(try)
		if err == nil {
			x.tellBack()
			x.srv.b.wg.Go(func() { x.listen(l) })
			return l
		}
		x.failed(err)
		pause = x.pause(pauses)
	}
	return nil
}

// tellLost tells operators that the connection was lost: once, however many attempts
// it takes to have another, because whoever waits for one tells of those.
func (x *conversation) tellLost() {
	x.mu.Lock()
	holds, why := x.client.Holds(), x.why
	x.mu.Unlock()
	x.srv.b.log.Warn("distributed: connection lost, connecting again", "server", x.srv.addr.String(), "holds", holds, "error", why)
}

// tellBack tells them that there is one again.
func (x *conversation) tellBack() {
	now := x.clock()
	x.mu.Lock()
	holds, away := x.client.Holds(), now-x.down
	x.mu.Unlock()
	x.srv.b.log.Info("distributed: connected again", "server", x.srv.addr.String(), "holds", holds, "after", away)
}

// pause returns how long to pause before the next attempt: at most half of the
// time from beat to beat, and so a sixth of the shortest lease, which would run
// out in a pause that grew without regard to it. The random half stays in it,
// so that clients which were cut off together do not come back together.
func (x *conversation) pause(pauses *backoff.ExponentialBackOff) time.Duration {
	x.mu.Lock()
	every := x.client.BeatEvery()
	x.mu.Unlock()
	pauses.MaxInterval = min(maxPause, every/3)
	return min(pauses.NextBackOff(), every/2)
}

// rest pauses. It returns false, and ends the conversation, when the backend's
// life ends.
func (x *conversation) rest(pause time.Duration) bool {
	if pause > 0 {
		t := time.NewTimer(pause)
		defer t.Stop()
		select {
		case <-t.C:
		case <-x.srv.b.life.Done():
		}
	}
	if x.srv.b.life.Err() != nil {
		x.end(reasonClosed)
		return false
	}
	return true
}

// worthwhile says whether there is anything to connect again for: also what the
// server may keep for callers who have left. If not, the conversation ends, and the
// next caller begins another: a server that is gone is not called for ever by those
// who want nothing of it.
func (x *conversation) worthwhile() bool {
	now := x.clock()
	x.mu.Lock()
	if x.over == nil && !x.client.Busy() && !x.client.Orphans(now) {
		x.client.End(reasonIdle)
	}
	worth := x.over == nil
	if worth && x.attempt == nil {
		x.attempt = &attempt{done: make(chan struct{})}
	}
	x.leave(now)
	return worth
}

// connect tries once to have another link. The time for that grows from try to
// try: at first it is little, because packets may just have gone into a hole
// that is gone now, and leases are running out.
func (x *conversation) connect(try int) (*link, error) {
	x.mu.Lock()
	limit := min(dialTimeout, patienceOf(x.client.BeatEvery())<<min(try, 4))
	x.mu.Unlock()
	ctx, cancel := context.WithTimeout(x.srv.b.life, limit)
	defer cancel()
	t, err := x.srv.connect(ctx, limit)
	if err != nil {
		return nil, err
	}
	return x.greet(ctx, t)
}

// failed tells those who wait for the attempt, and takes back what the server
// has surely forgotten, or whose callers want to know at once.
func (x *conversation) failed(err error) {
	now := x.clock()
	x.mu.Lock()
	x.failure = err
	x.concludeLocked(err)
	if x.over == nil {
		for _, call := range x.client.Calls() {
			if a, ok := call.Tag.(*ask); ok && now-x.down >= a.lasts() {
				a.err = err
				x.client.Cancel(now, call)
			}
		}
	}
	x.leave(now)
}
