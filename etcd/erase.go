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
	subject
	name  uint64
	rev   int64  // of creation; 0 deletes the key by its name
	lease *lease // of the key, which the chore uses; nil if that is not known here
	done  func(found bool, err error)

	doubt bool // the key may have been deleted by an attempt that was not answered

	pauses backoff.BackOff // nil before the first
}

// eraseLocked deletes the key of an entry.
func (b *Backend) eraseLocked(e *entry, done func(error)) {
	c := &chore{subject: e.subject, name: e.name, rev: e.rev, lease: e.lease}
	c.lease.users++
	if done != nil {
		c.done = func(_ bool, err error) { done(err) }
	}
	b.erase(c)
}

// doubtLocked deletes the key of an entry that may exist, or exist soon. A request
// that a member which does not answer has kept may create it even later, so that
// its lease takes no new holds, and is revoked after the last.
func (b *Backend) doubtLocked(e *entry) {
	e.lease.taintLocked()
	twice := func() { b.erase(&chore{subject: e.subject, name: e.name}) }
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
	if c.rev > 0 {
		o = clientv3.OpTxn([]clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(key), "=", c.rev)}, []clientv3.Op{o}, nil)
	}
	return &op{then: []clientv3.Op{o}, done: func(answers []*pb.ResponseOp, _ int64, err error) { b.erased(c, answers, err) }}
}

// erased takes the answer to a deletion.
func (b *Backend) erased(c *chore, answers []*pb.ResponseOp, err error) {
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
		b.deletedLocked(c.subject, c.name, &after)
	}
	c.endLocked()
	b.mu.Unlock()
	after.run()
	if c.done != nil {
		c.done(c.doubt || found != nil && found.Deleted > 0, nil)
	}
}

// endLocked ends the use of the lease.
func (c *chore) endLocked() {
	if c.lease != nil {
		c.lease.leaveLocked()
	}
}

// notErased tries again, or gives up where that is to no purpose: the lease ends
// then as soon as it can.
func (b *Backend) notErased(c *chore, err error) {
	c.doubt = c.doubt || !refused(err)
	err = b.explain(err)
	b.mu.Lock()
	hopeless := b.life.Err() != nil || errors.Is(err, locker.ErrAuth)
	if c.lease != nil {
		if hopeless {
			c.lease.taintLocked()
		}
		if hopeless = hopeless || c.lease.over != nil; hopeless {
			c.endLocked()
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
