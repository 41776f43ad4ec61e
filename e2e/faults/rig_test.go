//go:build unix

package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/witness"
	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/internal/figures"
	"github.com/distributed-go/distributed/internal/proc"
)

// A rig is a campaign under way: its server, its workers and what they write
// down. It is safe for concurrent use.
type rig struct {
	t        *testing.T
	ctx      context.Context // ends when the campaign must have ended
	server   *lockServer
	before   proc.Usage // of the server, when nobody had come yet
	store    *witness.Store
	follower *witness.Follower
	spawning chan struct{} // a slot for each process that may start at a time

	mu      sync.Mutex
	random  *rand.Rand             // guarded by mu, as all below
	started int                    // processes
	workers map[*proc.Process]bool // that were not killed
	failed  []error
}

// spawnAtOnce is how many processes start at a time: more only wait for each
// other.
const spawnAtOnce = 4

// newRig starts a server. The campaign is given up after a time that only a bug
// can take.
func newRig(t *testing.T, c serverConfig) *rig {
	t.Helper()
	r := newRigWithout(t)
	r.server = startServer(t, "127.0.0.1:0", c)
	r.before = usage(t, r.server)
	return r
}

// newRigWithout starts no server.
func newRigWithout(t *testing.T) *rig {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), *limit)
	t.Cleanup(cancel)
	r := &rig{
		t: t, ctx: ctx, random: campaign.Random(t), spawning: make(chan struct{}, spawnAtOnce), workers: make(map[*proc.Process]bool),
		follower: witness.Follow(t, filepath.Join(t.TempDir(), "records")), store: witness.StartStore(t),
	}
	t.Cleanup(r.killAll)
	return r
}

// A player is a worker with its name.
type player struct {
	*proc.Process
	name string
}

// who is the name of one of its lanes.
func (p *player) who(lane int) string { return fmt.Sprintf("%s.%d", p.name, lane) }

// start starts a worker; what the arguments leave open is the rig's.
func (r *rig) start(args workerArgs) (*player, error) { return r.startIn("", args) }

// startIn starts a worker in a network namespace.
func (r *rig) startIn(space string, args workerArgs) (*player, error) {
	r.mu.Lock()
	r.started++
	args.Name = fmt.Sprintf("w%d", r.started)
	args.Seed = r.random.Uint64()
	r.mu.Unlock()
	args.Records = r.follower.Path()
	if args.Lanes == 0 {
		args.Lanes = 1
	}
	cmd, err := roleIn(space, "worker")
	if err != nil {
		return nil, err
	}
	cmd.Env = append(cmd.Env, "GOMAXPROCS=1", "GOGC=off") // there are many, and they live briefly
	if args.Lanes > 4 {
		cmd.Env = cmd.Env[:len(cmd.Env)-1]
	}
	r.spawning <- struct{}{}
	defer func() { <-r.spawning }()
	p, err := proc.Launch(r.ctx, cmd, args.Name, args, nil)
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.workers[p] = true
	return &player{p, args.Name}, nil
}

// roleIn is a command for a process of ours, in a network namespace if that is
// not empty.
func roleIn(space, role string) (*exec.Cmd, error) {
	cmd, err := proc.InRole(role)
	if err != nil || space == "" {
		return cmd, err
	}
	wrapped := exec.Command("ip", "netns", "exec", space, cmd.Path)
	wrapped.Env = cmd.Env
	return wrapped, nil
}

// mustStart is start for the goroutine of the test.
func (r *rig) mustStart(args workerArgs) *player {
	r.t.Helper()
	p, err := r.start(args)
	assert.Sure(r.t, err)
	return p
}

// kill kills a worker and returns the instant before.
func (r *rig) kill(p *player) (at int64) {
	at = witness.Monotonic()
	p.Kill()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.workers, p.Process)
	return at
}

// killAll kills what is left.
func (r *rig) killAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	var wg sync.WaitGroup
	for p := range r.workers {
		wg.Go(p.Kill)
	}
	wg.Wait()
	clear(r.workers)
}

// between returns a random time.
func (r *rig) between(least, most time.Duration) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return campaign.Between(r.random, least, most)
}

// fail keeps an error for the end.
func (r *rig) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = append(r.failed, err)
}

// stop stops a worker, which releases what it holds, and waits for its end.
func (r *rig) stop(p *player) workerReport {
	var rep workerReport
	ctx, cancel := context.WithTimeout(noContext, 30*time.Second)
	defer cancel()
	if err := p.Call(ctx, "stop", struct{}{}, &rep); err != nil {
		r.fail(err)
	}
	r.kill(p)
	return rep
}

// holder returns which of the players holds, by its first lane; nil if none does
// before the campaign must have ended.
func (r *rig) holder(players ...*player) (*player, interval) {
	for r.ctx.Err() == nil {
		for _, p := range players {
			if h, ok := r.follower.Holding(p.who(0)); ok {
				return p, h
			}
		}
		time.Sleep(witness.FollowEvery) // real time: other processes go on
	}
	return nil, interval{}
}

// awaitGrants waits until each of the keys was granted after an instant, and
// returns after which times, in ms; false if that takes longer than any takeover
// may.
func (r *rig) awaitGrants(keys []string, since int64) (after figures.Sample, ok bool) {
	for deadline := time.Now().Add(takeoverBound); ; time.Sleep(20 * time.Millisecond) { // real time: other processes go on
		late := time.Now().After(deadline) || r.ctx.Err() != nil
		first := r.follower.FirstGrants(since)
		after = after[:0]
		for _, key := range keys {
			if at := first[key]; at != 0 {
				after = append(after, float64(at-since)/1e6)
			}
		}
		if late || len(after) == len(keys) {
			return after, len(after) == len(keys)
		}
	}
}

// chance is true with a probability.
func (r *rig) chance(p float64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.random.Float64() < p
}

// each calls f for every item at the same time and keeps the errors.
func each[T any](r *rig, items []T, f func(T) error) {
	var wg sync.WaitGroup
	for _, item := range items {
		wg.Go(func() {
			if err := f(item); err != nil {
				r.fail(err)
			}
		})
	}
	wg.Wait()
}

// errCut says that a campaign did not come to its end.
var errCut = errors.New("the campaign was cut short: what it waited for did not come")

// A verdict is what all judges say of a campaign.
type verdict struct {
	holds  map[string][]*interval
	count  int // of holds
	writes witness.Counts
	found  []campaign.Violation
}

// judge kills what is left, and judges what was written down and what is left
// at the server.
func (r *rig) judge(patience time.Duration) verdict {
	r.t.Helper()
	v := r.judgeRecords()
	v.found = append(v.found, residue(r.t, r.server, r.before, patience)...)
	return v
}

// judgeRecords is judge without the server.
func (r *rig) judgeRecords() verdict {
	r.t.Helper()
	r.killAll()
	records, err := r.follower.End()
	if err != nil {
		r.fail(err)
	}
	var v verdict
	v.holds, v.found = witness.Judge(records)
	for _, h := range v.holds {
		v.count += len(h)
	}
	writes, stale := r.store.Result()
	v.writes = writes
	v.found = append(v.found, stale...)
	for _, err := range r.failed {
		v.found = append(v.found, campaign.Violation{Kind: "failure", Detail: err.Error()})
	}
	return v
}
