//go:build unix

package once

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/size"
	"github.com/distributed-go/distributed/internal/figures"
	"github.com/distributed-go/distributed/once"
)

var (
	lateTries = size.New("late", 24, 1000, "runners to stop with SIGSTOP past their TTL, and to let go on")
	lateLanes = size.New("late-lanes", 1, 3, "processes that are stopped at a time")
)

const (
	// lateTTL is that of who is stopped.
	lateTTL = 500 * time.Millisecond
	// lateKeys is how many runners are in one process.
	lateKeys = 24
)

// Where a runner is stopped.
const (
	inFunction = "in the function"
	beforePut  = "between its last check and the put" // only the server can refuse that
	onTheWire  = "with the put on the wire"           // in the gate: as well
)

var lateModes = []string{inFunction, beforePut, onTheWire}

// lateArgs are keys that a worker is to be late with.
type lateArgs struct {
	Keys []string
	Mode string
	Go   string // the file that lets them go on, once it is there
	// Commit has the functions commit: those of who is not late.
	Commit bool
}

// A lateness is what a worker is late with.
type lateness struct {
	all sync.WaitGroup

	mu      sync.Mutex
	puts    map[string]func()  // what to do before a put of a key of the backend; guarded by mu
	results map[string]outcome // by key; guarded by mu
}

// await waits for a file, in a process that may be stopped meanwhile.
func await(path string) {
	for {
		if _, err := os.Stat(path); err == nil {
			return
		}
		time.Sleep(time.Millisecond) // real time: another process makes it
	}
}

// late starts calls, and returns when all have come as far as their mode says.
func (w *worker) late(args lateArgs) (struct{}, error) {
	var there, begun sync.WaitGroup
	for _, key := range args.Keys {
		there.Add(1)
		begun.Add(1)
		arrive, begin := sync.OnceFunc(there.Done), sync.OnceFunc(begun.Done)
		w.lateness.before(once.Prefix+key, func() {
			arrive()
			if args.Mode == beforePut {
				await(args.Go)
			}
		})
		w.lateness.all.Go(func() {
			err := once.New(w.client, key).Do(context.Background(), func(context.Context) error {
				l, fence := ledgerOf(w.Dir, key), w.backend.fence(once.Prefix+key)
				err := l.start(fence, w.Name)
				begin()
				switch args.Mode {
				case inFunction:
					arrive()
					await(args.Go)
				case onTheWire:
					begun.Wait() // nobody gets through the gate behind the first put
				}
				if err == nil && args.Commit {
					err = l.commit(fence, w.Name)
				}
				return err
			})
			begin() // it failed before, and its result says so
			arrive()
			w.lateness.note(key, err)
		})
	}
	there.Wait()
	return struct{}{}, nil
}

// before sets what is to be done before a put.
func (n *lateness) before(key string, do func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.puts == nil {
		n.puts, n.results = make(map[string]func()), make(map[string]outcome)
	}
	n.puts[key] = do
}

func (n *lateness) put(key string) {
	n.mu.Lock()
	do := n.puts[key]
	n.mu.Unlock()
	if do != nil {
		do()
	}
}

func (n *lateness) note(key string, err error) {
	var sum tally
	sum.add(err, monotonic())
	n.mu.Lock()
	defer n.mu.Unlock()
	n.results[key] = sum.outcome
}

// outcomes waits for all that is late, and says what became of it, by key.
func (w *worker) outcomes(struct{}) (map[string]outcome, error) {
	w.lateness.all.Wait()
	w.lateness.mu.Lock()
	defer w.lateness.mu.Unlock()
	results := w.lateness.results
	w.lateness.results, w.lateness.puts = nil, nil
	return results, nil
}

// TestLateRunner stops processes past their TTL: in the function, between the last
// look at the lease and the put, and with the put on its way. Others have run
// meanwhile. The late mark is refused, always.
func TestLateRunner(t *testing.T) {
	began := time.Now()
	s := startServer(t, filepath.Join(t.TempDir(), "data"))
	waves := (lateTries.Get() + lateKeys - 1) / lateKeys
	todo := make(chan int, waves)
	for i := range waves {
		todo <- i
	}
	close(todo)
	var (
		all  sync.WaitGroup
		late = lateCampaign{refused: make(map[string]int), tries: make(map[string]int)}
	)
	for i := range lateLanes.Get() {
		f := newFleet(t, fmt.Sprintf("late%d", i), 2, s, lateTTL, true)
		all.Go(func() {
			for n := range todo {
				if err := late.wave(f, n%2 == 0, n/2%2 == 0); err != nil {
					late.add(campaign.Violationf("failure", "%v", err))
					return
				}
			}
		})
	}
	all.Wait()
	table := figures.NewTable("stopped", "TTL", "tries", "refused as lost", "violations", "s")
	for _, mode := range lateModes {
		table.Row(mode, lateTTL, late.tries[mode], late.refused[mode], "", "")
	}
	table.Row("all", "", waves*lateKeys, late.refused[inFunction]+late.refused[beforePut]+late.refused[onTheWire], len(late.found), time.Since(began).Seconds())
	campaign.Show(t, table)
	t.Logf("the server refused %d puts", late.atServer)
	if late.atServer == 0 {
		t.Error("the server was never asked: this tests the client alone")
	}
	campaign.Report(t, late.found)
}

type lateCampaign struct {
	mu      sync.Mutex
	found   []campaign.Violation // guarded by mu, as all below
	tries   map[string]int       // by mode
	refused map[string]int
	// atServer counts the puts that it was the server that refused. The client
	// may learn before that its lease has run out, and not ask.
	atServer int
}

func (c *lateCampaign) add(found ...campaign.Violation) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.found = append(c.found, found...)
}

// wave stops one process with all its runners, and has another do what they were
// at. Early says whether the process goes on before the gate does, and amid whether
// the other is in its functions then, or has done everything.
func (c *lateCampaign) wave(f *fleet, early, amid bool) error {
	ctx, cancel := context.WithTimeout(f.t.Context(), *limit)
	defer cancel()
	a, b := f.members[0], f.members[1]
	goA, goB := filepath.Join(f.dir, fmt.Sprintf("a-%d", f.trials)), filepath.Join(f.dir, fmt.Sprintf("b-%d", f.trials))
	modes, release := make(map[string]string), make(chan struct{})
	if err := c.stop(ctx, f, modes, goA, release); err != nil {
		return err
	}
	second := lateArgs{Keys: slices.Collect(maps.Keys(modes)), Mode: inFunction, Go: goB, Commit: true}
	if err := b.Call(ctx, "late", second, nil); err != nil { // which returns when the leases have run out
		return err
	}
	var late, done map[string]outcome
	finish := func() error {
		return errors.Join(touch(goB), b.Call(ctx, "outcomes", struct{}{}, &done))
	}
	if !amid {
		if err := finish(); err != nil {
			return err
		}
	}
	if !early {
		close(release)
	}
	if err := errors.Join(touch(goA), a.Signal(syscall.SIGCONT)); err != nil {
		return err
	}
	if early {
		close(release)
	}
	if err := a.Call(ctx, "outcomes", struct{}{}, &late); err != nil {
		return err
	}
	if amid {
		if err := finish(); err != nil {
			return err
		}
	}
	return c.judge(ctx, f, modes, late, done)
}

// stop starts runners, of which the gate has the puts of some, and stops their
// process. Modes gets where each key's was stopped.
func (c *lateCampaign) stop(ctx context.Context, f *fleet, modes map[string]string, goOn string, release <-chan struct{}) error {
	m, held := f.members[0], make(chan struct{})
	for _, mode := range lateModes { // the wire comes last: nothing gets through the gate then
		args := lateArgs{Mode: mode, Go: goOn}
		for range lateKeys / len(lateModes) {
			key := f.key()
			args.Keys = append(args.Keys, key)
			modes[key] = mode
		}
		if mode == onTheWire {
			m.gate.arm(&rule{what: "put", forward: none, act: func(*gate) { close(held) }, release: release})
		}
		if err := m.Call(ctx, "late", args, nil); err != nil {
			return err
		}
	}
	select {
	case <-held:
	case <-ctx.Done():
		return ctx.Err()
	}
	return m.Freeze()
}

// judge looks at each key when all is over.
func (c *lateCampaign) judge(ctx context.Context, f *fleet, modes map[string]string, late, done map[string]outcome) error {
	seen := make(map[string][]string)
	for i, m := range f.members {
		m.gate.arm(nil)
		counts, marks := m.gate.taken()
		if i == 0 {
			c.mu.Lock()
			c.atServer += counts["put error"]
			c.mu.Unlock()
		}
		for _, s := range marks {
			seen[s.key] = append(seen[s.key], s.run)
		}
	}
	for key, mode := range modes {
		var (
			is  once.Mark
			err error
			o   = done[key]
			n   = &trial{key: key + ", stopped " + mode, nils: o.Nils, first: o.First, lost: o.Lost, doubts: o.Doubts, other: o.Other}
		)
		if err := f.members[1].Call(ctx, "mark", key, &is); err != nil {
			return err
		}
		if n.lines, err = ledgerOf(f.dir, key).read(); err != nil {
			return err
		}
		n.marked, n.seen, n.faults = is.Fence, seen[once.Prefix+key], 1
		c.add(n.judge()...)
		if late[key].Lost != 1 {
			c.add(campaign.Violationf("late", "%s: the late call was not refused: %+v", n.key, late[key]))
		}
		c.mu.Lock()
		c.tries[mode]++
		c.refused[mode] += late[key].Lost
		c.mu.Unlock()
	}
	return nil
}
