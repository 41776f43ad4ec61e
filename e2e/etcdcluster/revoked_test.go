//go:build linux

package etcdcluster

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/internal/figures"

	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/size"
	"github.com/distributed-go/distributed/e2e/internal/witness"
)

var revocations = size.New("leader-stops", 1, 20, "leaders that are stopped for longer than the TTL, under holders with others who wait")

// TestStoppedLeader stops leaders for longer than the TTL. One that goes on takes
// leases for over which its successor has renewed meanwhile, and revokes them: the
// keys of live holders are deleted. No client can prevent that. What is counted is
// for how long a holder believed after that, and what is judged is that it did not
// for longer than the TTL.
func TestStoppedLeader(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	var holds []laneArgs
	for i := range 6 {
		holds = append(holds, laneArgs{Kind: locks, Key: fmt.Sprint("revoked-", i)})
	}
	deleted := r.hearDeletions()
	for range 3 { // whose connections are to different members
		r.mustStart(workerArgs{TTL: clusterTTL, Lanes: holds})
	}
	s := &schedule{rig: r, keys: keysOf(holds)}
	s.granted(s.keys, 0)
	for range revocations.Get() {
		leader, err := r.cluster.leader(serving)
		assert.Sure(t, err)
		assert.Sure(t, r.cluster.freeze(leader))
		pause(r.ctx, r.between(clusterTTL+2*time.Second, 2*clusterTTL+2*time.Second))
		assert.Sure(t, r.cluster.thaw(leader))
		_, err = r.cluster.leader(serving)
		assert.Sure(t, err)
		pause(r.ctx, clusterTTL)
	}
	r.rest()
	r.each("close", func(*player, workerReport) {}, struct{}{})
	r.killAll()
	records, err := r.follower.End()
	assert.Sure(t, err)
	all, err := witness.Intervals(records)
	assert.Sure(t, err)
	late, holders := figures.Sample{}, 0
	at := deleted()
	for _, key := range s.keys {
		for _, h := range all[key] {
			holders++
			if gone, ok := at[h.Fence]; ok && h.Last > gone {
				late = append(late, float64(h.Last-gone)/1e6)
				if h.Last > gone+int64(clusterTTL) {
					r.fail("revoked", "key %s: %s believed in fence %d for %v after its key was deleted", key, h.Who, h.Fence, time.Duration(h.Last-gone))
				}
			}
		}
	}
	table := figures.NewTable("leaders stopped for longer than the TTL", "TTL", "holds", "believed in after their key was deleted", "ms, median", "greatest")
	table.Row(revocations.Get(), clusterTTL, holders, len(late), late.Median(), late.Quantile(1))
	campaign.Show(t, table)
	campaign.Report(t, r.found)
}

// hearDeletions listens for the deletions of keys, and returns when that of each
// revision of creation was heard of at the earliest.
func (r *rig) hearDeletions() func() map[uint64]int64 {
	ctx, stop := context.WithCancel(r.ctx)
	r.t.Cleanup(stop)
	at := make(map[uint64]int64)
	var mu sync.Mutex
	var running sync.WaitGroup
	for _, a := range r.cluster.args { // a member that is stopped tells late
		c, err := clientv3.New(clientv3.Config{Endpoints: []string{"http://" + a.ListenClients}, Logger: zap.NewNop()})
		assert.Sure(r.t, err)
		running.Go(func() {
			defer c.Close()
			for w := range c.Watch(ctx, prefix+"/l/", clientv3.WithPrefix(), clientv3.WithPrevKV(), clientv3.WithFilterPut()) {
				now := witness.Monotonic()
				mu.Lock()
				for _, e := range w.Events {
					if e.PrevKv != nil && strings.HasPrefix(string(e.Kv.Key), prefix) {
						rev := uint64(e.PrevKv.CreateRevision)
						if was, ok := at[rev]; !ok || now < was {
							at[rev] = now
						}
					}
				}
				mu.Unlock()
			}
		})
	}
	return func() map[uint64]int64 {
		stop()
		running.Wait()
		return at
	}
}
