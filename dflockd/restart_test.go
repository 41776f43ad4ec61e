package dflockd_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/distributed-go/distributed/dflockd"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/server"
)

// A restartable is a server on a data directory, again and again on one address.
type restartable struct {
	t    *testing.T
	dir  string
	addr string
	srv  *server.Server
	done chan error
}

func newRestartable(t *testing.T) *restartable {
	r := &restartable{t: t, dir: t.TempDir(), addr: "127.0.0.1:0"}
	r.start()
	t.Cleanup(r.crash)
	return r
}

func (r *restartable) start() {
	r.t.Helper()
	var err error
	if r.srv, err = server.New(server.Config{DataDir: r.dir, Logger: slog.New(slog.DiscardHandler)}); err != nil {
		r.t.Fatal(err)
	}
	l, err := net.Listen("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.addr = l.Addr().String()
	r.done = make(chan error, 1)
	go func() { r.done <- r.srv.Serve(l) }()
}

// crash ends the server without a word on its disk.
func (r *restartable) crash() {
	r.srv.Close()
	<-r.done
}

// stop ends it properly.
func (r *restartable) stop() {
	r.t.Helper()
	if err := r.srv.Shutdown(r.t.Context()); err != nil {
		r.t.Error(err)
	}
	<-r.done
}

func (r *restartable) client() *locker.Client {
	b, err := dflockd.New([]string{r.addr}, dflockd.WithoutProcess())
	if err != nil {
		r.t.Fatal(err)
	}
	c := locker.New(b, locker.WithTTL(2*time.Second))
	r.t.Cleanup(func() { c.Close() })
	return c
}

// What is held when the server ends is held, under the same fence, when it is
// back, whoever asks first; who waits goes on waiting; and fences grow.
func TestHoldsOutliveTheServer(t *testing.T) {
	for name, end := range map[string]func(*restartable){"crash": (*restartable).crash, "stop": (*restartable).stop} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			r := newRestartable(t)
			holder, other := r.client(), r.client()
			var leases []*locker.Lease
			for i := range 50 {
				l, err := holder.Acquire(ctx, fmt.Sprint("k", i))
				if err != nil {
					t.Fatal(err)
				}
				leases = append(leases, l)
			}
			shared, err := holder.Acquirer(locker.Request{Kind: locker.Counting, Key: "shared", Limit: 10, Weight: 7})
			if err != nil {
				t.Fatal(err)
			}
			share, err := shared.Acquire(ctx)
			if err != nil {
				t.Fatal(err)
			}
			next := make(chan *locker.Lease, 1)
			go func() {
				l, err := other.Acquire(ctx, "k0")
				if err != nil {
					t.Error(err)
				}
				next <- l
			}()
			for range 2 { // what is held by claim is claimed again
				end(r)
				r.start()
				if _, err := r.client().TryAcquire(ctx, "k1"); !errors.Is(err, locker.ErrLocked) {
					t.Fatalf("while it is held, a try says %v", err)
				}
				time.Sleep(2500 * time.Millisecond) // beyond the deadline of what was not claimed
				for _, l := range append(leases, share) {
					if err := l.Check(); err != nil {
						t.Fatal(err)
					}
				}
			}
			if err := share.Release(ctx); err != nil {
				t.Error(err)
			}
			before, _ := leases[0].Fence()
			for _, l := range leases {
				if err := l.Release(context.WithoutCancel(ctx)); err != nil {
					t.Error(err)
				}
			}
			l := <-next
			if after, ok := l.Fence(); !ok || after <= before {
				t.Errorf("fence %d after %d", after, before)
			}
			if err := l.Release(ctx); err != nil {
				t.Error(err)
			}
		})
	}
}
