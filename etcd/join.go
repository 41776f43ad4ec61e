package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-go/distributed/locker"
)

// A joiner is an entry's wait for a value, beside that for its turn. Guarded by
// Backend.mu.
type joiner struct {
	fresh   time.Duration
	at      *shelf
	value   *published // that answered it
	instant bool       // it was granted without a wait
}

// A shelf is where a value is waited for. Guarded by Backend.mu.
type shelf struct {
	joiners   []*entry
	last      *published // that was heard of last
	inquiring bool
}

// errAnswered is why an entry is over that a value answered.
var errAnswered = errors.New("answered by a value")

// Join implements locker.Joiner. The watch of values is what wakes those who wait;
// that a grant is no longer theirs, because a value came before it, they read
// themselves.
func (b *Backend) Join(ctx context.Context, req locker.Request, fresh time.Duration) (locker.Grant, *locker.Value, error) {
	if err := b.check(ctx, &req); err != nil {
		return locker.Grant{}, nil, err
	}
	if req.Kind != locker.Exclusive || fresh < 0 {
		return locker.Grant{}, nil, fmt.Errorf("%w: join is for locks, and no age is negative", locker.ErrInvalid)
	}
	if fresh > 0 {
		switch p, err := b.get(ctx, req.Key); {
		case err == nil && p.fresh(fresh, time.Now()):
			return locker.Grant{}, p.value(time.Now()), nil
		case err != nil && !errors.Is(err, locker.ErrNoValue):
			return locker.Grant{}, nil, err
		}
	}
	if req.Try {
		return b.tryJoin(ctx, &req, fresh)
	}
	return b.joinQueue(ctx, &req, fresh)
}

func (b *Backend) tryJoin(ctx context.Context, req *locker.Request, fresh time.Duration) (locker.Grant, *locker.Value, error) {
	g, r, err := b.tryWithValue(ctx, req)
	if err != nil || r == nil || len(r.Kvs) == 0 {
		return g, nil, err
	}
	p, err := decode(r.Kvs[0])
	if err != nil || !p.fresh(fresh, time.Now()) {
		return g, nil, nil
	}
	b.giveBack(req, g)
	return locker.Grant{}, p.value(time.Now()), nil
}

// giveBack deletes the key of a grant that nobody gets.
func (b *Backend) giveBack(req *locker.Request, g locker.Grant) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.entryLocked(locker.Hold{Kind: req.Kind, Key: req.Key, Token: g.Token}); e != nil {
		b.abandonLocked(e, nil)
	}
}

func (b *Backend) joinQueue(ctx context.Context, req *locker.Request, fresh time.Duration) (locker.Grant, *locker.Value, error) {
	j := &joiner{fresh: fresh}
	e, ready, err := b.enter(ctx, req, &wait{joiner: j})
	if err != nil {
		return locker.Grant{}, nil, err
	}
	g, err := b.await(ctx, e, ready, b.now())
	b.mu.Lock()
	v, instant := j.value, j.instant
	b.mu.Unlock()
	switch {
	case v != nil && errors.Is(err, errAnswered):
		return locker.Grant{}, v.value(time.Now()), nil
	case err != nil || instant:
		return g, nil, err
	}
	p, err := b.get(ctx, req.Key)
	switch {
	case err == nil && p.rev > e.rev:
		b.giveBack(req, g)
		return locker.Grant{}, p.value(time.Now()), nil
	case err != nil && !errors.Is(err, locker.ErrNoValue):
		b.giveBack(req, g)
		return locker.Grant{}, nil, err
	}
	return g, nil, nil
}

// shelfLocked lets an entry wait for a value.
func (b *Backend) shelfLocked(e *entry) {
	s := b.shelves[e.key]
	if s == nil {
		s = new(shelf)
		b.shelves[e.key] = s
	}
	s.joiners = append(s.joiners, e)
	e.wait.joiner.at = s
}

// leaveShelfLocked ends that.
func (b *Backend) leaveShelfLocked(e *entry) {
	s := b.shelves[e.key]
	if i := slices.Index(s.joiners, e); i >= 0 {
		s.joiners = slices.Delete(s.joiners, i, i+1)
	}
	if len(s.joiners) == 0 {
		delete(b.shelves, e.key)
	}
}

// joinedLocked takes what was published when an entry got its place.
func (b *Backend) joinedLocked(e *entry, kvs []*mvccpb.KeyValue) {
	j := e.wait.joiner
	j.instant = e.wait.queue.line.fits(e.rev)
	if len(kvs) > 0 {
		if p, err := decode(kvs[0]); err == nil && p.fresh(j.fresh, time.Now()) {
			b.answerLocked(e, &p)
			return
		}
	}
	if p := j.at.last; p != nil && p.rev > e.rev {
		b.answerLocked(e, p)
		return
	}
	b.seekLocked(e.key, j.at)
}

// answerLocked gives a value to an entry that waits.
func (b *Backend) answerLocked(e *entry, p *published) {
	e.wait.joiner.value = p
	b.eraseLocked(e, errAnswered, nil)
}

// publishedLocked takes a value that was published.
func (b *Backend) publishedLocked(s *shelf, p *published) {
	if s.last == nil || s.last.rev < p.rev {
		s.last = p
	}
	for _, e := range slices.Clone(s.joiners) {
		if e.state == waiting && e.rev < p.rev {
			b.answerLocked(e, p)
		}
	}
}

// seekLocked asks for a value that may have come before the watch was there.
func (b *Backend) seekLocked(key string, s *shelf) {
	seek := slices.ContainsFunc(s.joiners, func(e *entry) bool {
		return e.state == waiting && e.rev < b.reader.from && !e.wait.joiner.instant
	})
	if !seek || s.inquiring {
		return
	}
	s.inquiring = true
	b.sender.submit(&op{then: []clientv3.Op{clientv3.OpGet(b.keys.value(key))}, done: func(answers []*pb.ResponseOp, _ int64, err error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		if s.inquiring = false; err != nil {
			return // the turn will tell, at the latest
		}
		if kvs := answers[0].GetResponseRange().Kvs; len(kvs) > 0 {
			if p, err := decode(kvs[0]); err == nil {
				b.publishedLocked(s, &p)
			}
		}
	}})
}

// hearValues listens for what is published.
func (b *Backend) hearValues() {
	from, to := b.keys.values()
	e := &ear{
		b: b, hub: &b.reader, from: from, to: to, filter: clientv3.WithFilterDelete(),
		heard: func(events []*clientv3.Event) {
			b.mu.Lock()
			defer b.mu.Unlock()
			for _, ev := range events {
				if s := b.shelves[string(ev.Kv.Key[len(from):])]; s != nil {
					if p, err := decode(ev.Kv); err == nil {
						b.publishedLocked(s, &p)
					}
				}
			}
		},
		up: func() {
			for key, s := range b.shelves {
				b.seekLocked(key, s)
			}
		},
		gap:    func() {},
		verify: func(context.Context) error { return nil },
		needed: func() bool { return len(b.shelves) > 0 },
		denied: func(error) {}, // as the watch of deletions is
	}
	e.listen()
}
