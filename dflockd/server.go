package dflockd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/locker"
)

// A server is what a Backend knows of one lock server: its connections, and
// how to make more. Most of what is here is the base protocol's way; session
// mode is a second way of doing the same (acquire, enqueue, renew, release,
// stats), by a conversation.
type server struct {
	b    *Backend
	addr address

	talk atomic.Pointer[conversation] // nil while there is none

	semaphores atomic.Bool // the server is known to know semaphores

	mu      sync.Mutex         // guards everything below
	main    *conn              // the shared connection; nil until it is needed
	dialing *dialing           // that of the shared connection under way
	conns   map[*conn]struct{} // all that have not ended
	idle    []*conn            // those of own that nobody uses, the longest idle first
	dials   int                // connections of own under way
	waiters map[waiterKey]int  // acquisitions of this process that wait, or are about to
	gate    gate
}

// waiterKey is a key that somebody waits for.
type waiterKey struct {
	kind locker.Kind
	key  string
}

// A dialing is the one attempt that many callers wait for.
type dialing struct {
	done chan struct{}
	c    *conn         // the shared connection; set before done is closed
	x    *conversation // or a conversation instead; as c
	err  error         // as c
}

func newServer(b *Backend, addr address) *server {
	return &server{b: b, addr: addr, conns: make(map[*conn]struct{}), waiters: make(map[waiterKey]int)}
}

// ask sends a request over the shared connection. It tries once more, over
// another, if nothing was sent, because the connection ended while it was
// idle; and if again says that the request may be repeated even when it may
// have arrived.
func (s *server) ask(ctx context.Context, req *request, t *tie, again bool) (codec.Answer, *conn, error) {
	for first := true; ; first = false {
		c, err := s.shared(ctx)
		if err != nil {
			return codec.Answer{}, nil, err
		}
		a, err := c.roundTrip(ctx, req, t)
		if err == nil || !first || !repeatable(err, again) {
			return a, c, err
		}
	}
}

// repeatable says whether a request that failed may be sent again, over
// another connection. Arrived says that it may even if it perhaps arrived, on
// a connection that had been in use before.
func repeatable(err error, arrived bool) bool {
	var ended *endedError
	return errors.As(err, &ended) && (!ended.sent || arrived && ended.stale)
}

// shared returns the shared connection. Where there is none, one is dialled,
// for all who ask meanwhile.
func (s *server) shared(ctx context.Context) (*conn, error) {
	for {
		s.mu.Lock()
		if c := s.main; c != nil {
			s.mu.Unlock()
			return c, nil
		}
		d, err := s.dialLocked(false)
		s.mu.Unlock()
		if err == nil {
			err = s.waitFor(ctx, d)
		}
		if err != nil {
			return nil, err
		}
		if d.c != nil {
			return d.c, nil
		} // else somebody else's dialling became a conversation
	}
}

// dialLocked returns the dialling under way, and begins one if there is none:
// by asking for session mode, or not.
func (s *server) dialLocked(hello bool) (*dialing, error) {
	if s.dialing != nil {
		return s.dialing, nil
	}
	d := &dialing{done: make(chan struct{})}
	// Not on the context of whoever comes first: the others still want
	// the connection when that one has given up.
	if !s.b.background(func() { s.dialShared(d, hello) }) {
		return d, locker.ErrClosed
	}
	s.dialing = d
	return d, nil
}

// waitFor waits for the end of an attempt to connect and returns its error. A wait
// that ends before must not look as if somebody else held the key.
func (s *server) waitFor(ctx context.Context, d *dialing) error {
	select {
	case <-d.done:
		return d.err
	case <-ctx.Done():
		return fmt.Errorf("%w: not connected to %v in time: %w", locker.ErrUnavailable, s.addr, context.Cause(ctx))
	}
}

func (s *server) dialShared(d *dialing, hello bool) {
	if hello {
		d.x, d.err = s.introduce(s.b.life)
	}
	if d.x == nil && d.err == nil {
		d.c, d.err = s.dial(s.b.life, false)
	}
	s.mu.Lock()
	s.dialing = nil
	if _, ok := s.conns[d.c]; ok {
		s.main = d.c
	}
	s.mu.Unlock()
	close(d.done)
}

// retire makes place for another shared connection. The old one stays for as
// long as anything depends on it.
func (s *server) retire(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.main == c {
		s.main = nil
	}
}

// adopt lists a new connection and starts its reader.
func (s *server) adopt(c *conn) error {
	s.mu.Lock()
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	if !s.b.opened(c.read) {
		c.end(locker.ErrClosed)
		return locker.ErrClosed
	}
	return nil
}

// forget is called once for each connection, when it ends.
func (s *server) forget(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	if s.main == c {
		s.main = nil
	}
	for i, other := range s.idle {
		if other == c {
			s.idle = append(s.idle[:i], s.idle[i+1:]...)
			break
		}
	}
	s.mu.Unlock()
	s.b.gone()
}

// all returns the connections.
func (s *server) all() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		list = append(list, c)
	}
	return list
}

// close ends all connections: those that wait first, as the end of those that
// hold would bring them grants that nobody wants any more.
func (s *server) close() {
	for _, waiting := range []bool{true, false} {
		for _, c := range s.all() {
			if !waiting || c.waiting() {
				c.end(locker.ErrClosed)
			}
		}
	}
}

// queue notes that an acquisition is going to wait for a key. While one does,
// a try of another would fail, and can be left out.
func (s *server) queue(k waiterKey) (leave func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiters[k]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.waiters[k]--; s.waiters[k] == 0 {
			delete(s.waiters, k)
		}
	}
}

func (s *server) queued(k waiterKey) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiters[k] > 0
}

// giveBackTimeout bounds how long a grant that nobody wants is offered to a
// server that cannot be reached.
const giveBackTimeout = 30 * time.Second

// giveBack releases a grant that nobody wants, in the background, until the
// server has answered. Where it cannot be reached for long the grant ends with
// its connection, or with its lease.
func (s *server) giveBack(req request) {
	s.b.background(func() {
		ctx, cancel := context.WithTimeout(s.b.life, giveBackTimeout)
		defer cancel()
		pauses := newPauses()
		for {
			if _, _, err := s.ask(ctx, &req, nil, false); err == nil || errors.Is(err, locker.ErrAuth) {
				return
			}
			t := time.NewTimer(pauses.NextBackOff())
			select {
			case <-t.C:
			case <-ctx.Done():
				t.Stop()
				return
			}
		}
	})
}

// maxPause is what pauses between attempts to connect grow to.
const maxPause = time.Second

// newPauses returns the pauses between attempts to connect: 20 ms, doubling up
// to maxPause, each with half of it at random, without end.
func newPauses() *backoff.ExponentialBackOff {
	return backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(20*time.Millisecond),
		backoff.WithMultiplier(2),
		backoff.WithMaxInterval(maxPause),
		backoff.WithMaxElapsedTime(0),
	)
}

// A gate keeps callers from hammering a server that cannot be reached: for a
// while after a failed attempt to connect, all others fail with its error. The
// zero gate is open. It is guarded by server.mu.
type gate struct {
	pauses *backoff.ExponentialBackOff // nil while open
	until  time.Time
	err    error
}

// check returns the last failure while the gate is shut.
func (g *gate) check(now time.Time) error {
	if g.pauses != nil && now.Before(g.until) {
		return fmt.Errorf("%w (tried a moment ago)", g.err)
	}
	return nil
}

// note shuts the gate after a failure, for longer each time, and opens it
// after a success.
func (g *gate) note(now time.Time, err error) {
	if err == nil {
		*g = gate{}
		return
	}
	if g.pauses == nil {
		g.pauses = newPauses()
	}
	g.until, g.err = now.Add(g.pauses.NextBackOff()), err
}
