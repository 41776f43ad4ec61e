package etcd

import (
	"cmp"
	"context"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-go/distributed/locker"
)

// maxShares is how many of those who share a key a report names.
const maxShares = 16

// A row is a member and what its key says.
type row struct {
	member
	record
}

// maxPage is how many values an Inspect reads at once: etcd does not say how large one
// is without it.
const maxPage = 64

// Inspect implements locker.Inspector: it reads all keys below the prefix, and all that
// is published there. Etcd does not say how many clients there are, nor when a key was
// granted: HeldFor counts from the request, and a value's age from its put, by the wall
// clocks of both.
func (b *Backend) Inspect(ctx context.Context) (locker.Report, error) {
	from, to := b.keys.span()
	r, err := b.read(ctx, clientv3.OpGet(from, clientv3.WithRange(to)))
	if err != nil {
		return locker.Report{}, err
	}
	rows := make(map[subject][]row)
	for _, kv := range r.Kvs {
		if s, _, ok := b.keys.parse(kv.Key); ok {
			m, r, _ := b.member(kv)
			rows[s] = append(rows[s], row{m, r})
		}
	}
	values, err := b.inspectValues(ctx)
	if err != nil {
		return locker.Report{}, err
	}
	report := locker.Report{Keys: make([]locker.KeyReport, 0, len(rows)+len(values))}
	now := time.Now()
	for s, all := range rows {
		k := keyReport(s, all, now)
		if s.kind == locker.Exclusive {
			k.Value = values[s.key]
			delete(values, s.key)
		}
		report.Keys = append(report.Keys, k)
	}
	for key, v := range values { // that nobody holds
		report.Keys = append(report.Keys, locker.KeyReport{Kind: locker.Exclusive.String(), Key: key, Limit: 1, Value: v})
	}
	slices.SortFunc(report.Keys, func(a, b locker.KeyReport) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Key, b.Key))
	})
	return report, nil
}

// inspectValues reads what is published, by key.
func (b *Backend) inspectValues(ctx context.Context) (map[string]*locker.ValueReport, error) {
	values := make(map[string]*locker.ValueReport)
	from, to := b.keys.values()
	for next := from; ; {
		r, err := b.read(ctx, clientv3.OpGet(next, clientv3.WithRange(to), clientv3.WithLimit(maxPage)))
		if err != nil {
			return nil, err
		}
		now := time.Now()
		for _, kv := range r.Kvs {
			if p, err := decode(kv); err == nil {
				values[string(kv.Key[len(from):])] = &locker.ValueReport{Bytes: len(p.data), Age: p.age(now)}
			}
			next = string(kv.Key) + "\x00"
		}
		if !r.More {
			return values, nil
		}
	}
}

func keyReport(s subject, rows []row, now time.Time) locker.KeyReport {
	slices.SortFunc(rows, func(a, b row) int { return cmp.Compare(a.rev, b.rev) })
	members := make([]member, len(rows))
	for i, r := range rows {
		members[i] = r.member
	}
	n := holders(members)
	k := locker.KeyReport{Kind: s.kind.String(), Key: s.key, Limit: members[0].limit, Holders: n, Waiters: len(rows) - n}
	if n > 0 {
		k.Name, k.HeldFor = rows[0].holder, rows[0].heldFor(now)
	}
	if s.kind == locker.Counting {
		for _, r := range rows[:min(n, maxShares)] {
			k.Shares = append(k.Shares, locker.ShareReport{Name: r.holder, Weight: r.member.weight, HeldFor: r.heldFor(now)})
		}
	}
	return k
}

// Force implements locker.Forcer: it deletes the keys of all who hold, and tells them
// so, by keys that go with a lease of this Backend. Who releases at the same time is
// not counted, and who is let in then is left alone.
func (b *Backend) Force(ctx context.Context, kind locker.Kind, key string) (int, error) {
	if err := locker.CheckKey(key); err != nil {
		return 0, err
	}
	s := subject{kind, key}
	r, err := b.read(ctx, b.list(s, new(question)))
	if err != nil {
		return 0, err
	}
	members := b.members(r.Kvs)
	slices.SortFunc(members, func(a, b member) int { return cmp.Compare(a.rev, b.rev) })
	if len(members) == 0 {
		return 0, nil
	}
	l, err := b.take(ctx, 0)
	if err != nil {
		return 0, err
	}
	defer l.leave()
	forced := 0
	for some := range slices.Chunk(members[:holders(members)], maxOps) {
		var ops []clientv3.Op
		for _, m := range some {
			ops = append(ops, clientv3.OpTxn([]clientv3.Cmp{b.keys.created(s, m.name, m.rev)}, []clientv3.Op{
				clientv3.OpDelete(b.keys.entry(s, m.name)),
				clientv3.OpPut(b.keys.revoked().entry(s, m.name), "", clientv3.WithLease(l.id)),
			}, nil))
		}
		answers, _, err := b.do(ctx, ops...)
		if err != nil {
			return forced, err
		}
		for i := range some {
			if answers[i].GetResponseTxn().Succeeded {
				forced++
			}
		}
	}
	return forced, nil
}
