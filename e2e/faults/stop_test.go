//go:build unix

package faults

import (
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/size"
	"github.com/distributed-go/distributed/e2e/internal/witness"
	"github.com/distributed-go/distributed/internal/figures"
)

var (
	stops    = size.New("stops", 12, 1000, "holders to stop with SIGSTOP for longer than their TTL")
	stopKeys = size.New("stop-keys", 6, 30, "keys that three processes each fight for, of which one is stopped at a time")
)

const stopTTL = time.Second

// TestStopHolders stops processes past their TTL while they hold a key, or wait
// for it, between a Check and the write that it was for: when they go on, their
// first Check says that the lease is lost, and the guarded store refuses the
// write that they had in hand. How many the other store took is printed.
func TestStopHolders(t *testing.T) {
	mostlyWaits(t)
	table := figures.NewTable("stopped with SIGSTOP", "TTL", "stopped for", "holders", "others", "holds", "writes", "stale, refused by the guard", "accepted by the guard",
		"taken without a guard", "violations")
	for name, suffix := range map[string]string{"session mode": "", "base protocol": "&session=0"} {
		t.Run(name, func(t *testing.T) {
			s := &stopping{rig: newRig(t, serverConfig{}), suffix: suffix}
			s.left.Store(int64(stops.Get()+1) / 2)
			each(s.rig, keysOf("stop", stopKeys.Get()), s.fight)
			v := s.judge(stopTTL + 10*time.Second)
			held, woken := s.woken(v)
			v.found = append(v.found, woken...)
			table.Row(name, stopTTL, fmt.Sprintf("%v to %v", shortestStop, longestStop), held, len(s.frozen)-held, v.count, v.writes.Writes,
				v.writes.StaleRefused, v.writes.StaleAccepted, v.writes.StaleTaken, len(v.found))
			campaign.Report(t, v.found)
		})
	}
	campaign.Show(t, table)
}

// woken counts the holders that were stopped, and finds those that believed when
// they went on.
func (s *stopping) woken(v verdict) (held int, found []campaign.Violation) {
	for _, f := range s.frozen {
		if f.held.Who == "" {
			continue
		}
		held++
		if last := lastBelief(v.holds[f.held.Key], f.held); last >= f.woke {
			found = append(found, campaign.Violationf("woken", "key %s: %s was stopped for %v with a TTL of %v, and Check was nil %v after it went on",
				f.held.Key, f.held.Who, time.Duration(f.woke-f.at), stopTTL, time.Duration(last-f.woke)))
		}
	}
	return held, found
}

const shortestStop, longestStop = stopTTL * 6 / 5, stopTTL * 5 / 2

// A freeze is one process that was stopped.
type freeze struct {
	held     interval // what it held; none if Who is empty
	at, woke int64    // the instants before it was stopped, and before it went on
}

// A stopping is the campaign.
type stopping struct {
	*rig
	suffix string       // of the URL
	left   atomic.Int64 // holders to stop

	freezing sync.Mutex
	frozen   []freeze // guarded by freezing
}

// fight has three processes fight for a key and stops one at a time, mostly the
// one that holds it.
func (s *stopping) fight(key string) error {
	players := make([]*player, 3)
	for i := range players {
		var err error
		players[i], err = s.start(workerArgs{
			URL: urlOf(s.server.Addr, true) + s.suffix, TTL: stopTTL, Keys: []string{key}, HoldMin: 20 * time.Millisecond, HoldMax: 600 * time.Millisecond,
			Look: 2 * time.Millisecond, Store: s.store.Addr(),
		})
		if err != nil {
			return err
		}
	}
	for s.left.Load() > 0 {
		p, _ := s.holder(players...)
		if p == nil {
			return errCut
		}
		if s.chance(0.3) { // another one, which waits, as a rule
			p = players[int(s.between(0, 3))]
		}
		time.Sleep(s.between(0, 20*time.Millisecond)) // real time, as all of this: other processes are stopped
		f, err := s.freeze(p)
		if err != nil {
			return err
		}
		if f.held.Who != "" {
			s.left.Add(-1)
		}
		s.freezing.Lock()
		s.frozen = append(s.frozen, f)
		s.freezing.Unlock()
	}
	for _, p := range players {
		s.stop(p)
	}
	return nil
}

func (s *stopping) freeze(p *player) (freeze, error) {
	f := freeze{at: witness.Monotonic()}
	if err := p.Freeze(); err != nil {
		return f, err
	}
	time.Sleep(5 * witness.FollowEvery) // what it wrote down until then has been read after this
	f.held, _ = s.follower.Holding(p.who(0))
	time.Sleep(s.between(shortestStop, longestStop))
	f.woke = witness.Monotonic()
	return f, p.Signal(syscall.SIGCONT)
}

// lastBelief returns until when a hold was believed in.
func lastBelief(holds []*interval, h interval) int64 {
	for _, other := range holds {
		if other.Who == h.Who && other.Fence == h.Fence {
			return other.Last
		}
	}
	return 0
}
