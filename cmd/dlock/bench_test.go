package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/distributed-go/distributed/cmd/dlock/internal/bench"
	"github.com/distributed-go/distributed/server"
)

func TestBench(t *testing.T) {
	svg := filepath.Join(t.TempDir(), "bench.svg")
	out := call(t, toolEnv(), "bench", "--quick", "--json", "--svg", svg)
	if out.code != 0 {
		t.Fatalf("%+v", out)
	}
	var r bench.Report
	if err := json.Unmarshal([]byte(out.stdout), &r); err != nil || len(r.Rows) < 5 || r.Held == nil || r.Server != "" {
		t.Errorf("%v, report:\n%s", err, out.stdout)
	}
	if !strings.Contains(out.stderr, "dlock: 1 goroutine\n") || strings.Contains(out.stderr, "\r") {
		t.Errorf("progress where there is no terminal:\n%s", out.stderr)
	}
	if drawn, err := os.ReadFile(svg); err != nil || !strings.HasPrefix(string(drawn), "<svg ") {
		t.Errorf("%v, plot:\n%s", err, drawn)
	}
}

func TestBenchOfAServer(t *testing.T) {
	url := serve(t, server.Config{AuthToken: "hunter2"})
	out := call(t, toolEnv("DISTRIBUTED_SECRET=hunter2"), "bench", "--quick", "--server", url)
	if out.code != 0 || !strings.Contains(out.stdout, "\n100 locks held: ") || !strings.HasPrefix(out.stdout, " ") {
		t.Errorf("%+v", out)
	}
	// The environment names a server to work with, not one to measure.
	if out := call(t, toolEnv("DISTRIBUTED_URL=dflockd://127.0.0.1:1"), "bench", "--quick"); out.code != 0 {
		t.Errorf("%+v", out)
	}
}

func TestBenchFailures(t *testing.T) {
	for _, c := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"--time-per-block", "0s"}, exitUsage, "--time-per-block"},
		{[]string{"--big", "--quick"}, exitUsage, "--quick"},
		{[]string{"--svg", "/no/such/directory/x.svg"}, exitUsage, "--svg"},
		{[]string{"--server", "memory://"}, exitUsage, "memory"},
		{[]string{"--server", "dflockd://127.0.0.1:1"}, exitFailed, "refused"},
		{[]string{"--quick", "more"}, exitUsage, "more"},
	} {
		out := call(t, toolEnv(), append([]string{"bench"}, c.args...)...)
		if out.code != c.code || !strings.Contains(out.stderr, c.says) {
			t.Errorf("bench %q: %+v, want code %d and a word about %s", c.args, out, c.code, c.says)
		}
	}
}
