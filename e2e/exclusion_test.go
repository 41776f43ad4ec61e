//go:build unix

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/overlap"
	"github.com/distributed-go/distributed/e2e/internal/size"
	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/internal/figures"
	"github.com/distributed-go/distributed/internal/proc"
)

var (
	increments = size.New("increments", 50, 3000, "increments by each goroutine of each worker process")
	kills      = size.New("kills", 10, 100, "holders to kill")
)

const (
	// workers is how many processes increment at a time, each with so many
	// goroutines.
	workers, workerGoroutines = 4, 4
)

// TestMeasureExclusion has processes increment a plain file under a Mutex: at
// first undisturbed, where the file ends exact, then with holders killed, where
// what each hold read and wrote must follow from the one before. From what the
// holders wrote down no two holds overlapped, and fences grew with every one.
func TestMeasureExclusion(t *testing.T) {
	e := &exclusion{t: t, server: startServer(t), dir: t.TempDir()}
	assert.Sure(t, os.WriteFile(filepath.Join(e.dir, counterFile), encodeCounter(0), 0o600))
	for range workers {
		e.workers = append(e.workers, e.start())
	}
	n := increments.Get()
	began := time.Now()
	assert.Sure(t, e.all("increment", n))
	took := time.Since(began)
	want := uint64(n * workers * workerGoroutines)
	exact := e.counter()
	if exact != want {
		t.Errorf("the counter is %d after %d increments", exact, want)
	}

	assert.Sure(t, e.all("go", struct{}{}))
	for i := range kills.Get() {
		e.killHolder()
		if i%2 == 0 {
			e.killAny()
		}
	}
	assert.Sure(t, e.all("stop", struct{}{}))
	notes := e.notes()
	slices.SortFunc(notes, func(a, b note) int { return int(a.Enter - b.Enter) })
	problems := updatesLost(notes, e.counter())
	for _, c := range overlap.Find(holdsOf(notes)) {
		problems = append(problems, c.String())
	}
	for _, p := range problems {
		t.Error(p)
	}
	handOver := e.handOvers(notes)
	table := figures.NewTable("exclusion", "increments", "file", "increments/s", "holds checked", "overlaps, lost updates, fences that did not grow",
		"holders killed", "others killed", "next holder after ms, median", "greatest")
	table.Row(fmt.Sprintf("%d processes, %d goroutines each", workers, workerGoroutines), want, exact, float64(want)/took.Seconds(), len(notes),
		len(problems), len(e.holders), e.others, handOver.Median(), handOver.Quantile(1))
	campaign.Show(t, table)
}

// An exclusion is the test under way.
type exclusion struct {
	t       *testing.T
	server  *lockServer
	dir     string
	workers []*proc.Process
	started int
	holders []int64 // the instants at which holders were killed
	others  int     // killed wherever they were
}

func (e *exclusion) start() *proc.Process {
	e.t.Helper()
	e.started++
	return proc.Start(e.t, "worker", workerArgs{URL: e.server.url(), Dir: e.dir, Name: fmt.Sprintf("worker%d", e.started)}, nil)
}

// all makes a call to all workers at once.
func (e *exclusion) all(call string, args any) error {
	g, ctx := errgroup.WithContext(e.t.Context())
	for _, w := range e.workers {
		g.Go(func() error { return w.Call(ctx, call, args, nil) })
	}
	return g.Wait()
}

// killHolder kills a worker at some instant at which it holds the lock.
func (e *exclusion) killHolder() {
	e.t.Helper()
	i := rand.IntN(len(e.workers))
	ctx, cancel := context.WithTimeout(e.t.Context(), 20*time.Second)
	defer cancel()
	assert.Sure(e.t, e.workers[i].Call(ctx, "linger", struct{}{}, nil))
	time.Sleep(rand.N(3 * time.Millisecond)) // real time: of a real process
	e.holders = append(e.holders, monotonic())
	e.replace(i)
}

// killAny kills a worker wherever it is.
func (e *exclusion) killAny() {
	e.t.Helper()
	time.Sleep(rand.N(5 * time.Millisecond)) // real time, as above
	e.others++
	e.replace(rand.IntN(len(e.workers)))
}

func (e *exclusion) replace(i int) {
	e.t.Helper()
	e.workers[i].Kill()
	e.workers[i] = e.start()
	assert.Sure(e.t, e.workers[i].Call(e.t.Context(), "go", struct{}{}, nil))
}

func (e *exclusion) counter() uint64 {
	e.t.Helper()
	b, err := os.ReadFile(filepath.Join(e.dir, counterFile))
	assert.Sure(e.t, err)
	n, err := decodeCounter(b)
	assert.Sure(e.t, err)
	return n
}

// notes reads what all workers wrote down.
func (e *exclusion) notes() []note {
	e.t.Helper()
	var all []note
	for i := range e.started {
		name := fmt.Sprintf("worker%d", i+1)
		b, err := os.ReadFile(filepath.Join(e.dir, name))
		assert.Sure(e.t, err)
		notes, err := parseNotes(name, b)
		assert.Sure(e.t, err)
		all = append(all, notes...)
	}
	return all
}

// handOvers returns the times from the deaths of holders to the next holds, in
// ms. Notes are sorted by Enter.
func (e *exclusion) handOvers(notes []note) figures.Sample {
	var took figures.Sample
	for _, killed := range e.holders {
		i, _ := slices.BinarySearchFunc(notes, killed, func(n note, at int64) int { return int(n.Enter - at) })
		if i == len(notes) {
			e.t.Error("nobody held the lock after a holder was killed")
			continue
		}
		took = append(took, float64(notes[i].Enter-killed)/1e6)
	}
	return took
}

func holdsOf(notes []note) []overlap.Hold {
	holds := make([]overlap.Hold, len(notes))
	for i, n := range notes {
		holds[i] = n.Hold
	}
	return holds
}

// updatesLost checks that each hold read what the one before had written. A
// holder that died may have written or not. Notes are sorted by Enter.
func updatesLost(notes []note, end uint64) (problems []string) {
	expected, maybe := uint64(0), false
	see := func(value uint64, who string) {
		if value != expected && (!maybe || value != expected-1) {
			problems = append(problems, fmt.Sprintf("%s read %d, want %d", who, value, expected))
		}
	}
	for _, n := range notes {
		see(n.Value, fmt.Sprintf("%s with fence %d", n.Who, n.Fence))
		expected, maybe = n.Value+1, n.Died
	}
	see(end, "the end")
	return problems
}
