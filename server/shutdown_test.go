package server_test

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/server"
)

// shutdown starts a Shutdown and returns where its outcome comes.
func shutdown(ctx context.Context, s *server.Server) <-chan error {
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(ctx) }()
	return done
}

func pending(t *testing.T, done <-chan error) {
	t.Helper()
	synctest.Wait()
	select {
	case err := <-done:
		t.Fatalf("Shutdown returned %v already", err)
	default:
	}
}

func TestDrain(t *testing.T) {
	inVirtualTime(t, server.Config{}, func(t *testing.T, s *server.Server) {
		holder, locker, ticket, waiter, idle := connect(s), connect(s), connect(s), connect(s), connect(s)
		token := holder.grant(t, "l|k|0")
		sem := holder.grant(t, "sl|k|0 1")
		locker.ask(t, "l|k|100", "ping|_|_")
		ticket.expect(t, "e|k|", "queued")
		waiter.expect(t, "se|k|1", "queued")
		waiter.ask(t, "sw|k|100")
		idle.expect(t, "ping|_|_", "ok")
		synctest.Wait()

		done := shutdown(t.Context(), s)
		pending(t, done)
		for _, p := range []*peer{locker, waiter} {
			if got := p.get(t); got != "error_draining" {
				t.Errorf("who waited got %q", got)
			}
		}
		if got := locker.get(t); got != "ok" {
			t.Errorf("behind the wait came %q", got)
		}
		ticket.expect(t, "w|k|100", "error_draining")
		ticket.expect(t, "w|k|100", "error_not_enqueued")
		idle.expect(t, "l|new|0", "error_draining")
		idle.expect(t, "l|k|100", "error_draining")
		idle.expect(t, "se|new|5", "error_draining")
		idle.expect(t, "ping|_|_", "ok")

		time.Sleep(20 * time.Second)
		holder.expect(t, "n|k|"+token+" 60", "ok 60")
		holder.expect(t, "r|k|"+token, "ok")
		pending(t, done)
		holder.expect(t, "sr|k|"+sem, "ok") // the last answer arrives
		for _, p := range []*peer{holder, locker, ticket, waiter, idle} {
			p.closed(t)
		}
		if err := <-done; err != nil {
			t.Errorf("Shutdown = %v", err)
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Errorf("a second Shutdown = %v", err)
		}
	})
}

func TestDrainEndsWhenLeasesRunOut(t *testing.T) {
	for _, keep := range []bool{false, true} {
		inVirtualTime(t, server.Config{KeepOnDisconnect: keep}, func(t *testing.T, s *server.Server) {
			p := connect(s)
			p.ask(t, "e|k|7")
			p.granted(t, "7")
			began := time.Now()
			done := shutdown(t.Context(), s)
			pending(t, done)
			p.ask(t, "w|k|0") // what is held can still be collected
			p.granted(t, "7")
			p.nc.Close()
			if err := <-done; err != nil {
				t.Errorf("Shutdown = %v", err)
			}
			want := time.Duration(0)
			if keep {
				want = 7 * time.Second
			}
			if took := time.Since(began); took != want {
				t.Errorf("keep=%v: Shutdown took %v, want %v", keep, took, want)
			}
		})
	}
}

func TestDrainOfAnIdleServerEndsAtOnce(t *testing.T) {
	inVirtualTime(t, server.Config{}, func(t *testing.T, s *server.Server) {
		p := connect(s)
		p.expect(t, "ping|_|_", "ok")
		p.send("l\nk") // half a request does not hold it up
		began := time.Now()
		if err := s.Shutdown(t.Context()); err != nil || time.Since(began) != 0 {
			t.Errorf("Shutdown = %v after %v", err, time.Since(began))
		}
		p.closed(t)
	})
}

func TestDrainEndsWithItsContext(t *testing.T) {
	inVirtualTime(t, server.Config{}, func(t *testing.T, s *server.Server) {
		p := connect(s)
		p.ask(t, "l|k|0 1000")
		p.granted(t, "1000")
		why := errors.New("enough")
		ctx, cancel := context.WithTimeoutCause(t.Context(), 5*time.Second, why)
		defer cancel()
		began := time.Now()
		if err := s.Shutdown(ctx); err != why || time.Since(began) != 5*time.Second {
			t.Errorf("Shutdown = %v after %v", err, time.Since(began))
		}
		p.closed(t)
		empty(t, s)
	})
}

func TestDrainIsNotHeldUpForEverByWhoDoesNotRead(t *testing.T) {
	inVirtualTime(t, server.Config{}, func(t *testing.T, s *server.Server) {
		p := connect(s)
		p.ask(t, "ping|_|_")
		synctest.Wait()
		began := time.Now()
		if err := s.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown = %v", err)
		}
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("Shutdown took %v", took)
		}
	})
}

func TestCloseEndsAShutdown(t *testing.T) {
	inVirtualTime(t, server.Config{KeepOnDisconnect: true}, func(t *testing.T, s *server.Server) {
		p := connect(s)
		p.grant(t, "l|k|0")
		done := shutdown(t.Context(), s)
		pending(t, done)
		began := time.Now()
		s.Close()
		if err := <-done; err != nil || time.Since(began) != 0 {
			t.Errorf("Shutdown = %v, %v after Close", err, time.Since(began))
		}
	})
}

func TestAfterClose(t *testing.T) {
	s := start(t, server.Config{})
	for range 2 {
		if err := s.Close(); err != nil {
			t.Errorf("Close = %v", err)
		}
	}
	ours, theirs := net.Pipe()
	s.ServeConn(theirs)
	if _, err := ours.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("a connection after Close: %v", err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(l); err != server.ErrServerClosed {
		t.Errorf("Serve = %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener is still open: %v", err)
	}
	if err := s.Shutdown(t.Context()); err != nil {
		t.Errorf("Shutdown = %v", err)
	}
}

func TestCloseWithAllKindsOfConnections(t *testing.T) {
	s, connect := overTCP(t, server.Config{})
	_, waiter, _ := waitsFor(t, s, connect, "l|k|100")
	full := connect()
	full.ask(t, "l|k|100")
	go full.nc.Write(make([]byte, 1<<20)) // more than is read ahead
	half := connect()
	half.send("l\n")
	idle := connect()
	eventually(t, "all are known", func() bool { r := s.Stats(); return r.Connections == 5 && r.Locks[0].Waiters == 2 })
	s.Close()
	for _, p := range []*peer{waiter, half, idle} {
		if line, err := p.line(patience); err == nil && line != "error_draining" {
			t.Errorf("got %q", line)
		}
	}
	if r := s.Stats(); r.Connections != 0 || len(r.Locks) != 0 {
		t.Errorf("left are %+v", r)
	}
}

// TestEverythingAtOnce is for the race detector.
func TestEverythingAtOnce(t *testing.T) {
	for range 5 {
		s, connect := overTCP(t, server.Config{AuthToken: "x"})
		var clients sync.WaitGroup
		for range 20 {
			p := connect()
			clients.Go(func() {
				p.send(wire("auth|_|x"))
				for i := 0; ; i++ {
					request := []string{"l|k|1", "e|k|", "w|k|0", "sl|k|1 3", "stats|_|_", "ping|_|_", "zz|k|0"}[i%7]
					if p.send(wire(request)) != nil {
						return
					}
					if _, err := p.line(patience); err != nil {
						return
					}
				}
			})
		}
		s.Stats()
		eventually(t, "some hold", func() bool { return len(s.Stats().Locks) > 0 })
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		s.Shutdown(ctx)
		cancel()
		clients.Wait()
		empty(t, s)
	}
}
