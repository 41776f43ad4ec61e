package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/distributed-go/distributed/cmd/dlock/internal/demo"
)

// results are of two rows, one of which holds.
func results() []demo.Result {
	return []demo.Result{
		{Name: "good", Claim: "is good", Holds: true, Saw: "all well", Processes: 3, Seconds: 0.25},
		{Name: "the worse", Claim: "is bad", Saw: "something", Faults: []string{"one thing", "another"}, Processes: 2, Seconds: 1},
	}
}

func TestSummaryHoldsOnlyIfEveryRowDoes(t *testing.T) {
	both := results()
	for _, c := range []struct {
		rows []demo.Result
		want bool
	}{{both, false}, {both[:1], true}, {both[1:], false}, {nil, false}} {
		if got := summarize(c.rows, time.Second); got.Holds != c.want {
			t.Errorf("%+v: holds %v", c.rows, got.Holds)
		}
	}
	if got := summarize(both, time.Second); got.Processes != 5 || got.Seconds != 1 {
		t.Errorf("%+v", got)
	}
}

func TestViewOnNoTerminalIsPlain(t *testing.T) {
	var out bytes.Buffer
	v := &plain{out: &out, rows: 2}
	for i, r := range results() {
		v.Began(i, demo.Row{Name: r.Name, Claim: r.Claim}, nil)
		v.Ended(i, r)
	}
	v.close()
	if err := v.table(summarize(results(), 1250*time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	want := `1/2  good: is good
     holds: all well (3 processes, 0.2 s)
2/2  the worse: is bad
     BROKEN: one thing; another (2 processes, 1.0 s)

PROMISE    VERDICT  OBSERVED
good       holds    all well
the worse  BROKEN   one thing; another

1 of 2 hold, with 5 processes in 1.2 s
`
	if out.String() != want {
		t.Errorf("printed\n%s\nwant\n%s", &out, want)
	}
}

func TestViewKeepsColumnsInColour(t *testing.T) {
	var coloured, bare bytes.Buffer
	for out, colour := range map[*bytes.Buffer]bool{&coloured: true, &bare: false} {
		v := &live{plain: plain{out: out, rows: 2}, colour: colour}
		if err := v.table(summarize(results(), time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	if strings.Contains(bare.String(), "\x1b") {
		t.Errorf("NO_COLOR printed %q", &bare)
	}
	text := coloured.String()
	for _, code := range []string{green, red, normal, "\x1b[0m"} {
		if !strings.Contains(text, code) {
			t.Errorf("no %q in %q", code, text)
		}
		text = strings.ReplaceAll(text, code, "")
	}
	if text != bare.String() {
		t.Errorf("without its codes\n%s\nwithout colour\n%s", text, &bare)
	}
}

func TestClip(t *testing.T) {
	for _, c := range []struct {
		width int
		want  string
	}{{10, "line"}, {4, "line"}, {2, "li"}, {0, ""}, {-1, ""}} {
		if got := clip("line", c.width); got != c.want {
			t.Errorf("clip to %d: %q", c.width, got)
		}
	}
}

// demoEnv puts the files of a demo into a directory of their own and marks its
// processes.
func demoEnv(t *testing.T) (env []string, dir string) {
	dir = t.TempDir()
	return toolEnv("TMPDIR="+dir, "DLOCK_DEMO="+dir), dir
}

// nothingLeft fails if the demo left files, or processes where those can be
// listed.
func nothingLeft(t *testing.T, dir string) {
	t.Helper()
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	all, _ := filepath.Glob("/proc/[0-9]*/environ")
	for _, file := range all {
		env, err := os.ReadFile(file)
		if err == nil && bytes.Contains(env, []byte("DLOCK_DEMO="+dir)) {
			t.Errorf("left behind: the process of %s", file)
		}
	}
}

func TestDemo(t *testing.T) {
	env, dir := demoEnv(t)
	p := start(t, env, "demo")
	if says := p.want(0); says != "" {
		t.Errorf("stderr %q", says)
	}
	nothingLeft(t, dir)
	var last string
	for range demo.Rows {
		p.line()
		if line := p.line(); !strings.HasPrefix(line, "     holds: ") || strings.Contains(line, "\x1b") {
			t.Errorf("printed %q", line)
		}
	}
	for range len(demo.Rows) + 4 { // a table, its head, and what frames it
		last = p.line()
	}
	if !strings.HasPrefix(last, fmt.Sprintf("%d of %[1]d hold, with ", len(demo.Rows))) {
		t.Errorf("ends with %q", last)
	}
}

func TestDemoReport(t *testing.T) {
	env, dir := demoEnv(t)
	out := call(t, env, "demo", "--json")
	nothingLeft(t, dir)
	var r demoReport
	d := json.NewDecoder(strings.NewReader(out.stdout))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil || out.code != 0 || out.stderr != "" {
		t.Fatalf("%+v, %v", out, err)
	}
	if !r.Holds || len(r.Rows) != len(demo.Rows) || r.Processes < 4 || r.Seconds <= 0 || r.Seconds > 30 {
		t.Errorf("%+v", r)
	}
}

func TestDemoInterrupted(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP} {
		env, dir := demoEnv(t)
		p := start(t, env, "demo")
		p.line() // the first row has begun
		p.kill(sig)
		p.want(128 + int(sig))
		nothingLeft(t, dir)
	}
}

func TestDemoWhoseReaderLeaves(t *testing.T) {
	env, dir := demoEnv(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	cmd := exec.Command(os.Args[0], "demo")
	cmd.Env, cmd.Stdout = env, w
	err = cmd.Run()
	w.Close()
	if code := cmd.ProcessState.ExitCode(); code != 128+int(syscall.SIGPIPE) {
		t.Errorf("exit code %d, %v", code, err)
	}
	nothingLeft(t, dir)
}

// A demo that is killed cannot tidy up its directory, but no process stays.
func TestDemoKilled(t *testing.T) {
	env, dir := demoEnv(t)
	p := start(t, env, "demo")
	for p.line() != fmt.Sprintf("6/%d  SIGSTOP: %s", len(demo.Rows), demo.Rows[5].Claim) { // which has a worker stopped
	}
	p.kill(syscall.SIGKILL)
	p.wait()
	eventually(t, "free of processes", func() bool {
		all, _ := filepath.Glob("/proc/[0-9]*/environ")
		for _, file := range all {
			if env, err := os.ReadFile(file); err == nil && bytes.Contains(env, []byte("DLOCK_DEMO="+dir)) {
				return false
			}
		}
		return true
	})
}

func TestDemoRefusesArguments(t *testing.T) {
	if out := call(t, toolEnv(), "demo", "fast"); out.code != exitUsage || out.stdout != "" {
		t.Errorf("%+v", out)
	}
	if out := call(t, toolEnv(), workerVerb, "nonsense"); out.code != exitFailed {
		t.Errorf("%+v", out)
	}
}

func TestDemoElsewhere(t *testing.T) {
	for url, says := range map[string]string{
		"dflockd://127.0.0.1:1":         "want an etcd",
		"memory://":                     "want an etcd",
		"etcd://127.0.0.1:1/p?fences=1": `unknown parameter "fences"`,
	} {
		if out := call(t, toolEnv(), "demo", "--server", url); out.code != exitUsage || out.stdout != "" || !strings.Contains(out.stderr, says) {
			t.Errorf("%s: %+v, want code %d and %q", url, out, exitUsage, says)
		}
	}
}

func TestTableSaysWhatIsLeftOut(t *testing.T) {
	var out bytes.Buffer
	r := summarize(results()[:1], time.Second)
	r.LeftOut = []demo.Omission{{Name: "another", Why: "a moon"}}
	if err := writeTable(&out, r, func(_, text string) string { return text }); err != nil {
		t.Fatal(err)
	}
	if text := out.String(); !strings.Contains(text, "another  left out  needs a moon\n") || !strings.Contains(text, "1 of 1 hold") {
		t.Errorf("printed\n%s", text)
	}
}
