//go:build linux

package etcdcluster

import (
	"fmt"
	"testing"
	"time"

	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/witness"
	"github.com/distributed-go/distributed/internal/assert"
)

// TestMissedDeletions cuts a process off that waits, releases what it waits for,
// and lets etcd forget that: when it is heard again it cannot be told of the
// deletions, and is served all the same.
func TestMissedDeletions(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	hosts, err := r.gatesOfSlowClients(0)
	assert.Sure(t, err)
	const long = 20 * time.Second // a lease that outlives the cut
	var waits, holds []laneArgs
	for i := range 4 {
		key := fmt.Sprint("missed-", i)
		holds = append(holds, laneArgs{Kind: locks, Key: key})
		waits = append(waits, laneArgs{Kind: locks, Key: key, HoldMin: 10 * time.Millisecond, HoldMax: 20 * time.Millisecond, Pause: time.Second})
	}
	holder := r.mustStart(workerArgs{TTL: long, Lanes: holds})
	r.held(holder)
	waiter := r.mustStart(workerArgs{URL: urlOf(hosts), TTL: long, Lanes: waits})
	r.waits(len(holds) + len(waits))
	pause(r.ctx, time.Second)
	for i := range members {
		r.cluster.network.cut(slowClients, i, broken)
	}
	rest := workerReport{}
	assert.Sure(t, holder.Call(r.ctx, "rest", serving, &rest))
	for range 2 {
		pause(r.ctx, 100*time.Millisecond)
		r.cluster.compact()
	}
	since := witness.Monotonic()
	for i := range members {
		r.cluster.network.cut(slowClients, i, carried)
	}
	r.granted(keysOf(waits), since)
	if _, ok := r.follower.GrantedSince(keysOf(waits), since); !ok {
		waiter.Kill() // it would not come to rest
	}
	_, _ = r.end()
	campaign.Report(t, r.found)
}

// waits waits until there are so many keys in etcd: of holders, and of who waits.
func (r *rig) waits(n int) {
	for end := time.Now().Add(serving); time.Now().Before(end); pause(r.ctx, 10*time.Millisecond) {
		if keys, _, err := r.cluster.left(); err == nil && len(keys) == n {
			return
		}
	}
	r.fail("failure", "there are not %d keys", n)
}
