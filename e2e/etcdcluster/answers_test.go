//go:build linux

package etcdcluster

import (
	"fmt"
	"testing"
	"time"

	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/size"
	"github.com/distributed-go/distributed/e2e/internal/witness"
	"github.com/distributed-go/distributed/internal/assert"
)

var answerRounds = size.New("answer-rounds", 3, 60, "times that connections break with answers on their way")

// TestLostAnswers breaks the connections of a process again and again with answers
// on their way, so that it does not know whether its keys were created: what became
// of no hold must not keep others out, though the lease lives on.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	hosts, err := r.gatesOfSlowClients(slowAnswers)
	assert.Sure(t, err)
	var lanes []laneArgs
	for i := range 6 {
		lanes = append(lanes, laneArgs{Kind: locks, Key: fmt.Sprint("answer-", i), HoldMax: 50 * time.Millisecond, Pause: 300 * time.Millisecond})
	}
	r.mustStart(workerArgs{URL: urlOf(hosts), TTL: slowTTL, Lanes: append(lanes, laneArgs{Kind: locks, Key: "kept"})}) // the lease stays in use
	r.mustStart(workerArgs{TTL: slowTTL, Lanes: lanes})
	r.granted(keysOf(lanes), 0)
	for range answerRounds.Get() {
		pause(r.ctx, r.between(slowAnswers/2, 3*slowAnswers))
		for i := range members {
			r.cluster.network.cut(slowClients, i, broken)
			r.cluster.network.cut(slowClients, i, carried)
		}
	}
	r.granted(keysOf(lanes), witness.Monotonic())
	r.end()
	campaign.Report(t, r.found)
}

// gatesOfSlowClients opens gates of their own for clients, and returns where.
func (r *rig) gatesOfSlowClients(back time.Duration) (hosts []string, err error) {
	for i := range members {
		host := r.cluster.urls[i] + "9" // port 23799
		if err := r.cluster.network.gate(host, r.cluster.args[i].ListenClients, slowClients, i, back); err != nil {
			return nil, err
		}
		hosts = append(hosts, host)
	}
	return hosts, nil
}
