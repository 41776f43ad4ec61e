//go:build unix

package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/distributed-go/distributed"
	"github.com/distributed-go/distributed/internal/figures"
	"github.com/distributed-go/distributed/internal/leaktest"
	"github.com/distributed-go/distributed/internal/servers"
	"github.com/distributed-go/distributed/locker"
)

const childVariable = "DLOCK_BENCH_TEST_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		os.Exit(Child())
	}
	leaktest.Main(m)
}

func quick(t *testing.T) Options {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Quick(Options{
		Launch: func() *exec.Cmd {
			cmd := exec.Command(exe)
			cmd.Env = append(os.Environ(), childVariable+"=1")
			return cmd
		},
		Open: func(url string, opts ...distributed.Option) (*distributed.Client, error) {
			return distributed.Open(url, append(opts, locker.WithLogger(slog.New(slog.DiscardHandler)))...)
		},
	})
}

func TestRun(t *testing.T) {
	o := quick(t)
	last, calls := 0.0, 0
	o.Progress = func(part float64, what string) {
		if part < last || part > 1 || what == "" {
			t.Errorf("progress %v %q after %v", part, what, last)
		}
		last = part
		calls++
	}
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if last != 1 || calls < 10 {
		t.Errorf("%d reports of progress, the last %v, want 1", calls, last)
	}
	check(t, r)
	var names []string
	for _, row := range r.Rows {
		names = append(names, row.Name)
	}
	for _, want := range []string{"1 goroutine", "100 goroutines, a key each", "16 goroutines, one key: owner changes"} {
		if !slices.Contains(names, want) {
			t.Errorf("no row %q in %q", want, names)
		}
	}
	if r.Server != "" || r.Held.ServerBytes == nil {
		t.Errorf("server %q, heap %v: want no address, and the heap, of a server of our own", r.Server, r.Held.ServerBytes)
	}
	roundTrip(t, r)
	var table bytes.Buffer
	if err := r.Table(&table); err != nil || !strings.Contains(table.String(), "100 locks held") {
		t.Errorf("%v, table:\n%s", err, &table)
	}
	wellFormed(t, r.SVG())
}

func check(t *testing.T, r *Report) {
	t.Helper()
	for _, row := range r.Rows {
		if row.Missing != "" {
			t.Logf("%s: %s", row.Name, row.Missing)
			continue
		}
		if row.Value == nil || row.Limit == nil || row.Ratio == nil || row.Copy == nil || row.CPU == nil || row.Pairs == 0 {
			t.Errorf("incomplete: %+v", row)
			continue
		}
		for _, s := range []*figures.Spread{row.Value, row.Limit, row.Ratio, row.Copy} {
			if !(0 < s.Low && s.Low <= s.Median && s.Median <= s.High) {
				t.Errorf("%s: spread %+v", row.Name, *s)
			}
		}
		if noisy(row.Copy) != row.Discarded {
			t.Errorf("%s: discarded %v with a copy at %v", row.Name, row.Discarded, row.Copy)
		}
	}
	h := r.Held
	if h.Locks != 100 || h.Taken <= 0 || h.Released <= 0 || h.ClientBytes <= 0 || h.Sockets < 1 || h.Goroutines < 1 {
		t.Errorf("held: %+v", h)
	}
	if _, ok := wire(0); ok && (h.Wire == nil || *h.Wire <= 0) {
		t.Errorf("nothing went over the wire while leases were kept: %+v", h)
	}
}

// roundTrip checks that the report is all in its JSON.
func roundTrip(t *testing.T, r *Report) {
	t.Helper()
	one, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	d := json.NewDecoder(bytes.NewReader(one))
	d.DisallowUnknownFields()
	if err := d.Decode(&back); err != nil {
		t.Fatal(err)
	}
	if two, err := json.Marshal(back); err != nil || !bytes.Equal(one, two) {
		t.Errorf("%v:\n%s\n%s", err, one, two)
	}
}

func wellFormed(t *testing.T, svg []byte) {
	t.Helper()
	bars := 0
	for d := xml.NewDecoder(bytes.NewReader(svg)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, svg)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
			bars++
		}
	}
	if bars < 6 {
		t.Errorf("%d bars in\n%s", bars, svg)
	}
}

// TestRunOnAServer measures one that is not the run's own.
func TestRunOnAServer(t *testing.T) {
	o := quick(t)
	p, addr, err := o.start(t.Context(), servers.Locks)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	o.URL = "dflockd://" + addr
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	check(t, r)
	if r.Server != o.URL || r.Held.ServerBytes != nil {
		t.Errorf("server %q, heap %v; want %q, and no heap", r.Server, r.Held.ServerBytes, o.URL)
	}
	wellFormed(t, r.SVG())
}

func TestRunEndsWithItsContext(t *testing.T) {
	failed := errors.New("as asked")
	ctx, cancel := context.WithCancelCause(t.Context())
	o := quick(t)
	o.Rounds = 1 << 20
	o.Progress = func(part float64, _ string) {
		if part > 0 {
			cancel(failed)
		}
	}
	began := time.Now()
	if _, err := Run(ctx, o); !errors.Is(err, failed) {
		t.Errorf("%v, want the cause", err)
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("it took %v to end", took)
	}
}

// TestRunEndsWithoutServer stops the server in the middle: who locks rides that
// out for ever, and must be ended all the same.
func TestRunEndsWithoutServer(t *testing.T) {
	o := quick(t)
	p, addr, err := o.start(t.Context(), servers.Locks)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	failed := errors.New("as asked")
	ctx, cancel := context.WithCancelCause(t.Context())
	o.URL, o.Rounds = "dflockd://"+addr, 1<<20
	calls := 0
	o.Progress = func(float64, string) {
		if calls++; calls == 10 {
			p.Kill()
			time.AfterFunc(100*time.Millisecond, func() { cancel(failed) }) // real time: somebody loses patience
		}
	}
	if _, err := Run(ctx, o); !errors.Is(err, failed) {
		t.Errorf("%v, want the cause", err)
	}
}

func TestNoisyRowsAreDiscarded(t *testing.T) {
	for copies, want := range map[float64]bool{0.94: true, 0.95: false, 1: false, 1.05: false, 1.06: true} {
		if got := noisy(&figures.Spread{Median: copies}); got != want {
			t.Errorf("with a copy at %v: %v, want %v", copies, got, want)
		}
	}
	r := Report{Held: &Held{}, Rows: []Row{{Name: "bad", Unit: "/s", Value: &figures.Spread{}, Ratio: &figures.Spread{}, Copy: &figures.Spread{Median: 2}, Discarded: true}}}
	var table bytes.Buffer
	if err := r.Table(&table); err != nil || !strings.Contains(table.String(), `discard "bad"`) {
		t.Errorf("%v, table:\n%s", err, &table)
	}
}
