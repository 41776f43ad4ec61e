package etcd

import (
	"context"
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-go/distributed/locker"
)

// Renew implements locker.Backend. It renews each lease once, whatever number of
// the holds is on it, and looks whether the key of each hold is there. A lease of
// etcd has the length that it was granted with: that is what Granted says.
func (b *Backend) Renew(ctx context.Context, renewals []locker.Renewal) {
	var wg sync.WaitGroup
	holds, others := b.byLease(renewals)
	for l, holds := range holds {
		wg.Go(func() { b.renewLease(ctx, l, holds) })
	}
	for _, r := range others {
		wg.Go(func() { r.Granted, r.Err = b.renewByToken(ctx, r) })
	}
	wg.Wait()
	for i := range renewals {
		if r := &renewals[i]; r.Err != nil {
			r.Granted = 0
		}
	}
}

// byLease sorts renewals by the lease of their holds; others are those whose lease
// is not known here. The rest is not for etcd to answer: it has an error.
func (b *Backend) byLease(renewals []locker.Renewal) (holds map[*lease][]*locker.Renewal, others []*locker.Renewal) {
	holds = make(map[*lease][]*locker.Renewal)
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range renewals {
		r := &renewals[i]
		r.Granted, r.Err = 0, nil
		e := b.entryLocked(r.Hold)
		switch {
		case b.life.Err() != nil:
			r.Err = b.closedFor()
		case r.TTL <= 0:
			r.Err = fmt.Errorf("%w: renewal for %v", locker.ErrInvalid, r.TTL)
		case e != nil && e.state == over:
			r.Err = fmt.Errorf("%w: %w", locker.ErrLost, e.err())
		case e != nil:
			holds[e.lease] = append(holds[e.lease], r)
		default:
			others = append(others, r)
		}
	}
	return holds, others
}

// renewLease renews a lease, and looks for the keys of some of its holds.
func (b *Backend) renewLease(ctx context.Context, l *lease, holds []*locker.Renewal) {
	err := l.renewOnce(ctx)
	var wg sync.WaitGroup
	for _, r := range holds {
		r.Granted, r.Err = l.term, err
		if err == nil {
			wg.Go(func() { _, r.Err = b.find(ctx, r.Hold) })
		}
	}
	wg.Wait()
}

// renewByToken renews a hold that was granted to another Backend.
func (b *Backend) renewByToken(ctx context.Context, r *locker.Renewal) (time.Duration, error) {
	id, err := b.find(ctx, r.Hold)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	granted, err := b.keepAliveOnce(ctx, id)
	switch {
	case isLeaseGone(err) || err == nil && granted <= 0:
		return 0, fmt.Errorf("%w: etcd does not know the lease %x (any more)", locker.ErrLost, int64(id))
	case err != nil:
		return 0, b.explain(err)
	}
	return granted, nil
}

// find returns the lease of the key of a hold, or an error that matches
// locker.ErrLost if there is no such key.
func (b *Backend) find(ctx context.Context, h locker.Hold) (clientv3.LeaseID, error) {
	rev, name := readToken(h.Token)
	key := b.keys.entry(subject{h.Kind, h.Key}, name)
	r, err := b.read(ctx, clientv3.OpGet(key, clientv3.WithKeysOnly()))
	if err != nil {
		return 0, err
	}
	if len(r.Kvs) == 0 || r.Kvs[0].CreateRevision != rev {
		return 0, fmt.Errorf("%w: %w", locker.ErrLost, errNoSuchHold)
	}
	return clientv3.LeaseID(r.Kvs[0].Lease), nil
}

// read carries out one range request.
func (b *Backend) read(ctx context.Context, get clientv3.Op) (*pb.RangeResponse, error) {
	answers, _, err := b.do(ctx, get)
	if err != nil {
		return nil, err
	}
	return answers[0].GetResponseRange(), nil
}

// do carries out operations, together. If ctx ends first nobody knows whether they
// were.
func (b *Backend) do(ctx context.Context, then ...clientv3.Op) ([]*pb.ResponseOp, int64, error) {
	return b.doOp(ctx, &op{then: then})
}

// doOp is do for what a sender sends; it tells who waits here of the outcome.
func (b *Backend) doOp(ctx context.Context, o *op) ([]*pb.ResponseOp, int64, error) {
	type outcome struct {
		answers []*pb.ResponseOp
		rev     int64
		err     error
	}
	if ctx.Err() != nil {
		return nil, 0, ended(ctx)
	}
	if b.life.Err() != nil {
		return nil, 0, b.closedFor()
	}
	out := make(chan outcome, 1)
	o.done = func(answers []*pb.ResponseOp, rev int64, err error) { out <- outcome{answers, rev, b.explain(err)} }
	b.sender.submit(o)
	select {
	case o := <-out:
		return o.answers, o.rev, o.err
	case <-b.life.Done():
		return nil, 0, b.closedFor()
	case <-ctx.Done():
		b.sender.withdraw(o)
		return nil, 0, b.unanswered(ctx)
	}
}
