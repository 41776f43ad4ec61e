package etcd

import (
	"context"
	"fmt"
	"slices"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-go/distributed/locker"
)

// A state is that of an entry.
type state uint8

const (
	asking  state = iota // its transaction is under way
	waiting              // it has its place in the queue
	holding
	over // released, lost, failed, or abandoned
)

// An entry is an acquisition, and stands for its key in etcd: it is a locker.Named
// once it holds, and all that the Backend has of a hold. It takes 64 bytes, which is
// one of the allocator's size classes.
type entry struct {
	lease *lease
	key   string

	// Guarded by Backend.mu, but for kind and slot:
	rev   int64  // of creation, once that is known
	wait  *wait  // what it has besides until it holds or is over; then nil
	end   any    // the locker.Loser to tell of a loss, if there is one; the error that it is over with
	slot  uint32 // which of the names of the lease it has
	kind  locker.Kind
	state state
}

func (e *entry) subject() subject { return subject{e.kind, e.key} }

func (e *entry) name() uint64 { return e.lease.base + uint64(e.slot) }

func (e *entry) ident() ident { return ident{e.subject(), e.name()} }

// err is why the entry is over.
func (e *entry) err() error {
	err, _ := e.end.(error)
	return err
}

var _ locker.Named = (*entry)(nil)

// A wait is what an entry has while it is asking or waiting. Guarded by
// Backend.mu, but for the channels.
type wait struct {
	queue         *queue // nil for a try
	question      *question
	op            *op // that asks
	weight, limit int
	doomed        int64         // the last revision of which a deletion was heard before the creation was
	ready         chan struct{} // closed when the entry holds or is over
	answered      chan struct{} // closed when the entry is not asking any more; nil if nobody wants to know
	place         *place        // whose the entry is; nil if nobody's
	joiner        *joiner       // that waits for a value, too; nil if it is none
}

// Since implements locker.Kept.
func (e *entry) Since() time.Duration { return time.Duration(e.lease.since.Load()) }

// Key implements locker.Named.
func (e *entry) Key() string { return e.key }

// Bind implements locker.Kept.
func (e *entry) Bind(l locker.Loser) error {
	b := e.lease.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if e.state == over {
		return e.err()
	}
	e.end = l
	return nil
}

// errReleased is why a released hold is over.
var errReleased = fmt.Errorf("%w: it was released before", locker.ErrNotHeld)

// errAbandoned is why an entry is over whose caller has gone.
var errAbandoned = fmt.Errorf("%w: it was given up", locker.ErrNotHeld)

// grant is what a caller gets of an entry that holds.
func (e *entry) grant() locker.Grant {
	g := locker.Grant{Token: token(e.rev, e.name()), Fence: uint64(e.rev), TTL: e.lease.term} //nolint:gosec // revisions are positive
	if e.lease.b.clocked {
		g.Kept, g.Shared = e, true
	}
	return g
}

// aftermath is what follows from a change of state and must not run under the
// lock.
type aftermath []func()

func (a *aftermath) add(f func()) { *a = append(*a, f) }

func (a *aftermath) run() {
	for _, f := range *a {
		f()
	}
}

// newEntry makes an entry, which uses a lease from now on.
func (b *Backend) newEntry(ctx context.Context, req *locker.Request, w *wait) (*entry, error) {
	w.weight, w.limit, w.ready = req.Weight, req.Limit, make(chan struct{})
	for {
		l, err := b.take(ctx, req.TTL)
		if err != nil {
			return nil, err
		}
		if e, err := b.makeEntry(l, req, w); e != nil || err != nil {
			return e, err
		}
	}
}

// makeEntry makes an entry, or none if its lease takes no new ones any more: names
// of that may not be used again.
func (b *Backend) makeEntry(l *lease, req *locker.Request, w *wait) (*entry, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.life.Err() != nil:
		l.leaveLocked()
		return nil, b.closedFor()
	case l.tainted:
		l.leaveLocked()
		return nil, nil
	}
	e := &entry{lease: l, kind: req.Kind, key: req.Key, wait: w}
	b.entries.addLocked(e)
	b.hearLocked(&b.warner, b.hearRevocations)
	return e, nil
}

// put is the operation that puts the key of an entry.
func (b *Backend) put(e *entry, w *wait) clientv3.Op {
	r := record{weight: w.weight, limit: w.limit, asked: time.Now().UnixMilli(), holder: b.name}
	return clientv3.OpPut(b.keys.entry(e.subject(), e.name()), r.String(), clientv3.WithLease(e.lease.id))
}

// enter joins the queue of a subject. The channel is closed when the entry holds or
// is over.
func (b *Backend) enter(ctx context.Context, req *locker.Request, w *wait) (*entry, <-chan struct{}, error) {
	e, err := b.newEntry(ctx, req, w)
	if err != nil {
		return nil, nil, err
	}
	ready := w.ready
	b.mu.Lock()
	q := b.queues[e.subject()]
	if q == nil {
		q = &queue{subject: e.subject()}
		b.queues[e.subject()] = q
	}
	q.users++
	// Who heard of no deletions meanwhile knows too many.
	w.queue, w.question = q, q.line.ask(b.hub.from == 0 || q.line.base < b.hub.from)
	if w.joiner != nil {
		b.hearLocked(&b.reader, b.hearValues)
		b.shelfLocked(e)
	}
	patient := b.holdsLocked(q)
	b.mu.Unlock()
	then := []clientv3.Op{b.put(e, w), b.list(e.subject(), w.question)}
	if w.joiner != nil {
		then = append(then, clientv3.OpGet(b.keys.value(e.key)))
	}
	o := &op{then: then, alone: e.subject(), patient: patient, done: func(answers []*pb.ResponseOp, rev int64, err error) {
		b.entered(e, answers, rev, err)
	}}
	w.op = o
	if ctx.Done() == nil && !patient { // as in the Lock of a Mutex
		b.sender.carry(ctx, requestTimeout, o)
	} else {
		b.sender.submit(o)
	}
	return e, ready, nil
}

// entered takes the answer to a transaction that put an entry into its queue.
func (b *Backend) entered(e *entry, answers []*pb.ResponseOp, rev int64, err error) {
	var after aftermath
	defer after.run()
	b.mu.Lock()
	defer b.mu.Unlock()
	w := e.wait
	q := w.queue
	if w.answered != nil {
		defer close(w.answered)
	}
	if err != nil {
		q.line.unanswered(w.question)
		b.failedLocked(e, err, &after)
		return
	}
	q.line.answer(w.question, rev, b.members(answers[1].GetResponseRange().Kvs))
	e.rev = rev
	switch {
	case e.state == over: // nobody waits for it any more
		b.eraseLocked(e, e.err(), nil)
	case w.doomed > rev || q.line.base >= rev && !q.line.has(rev):
		b.eraseLocked(e, errDeleted, nil)
	case q.line.limit() != 0 && q.line.limit() != w.limit:
		b.eraseLocked(e, fmt.Errorf("%w: it is %d, not %d", locker.ErrLimitMismatch, q.line.limit(), w.limit), nil)
	default:
		b.queueUpLocked(e)
		if w.joiner != nil {
			b.joinedLocked(e, answers[2].GetResponseRange().Kvs)
		}
	}
	b.settleLocked(q)
}

// failedLocked takes the failure of a transaction that would have created the key
// of an entry.
func (b *Backend) failedLocked(e *entry, err error, after *aftermath) {
	if !refused(err) && b.life.Err() == nil {
		b.doubtLocked(e)
	}
	if isLeaseGone(err) {
		after.add(func() { b.leaseOver(e.lease) })
	}
	b.endLocked(e, b.explain(err))
}

// heldLocked lets an entry hold.
func (b *Backend) heldLocked(e *entry) {
	w := e.wait
	e.state = holding
	e.lease.restLocked()
	b.stopWaitingLocked(e)
	if w.place != nil {
		w.place.turnLocked(e)
	}
	close(w.ready)
}

// stopWaitingLocked takes an entry out of its queue, and forgets that if it was the
// last there.
func (b *Backend) stopWaitingLocked(e *entry) {
	w := e.wait
	e.wait = nil
	if w.joiner != nil {
		b.leaveShelfLocked(e)
	}
	q := w.queue
	if q == nil {
		return
	}
	if i := slices.Index(q.waiting, e); i >= 0 {
		q.waiting = slices.Delete(q.waiting, i, i+1)
	}
	if q.users--; q.users == 0 {
		delete(b.queues, q.subject)
	}
}

// endLocked ends an entry, with an error for who waits for it. Its key is not there
// any more, or its lease takes no new ones.
func (b *Backend) endLocked(e *entry, err error) {
	b.overLocked(e, err)
	b.dropLocked(e)
}

// overLocked is endLocked for an entry whose key is still to be deleted: until then
// nobody else may have its name.
func (b *Backend) overLocked(e *entry, err error) {
	w := e.wait
	if e.state != over {
		e.state, e.end = over, err
	}
	if w != nil {
		b.stopWaitingLocked(e)
		close(w.ready)
	}
}

// dropLocked forgets an entry that is over.
func (b *Backend) dropLocked(e *entry) {
	if b.entries.dropLocked(e) {
		e.lease.leaveLocked()
	}
}

// abandonLocked ends an entry that its caller does not want any more, and deletes
// its key: now, or when the answer to its transaction is there.
func (b *Backend) abandonLocked(e *entry, done func(error)) {
	if done == nil {
		done = func(error) {}
	}
	switch e.state {
	case over:
		done(nil)
	case asking:
		if w := e.wait; b.sender.withdraw(w.op) {
			b.withdrawnLocked(e, w)
		} else {
			e.state, e.end = over, errAbandoned
		}
		done(nil)
	default:
		b.eraseLocked(e, errAbandoned, done)
	}
}

// withdrawnLocked ends an entry that etcd was not asked for.
func (b *Backend) withdrawnLocked(e *entry, w *wait) {
	if w.queue != nil {
		w.queue.line.unanswered(w.question)
	}
	b.endLocked(e, errAbandoned)
	if w.answered != nil {
		close(w.answered)
	}
}

// goneLocked ends an entry whose key is not in etcd any more at a revision, for that
// cause.
func (b *Backend) goneLocked(e *entry, at int64, cause error, after *aftermath) {
	if e.rev > 0 && e.rev >= at {
		return // it was one before, of the same name
	}
	switch e.state {
	case asking:
		e.wait.doomed = max(e.wait.doomed, at)
	case waiting:
		b.endLocked(e, errDeleted)
	case holding:
		l, bound := e.end.(locker.Loser)
		if b.endLocked(e, cause); bound {
			after.add(func() { l.Lose(cause) })
		}
	}
}
