//go:build linux

package etcdcluster

import (
	"context"
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/witness"
	"github.com/distributed-go/distributed/internal/assert"
)

// TestDeletedKeys deletes the keys of holders, as somebody with etcdctl would, or a
// leader that was stopped and takes a lease for over: the holders learn of it
// within their TTL though their lease lives on, and others get in.
func TestDeletedKeys(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var lanes, next []laneArgs
	for i := range 4 {
		lanes = append(lanes, laneArgs{Kind: locks, Key: fmt.Sprint("deleted-", i)})
		next = append(next, laneArgs{Kind: locks, Key: fmt.Sprint("deleted-", i), HoldMin: 50 * time.Millisecond, HoldMax: 100 * time.Millisecond})
	}
	lanes = append(lanes, laneArgs{Kind: locks, Key: "kept"}) // the lease stays in use
	holder := r.mustStart(workerArgs{TTL: clusterTTL, Lanes: lanes})
	r.held(holder)
	r.mustStart(workerArgs{TTL: clusterTTL, Lanes: next})
	for i, l := range next {
		had := r.follower.Holds()[holder.who(i)]
		since := witness.Monotonic()
		assert.Sure(t, r.deleteFirst(l.Key))
		r.granted([]string{l.Key}, since)
		r.goneBy(holder.who(i), had, since)
	}
	if _, ok := r.follower.Holds()[holder.who(4)]; !ok {
		r.fail("revoked", "a hold whose key was not deleted was lost")
	}
	r.rest() // two have believed at the same time: there is no way to prevent it
	campaign.Report(t, r.found)
}

// deleteFirst deletes the key of who holds a lock.
func (r *rig) deleteFirst(key string) error {
	ctx, cancel := context.WithTimeout(r.ctx, 5*time.Second)
	defer cancel()
	from := prefix + "/l/" + key + " "
	got, err := r.cluster.admin[0].Get(ctx, from, clientv3.WithFirstCreate()...)
	if err != nil {
		return err
	}
	if len(got.Kvs) == 0 {
		return fmt.Errorf("nobody holds %s", key)
	}
	_, err = r.cluster.admin[0].Delete(ctx, string(got.Kvs[0].Key))
	return err
}

// goneBy waits until a hold whose key was deleted is lost.
func (r *rig) goneBy(who string, had witness.Interval, since int64) {
	const bound = 3 * clusterTTL // on a busy machine: it takes a third of the TTL
	for r.ctx.Err() == nil {
		h, ok := r.follower.Holds()[who]
		after := time.Duration(witness.Monotonic() - since)
		switch {
		case !ok || h.Fence != had.Fence:
			r.t.Logf("%s knew that its key was deleted after %v", who, after)
			return
		case after > bound:
			r.fail("revoked", "%s holds fence %d, %v after its key was deleted", who, h.Fence, after)
			return
		}
		pause(r.ctx, 10*time.Millisecond)
	}
}
