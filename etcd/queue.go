package etcd

import (
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// A queue is that of a subject, while somebody here waits in it. Guarded by
// Backend.mu.
type queue struct {
	subject
	line      line
	users     int      // entries with a wait in it
	waiting   []*entry // in the order of their revisions
	inquiring bool     // a question is under way, or a pause before it
}

// list is the operation that answers a question about a subject.
func (b *Backend) list(s subject, q *question) clientv3.Op {
	from, to := b.keys.of(s)
	opts := []clientv3.OpOption{clientv3.WithRange(to)}
	if q.after > 0 {
		opts = append(opts, clientv3.WithMinCreateRev(q.after+1))
	}
	return clientv3.OpGet(from, opts...)
}

// members reads an answer.
func (b *Backend) members(kvs []*mvccpb.KeyValue) []member {
	members := make([]member, 0, len(kvs))
	for _, kv := range kvs {
		if m, _, ok := b.member(kv); ok {
			members = append(members, m)
		}
	}
	return members
}

func (b *Backend) member(kv *mvccpb.KeyValue) (m member, r record, ok bool) {
	_, name, ok := b.keys.parse(kv.Key)
	r = parseRecord(kv.Value)
	return member{rev: kv.CreateRevision, name: name, weight: r.weight, limit: r.limit}, r, ok
}

// queueUpLocked gives an entry its place among those here.
func (b *Backend) queueUpLocked(e *entry) {
	q := e.wait.queue
	e.state = waiting
	i := len(q.waiting)
	for i > 0 && q.waiting[i-1].rev > e.rev {
		i--
	}
	q.waiting = slices.Insert(q.waiting, i, e)
	if !q.line.fits(e.rev) {
		e.lease.toilLocked()
		b.hearLocked(&b.hub, b.hearDeletions)
	}
}

// holdsLocked says whether the first of a queue is one of this process, which will
// release: who queues up behind it can wait to go along with that.
func (b *Backend) holdsLocked(q *queue) bool {
	if len(q.line.members) == 0 {
		return false
	}
	first := q.line.members[0]
	e := b.entries.get(ident{q.subject, first.name})
	return e != nil && e.state == holding && e.rev == first.rev && first.weight == first.limit
}

// settleLocked grants what fits.
func (b *Backend) settleLocked(q *queue) {
	for len(q.waiting) > 0 && q.line.fits(q.waiting[0].rev) {
		b.heldLocked(q.waiting[0])
	}
	if len(q.waiting) > 0 && b.hub.from > 0 && (q.line.base < b.hub.from || !q.line.has(q.waiting[0].rev)) {
		b.inquireLocked(q) // or the answer that had it came after a gap
	}
}

// deletedLocked takes the deletion of a key at a revision.
func (b *Backend) deletedLocked(s subject, name uint64, at int64, after *aftermath) {
	if e := b.entries.get(ident{s, name}); e != nil {
		b.goneLocked(e, at, e.lease.deletion(), after)
	}
	if q := b.queues[s]; q != nil {
		q.line.deleted(name, at)
		b.settleLocked(q)
	}
}

// inquireLocked asks for all members of a queue.
func (b *Backend) inquireLocked(q *queue) {
	if q.inquiring {
		return
	}
	q.inquiring = true
	question := q.line.ask(true)
	b.sender.submit(&op{then: []clientv3.Op{b.list(q.subject, question)}, done: func(answers []*pb.ResponseOp, rev int64, err error) {
		b.inquired(q, question, answers, rev, err)
	}})
}

func (b *Backend) inquired(q *queue, question *question, answers []*pb.ResponseOp, rev int64, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		q.line.unanswered(question)
		// Whoever waits is told of nothing: the watch may be back before the answer
		// would have been.
		time.AfterFunc(time.Second, func() {
			b.mu.Lock()
			defer b.mu.Unlock()
			if q.inquiring = false; b.life.Err() == nil && b.queues[q.subject] == q {
				b.settleLocked(q)
			}
		})
		return
	}
	q.inquiring = false
	q.line.answer(question, rev, b.members(answers[0].GetResponseRange().Kvs))
	for _, e := range slices.Clone(q.waiting) {
		if e.rev <= rev && !q.line.has(e.rev) {
			b.endLocked(e, errDeleted)
		}
	}
	b.settleLocked(q)
}
