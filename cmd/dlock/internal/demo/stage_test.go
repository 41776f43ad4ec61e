package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/distributed-go/distributed/cmd/dlock/internal/supervise"
	"github.com/distributed-go/distributed/internal/leaktest"
)

// TestMain lets the test binary stand in for a worker.
func TestMain(m *testing.M) {
	if os.Getenv("DEMO_WORKER") != "" {
		if err := Work(context.Background(), os.Args[1:], os.Stdin, os.Stdout, nil); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	leaktest.Main(m)
}

// A troupe starts workers and remembers them.
type troupe struct {
	mu     sync.Mutex
	groups []*supervise.Group
	// twist changes the arguments of a worker; nil changes nothing.
	twist func(args []string) []string
}

func (c *troupe) start(args []string, stdin, stdout, stderr *os.File) (*supervise.Group, error) {
	if c.twist != nil {
		args = c.twist(args)
	}
	g, err := supervise.Start(supervise.Command{
		Path: os.Args[0], Args: append([]string{os.Args[0]}, args...), Env: append(os.Environ(), "DEMO_WORKER=1", "GORACE=atexit_sleep_ms=0"),
		Stdin: stdin, Stdout: stdout, Stderr: stderr,
	})
	if err == nil {
		c.mu.Lock()
		c.groups = append(c.groups, g)
		c.mu.Unlock()
	}
	return g, err
}

// gone fails if a worker is left.
func (c *troupe) gone(t *testing.T) {
	t.Helper()
	for _, g := range c.groups {
		if !g.Empty() {
			t.Errorf("worker process %d is left", g.Pid())
		}
	}
}

// An audience remembers what it was shown.
type audience struct {
	began []string
	ended []Result
	enter func(i int, s *Stage) // called by Began; may be nil
}

func (a *audience) Began(i int, r Row, s *Stage) {
	a.began = append(a.began, r.Name)
	if a.enter != nil {
		a.enter(i, s)
	}
}

func (a *audience) Ended(_ int, r Result) { a.ended = append(a.ended, r) }

// show runs rows with all files in a directory of the test, which must be empty
// afterwards.
func show(t *testing.T, ctx context.Context, c *troupe, a *audience, rows ...Row) ([]Result, error) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	results, err := Run(ctx, Venue{}, rows, c.start, a)
	c.gone(t)
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	return results, err
}

func TestEveryRowHolds(t *testing.T) {
	var c troupe
	var a audience
	results, err := show(t, t.Context(), &c, &a, Rows...)
	if err != nil {
		t.Fatal(err)
	}
	if len(results) != len(Rows) || len(a.ended) != len(Rows) || len(a.began) != len(Rows) {
		t.Fatalf("%d results, %d begun and %d ended, of %d rows", len(results), len(a.began), len(a.ended), len(Rows))
	}
	processes := 0
	for i, r := range results {
		t.Logf("%s: %s (%.1f s)", r.Name, r.Reason(), r.Seconds)
		if !r.Holds || r.Saw == "" || r.Name != Rows[i].Name {
			t.Errorf("%+v does not hold", r)
		}
		processes += r.Processes
	}
	if processes != len(c.groups) || processes < 4 {
		t.Errorf("%d processes reported, %d started, at least 4 promised", processes, len(c.groups))
	}
}

// The rows must fail where locks exclude nobody: here every worker has a server
// of its own.
func TestRowsSeeLocksThatDoNotExclude(t *testing.T) {
	for _, row := range []Row{mutexRow, semaphoreRow, shardRow} {
		t.Run(row.Name, func(t *testing.T) {
			private := &Stage{}
			defer func() {
				for _, e := range private.servers {
					e.close()
				}
			}()
			c := troupe{twist: func(args []string) []string {
				url, err := private.Serve()
				if err != nil {
					t.Fatal(err)
				}
				return []string{args[0], url, args[2]}
			}}
			results, err := show(t, t.Context(), &c, &audience{}, row)
			if err != nil {
				t.Fatal(err)
			}
			if results[0].Holds {
				t.Errorf("%+v holds", results[0])
			}
			t.Log(results[0].Reason())
		})
	}
}

func TestRowThatCannotBePlayedDoesNotHold(t *testing.T) {
	for name, play := range map[string]func(context.Context, *Stage) (Verdict, error){
		"error": func(context.Context, *Stage) (Verdict, error) { return Verdict{Saw: "much"}, errors.New("no stage") },
		"order that nobody knows": func(ctx context.Context, s *Stage) (v Verdict, err error) {
			w, err := s.Start(ctx, 1, "memory://", 0)
			if err != nil {
				return v, err
			}
			return v, perform(ctx, step{w[0], "dance", evDone})
		},
		"worker that dies": func(ctx context.Context, s *Stage) (v Verdict, err error) {
			w, err := s.Start(ctx, 1, "memory://", 0)
			if err != nil {
				return v, err
			}
			w[0].group.Kill()
			return v, perform(ctx, step{w[0], "prepare", evDone}, step{w[0], "prepare", evDone})
		},
		"worker that is killed unseen": func(ctx context.Context, s *Stage) (v Verdict, err error) {
			w, err := s.Start(ctx, 1, "memory://", 0)
			if err != nil {
				return v, err
			}
			w[0].group.Kill()
			<-w[0].group.Ended()
			_, err = s.settled()
			return v, err
		},
		"worker that cannot start": func(ctx context.Context, s *Stage) (v Verdict, err error) {
			_, err = s.Start(ctx, 1, "nonsense://", 0)
			return v, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			results, err := show(t, t.Context(), &troupe{}, &audience{}, Row{Name: name, play: play})
			if err != nil || len(results) != 1 {
				t.Fatalf("%+v, %v", results, err)
			}
			if r := results[0]; r.Holds || !strings.Contains(r.Reason(), "not played to its end") {
				t.Errorf("%+v, want not to hold, and the reason", r)
			}
		})
	}
}

func TestCancelLeavesNothing(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	enough := errors.New("enough")
	var c troupe
	waits := Row{Name: "waits", play: func(ctx context.Context, s *Stage) (v Verdict, err error) {
		w, err := s.Start(ctx, 2, "memory://", 0)
		if err != nil {
			return v, err
		}
		w[0].group.Signal(syscall.SIGSTOP) // not even this one may be left
		cancel(enough)
		_, err = w[0].Await(ctx, evDone)
		return v, err
	}}
	a := audience{}
	results, err := show(t, ctx, &c, &a, waits, waits)
	if !errors.Is(err, enough) || len(results) != 0 || len(a.began) != 1 || len(a.ended) != 0 {
		t.Errorf("%+v, %v, %+v: want the cause, and nothing after it", results, err, a)
	}
}

func TestJournalKeepsTheOrderOfWrites(t *testing.T) {
	j, err := newJournal()
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var wrote []int
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for range 50 {
				mu.Lock() // what is ordered before must be recorded before
				if err := (Record{Worker: w, Event: evDone}).write(j.w); err != nil {
					t.Error(err)
				}
				wrote = append(wrote, w)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	j.close()
	records, _, err := j.since(0)
	if err != nil || len(records) != len(wrote) {
		t.Fatalf("%d records, %v, want %d", len(records), err, len(wrote))
	}
	at := time.Duration(0)
	for i, r := range records {
		if r.Worker != wrote[i] || r.At < at {
			t.Fatalf("record %d is %+v after %v, want worker %d", i, r, at, wrote[i])
		}
		at = r.At
	}
}

func TestJournalRefusesWhatIsNoRecord(t *testing.T) {
	j, err := newJournal()
	if err != nil {
		t.Fatal(err)
	}
	if err := (Record{Err: strings.Repeat("x", 600)}).write(j.w); err == nil {
		t.Error("a record that the kernel may tear was written")
	}
	fmt.Fprintln(j.w, "not a record")
	j.close()
	if _, _, err := j.since(0); err == nil {
		t.Error("garbage was read")
	}
}

func TestWorkRefusesBadArguments(t *testing.T) {
	for _, args := range [][]string{nil, {"1", "memory://"}, {"one", "memory://", "0s"}, {"1", "nonsense", "0s"}, {"1", "memory://", "long"}} {
		if err := Work(t.Context(), args, strings.NewReader(""), os.Stdout, nil); err == nil {
			t.Errorf("%q passed", args)
		}
	}
}

func TestReasonIsOneLine(t *testing.T) {
	r := Result{Saw: "all", Faults: []string{"one", "two"}}
	if got := r.Reason(); got != "one; two" {
		t.Errorf("reason %q", got)
	}
	r.Holds = true
	if got := r.Reason(); got != "all" {
		t.Errorf("reason %q", got)
	}
}
