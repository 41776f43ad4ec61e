//go:build linux

package etcdcluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/internal/proc"

	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/witness"
)

// A rig is a campaign under way: its cluster, its workers and what they write
// down. It is used by one goroutine.
type rig struct {
	t        *testing.T
	ctx      context.Context // ends when the campaign must have ended
	random   *rand.Rand
	cluster  *cluster
	follower *witness.Follower
	store    *witness.Store

	workers []*player // that were not killed
	started int
	shares  map[string]share // of each lane, by who it is
	found   []campaign.Violation
	sum     workerReport // of all that have ended
}

// A player is a worker.
type player struct {
	*proc.Process
	args workerArgs
}

// who is the name of one of its lanes.
func (p *player) who(lane int) string { return fmt.Sprintf("%s.%d", p.args.Name, lane) }

func newRig(t *testing.T) *rig {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), *limit)
	t.Cleanup(cancel)
	r := &rig{
		t: t, ctx: ctx, random: campaign.Random(t), shares: make(map[string]share),
		follower: witness.Follow(t, filepath.Join(t.TempDir(), "records")), store: witness.StartStore(t),
	}
	r.cluster = newCluster(t, ctx)
	t.Cleanup(r.killAll)
	return r
}

// start starts a worker; what the arguments leave open is the rig's.
func (r *rig) start(args workerArgs) (*player, error) {
	r.started++
	args.Name, args.Seed = fmt.Sprintf("w%d", r.started), r.random.Uint64()
	args.Records, args.Store = r.follower.Path(), r.store.Addr()
	if args.URL == "" {
		args.URL = r.cluster.url()
	}
	cmd, err := proc.InRole("worker")
	if err != nil {
		return nil, err
	}
	cmd.Env = append(cmd.Env, "GOMAXPROCS=2")
	p := &player{args: args}
	for i, l := range args.Lanes {
		weight, limit := l.weight()
		r.shares[p.who(i)] = share{weight, limit}
	}
	if p.Process, err = proc.Launch(r.ctx, cmd, args.Name, args, nil); err != nil {
		return nil, err
	}
	r.workers = append(r.workers, p)
	return p, nil
}

func (r *rig) mustStart(args workerArgs) *player {
	r.t.Helper()
	p, err := r.start(args)
	assert.Sure(r.t, err)
	return p
}

// killAll kills all workers.
func (r *rig) killAll() {
	var wg sync.WaitGroup
	for _, p := range r.workers {
		wg.Go(p.Kill)
	}
	wg.Wait()
	r.workers = nil
}

// fail keeps a violation for the end.
func (r *rig) fail(kind, format string, args ...any) {
	r.found = append(r.found, campaign.Violationf(kind, format, args...))
}

// between returns a random time.
func (r *rig) between(least, most time.Duration) time.Duration {
	return campaign.Between(r.random, least, most)
}

// serving is how long whoever waits may have to wait, and what is left may stay,
// once there is no fault any more: ten times what either takes.
const serving = 30 * time.Second

// granted waits until each of the keys was granted after an instant.
func (r *rig) granted(keys []string, since int64) {
	for end := time.Now().Add(serving); ; {
		missing, ok := r.follower.GrantedSince(keys, since)
		if ok {
			return
		}
		if !pause(r.ctx, 10*time.Millisecond) {
			r.fail("failure", "the campaign was cut short")
			return
		}
		if time.Now().After(end) {
			r.fail("takeover", "key %s was not granted within %v of the end of a fault", missing, serving)
			return
		}
	}
}

// end lets all workers come to rest and close, sees what is left then, and judges.
func (r *rig) end() (records []witness.Record, holds int) {
	r.t.Helper()
	r.rest()
	if keys := r.nothingLeft(false); keys != "" {
		r.fail("leak", "%v after all was given back, before anybody closed: %s", serving, keys)
	}
	r.each("close", func(*player, workerReport) {}, struct{}{})
	r.killAll()
	if left := r.nothingLeft(true); left != "" {
		r.fail("residue", "%v after all had closed: %s", serving, left)
	}
	records, err := r.follower.End()
	if err != nil {
		r.fail("records", "%v", err)
	}
	holds, found := judge(records, r.shares)
	r.found = append(r.found, found...)
	_, stale := r.store.Result()
	r.found = append(r.found, stale...)
	return records, holds
}

// rest serves all who wait, and ends all holds.
func (r *rig) rest() {
	r.each("rest", func(p *player, rep workerReport) {
		r.sum.Entered += rep.Entered
		r.sum.Lost += rep.Lost
		r.sum.Losses = append(r.sum.Losses, rep.Losses...)
		r.sum.GivenUp += rep.GivenUp
		r.sum.Refused += rep.Refused
		r.sum.Unsure += rep.Unsure
		if len(rep.Waiting) > 0 {
			r.fail("unserved", "%v wait, %v after the last fault", rep.Waiting, serving)
		}
		if rep.Late > 0 {
			r.fail("late", "Check of %s was nil %d times after the deadline", p.args.Name, rep.Late)
		}
		for _, e := range rep.Errors {
			r.fail("failure", "%s: %s", p.args.Name, e)
		}
	}, serving)
}

// each calls all workers at the same time.
func (r *rig) each(name string, then func(*player, workerReport), args any) {
	reports, problems := make([]workerReport, len(r.workers)), make([]error, len(r.workers))
	var wg sync.WaitGroup
	for i, p := range r.workers {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(noContext, 2*serving)
			defer cancel()
			problems[i] = p.Call(ctx, name, args, &reports[i])
		})
	}
	wg.Wait()
	for i, p := range r.workers {
		if problems[i] != nil {
			r.fail("failure", "%s of %s: %v", name, p.args.Name, problems[i])
		}
		then(p, reports[i])
	}
}

// nothingLeft waits until no key is left in etcd, nor a lease if that is wanted,
// and says what is if that takes too long.
func (r *rig) nothingLeft(leases bool) (left string) {
	for end := time.Now().Add(serving); time.Now().Before(end) && r.ctx.Err() == nil; pause(r.ctx, 50*time.Millisecond) {
		keys, n, err := r.cluster.left()
		left = fmt.Sprintf("%d keys %.300q, %d leases, %v", len(keys), keys, n, err)
		if err == nil && len(keys) == 0 && (n == 0 || !leases) {
			return ""
		}
	}
	return left
}
