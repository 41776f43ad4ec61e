package locker_test

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/distributed-go/distributed/locker"
)

// A shelf is a fake that keeps values. Its scripts are changed with set.
type shelf struct {
	*fake
	put  func(ctx context.Context, h locker.Hold, data []byte, keep time.Duration) (uint64, error) // guarded by mu, as all below
	join func(ctx context.Context, req locker.Request, fresh time.Duration) (locker.Grant, *locker.Value, error)
	say  func() (locker.Shelf, error)

	values map[string]shelved
	joins  map[*fakeWaiter]chan *locker.Value // of those who wait by Join; capacity 1
}

type shelved struct {
	data  []byte
	fence uint64
	at    time.Time
	until time.Time // zero for ever
}

func newShelf() *shelf {
	return &shelf{fake: newFake(), values: make(map[string]shelved), joins: make(map[*fakeWaiter]chan *locker.Value)}
}

func (s *shelf) Shelf(context.Context, string) (locker.Shelf, error) {
	s.mu.Lock()
	s.recordLocked(call{op: "shelf"})
	script := s.say
	s.mu.Unlock()
	if script != nil {
		return script()
	}
	return locker.Shelf{Durable: true, MaxSize: 64}, nil
}

func (s *shelf) Put(ctx context.Context, h locker.Hold, data []byte, keep time.Duration) (uint64, error) {
	s.mu.Lock()
	s.recordLocked(call{op: "put", key: h.Key, token: h.Token, ttl: keep})
	script := s.put
	s.mu.Unlock()
	if script != nil {
		return script(ctx, h, data, keep)
	}
	return s.store(h, data, keep)
}

// store is the server's Put.
func (s *shelf) store(h locker.Hold, data []byte, keep time.Duration) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.keys[fmt.Sprint(h.Kind, " ", h.Key)]
	if k == nil || k.holds[h.Token] == nil {
		return 0, locker.ErrNotHeld
	}
	if len(data) > 64 {
		return 0, &locker.SizeError{Size: len(data), Max: 64}
	}
	s.tokens++
	v := shelved{data: slices.Clone(data), fence: s.tokens, at: time.Now()}
	if keep > 0 {
		v.until = v.at.Add(keep)
	}
	s.values[h.Key] = v
	k.queue = slices.DeleteFunc(k.queue, func(w *fakeWaiter) bool {
		answer := s.joins[w]
		if answer == nil {
			return false
		}
		answer <- v.value()
		return true
	})
	return v.fence, nil
}

func (v shelved) value() *locker.Value {
	return &locker.Value{Data: slices.Clone(v.data), Fence: v.fence, Age: time.Since(v.at)}
}

func (s *shelf) Get(ctx context.Context, key string) (locker.Value, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recordLocked(call{op: "get", key: key})
	if v := s.lookLocked(key); v != nil {
		return *v, ctx.Err()
	}
	return locker.Value{}, locker.ErrNoValue
}

func (s *shelf) lookLocked(key string) *locker.Value {
	v, ok := s.values[key]
	if !ok || !v.until.IsZero() && !time.Now().Before(v.until) {
		return nil
	}
	return v.value()
}

func (s *shelf) Remove(_ context.Context, h locker.Hold) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recordLocked(call{op: "remove", key: h.Key, token: h.Token})
	if k := s.keys[fmt.Sprint(h.Kind, " ", h.Key)]; k == nil || k.holds[h.Token] == nil {
		return locker.ErrNotHeld
	}
	delete(s.values, h.Key)
	return nil
}

func (s *shelf) Join(ctx context.Context, req locker.Request, fresh time.Duration) (locker.Grant, *locker.Value, error) {
	s.mu.Lock()
	s.recordLocked(call{op: "join", key: req.Key, ttl: req.TTL})
	script := s.join
	s.mu.Unlock()
	if script != nil {
		return script(ctx, req, fresh)
	}
	return s.queueUp(ctx, req, fresh)
}

// queueUp is the server's Join.
func (s *shelf) queueUp(ctx context.Context, req locker.Request, fresh time.Duration) (locker.Grant, *locker.Value, error) {
	s.mu.Lock()
	if v := s.lookLocked(req.Key); v != nil && v.Age < fresh {
		s.mu.Unlock()
		return locker.Grant{}, v, nil
	}
	k := s.keyLocked(req)
	if len(k.queue) == 0 && k.used == 0 {
		defer s.mu.Unlock()
		return s.grantLocked(k, req), nil, nil
	}
	w := &fakeWaiter{req: req, granted: make(chan locker.Grant, 1)}
	answer := make(chan *locker.Value, 1)
	k.queue, s.joins[w] = append(k.queue, w), answer
	s.mu.Unlock()
	defer s.set(func() { delete(s.joins, w) })

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var v *locker.Value
	stop := make(chan struct{})
	go func() {
		defer close(stop)
		select {
		case v = <-answer:
			cancel()
		case <-ctx.Done():
		}
	}()
	g, err := s.wait(ctx, k, w)
	cancel()
	<-stop
	if v != nil {
		return locker.Grant{}, v, nil
	}
	return g, nil, err
}
