package dflockd

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distributed-go/distributed/locker"
)

// A wait that a frozen server does not end looks like no held key. One that is
// cancelled does not wait to find out.
func TestWaitingForAFrozenServer(t *testing.T) {
	sessionBubble(t, func(s *sessions) {
		f := new(freezer)
		ln := &line{freezer: f, serve: s.srv.ServeConn}
		b := s.backendOver(ln.dial)
		mustAcquire(t, b, brief("k"))
		f.freeze()
		wait := func(ctx context.Context, want time.Duration, wantErrs ...error) {
			began := time.Now()
			_, err := b.Acquire(ctx, lock("other"))
			for _, w := range wantErrs {
				wantErr(t, err, w)
			}
			if took := time.Since(began); took != want {
				t.Errorf("took %v, want %v", took, want)
			}
		}
		const patience = 300 * time.Millisecond
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		wait(ctx, patience+lateAnswer, context.DeadlineExceeded, locker.ErrUnavailable)
		cancel()
		ctx, cancel = context.WithCancel(context.Background())
		time.AfterFunc(patience, cancel)
		wait(ctx, patience, context.Canceled)
		f.thaw()
		ln.cut()
	})
}

// Nothing is dialled for those who want nothing, but a link is kept.
func TestAnIdleSession(t *testing.T) {
	sessionBubble(t, func(s *sessions) {
		b := s.backend()
		mustRelease(t, b, hold("k", mustAcquire(t, b, lock("k"))))
		time.Sleep(10 * time.Minute)
		if n := s.net.dialled(where); n != 1 {
			t.Errorf("%d connections: it was not kept", n)
		}
		mustAcquire(t, b, try("k"))
		if n := s.net.dialled(where); n != 1 {
			t.Errorf("%d connections", n)
		}
		_, _ = b.Force(context.Background(), locker.Exclusive, "k")
		s.net.listen(where, nil)
		s.srv.Close()
		time.Sleep(time.Hour)
		if n := s.net.dialled(where); n > 2 {
			t.Errorf("%d connections: somebody dials for nobody", n)
		}
		s.start()
		mustAcquire(t, b, try("k"))
	})
}

func TestCloseSaysBye(t *testing.T) {
	sessionBubble(t, func(s *sessions) {
		b, other := s.backend(), s.backend()
		l := s.bind(mustAcquire(t, b, lock("k")))
		waits := make(chan error, 1)
		go func() {
			_, err := b.Acquire(context.Background(), lock("k"))
			waits <- err
		}()
		s.expect(1, 1)
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		wantErr(t, <-waits, locker.ErrClosed)
		s.wantLost(l, locker.ErrClosed)
		mustAcquire(t, other, try("k"))
		_, err := b.Acquire(context.Background(), lock("k"))
		wantErr(t, err, locker.ErrClosed)
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
}

// Close does not wait for long for a server that does not answer.
func TestCloseWithAFrozenServer(t *testing.T) {
	sessionBubble(t, func(s *sessions) {
		f := new(freezer)
		ln := &line{freezer: f, serve: s.srv.ServeConn}
		b := s.backendOver(ln.dial)
		l := s.bind(mustAcquire(t, b, lock("k")))
		f.freeze()
		began := time.Now()
		b.Close()
		if took := time.Since(began); took > byeTimeout {
			t.Errorf("took %v", took)
		}
		s.wantLost(l, locker.ErrClosed)
		f.thaw()
		ln.cut()
	})
}

// Requests that are too many for the buffers of the kernel, to a server that
// says hello and then reads nothing: callers are free when their context ends.
func TestNobodyHangsInASessionWithAFrozenServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			defer nc.Close()
			nc.Read(make([]byte, 512)) //nolint:errcheck // hello
			fmt.Fprintf(nc, "ok 1 %032x\n", 1)
		}
	})
	b := newBackend(t, []string{l.Addr().String()})
	b.UseClock(clockOf())
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	var callers sync.WaitGroup
	for i := range 20_000 {
		callers.Go(func() {
			_, err := b.Acquire(ctx, lock(fmt.Sprintf("%s%d", strings.Repeat("k", 200), i)))
			wantErr(t, err, context.DeadlineExceeded)
		})
	}
	callers.Wait()
	b.Close()
	l.Close()
	wg.Wait()
}
