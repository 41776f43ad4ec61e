package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-go/distributed/locker"
)

// An attempt is what a transaction of a try was answered.
type attempt struct {
	won   bool
	rev   int64
	kvs   *pb.RangeResponse // of the subject, if it was lost
	value *pb.RangeResponse // that is published, if it was won
	err   error
}

// try acquires a lease if that is possible at once. Its transactions create the key
// only if nobody created one after a revision at which the lease was to be had: at
// first, if there is no key at all. Each that is lost means that somebody else got
// in.
func (b *Backend) try(ctx context.Context, req *locker.Request) (locker.Grant, error) {
	g, _, err := b.tryWithValue(ctx, req)
	return g, err
}

// tryWithValue is try, with what is published under the key of a grant.
func (b *Backend) tryWithValue(ctx context.Context, req *locker.Request) (locker.Grant, *pb.RangeResponse, error) {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, requestTimeout, errNoAnswer)
		defer cancel()
	}
	for bound := int64(1); ; {
		a, e, err := b.attempt(ctx, req, bound)
		switch {
		case err != nil:
			return locker.Grant{}, nil, err
		case a.won:
			return e.grant(), a.value, nil
		}
		if err := b.inTheWay(req, a.kvs); err != nil {
			return locker.Grant{}, nil, err
		}
		bound = a.rev + 1
	}
}

// inTheWay says why a try cannot succeed beside those that there are.
func (b *Backend) inTheWay(req *locker.Request, r *pb.RangeResponse) error {
	var members []member
	var first *record
	for _, kv := range r.Kvs {
		if m, r, ok := b.member(kv); ok {
			members = append(members, m)
			if first == nil {
				first = &r
			}
		}
	}
	if len(members) == 0 {
		return nil // gone meanwhile
	}
	if limit := members[0].limit; limit != req.Limit {
		return fmt.Errorf("%w: it is %d, not %d", locker.ErrLimitMismatch, limit, req.Limit)
	}
	left := req.Limit
	for _, m := range members {
		if m.weight > left {
			left = 0
			break
		}
		left -= m.weight
	}
	if req.Weight > left {
		return &locker.HeldError{Holder: first.holder, For: first.heldFor(time.Now())}
	}
	return nil
}

// attempt is one transaction of a try. Without an error the entry holds if it was
// won, and is over if it was lost.
func (b *Backend) attempt(ctx context.Context, req *locker.Request, bound int64) (attempt, *entry, error) {
	w := new(wait)
	e, err := b.newEntry(ctx, req, w)
	if err != nil {
		return attempt{}, nil, err
	}
	from, to := b.keys.of(e.subject())
	nobody := clientv3.Compare(clientv3.CreateRevision(from), "<", bound).WithRange(to)
	list := []clientv3.OpOption{clientv3.WithRange(to), clientv3.WithSort(clientv3.SortByCreateRevision, clientv3.SortAscend)}
	if req.Weight == req.Limit {
		list = append(list, clientv3.WithLimit(1)) // one is enough to be in the way
	}
	then := []clientv3.Op{b.put(e, w), clientv3.OpGet(b.keys.value(e.key))}
	if req.Kind != locker.Exclusive {
		then = then[:1]
	}
	tx := clientv3.OpTxn([]clientv3.Cmp{nobody}, then, []clientv3.Op{clientv3.OpGet(from, list...)})
	answer := make(chan attempt, 1)
	w.op = &op{then: []clientv3.Op{tx}, alone: e.subject(), done: func(answers []*pb.ResponseOp, rev int64, err error) {
		answer <- b.attempted(e, answers, rev, err)
	}}
	b.sender.submit(w.op)
	select {
	case a := <-answer:
		return a, e, a.err
	case <-ctx.Done():
		if err = ended(ctx); errors.Is(err, errNoAnswer) {
			err = b.unanswered(ctx)
		}
	case <-b.life.Done():
		return attempt{}, nil, b.closedFor()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.abandonLocked(e, nil)
	return attempt{}, nil, err
}

// attempted takes the answer to an attempt.
func (b *Backend) attempted(e *entry, answers []*pb.ResponseOp, rev int64, err error) attempt {
	var after aftermath
	defer after.run()
	b.mu.Lock()
	defer b.mu.Unlock()
	w := e.wait
	if err != nil {
		b.failedLocked(e, err, &after)
		return attempt{err: e.err()}
	}
	t := answers[0].GetResponseTxn()
	if !t.Succeeded {
		b.endLocked(e, locker.ErrLocked)
		return attempt{rev: rev, kvs: t.Responses[0].GetResponseRange()}
	}
	e.rev = rev
	switch {
	case e.state == over:
		b.eraseLocked(e, e.err(), nil)
		return attempt{err: e.err()}
	case w.doomed > rev:
		b.endLocked(e, errDeleted)
		return attempt{err: e.err()}
	}
	b.heldLocked(e)
	a := attempt{won: true, rev: rev}
	if len(t.Responses) > 1 {
		a.value = t.Responses[1].GetResponseRange()
	}
	return a
}
