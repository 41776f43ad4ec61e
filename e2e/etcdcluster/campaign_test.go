//go:build linux

package etcdcluster

import (
	"fmt"
	"testing"
	"time"

	"github.com/distributed-go/distributed/internal/figures"

	"github.com/distributed-go/distributed/e2e/internal/size"
)

var seconds = size.New("cluster-seconds", 15, 1800, "how long the cluster is put under faults")

// clusterTTL is the lease of those who hold meanwhile: a second more than the
// least that etcd grants.
const clusterTTL = 3 * time.Second

// load is what each of three workers does.
func load(worker int) []laneArgs {
	var lanes []laneArgs
	for i := range 4 {
		lanes = append(lanes, laneArgs{Kind: locks, Key: fmt.Sprint("lock-", i), HoldMin: 10 * time.Millisecond, HoldMax: 100 * time.Millisecond, Pause: 200 * time.Millisecond})
	}
	return append(lanes,
		laneArgs{Kind: locks, Key: "long", HoldMin: 500 * time.Millisecond, HoldMax: 4 * time.Second, Pause: 100 * time.Millisecond},
		laneArgs{Kind: locks, Key: "lock-0", HoldMax: 20 * time.Millisecond, Pause: 300 * time.Millisecond, Patience: 300 * time.Millisecond},
		laneArgs{Kind: shares, Key: "semaphore", Weight: 1, HoldMin: 10 * time.Millisecond, HoldMax: 200 * time.Millisecond, Pause: 200 * time.Millisecond},
		laneArgs{Kind: shares, Key: "semaphore", Weight: 2, HoldMax: 100 * time.Millisecond, Pause: 200 * time.Millisecond},
		laneArgs{Kind: shares, Key: "pool", Weight: int64(1 + worker%2), HoldMin: time.Second, HoldMax: 4 * time.Second, Pause: 100 * time.Millisecond},
		laneArgs{Kind: reads, Key: "rw", HoldMin: 10 * time.Millisecond, HoldMax: 200 * time.Millisecond, Pause: 200 * time.Millisecond},
		laneArgs{Kind: reads, Key: "rw", HoldMax: 200 * time.Millisecond, Pause: 400 * time.Millisecond},
		laneArgs{Kind: writes, Key: "rw", HoldMin: 10 * time.Millisecond, HoldMax: 100 * time.Millisecond, Pause: 400 * time.Millisecond},
	)
}

// keysOf are the keys of lanes, each once.
func keysOf(lanes []laneArgs) (keys []string) {
	seen := make(map[string]bool)
	for _, l := range lanes {
		if !seen[l.Key] {
			seen[l.Key] = true
			keys = append(keys, l.Key)
		}
	}
	return keys
}

// TestCluster puts a cluster under faults, one after the other and two at once,
// while three processes hold and wait. No two believe at the same time, fences
// grow, nothing stale is accepted, everybody is served, and nothing is left.
func TestCluster(t *testing.T) {
	t.Parallel()
	s := &schedule{rig: newRig(t)}
	for i := range 3 {
		s.mustStart(workerArgs{TTL: clusterTTL, Lanes: load(i)})
	}
	s.keys = keysOf(load(0))
	s.granted(s.keys, 0)
	s.run(time.Duration(seconds.Get()) * time.Second)
	records, holds := s.end()
	s.found = append(s.found, grantsWithout(s.windows, records)...)
	show(t, unavailability(s.windows, records))
	under := time.Duration(0)
	for _, w := range s.windows {
		if w.kind != quiet {
			under += time.Duration(w.to - w.from)
		}
	}
	writes, _ := s.store.Result()
	table := figures.NewTable("faults", "s under them", "holds", "lost", "waits given up", "releases not confirmed", "writes", "stale, refused by the guard", "stale, accepted", "stale, taken without", "violations")
	table.Row(len(s.windows), under.Seconds(), holds, s.sum.Lost, s.sum.GivenUp, s.sum.Unsure, writes.Writes, writes.StaleRefused, writes.StaleAccepted, writes.StaleTaken, len(s.found))
	show(t, table)
	report(t, s.found)
}
