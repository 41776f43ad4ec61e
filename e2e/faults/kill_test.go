//go:build unix

package faults

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/size"
	"github.com/distributed-go/distributed/e2e/internal/witness"
	"github.com/distributed-go/distributed/internal/figures"
)

var (
	kills    = size.New("kills", 100, 10_000, "holders to kill with SIGKILL, without and then with the proof of death")
	killKeys = size.New("kill-keys", 50, 100, "keys whose holders are killed")
)

const (
	killTTL = time.Second
	// takeoverBound is ten times and more what a takeover may take: what is
	// measured is reported, and only a bug is later than this.
	takeoverBound = 15 * time.Second
)

// TestKillHolders kills holders with SIGKILL, one process for each, while others
// wait for the same keys and some go on: no two believe at the same time, fences
// grow, and every key is granted again; when the server may not take the death
// for a proof, not before the lease is over.
func TestKillHolders(t *testing.T) {
	beside(t)
	table := figures.NewTable("holders killed", "TTL", "kills", "keys", "other holds", "violations", "next holder after ms, median", "p99", "greatest", "kills/s")
	for _, proof := range []bool{false, true} {
		name := "proof of death off"
		if proof {
			name = "proof of death on"
		}
		t.Run(name, func(t *testing.T) {
			k := &killing{rig: newRig(t, serverConfig{}), proof: proof}
			k.left.Store(int64(kills.Get()))
			began := time.Now()
			v, took := k.run()
			table.Row(name, killTTL, len(k.deaths), killKeys.Get(), v.count-len(k.deaths), len(v.found), took.Median(), took.Quantile(0.99), took.Quantile(1),
				float64(len(k.deaths))/time.Since(began).Seconds())
			campaign.Report(t, v.found)
		})
	}
	campaign.Show(t, table)
}

// A killing is one such campaign.
type killing struct {
	*rig
	proof bool
	left  atomic.Int64

	dying  sync.Mutex
	deaths []death // guarded by dying
}

func (k *killing) died(d death) {
	k.dying.Lock()
	defer k.dying.Unlock()
	k.deaths = append(k.deaths, d)
}

func (k *killing) run() (verdict, figures.Sample) {
	k.t.Helper()
	keys := keysOf("kill", killKeys.Get())
	loads := make([]*player, 2)
	for i := range loads {
		loads[i] = k.mustStart(workerArgs{
			URL: urlOf(k.server.Addr, k.proof), TTL: killTTL, Keys: keys, Lanes: 10, Random: true, HoldMax: 2 * time.Millisecond, Pause: 50 * time.Millisecond,
		})
	}
	each(k.rig, keys, k.chain)
	for _, l := range loads {
		k.stop(l)
	}
	v := k.judge(killTTL + 10*time.Second)
	took, late := witness.Takeovers(v.holds, k.deaths, takeoverBound)
	v.found = append(v.found, late...)
	return v, took
}

// chain kills the holders of a key, one after the other. Another one waits by
// then, so that there is somebody for the server to grant the key to. Mostly it
// is the turn of the one that came first; but a waiter that a busy machine has
// kept silent for half a TTL is passed over.
func (k *killing) chain(key string) error {
	args := workerArgs{URL: urlOf(k.server.Addr, k.proof), TTL: killTTL, Keys: []string{key}, Look: 5 * time.Millisecond, Tell: 25 * time.Millisecond}
	var players [2]*player
	for left := true; left; {
		for i := range players {
			if players[i] == nil {
				p, err := k.start(args)
				if err != nil {
					return err
				}
				players[i] = p
			}
		}
		hold, ok := k.follower.Await(k.ctx, players[0].who(0), players[1].who(0))
		if !ok {
			return errCut
		}
		if left = k.left.Add(-1) >= 0; left {
			time.Sleep(k.between(0, 30*time.Millisecond)) // real time: the kill is to fall anywhere
			i := slices.IndexFunc(players[:], func(p *player) bool { return p.who(0) == hold.Who })
			k.died(death{Hold: hold, At: k.kill(players[i])})
			players[i] = nil
		}
	}
	return nil
}
