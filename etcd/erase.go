package etcd

import (
	"errors"
	"time"

	"github.com/cenkalti/backoff/v4"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-go/distributed/locker"
)

const (
	// firstPause and longestPause bound the pauses between attempts to delete.
	firstPause   = 20 * time.Millisecond
	longestPause = time.Second

	// anew is when a key is deleted again whose creation was not answered: etcd has
	// given the request up by then.
	anew = requestTimeout + time.Second
)

// A chore is the deletion of a key, tried until it is answered.
type chore struct {
	ident
	rev   int64  // of creation; 0 deletes the key by its name
	entry *entry // of the key, whose name is free afterwards; nil if there is none here
	done  func(found bool, err error)

	// plain is set to delete by the name, although the revision is known: for a
	// first attempt, which is cheaper so. If that has no answer nobody gets the name
	// again.
	plain bool
	doubt bool // the key may have been deleted by an attempt that was not answered

	pauses backoff.BackOff // nil before the first
}

// eraseLocked ends an entry as overLocked does, and deletes its key.
func (b *Backend) eraseLocked(e *entry, err error, done func(error)) {
	b.overLocked(e, err)
	c := &chore{ident: e.ident(), rev: e.rev, entry: e}
	if done != nil {
		c.done = func(_ bool, err error) { done(err) }
	}
	b.erase(c)
}

// doubtLocked deletes the key of an entry that may exist, or exist soon. A request
// that a member which does not answer has kept may create it even later, so that
// its lease takes no new holds, and is revoked after the last; and nobody gets the
// name again.
func (b *Backend) doubtLocked(e *entry) {
	e.lease.taintLocked()
	twice := func() { b.erase(&chore{ident: e.ident()}) }
	twice()
	time.AfterFunc(anew, twice)
}

// erase submits the deletion. It does not wait, and may be called with the lock
// held.
func (b *Backend) erase(c *chore) { b.sender.submit(b.deletion(c)) }

// deletion is one attempt of a chore.
func (b *Backend) deletion(c *chore) *op {
	key := b.keys.entry(c.subject, c.name)
	o := clientv3.OpDelete(key)
	if c.rev > 0 && !c.plain {
		o = clientv3.OpTxn([]clientv3.Cmp{b.keys.created(c.subject, c.name, c.rev)}, []clientv3.Op{o}, nil)
	}
	return &op{then: []clientv3.Op{o}, done: func(answers []*pb.ResponseOp, rev int64, err error) { b.erased(c, answers, rev, err) }}
}

// erased takes the answer to a deletion.
func (b *Backend) erased(c *chore, answers []*pb.ResponseOp, rev int64, err error) {
	if err != nil {
		b.notErased(c, err)
		return
	}
	found := answers[0].GetResponseDeleteRange()
	if t := answers[0].GetResponseTxn(); t != nil && t.Succeeded {
		found = t.Responses[0].GetResponseDeleteRange()
	}
	var after aftermath
	b.mu.Lock()
	if c.rev == 0 || found != nil { // else it may be there, with another revision
		b.deletedLocked(c.subject, c.name, rev, &after)
	}
	b.choreDoneLocked(c)
	b.mu.Unlock()
	after.run()
	if c.done != nil {
		c.done(c.doubt || found != nil && found.Deleted > 0, nil)
	}
}

// choreDoneLocked lets others have the name.
func (b *Backend) choreDoneLocked(c *chore) {
	if c.entry != nil {
		b.dropLocked(c.entry)
	}
}

// notErased tries again, or gives up where that is to no purpose: the lease ends
// then as soon as it can.
func (b *Backend) notErased(c *chore, err error) {
	c.doubt = c.doubt || !refused(err)
	late := c.plain && !refused(err) // it may still be carried out, at any time
	c.plain = false
	err = b.explain(err)
	b.mu.Lock()
	hopeless := b.life.Err() != nil || errors.Is(err, locker.ErrAuth)
	if c.entry != nil {
		if hopeless || late {
			c.entry.lease.taintLocked()
		}
		if hopeless = hopeless || c.entry.lease.over != nil; hopeless {
			b.choreDoneLocked(c)
		}
	}
	b.mu.Unlock()
	if hopeless {
		if c.done != nil {
			c.done(false, err)
		}
		return
	}
	if c.pauses == nil {
		c.pauses = backoff.NewExponentialBackOff(
			backoff.WithInitialInterval(firstPause), backoff.WithMaxInterval(longestPause),
			backoff.WithMultiplier(2), backoff.WithMaxElapsedTime(0))
	}
	time.AfterFunc(c.pauses.NextBackOff(), func() { b.erase(c) })
}

// isLeaseGone says whether etcd refused a put because it does not know the lease.
func isLeaseGone(err error) bool { return errors.Is(rpctypes.Error(err), rpctypes.ErrLeaseNotFound) }
