package dflockd

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/locker"
	lockserver "github.com/distributed-go/distributed/server"
)

// clockOf returns a clock that starts now.
func clockOf() func() time.Duration {
	start := time.Now()
	return func() time.Duration { return time.Since(start) }
}

// A sessions is a server and what reaches it in session mode.
type sessions struct {
	*testing.T
	net *network
	cfg lockserver.Config
	srv *lockserver.Server
	all []*Backend
}

// sessionBubble runs a test in virtual time with this project's server. What
// the test leaves must be nothing, once its backends are closed.
func sessionBubble(t *testing.T, f func(*sessions)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &sessions{T: t, net: newNetwork()}
		s.start()
		f(s)
		for _, b := range s.all {
			b.Close()
		}
		s.srv.Close()
		s.net.wg.Wait()
	})
}

func (s *sessions) start() {
	s.srv = ours(s.T, s.cfg)
	s.net.listen(where, s.srv.ServeConn)
}

// restart replaces the server by one that knows nothing.
func (s *sessions) restart() {
	s.net.listen(where, nil)
	s.srv.Close()
	s.start()
}

func (s *sessions) backend(opts ...Option) *Backend {
	return s.backendOver(s.net.dial, opts...)
}

func (s *sessions) backendOver(dial DialFunc, opts ...Option) *Backend {
	b := newBackend(s.T, []string{where}, append([]Option{WithDialer(dial)}, opts...)...)
	b.UseClock(clockOf())
	s.all = append(s.all, b)
	return b
}

// expect checks what the server knows, once all is quiet.
func (s *sessions) expect(holders, waiters int) {
	s.Helper()
	synctest.Wait()
	b := newBackend(s.T, []string{where}, WithDialer(func(context.Context, string) (net.Conn, error) {
		near, far := newDuplex()
		s.net.wg.Go(func() { s.srv.ServeConn(far) })
		return near, nil
	}))
	defer b.Close()
	r, err := b.Inspect(context.Background())
	if err != nil {
		s.Fatal(err)
	}
	h, w := 0, 0
	for _, k := range r.Keys {
		h += k.Holders
		w += k.Waiters
	}
	if h != holders || w != waiters {
		s.Errorf("the server knows of %d holders and %d waiters, want %d and %d: %+v", h, w, holders, waiters, r.Keys)
	}
}

// brief is a request with a lease of two seconds.
func brief(key string) locker.Request {
	r := lock(key)
	r.TTL = 2 * time.Second
	return r
}

// A loser notes what it is told.
type loser struct {
	mu     sync.Mutex
	causes []error // guarded by mu
}

func (l *loser) Lose(cause error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.causes = append(l.causes, cause)
}

// told returns what the loser was told, once all is quiet.
func (l *loser) told() []error {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.causes
}

// bind binds a new loser.
func (s *sessions) bind(g locker.Grant) *loser {
	s.Helper()
	l := new(loser)
	if err := g.Kept.Bind(l); err != nil {
		s.Fatal(err)
	}
	return l
}

// wantLost checks that the loser was told once, by an error that matches all of
// these.
func (s *sessions) wantLost(l *loser, want ...error) {
	s.Helper()
	told := l.told()
	if len(told) != 1 {
		s.Fatalf("told %v, want to be told once", told)
	}
	for _, w := range append(want, locker.ErrLost) {
		wantErr(s.T, told[0], w)
	}
}
