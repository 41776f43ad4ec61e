//go:build linux

package etcdcluster

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
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

var seconds = size.New("cluster-seconds", 10, 1800, "how long the cluster is put under faults")

var keep = flag.String("keep", "", "a directory for what was written down in a campaign that finds a violation")

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
	audit := s.listen()
	s.granted(s.keys, 0)
	s.run(time.Duration(seconds.Get()) * time.Second)
	records, holds := s.end()
	s.found = append(s.found, grantsWithout(s.windows, records)...)
	campaign.Show(t, unavailability(s.windows, records))
	under, faults := time.Duration(0), 0
	for _, w := range s.windows {
		if w.kind != quiet {
			faults++
			under += time.Duration(w.to - w.from)
		}
	}
	writes, _ := s.store.Result()
	table := figures.NewTable("faults", "s under them", "holds", "lost", "waits given up", "releases not confirmed", "writes", "stale, refused by the guard", "stale, accepted", "stale, taken without", "violations")
	table.Row(faults, under.Seconds(), holds, s.sum.Lost, s.sum.GivenUp, s.sum.Unsure, writes.Writes, writes.StaleRefused, writes.StaleAccepted, writes.StaleTaken, len(s.found))
	campaign.Show(t, table)
	campaign.Report(t, s.found)
	s.keepRecords(audit())
}

// listen writes down what etcd says of all keys, where records are kept: in the
// order of revisions, at times that may be late.
func (s *schedule) listen() (heard func() []byte) {
	if *keep == "" {
		return func() []byte { return nil }
	}
	var endpoints []string
	for _, a := range s.cluster.args {
		endpoints = append(endpoints, "http://"+a.ListenClients)
	}
	c, err := clientv3.New(clientv3.Config{Endpoints: endpoints, Logger: zap.NewNop(), DialKeepAliveTime: time.Second, DialKeepAliveTimeout: time.Second})
	assert.Sure(s.t, err)
	var all []byte
	done := make(chan struct{})
	go func() {
		defer close(done)
		for r := range c.Watch(s.ctx, prefix+"/", clientv3.WithPrefix(), clientv3.WithPrevKV()) {
			for _, e := range r.Events {
				kv := e.Kv
				if e.PrevKv != nil {
					kv = e.PrevKv
				}
				all = fmt.Appendf(all, "etcd %v %q at revision %d, created at %d, lease %x: %q, heard at %d\n", e.Type, e.Kv.Key, e.Kv.ModRevision, kv.CreateRevision, kv.Lease, kv.Value, witness.Monotonic())
			}
		}
	}()
	return func() []byte {
		c.Close()
		<-done
		return all
	}
}

// keepRecords copies what was written down to a directory, with the faults and
// what etcd said, if there was a violation.
func (s *schedule) keepRecords(heard []byte) {
	s.t.Helper()
	if len(s.found) == 0 || *keep == "" {
		return
	}
	b, err := os.ReadFile(s.follower.Path())
	assert.Sure(s.t, err)
	for _, w := range s.windows {
		b = fmt.Appendf(b, "fault %s: %s: from %d to %d, all served %d, no quorum from %d to %d\n", w.kind, w.note, w.from, w.to, w.end, w.without, w.again)
	}
	b = fmt.Appendf(append(b, heard...), "%s\n", strings.Join(s.sum.Losses, "\n"))
	f, err := os.CreateTemp(*keep, "records")
	assert.Sure(s.t, err)
	_, err = f.Write(b)
	assert.Sure(s.t, errors.Join(err, f.Close()))
	s.t.Logf("what was written down is in %s", f.Name())
}
