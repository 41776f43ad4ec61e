//go:build unix

package faults

import (
	"flag"
	"testing"
	"time"

	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/proxy"
	"github.com/distributed-go/distributed/e2e/internal/size"
	"github.com/distributed-go/distributed/internal/figures"
)

var (
	silences   = size.New("silences", 16, 200, "holders whose connections go silent until another holds")
	silenceTTL = flag.Duration("silence-ttl", time.Second, "TTL of those")
)

const (
	silenceKeys = 16
	// slowNetwork is what every line takes longer, in each direction, on half
	// of the connections.
	slowNetwork = 150 * time.Millisecond
	// forGood is longer than a campaign.
	forGood = time.Hour
)

// TestSilenceHolders leaves holders with connections that carry nothing any
// more, half of them over a slow network, and half of either with the base
// protocol, while others wait who are near the server: nobody holds before the silent one has stopped to believe, to the
// millisecond.
func TestSilenceHolders(t *testing.T) {
	mostlyWaits(t)
	s := &silence{rig: newRig(t, serverConfig{}), rounds: (silences.Get() + silenceKeys - 1) / silenceKeys}
	lanes := make([]silentLane, silenceKeys)
	for i, key := range keysOf("silence", len(lanes)) {
		lanes[i] = silentLane{key: key, proxy: proxy.Start(t, s.server.Addr)}
		if i%2 == 1 {
			lanes[i].delay = slowNetwork
		}
		if i%4 >= 2 {
			lanes[i].suffix = "&session=0"
		}
	}
	each(s.rig, lanes, s.run)
	v := s.judge(*silenceTTL + 10*time.Second)
	table := figures.NewTable("connections gone silent", "TTL", "one way takes", "holders cut off", "holds", "violations")
	table.Row("half-open", *silenceTTL, "0 and "+slowNetwork.String(), s.rounds*len(lanes), v.count, len(v.found))
	campaign.Show(t, table)
	campaign.Report(t, v.found)
}

type silence struct {
	*rig
	rounds int
}

type silentLane struct {
	key    string
	suffix string // of the URL
	proxy  *proxy.Proxy
	delay  time.Duration
}

func (s *silence) run(l silentLane) error {
	l.proxy.SetDelay(l.delay)
	args := workerArgs{TTL: *silenceTTL, Keys: []string{l.key}, Look: time.Millisecond, Store: s.store.Addr()}
	far, near := args, args
	far.URL = urlOf(l.proxy.Addr(), true) + l.suffix
	near.URL, near.HoldMin, near.HoldMax, near.Pause = urlOf(s.server.Addr, true), 300*time.Millisecond, 301*time.Millisecond, 20*time.Millisecond
	holder, err := s.start(far)
	if err != nil {
		return err
	}
	if p, _ := s.holder(holder); p == nil {
		return errCut
	}
	next, err := s.start(near)
	if err != nil {
		return err
	}
	for range s.rounds {
		if p, _ := s.holder(holder); p == nil {
			return errCut
		}
		time.Sleep(s.between(0, *silenceTTL)) // real time, as all of this: beats go on
		l.proxy.SetDelay(forGood)
		if p, _ := s.holder(next); p == nil {
			return errCut
		}
		time.Sleep(50 * time.Millisecond)
		l.proxy.SetDelay(l.delay)
		l.proxy.Cut(proxy.RST, 0)
	}
	s.kill(holder)
	s.stop(next)
	return nil
}
