package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-go/distributed/locker"
)

var (
	_ locker.Publisher = (*Backend)(nil)
	_ locker.Joiner    = (*Backend)(nil)
)

// maxValue is the size of the largest value. Etcd takes requests of 1.5 MiB by
// default.
const maxValue = 1 << 20

// A published is a value in etcd.
type published struct {
	rev  int64 // of its put, which is its fence
	at   int64 // nanoseconds since 1970, by the wall clock of who put it
	data []byte
}

// encode is the text of a value: the time, a space, and the data.
func encode(at time.Time, data []byte) string {
	return string(append(append(strconv.AppendInt(nil, at.UnixNano(), 10), ' '), data...))
}

func decode(kv *mvccpb.KeyValue) (published, error) {
	at, data, found := strings.Cut(string(kv.Value), " ")
	ns, err := strconv.ParseInt(at, 10, 64)
	if !found || err != nil {
		return published{}, fmt.Errorf("%w: what stands there is none of this project's", locker.ErrNoValue)
	}
	return published{rev: kv.ModRevision, at: ns, data: []byte(data)}, nil
}

// value is what a caller gets, who may change it.
func (p *published) value(now time.Time) *locker.Value {
	return &locker.Value{
		Data: slices.Clone(p.data), Fence: uint64(p.rev), //nolint:gosec // revisions are positive
		Age: p.age(now),
	}
}

// age is the time since the put; never negative, whatever the clocks say.
func (p *published) age(now time.Time) time.Duration { return max(0, now.Sub(time.Unix(0, p.at))) }

// fresh says whether a value is young enough for a caller.
func (p *published) fresh(limit time.Duration, now time.Time) bool {
	return limit == locker.AnyAge || limit > 0 && now.Sub(time.Unix(0, p.at)) < limit
}

// Shelf implements locker.Publisher. Values are as durable as etcd.
func (b *Backend) Shelf(context.Context, string) (locker.Shelf, error) {
	return locker.Shelf{Durable: true, MaxSize: maxValue}, nil
}

// Put implements locker.Publisher: a transaction that compares the holder's key. A
// value that is to go by itself has a lease of its own, of whole seconds.
func (b *Backend) Put(ctx context.Context, h locker.Hold, data []byte, keep time.Duration) (uint64, error) {
	switch {
	case len(data) > maxValue:
		return 0, &locker.SizeError{Size: len(data), Max: maxValue}
	case keep < 0:
		return 0, fmt.Errorf("%w: keep %v is negative", locker.ErrInvalid, keep)
	}
	var opts []clientv3.OpOption
	var id clientv3.LeaseID
	if keep > 0 {
		var err error
		if id, err = b.keepFor(ctx, keep); err != nil {
			return 0, notStored(err)
		}
		opts = append(opts, clientv3.WithLease(id))
	}
	rev, _, err := b.asHolder(ctx, h, len(data), clientv3.OpPut(b.keys.value(h.Key), encode(time.Now(), data), opts...))
	if err != nil {
		if id != 0 {
			b.letGo(id)
		}
		return 0, notStored(err)
	}
	return uint64(rev), nil //nolint:gosec // revisions are positive
}

// notStored says of an etcd whose quota is used up that to ask again is of no use soon.
func notStored(err error) error {
	if errors.Is(err, rpctypes.ErrNoSpace) {
		return fmt.Errorf("%w: %w", locker.ErrNotStored, err)
	}
	return err
}

// Remove implements locker.Publisher.
func (b *Backend) Remove(ctx context.Context, h locker.Hold) error {
	_, _, err := b.asHolder(ctx, h, 0, clientv3.OpDelete(b.keys.value(h.Key)))
	return err
}

// asHolder carries out an operation on what is published, which has so many bytes, if
// the hold lasts.
func (b *Backend) asHolder(ctx context.Context, h locker.Hold, bytes int, o clientv3.Op) (int64, *pb.ResponseOp, error) {
	if h.Kind != locker.Exclusive {
		return 0, nil, fmt.Errorf("%w: values are kept under locks only", locker.ErrInvalid)
	}
	created, name := readToken(h.Token)
	if created <= 0 { // a key that is not there compares as equal to 0
		return 0, nil, errNoSuchHold
	}
	held := b.keys.created(subject{h.Kind, h.Key}, name, created)
	answers, rev, err := b.doOp(ctx, &op{then: []clientv3.Op{clientv3.OpTxn([]clientv3.Cmp{held}, []clientv3.Op{o}, nil)}, bytes: bytes})
	if err != nil {
		return 0, nil, err
	}
	t := answers[0].GetResponseTxn()
	if !t.Succeeded {
		return 0, nil, errNoSuchHold
	}
	return rev, t.Responses[0], nil
}

// keepFor asks for a lease for a value.
func (b *Backend) keepFor(ctx context.Context, keep time.Duration) (clientv3.LeaseID, error) {
	type outcome struct {
		id  clientv3.LeaseID
		err error
	}
	out := make(chan outcome, 1)
	if !b.background(func() {
		l := &lease{b: b, ttl: wholeSeconds(keep)}
		r, err := l.grant()
		if err != nil {
			out <- outcome{err: b.explain(err)}
			return
		}
		out <- outcome{id: r.ID}
	}) {
		return 0, b.closedFor()
	}
	select {
	case o := <-out:
		return o.id, o.err
	case <-ctx.Done():
		return 0, b.unanswered(ctx)
	}
}

// letGo revokes a lease that no value got. Where nobody knows whether one did, that
// takes the value away again.
func (b *Backend) letGo(id clientv3.LeaseID) {
	l := &lease{b: b, id: id}
	b.background(func() { l.revoke(b.life) })
}

// Get implements locker.Publisher.
func (b *Backend) Get(ctx context.Context, key string) (locker.Value, error) {
	if err := locker.CheckKey(key); err != nil {
		return locker.Value{}, err
	}
	p, err := b.get(ctx, key)
	if err != nil {
		return locker.Value{}, err
	}
	return *p.value(time.Now()), nil
}

func (b *Backend) get(ctx context.Context, key string) (published, error) {
	r, err := b.read(ctx, clientv3.OpGet(b.keys.value(key)))
	if err != nil {
		return published{}, err
	}
	if len(r.Kvs) == 0 {
		return published{}, locker.ErrNoValue
	}
	return decode(r.Kvs[0])
}
