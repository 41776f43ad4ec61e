package memory

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/locker"
)

const (
	second = time.Second
	ttl    = 10 * second
)

// A world is a server and its clients in a bubble of virtual time.
type world struct {
	*testing.T
	*Server
	ctx      context.Context
	backends []*Backend
}

// bubble runs f in a world, and wants nothing to be left of it.
func bubble(t *testing.T, f func(*world), opts ...Option) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{T: t, Server: NewServer(opts...), ctx: t.Context()}
		defer w.end()
		f(w)
	})
}

// end closes all backends. The bubble itself sees to it that no goroutine is
// left; that no timer is, only the server knows.
func (w *world) end() {
	w.Server.Thaw()
	for _, b := range w.backends {
		if err := b.Close(); err != nil {
			w.Errorf("close: %v", err)
		}
	}
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	if h, n := w.table.Held(), w.table.Waiting(); h+n+w.Server.backends != 0 || w.alarmSet {
		w.Errorf("after all were closed: %d held, %d waiting, %d open, alarm set: %t", h, n, w.Server.backends, w.alarmSet)
	}
}

// client returns a new client of the world's server.
func (w *world) client() *Backend {
	b := w.Server.Backend()
	w.backends = append(w.backends, b)
	return b
}

func lock(key string) locker.Request {
	return locker.Request{Kind: locker.Exclusive, Key: key, Limit: 1, Weight: 1, TTL: ttl}
}

func slots(key string, limit, weight int) locker.Request {
	return locker.Request{Kind: locker.Counting, Key: key, Limit: limit, Weight: weight, TTL: ttl}
}

func lasting(r locker.Request, ttl time.Duration) locker.Request {
	r.TTL = ttl
	return r
}

func try(r locker.Request) locker.Request {
	r.Try = true
	return r
}

// hold names a grant.
func hold(r locker.Request, g locker.Grant) locker.Hold {
	return locker.Hold{Kind: r.Kind, Key: r.Key, Token: g.Token, Session: g.Session}
}

// get acquires or ends the test.
func (w *world) get(b *Backend, r locker.Request) locker.Grant {
	w.Helper()
	g, err := b.Acquire(w.ctx, r)
	w.is(err, nil, "acquire "+r.Key)
	return g
}

func (w *world) release(b *Backend, r locker.Request, g locker.Grant) {
	w.Helper()
	w.is(b.Release(w.ctx, hold(r, g)), nil, "release "+r.Key)
}

// renew renews one hold.
func (w *world) renew(b *Backend, r locker.Request, g locker.Grant, ttl time.Duration) (time.Duration, error) {
	renewals := []locker.Renewal{{Hold: hold(r, g), TTL: ttl, Attempt: 1}}
	b.Renew(w.ctx, renewals)
	return renewals[0].Granted, renewals[0].Err
}

// is wants an error to match all of want; nil wants no error.
func (w *world) is(err error, want error, what string) {
	w.Helper()
	if !errors.Is(err, want) {
		w.Fatalf("%s: got error %v, want %v", what, err, want)
	}
}

// counts wants so many held and waiting leases.
func (w *world) counts(held, waiting int) {
	w.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if h, n := w.table.Held(), w.table.Waiting(); h != held || n != waiting {
		w.Fatalf("%d held, %d waiting; want %d, %d", h, n, held, waiting)
	}
}

// An outcome is what a call in another goroutine returned, and when.
type outcome struct {
	grant locker.Grant
	err   error
	at    time.Time
}

// waiting acquires in a goroutine of its own, and returns when that waits.
func (w *world) waiting(ctx context.Context, b *Backend, r locker.Request) <-chan outcome {
	return w.calling(func() (locker.Grant, error) { return b.Acquire(ctx, r) })
}

// calling runs f in a goroutine of its own, and returns when that waits or has
// returned.
func (w *world) calling(f func() (locker.Grant, error)) <-chan outcome {
	out := make(chan outcome, 1)
	go func() {
		g, err := f()
		out <- outcome{g, err, time.Now()}
	}()
	synctest.Wait()
	return out
}

// still wants a call not to have returned.
func (w *world) still(out <-chan outcome, what string) {
	w.Helper()
	synctest.Wait()
	select {
	case o := <-out:
		w.Fatalf("%s: returned already: %+v", what, o)
	default:
	}
}

// now wants a call to have returned, without the time going on.
func (w *world) now(out <-chan outcome, what string) outcome {
	w.Helper()
	synctest.Wait()
	select {
	case o := <-out:
		return o
	default:
		w.Fatalf("%s: has not returned", what)
		return outcome{}
	}
}
