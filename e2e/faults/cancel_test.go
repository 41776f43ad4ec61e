//go:build unix

package faults

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/proxy"
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
// its way is given back all the same, in session mode also over connections that
// are cut all the time. It looks before the clients are closed, who would give
// back what they know of. (TestMeasureCancel, one directory up, hits the instant
// of the grant far more often.)
func TestGiveUp(t *testing.T) {
	beside(t)
	table := figures.NewTable("given up around the grant", "granted", "given up", "cut", "left at the server", "violations")
	for _, c := range []struct {
		name, suffix string
		cut          bool
	}{
		{name: "session mode"},
		{name: "base protocol", suffix: "&session=0&keep-on-disconnect=1"},
		{name: "session mode, cut off", cut: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := &givingUp{rig: newRig(t, serverConfig{KeepOnDisconnect: true})}
			for range 4 {
				g.join(c.suffix, c.cut)
			}
			var sum workerReport
			for sum.GivenUp < giveUps.Get() && g.ctx.Err() == nil {
				g.wait()
				sum = g.sum("report", g.players)
			}
			for _, p := range g.proxies {
				p.SetDelay(0)
			}
			sum = g.sum("rest", g.players)
			found := g.heldBy(cancelPatience)
			for _, p := range g.proxies {
				p.Close()
			}
			v := g.judge(cancelPatience)
			found = append(found, v.found...)
			table.Row(c.name, sum.Entered, sum.GivenUp, g.cuts, len(found)-len(v.found), len(found))
			campaign.Report(t, found)
		})
	}
	campaign.Show(t, table)
}

// A givingUp is one such campaign.
type givingUp struct {
	*rig
	players []*player
	proxies []*proxy.Proxy
	cuts    int
}

// join starts a player, behind a proxy if it is to be cut off.
func (g *givingUp) join(suffix string, cut bool) {
	g.t.Helper()
	args := workerArgs{
		URL: urlOf(g.server.Addr, true) + suffix, TTL: cancelTTL, Keys: keysOf("cancel", 6), Lanes: 6, Random: true, HoldMax: time.Millisecond, Patience: 4 * cancelPause,
	}
	if cut {
		p := proxy.Start(g.t, g.server.Addr)
		p.SetDelay(cancelPause) // so that there are answers on their way
		g.proxies, args.URL = append(g.proxies, p), urlOf(p.Addr(), true)+suffix
		args.Patience, args.Anchor = 40*cancelPause, fmt.Sprint(anchor, len(g.proxies))
	}
	g.players = append(g.players, g.mustStart(args))
}

// cancelPause is the scale of all times in which acquisitions are given up.
const cancelPause = time.Millisecond

// wait lets the players go on for a while, and cuts them off meanwhile.
func (g *givingUp) wait() {
	if len(g.proxies) == 0 {
		time.Sleep(50 * cancelPause) // real time, as here below: other processes go on
		return
	}
	for range 4 {
		for _, p := range g.proxies {
			time.Sleep(g.between(0, 20*cancelPause))
			p.Cut(proxy.How(g.between(0, 3)), 0)
			g.cuts++
		}
	}
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
func (r *rig) heldBy(patience time.Duration) []campaign.Violation {
	observer := open(r.t, urlOf(r.server.Addr, true), cancelTTL)
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) { // real time: the server goes on
		held, err := observer.Inspect(r.ctx)
		var found []campaign.Violation
		for _, k := range held.Keys {
			if k.Holders+k.Waiters > 0 && !strings.HasPrefix(k.Key, anchor) {
				found = append(found, campaign.Violationf("leak", "%d holders and %d waiters of %s, %v after all was given back", k.Holders, k.Waiters, k.Key, patience))
			}
		}
		if err != nil {
			found = append(found, campaign.Violation{Kind: "leak", Detail: err.Error()})
		}
		if len(found) == 0 || time.Now().After(deadline) {
			return found
		}
	}
}
