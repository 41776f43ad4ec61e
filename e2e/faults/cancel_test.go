//go:build unix

package faults

import (
	"fmt"
	"testing"
	"time"

	"github.com/distributed-go/distributed/e2e/internal/size"
	"github.com/distributed-go/distributed/internal/figures"
)

var giveUps = size.New("give-ups", 1000, 20_000, "acquisitions to give up around their grant, with each protocol")

const (
	cancelTTL      = time.Minute // so that nothing just runs out
	cancelPatience = 5 * time.Second
)

// TestGiveUp gives up acquisitions at random instants, with both protocols, at a
// server that keeps what a connection held when it closes: a grant that was on
// its way is given back all the same. It looks before the clients are closed,
// who would give back what they know of. (TestMeasureCancel, one directory up,
// hits the instant of the grant far more often.)
func TestGiveUp(t *testing.T) {
	beside(t)
	table := figures.NewTable("given up around the grant", "granted", "given up", "left at the server", "violations")
	for _, session := range []bool{true, false} {
		name, suffix := "session mode", ""
		if !session {
			name, suffix = "base protocol", "&session=0&keep-on-disconnect=1"
		}
		t.Run(name, func(t *testing.T) {
			r := newRig(t, serverConfig{KeepOnDisconnect: true})
			players := make([]*player, 4)
			for i := range players {
				players[i] = r.mustStart(workerArgs{
					URL: urlOf(r.server.Addr, true) + suffix, TTL: cancelTTL, Keys: keysOf("cancel", 6), Lanes: 6, Random: true,
					HoldMax: time.Millisecond, Patience: 4 * time.Millisecond,
				})
			}
			var sum workerReport
			for sum.GivenUp < giveUps.Get() && r.ctx.Err() == nil {
				time.Sleep(50 * time.Millisecond) // real time: other processes go on
				sum = r.sum("report", players)
			}
			sum = r.sum("rest", players)
			found := r.heldBy(cancelPatience)
			v := r.judge(cancelPatience)
			found = append(found, v.found...)
			table.Row(name, sum.Entered, sum.GivenUp, len(found)-len(v.found), len(found))
			report(t, found)
		})
	}
	show(t, table)
}

// sum makes a call to all players and adds up what they answer.
func (r *rig) sum(call string, players []*player) (sum workerReport) {
	for _, p := range players {
		var rep workerReport
		if err := p.Call(r.ctx, call, struct{}{}, &rep); err != nil {
			r.fail(err)
			return sum
		}
		sum.Holds += rep.Holds
		sum.Entered += rep.Entered
		sum.Lost += rep.Lost
		sum.GivenUp += rep.GivenUp
		sum.Refused += rep.Refused
	}
	return sum
}

// heldBy returns what the server still says is held or waited for, when the
// clients have given everything back.
func (r *rig) heldBy(patience time.Duration) []violation {
	observer := open(r.t, urlOf(r.server.Addr, true), cancelTTL)
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) { // real time: the server goes on
		held, err := observer.Inspect(r.ctx)
		var found []violation
		for _, k := range held.Keys {
			if k.Holders+k.Waiters > 0 {
				found = append(found, violation{"leak", fmt.Sprintf("%d holders and %d waiters of %s, %v after all was given back", k.Holders, k.Waiters, k.Key, patience)})
			}
		}
		if err != nil {
			found = append(found, violation{"leak", err.Error()})
		}
		if len(found) == 0 || time.Now().After(deadline) {
			return found
		}
	}
}
