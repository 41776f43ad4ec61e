package dflockd

import (
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/stocktest"
	"github.com/distributed-go/distributed/locker"
)

func TestCloseEndsEverything(t *testing.T) {
	stockBubble(t, stocktest.Config{}, func(t *testing.T, s *stock) {
		g := mustAcquire(t, s.b, lock("k"))
		p := mustEnqueue(t, s.b, lock("k"), false)
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				_, err := s.b.Acquire(context.Background(), lock("k"))
				wantErr(t, err, locker.ErrClosed)
			})
		}
		wg.Go(func() {
			_, err := p.Wait(context.Background())
			wantErr(t, err, locker.ErrClosed)
		})
		synctest.Wait()
		for range 2 {
			if err := s.b.Close(); err != nil {
				t.Error(err)
			}
		}
		wg.Wait()
		wantErr(t, g.Session.Err(), locker.ErrLost)
		wantErr(t, g.Session.Err(), locker.ErrClosed)
		time.Sleep(24 * time.Hour) // v1.0 notices those who waited when it is over
		s.expect(t, 0, 0, 0)

		_, err := s.b.Acquire(context.Background(), lock("k"))
		wantErr(t, err, locker.ErrClosed)
		_, err = s.b.Enqueue(context.Background(), lock("k"))
		wantErr(t, err, locker.ErrClosed)
		_, err = s.b.Inspect(context.Background())
		wantErr(t, err, locker.ErrClosed)
		wantErr(t, s.b.Release(context.Background(), hold("other", g)), locker.ErrClosed)
		h := hold("other", g)
		h.Session = nil
		wantErr(t, renewOnce(s.b, h, time.Second, 1).Err, locker.ErrClosed)
	})
}

func TestCloseInterruptsDialling(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBackend(t, []string{where}, WithDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}))
		var wg sync.WaitGroup
		for _, f := range []func() error{
			func() error { _, err := b.Acquire(context.Background(), lock("k")); return err },
			func() error { _, err := b.Enqueue(context.Background(), lock("k")); return err },
		} {
			wg.Go(func() { wantErr(t, f(), locker.ErrClosed) })
		}
		synctest.Wait()
		began := time.Now()
		b.Close()
		wg.Wait()
		if took := time.Since(began); took != 0 {
			t.Errorf("took %v", took)
		}
	})
}

func TestCloseWhileConnectionsComeAndGo(t *testing.T) {
	s, addr := stocktest.Start(t, stocktest.Config{})
	for range 50 {
		b := newBackend(t, []string{addr})
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for {
					key := fmt.Sprint(i % 3)
					g, err := b.Acquire(context.Background(), lock(key))
					if err != nil {
						wantErr(t, err, locker.ErrClosed)
						return
					}
					b.Release(context.Background(), hold(key, g)) //nolint:errcheck // it may be closed by now
				}
			})
		}
		time.Sleep(time.Millisecond) // real time: sockets are real
		b.Close()
		wg.Wait()
		if left := len(b.servers[0].all()); left != 0 {
			t.Fatalf("%d connections are left", left)
		}
	}
	for range 1000 { // real time: the server hears of it by its sockets
		if conns, _, _ := s.Counts(); conns == 0 {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("the server still has connections")
}

func TestACapOnConnections(t *testing.T) {
	stockBubble(t, stocktest.Config{}, func(t *testing.T, s *stock) {
		mustAcquire(t, s.b, lock("k"))
		var wg sync.WaitGroup
		ctx, cancel := context.WithCancel(context.Background())
		for range 2 {
			wg.Go(func() { s.b.Acquire(ctx, lock("k")) })
			synctest.Wait()
		}
		began := time.Now()
		_, err := s.b.Acquire(context.Background(), lock("k"))
		wantErr(t, err, locker.ErrTooManyConns)
		_, err = s.b.Enqueue(context.Background(), lock("other"))
		wantErr(t, err, locker.ErrTooManyConns)
		if time.Since(began) != 0 {
			t.Error("it waited")
		}
		mustAcquire(t, s.b, lock("third")) // what needs no wait needs no connection
		s.expect(t, 3, 2, 2)
		cancel()
		wg.Wait()
	}, WithMaxConns(3))
}
