package demo

import (
	"context"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"

	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/server"
)

const (
	shardServers = 3
	shardWorkers = 4
	shardKeys    = 24
)

var shardRow = Row{
	Name:  "sharding",
	Claim: fmt.Sprintf("%d processes agree which of %d servers owns each of %d keys", shardWorkers, shardServers, shardKeys),
	needs: "servers of its own; an etcd has no shards",
	play:  playShard,
}

func playShard(ctx context.Context, s *Stage) (v Verdict, err error) {
	var addresses []string
	for range shardServers {
		addr, err := s.listen(server.Config{})
		if err != nil {
			return v, err
		}
		addresses = append(addresses, addr)
	}
	workers, err := s.Start(ctx, shardWorkers, urlOf(addresses...), 0)
	if err != nil {
		return v, err
	}
	keys := []string{"my-key"} // whose server every client in every language knows
	for i := 1; i < shardKeys; i++ {
		keys = append(keys, fmt.Sprintf("key-%d", i))
	}
	for i, w := range workers { // each begins elsewhere
		order := "visit"
		for j := range keys {
			order += " " + keys[(i*shardKeys/shardWorkers+j)%len(keys)]
		}
		if err := w.Tell("%s", order); err != nil {
			return v, err
		}
	}
	for _, w := range workers {
		if _, err := w.Await(ctx, evDone); err != nil {
			return v, err
		}
	}
	var reports []locker.Report
	for _, addr := range addresses {
		r, err := s.inspect(ctx, urlOf(addr), func(locker.Report) bool { return true })
		if err != nil {
			return v, err
		}
		reports = append(reports, r)
	}
	records, err := s.settled()
	if err != nil {
		return v, err
	}
	return judgeShard(records, keys, reports, shardWorkers), nil
}

// judgeShard wants every worker to have visited every key, no two at once; and
// each key to be known to one server, that of its CRC-32, and every server to
// know some.
func judgeShard(records []Record, keys []string, reports []locker.Report, workers int) (v Verdict) {
	byKey := make(map[string][]Record)
	for _, r := range records {
		if r.Key != "" {
			byKey[r.Key] = append(byKey[r.Key], r)
		}
	}
	for _, key := range keys {
		most, _ := concurrency(byKey[key], &v)
		if most != 1 {
			v.fault("%d held %s at once", most, key)
		}
		visitors := make(map[int]bool)
		for _, r := range byKey[key] {
			visitors[r.Worker] = true
		}
		if len(visitors) != workers {
			v.fault("%d processes visited %s, not %d", len(visitors), key, workers)
		}
	}
	owned := make([]int, len(reports))
	for key, owners := range ownersOf(reports) {
		want := int(crc32.ChecksumIEEE([]byte(key)) % uint32(len(reports)))
		if !slices.Equal(owners, []int{want}) {
			v.fault("%s is known to the servers %v, not to %d", key, owners, want)
		}
		owned[want]++
	}
	if known := len(ownersOf(reports)); known != len(keys) {
		v.fault("the servers know %d keys, not %d", known, len(keys))
	}
	for i, n := range owned {
		if n == 0 {
			v.fault("server %d owns nothing", i)
		}
	}
	v.Saw = fmt.Sprintf("the servers own %v keys", owned)
	return v
}

// ownersOf returns which servers know each key.
func ownersOf(reports []locker.Report) map[string][]int {
	owners := make(map[string][]int)
	for i, r := range reports {
		known := make(map[string]bool)
		for _, k := range r.Keys {
			known[k.Key] = true
		}
		for key := range maps.Keys(known) {
			owners[key] = append(owners[key], i)
		}
	}
	return owners
}
