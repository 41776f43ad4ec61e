//go:build linux

package etcdcluster

import (
	"fmt"
	"testing"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/internal/figures"

	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/size"
	"github.com/distributed-go/distributed/e2e/internal/witness"
)

var slowRounds = size.New("slow-rounds", 1, 8, "times that clients whose answers come late are cut off")

const (
	// slowAnswers is how late they come: an attempt to renew may take a sixth of
	// the TTL.
	slowAnswers = 800 * time.Millisecond
	slowTTL     = 6 * time.Second
	slowKeys    = 8
)

// TestSlowAnswers cuts a process off that has its answers late, while another waits
// who has them at once: nobody holds before the first has stopped to believe. Who
// counted its deadline from the receipt of an answer would believe for too long.
func TestSlowAnswers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	hosts, err := r.gatesOfSlowClients(slowAnswers)
	assert.Sure(t, err)
	var far, near []laneArgs
	for i := range slowKeys {
		key := fmt.Sprint("slow-", i)
		far = append(far, laneArgs{Kind: locks, Key: key})
		near = append(near, laneArgs{Kind: locks, Key: key, HoldMin: 300 * time.Millisecond, HoldMax: 301 * time.Millisecond, Pause: 20 * time.Millisecond})
	}
	holder := r.mustStart(workerArgs{URL: urlOf(hosts), TTL: slowTTL, Lanes: far})
	r.held(holder)
	r.mustStart(workerArgs{TTL: slowTTL, Lanes: near})
	for range slowRounds.Get() {
		r.held(holder)
		pause(r.ctx, r.between(0, 2*time.Second))
		since := witness.Monotonic()
		for i := range members {
			r.cluster.network.cut(slowClients, i, held)
		}
		r.granted(keysOf(near), since)
		pause(r.ctx, 100*time.Millisecond)
		for i := range members {
			r.cluster.network.cut(slowClients, i, broken)
			r.cluster.network.cut(slowClients, i, carried)
		}
	}
	_, holds := r.end()
	table := figures.NewTable("answers later by", "TTL", "holds cut off", "holds", "lost", "violations")
	table.Row(slowAnswers, slowTTL, slowRounds.Get()*slowKeys, holds, r.sum.Lost, len(r.found))
	campaign.Show(t, table)
	campaign.Report(t, r.found)
}

// held waits until all lanes of a worker hold.
func (r *rig) held(p *player) {
	for end := time.Now().Add(serving); ; pause(r.ctx, 10*time.Millisecond) {
		n, holds := 0, r.follower.Holds()
		for i := range p.args.Lanes {
			if _, ok := holds[p.who(i)]; ok {
				n++
			}
		}
		switch {
		case n == len(p.args.Lanes):
			return
		case time.Now().After(end) || r.ctx.Err() != nil:
			r.fail("takeover", "%s holds %d of %d, %v after nobody was in its way", p.args.Name, n, len(p.args.Lanes), serving)
			return
		}
	}
}
