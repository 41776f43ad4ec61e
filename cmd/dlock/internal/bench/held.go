//go:build unix

package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/distributed-go/distributed"
	"github.com/distributed-go/distributed/internal/figures"
	"github.com/distributed-go/distributed/internal/proc"
	"github.com/distributed-go/distributed/locker"
)

// fewHeld is how many locks many are compared with, when all are idle.
const fewHeld = 10

// held takes many locks, holds them for a while and releases them.
func (s *stage) held(ctx context.Context) (*Held, error) {
	s.what = fmt.Sprintf("%d locks held, idle", fewHeld)
	s.step()
	// What else there is may say something on the wire.
	if err := s.client.Close(); err != nil {
		return nil, err
	}
	some, err := s.hold(ctx, fewHeld)
	if err != nil {
		return nil, err
	}
	s.what = fmt.Sprintf("%d locks held", s.Locks)
	s.step()
	h, err := s.hold(ctx, s.Locks)
	if err != nil {
		return nil, err
	}
	h.WireOfFew = some.Wire
	s.Progress(1, "done")
	return h, nil
}

// A hoard is locks that are held at once.
type hoard struct {
	mutexes []*distributed.Mutex
}

func (s *stage) hold(ctx context.Context, n int) (*Held, error) {
	rest := proc.Measure(false)
	client, err := s.Open(s.URL, locker.WithTTL(s.TTL))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	// The first lock brings the connection and all that stays with it; keys and
	// Mutexes are the caller's own.
	first := distributed.NewMutex(client, key("first", 0))
	if err := first.LockContext(ctx); err != nil {
		return nil, err
	}
	hoard := &hoard{mutexes: make([]*distributed.Mutex, n)}
	for i := range hoard.mutexes {
		hoard.mutexes[i] = distributed.NewMutex(client, fmt.Sprintf("dlock-bench-held-%07d", i))
	}
	h := &Held{Locks: n, TTLSeconds: s.TTL.Seconds()}
	server, err := s.serverHeap(ctx)
	if err != nil {
		return nil, err
	}
	before := proc.Measure(true)
	if h.Taken, err = hoard.each(func(m *distributed.Mutex) error { return m.LockContext(ctx) }); err != nil {
		return nil, err
	}
	during := proc.Measure(true)
	h.ClientBytes = (float64(during.Heap) - float64(before.Heap)) / float64(n)
	h.Goroutines, h.Sockets = during.Goroutines-rest.Goroutines, during.Sockets-rest.Sockets
	if server != nil {
		after, err := s.serverHeap(ctx)
		if err != nil {
			return nil, err
		}
		h.ServerBytes = figures.Known((*after - *server) / float64(n))
	}
	if err := s.idle(ctx, h); err != nil {
		return nil, err
	}
	h.Released, err = hoard.each(func(m *distributed.Mutex) error { return m.UnlockContext(ctx) })
	return h, errors.Join(err, first.UnlockContext(ctx))
}

// each does something to every lock, from a crowd of goroutines, and returns the
// seconds it took.
func (h *hoard) each(f func(*distributed.Mutex) error) (float64, error) {
	errs := make([]error, crowd)
	var wg sync.WaitGroup
	began := time.Now()
	for g := range crowd {
		wg.Go(func() {
			for i := g; i < len(h.mutexes) && errs[g] == nil; i += crowd {
				errs[g] = f(h.mutexes[i])
			}
		})
	}
	wg.Wait()
	return time.Since(began).Seconds(), errors.Join(errs...)
}

// serverHeap is what the server's heap holds, after two collections; nil if it
// is not known.
func (s *stage) serverHeap(ctx context.Context) (*float64, error) {
	if s.own == nil {
		return nil, nil
	}
	u, err := s.own.Usage(ctx, true)
	if err != nil {
		return nil, err
	}
	heap := float64(u.Heap)
	return &heap, nil
}

// idle waits for two thirds of a TTL, in which every lease is renewed twice,
// and counts what goes over the wire meanwhile.
func (s *stage) idle(ctx context.Context, h *Held) error {
	_, text, err := net.SplitHostPort(s.addr)
	if err != nil {
		return nil // not our server, so not known
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		return err
	}
	before, ok := wire(port)
	if !ok {
		return nil
	}
	rest := 2 * s.TTL / 3
	select {
	case <-time.After(rest):
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if after, ok := wire(port); ok {
		h.IdleSeconds = rest.Seconds()
		h.Wire = figures.Known(float64(after-before) / rest.Seconds())
	}
	return nil
}
