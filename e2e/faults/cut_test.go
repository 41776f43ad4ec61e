//go:build unix

package faults

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/proxy"
	"github.com/distributed-go/distributed/e2e/internal/size"
	"github.com/distributed-go/distributed/internal/figures"
)

var disturbances = size.New("disturbances", 100, 1000, "cuts, silences, delays and kills under load, at random")

const (
	cutTTL = time.Second
	// cutLanes are processes, each behind a proxy of its own, that fight for
	// cutKeys keys with several goroutines each.
	cutLanes, cutKeys, cutGoroutines = 12, 10, 4
)

// TestCutClients cuts connections, leaves them half-open, holds back what goes
// over them, refuses new ones and kills clients, all at random while clients
// fight for keys, with the proof of death for one half of them. When all rest,
// and before they close, nothing is held.
func TestCutClients(t *testing.T) {
	mostlyWaits(t)
	c := &cutting{rig: newRig(t, serverConfig{}), lasting: make(chan *player, cutLanes)}
	c.left.Store(int64(disturbances.Get()))
	lanes := make([]int, cutLanes)
	proxies := make([]*proxy.Proxy, cutLanes)
	for i := range lanes {
		lanes[i], proxies[i] = i, proxy.Start(t, c.server.Addr)
	}
	began := time.Now()
	each(c.rig, lanes, func(i int) error { return c.disturb(proxies[i], i%2 == 0) })
	took := time.Since(began)
	close(c.lasting)
	var players []*player
	for w := range c.lasting {
		players = append(players, w)
	}
	each(c.rig, players, func(w *player) error {
		return w.Call(c.ctx, "rest", struct{}{}, nil)
	})
	leaked := c.heldBy(cutTTL + 10*time.Second)
	each(c.rig, players, func(w *player) error {
		c.stop(w)
		return nil
	})
	for _, p := range proxies {
		p.Close()
	}
	v := c.judge(cutTTL + 10*time.Second)
	v.found = append(v.found, leaked...)
	table := figures.NewTable("disturbed at random", "TTL", "cut", "half-open", "held back", "killed", "holds", "writes", "stale, refused", "stale, accepted", "violations", "s")
	table.Row("clients under load", cutTTL, c.cuts.Load(), c.deaf.Load(), c.delays.Load(), c.killed.Load(), v.count, v.writes.Writes, v.writes.StaleRefused,
		v.writes.StaleAccepted, len(v.found), took.Seconds())
	campaign.Show(t, table)
	campaign.Report(t, v.found)
}

type cutting struct {
	*rig
	left                       atomic.Int64
	cuts, deaf, delays, killed atomic.Int64
	lasting                    chan *player // the workers that were not killed at last
}

func (c *cutting) disturb(p *proxy.Proxy, proof bool) error {
	args := workerArgs{
		URL: urlOf(p.Addr(), proof), TTL: cutTTL, Keys: keysOf("cut", cutKeys), Lanes: cutGoroutines, Random: true,
		HoldMin: time.Millisecond, HoldMax: 100 * time.Millisecond, Pause: 20 * time.Millisecond, Store: c.store.Addr(),
	}
	w, err := c.start(args)
	if err != nil {
		return err
	}
	for c.left.Add(-1) >= 0 {
		time.Sleep(c.between(0, cutTTL)) // real time, as all of this: other processes are disturbed
		switch what := c.between(0, 100); {
		case what < 40:
			c.cuts.Add(1)
			p.Cut(proxy.How(c.between(0, 3)), c.between(0, 2*cutTTL)*time.Duration(c.between(0, 2)))
		case what < 60:
			c.deaf.Add(1)
			p.Deafen()
		case what < 85:
			c.delays.Add(1)
			p.SetDelay(c.between(0, 2*cutTTL))
			time.Sleep(c.between(0, 2*cutTTL))
			p.SetDelay(c.between(0, cutTTL/10))
		default:
			c.killed.Add(1)
			c.kill(w)
			if w, err = c.start(args); err != nil {
				return err
			}
		}
		if c.ctx.Err() != nil {
			return errCut
		}
	}
	p.SetDelay(0)
	c.lasting <- w
	return nil
}
