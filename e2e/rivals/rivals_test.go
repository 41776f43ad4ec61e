package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/distributed-go/distributed/internal/figures"
	"github.com/distributed-go/distributed/internal/proc"
)

func TestMain(m *testing.M) {
	proc.Main(roles)
	os.Exit(m.Run())
}

// TestQuickRun measures all systems for a moment. Without redis-server it
// measures those without Redis, and says so: ./run installs it.
func TestQuickRun(t *testing.T) {
	p := quickPlan
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Log("there is no redis-server: its clients are left out")
		p.systems = systems[:4]
	}
	r := &runner{plan: p, dir: t.TempDir(), progress: func(string) {}}
	rep, err := r.run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range rep.Systems {
		for name, m := range map[string]*measured{"one": s.One, "many": s.Many, "fight": s.Fight} {
			if m == nil || m.Value == nil || m.Value.Median <= 0 || m.Ratio == nil || m.Stuck > 0 {
				t.Errorf("%s: %s: %+v", s.Name, name, m)
			}
		}
		if s.system.dial == nil {
			continue
		}
		if s.Held == nil || s.Held.Locks != p.locks || s.Held.Taken <= 0 || s.Killed == nil || s.Frozen == nil {
			t.Errorf("%s: held %+v, killed %v, frozen %v", s.Name, s.Held, s.Killed, s.Frozen)
		}
	}
	if ours := rep.Systems[2]; ours.Name != "distributed" || !ours.Killed.Tells || !ours.Frozen.Tells {
		t.Errorf("%s: killed %+v, frozen %+v", ours.Name, ours.Killed, ours.Frozen)
	}
	checkShapes(t, rep)
}

// checkShapes checks what a report becomes.
func checkShapes(t *testing.T, rep *report) {
	t.Helper()
	text, err := json.Marshal(rep)
	if err != nil {
		t.Fatal(err)
	}
	var back report
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&back); err != nil || len(back.Systems) != len(rep.Systems) {
		t.Errorf("%v: %s", err, text)
	}
	tables := rep.Markdown()
	for _, s := range rep.Systems {
		if n := strings.Count(tables, "| "+s.Name+" "); n < 2 {
			t.Errorf("%s stands in %d tables:\n%s", s.Name, n, tables)
		}
	}
	for d := xml.NewDecoder(bytes.NewReader(rep.SVG())); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("%v in\n%s", err, rep.SVG())
		}
	}
}

func TestPage(t *testing.T) {
	dir := t.TempDir()
	page, bench := filepath.Join(dir, "page.md"), filepath.Join(dir, "bench.txt")
	for file, text := range map[string]string{page: "<!-- bench -->\n<!-- /bench -->\n<!-- rivals -->\n<!-- /rivals -->\n", bench: "fast\n"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := &report{}
	if err := r.insert(page, bench); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(page)
	if err != nil || !strings.HasPrefix(string(text), "<!-- bench -->\n```text\nfast\n```\n<!-- /bench -->\n") || !strings.Contains(string(text), "Medians of blocks") {
		t.Errorf("%v, page:\n%s", err, text)
	}
}

func TestSplice(t *testing.T) {
	got, err := splice("a\n<!-- x -->\nold\n<!-- /x -->\nb\n", "x", "new\n")
	if err != nil || got != "a\n<!-- x -->\nnew\n<!-- /x -->\nb\n" {
		t.Errorf("%q, %v", got, err)
	}
	for _, page := range []string{"", "<!-- x -->\n", "<!-- /x -->"} {
		if _, err := splice(page, "x", "new"); err == nil {
			t.Errorf("%q has no such part, and no error", page)
		}
	}
}

func TestCPUOfAProcess(t *testing.T) {
	if d, err := cpuOf(os.Getpid()); err != nil || d < 0 {
		t.Errorf("%v, %v", d, err)
	}
	if _, err := cpuOf(1 << 30); err == nil {
		t.Error("a process that is not there has used time")
	}
}

// TestWhatIsStuckIsSaid is about a report of a library that hangs.
func TestWhatIsStuckIsSaid(t *testing.T) {
	s := &figures.Spread{Median: 1, Low: 1, High: 1}
	m := &measured{Value: s, Ratio: s, Stuck: 3}
	r := &report{Systems: []*result{{Name: "it", system: systems[3], One: m, Many: m, Fight: m,
		Held: &heldReport{Stuck: true}, Killed: &lossReport{Stuck: true}, Frozen: &lossReport{Tells: true, Within: 15}}}}
	text := r.Markdown()
	for _, want := range []string{", 3 stuck", "| stuck ", "| not within 15 "} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if !strings.Contains(string(r.SVG()), ">stuck<") {
		t.Errorf("the plot does not say that it is stuck:\n%s", r.SVG())
	}
}
