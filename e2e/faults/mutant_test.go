//go:build unix

package faults

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/distributed-go/distributed/e2e/internal/size"
	"github.com/distributed-go/distributed/internal/figures"
)

// An edit replaces a text that stands exactly once in a file of the module, the
// path of which counts from its root. No mutant needs a hook in the product.
type edit struct{ file, old, with string }

// A mutant is a bug that is planted in a copy of the source. The campaign must
// fail with a violation of one of the kinds.
type mutant struct {
	name  string
	world []edit // what is true of the machine in this case, such as a slow clock: no bug, and harmless alone
	bug   []edit
	run   string   // the campaign, and its flags
	args  []string // beside it
	kinds []string
}

// attempts is how often a campaign may look for a bug: what is random may miss
// it once.
const attempts = 3

// TestMutantsApply sees that each bug can still be planted: whoever changes the
// text that it stands in has to plant it again.
func TestMutantsApply(t *testing.T) {
	root := moduleRoot(t)
	for _, m := range mutants {
		files := make(map[string]string)
		for _, e := range append(slices.Clone(m.world), m.bug...) {
			if err := apply(root, files, e); err != nil {
				t.Errorf("%s: %v", m.name, err)
			}
		}
	}
}

// mutantsAtOnce is how many campaigns look for bugs at a time: they mostly wait.
const mutantsAtOnce = 3

// TestMutants plants each bug and runs the campaign that must catch it, and
// first the worlds that some of them need, in which nothing may be caught.
// Without -full it does so for one, to see that the machinery works.
func TestMutants(t *testing.T) {
	beside(t)
	root := moduleRoot(t)
	var chosen []*mutant
	for i := range mutants {
		if m := &mutants[i]; *only != "" && regexp.MustCompile(*only).MatchString(m.name) || *only == "" && (size.Full() || i == 0) {
			chosen = append(chosen, m)
		}
	}
	if len(chosen) == 0 {
		t.Fatalf("no mutant has a name like %q", *only)
	}
	var (
		all     sync.WaitGroup
		slots   = make(chan struct{}, mutantsAtOnce)
		results = make([]caught, len(chosen))
	)
	for i, m := range chosen {
		dir := t.TempDir()
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			results[i] = m.catch(t, root, dir)
		})
	}
	all.Wait()
	table, n := figures.NewTable("planted bug", "campaign", "caught by", "attempt", "s"), 0
	for i, m := range chosen {
		r := results[i]
		if r.by == "" {
			r.by = "NOTHING"
		} else {
			n++
		}
		table.Row(m.name, m.run, r.by, r.attempt, r.took.Seconds())
	}
	show(t, table)
	t.Logf("%d of %d planted bugs were caught", n, len(chosen))
}

// caught says how a bug was found.
type caught struct {
	by      string // the kinds of violations; empty if it was not
	attempt int
	took    time.Duration
}

// catch plants the bug and looks for it. Like all of this it may run beside the
// test's own goroutine, and so ends no test.
func (m *mutant) catch(t *testing.T, root, dir string) (c caught) {
	t.Helper()
	began := time.Now()
	var err error
	if len(m.world) > 0 {
		err = m.control(t, root, dir)
	}
	if err == nil {
		c.by, c.attempt, err = m.hunt(t, root, dir)
	}
	c.took = time.Since(began)
	switch {
	case err != nil:
		t.Errorf("%s: %v", m.name, err)
	case c.by == "":
		t.Errorf("%s: %s did not catch it in %d attempts", m.name, m.run, attempts)
	default:
		t.Logf("%s: caught by %s in attempt %d", m.name, c.by, c.attempt)
	}
	return c
}

// control runs the campaign in the mutant's world without the bug.
func (m *mutant) control(t *testing.T, root, dir string) error {
	t.Helper()
	binary, err := plant(root, dir, m.world)
	if err != nil {
		return err
	}
	if out, err := m.campaign(t, binary); err != nil {
		return fmt.Errorf("without the bug, in its world, %s fails: %w\n%s", m.run, err, out)
	}
	return nil
}

// hunt runs the campaign with the bug, until it was caught, and returns by which
// kinds of violations.
func (m *mutant) hunt(t *testing.T, root, dir string) (by string, attempt int, err error) {
	t.Helper()
	binary, err := plant(root, dir, append(slices.Clone(m.world), m.bug...))
	if err != nil {
		return "", 0, err
	}
	defer os.Remove(binary)
	for attempt = 1; attempt <= attempts; attempt++ {
		out, err := m.campaign(t, binary)
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			return "", attempt, err
		}
		found := violationKinds(out)
		if slices.ContainsFunc(m.kinds, func(k string) bool { return slices.Contains(found, k) }) {
			return strings.Join(found, ", "), attempt, nil
		}
		t.Logf("%s, attempt %d: %v, found %q, want one of %q\n%s", m.name, attempt, err, found, m.kinds, tail(out))
	}
	return "", attempts, nil
}

func (m *mutant) campaign(t *testing.T, binary string) (string, error) {
	run := "^" + strings.ReplaceAll(m.run, "/", "$/^")
	args := append([]string{"-test.run", run, "-test.timeout", "150s", "-limit", "20s"}, m.args...)
	out, err := exec.CommandContext(t.Context(), binary, args...).CombinedOutput()
	return string(out), err
}

// violationKinds returns the kinds of violations that a campaign printed, each
// once.
func violationKinds(out string) []string {
	var kinds []string
	for _, m := range regexp.MustCompile(`violation (\w+):`).FindAllStringSubmatch(out, -1) {
		if !slices.Contains(kinds, m[1]) {
			kinds = append(kinds, m[1])
		}
	}
	slices.Sort(kinds)
	return kinds
}

// tail is the end of what a campaign printed.
func tail(out string) string { return out[max(0, len(out)-4000):] }

// plant builds this test with edits, which the compiler is told to read in the
// place of the files: nothing is copied, and nothing in the tree is touched.
func plant(root, dir string, edits []edit) (binary string, err error) {
	files := make(map[string]string)
	for _, e := range edits {
		if err := apply(root, files, e); err != nil {
			return "", err
		}
	}
	overlay := struct{ Replace map[string]string }{make(map[string]string)}
	for file, text := range files {
		changed := filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(changed, []byte(text), 0o600); err != nil {
			return "", err
		}
		overlay.Replace[filepath.Join(root, filepath.FromSlash(file))] = changed
	}
	b, err := json.Marshal(overlay)
	if err != nil {
		return "", err
	}
	list, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "mutant.test")
	if err := os.WriteFile(list, b, 0o600); err != nil {
		return "", err
	}
	out, err := exec.Command("go", "test", "-c", "-overlay", list, "-o", binary, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return binary, nil
}

// apply applies an edit to what was read of the files so far.
func apply(root string, files map[string]string, e edit) error {
	text, ok := files[e.file]
	if !ok {
		b, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(e.file)))
		if err != nil {
			return err
		}
		text = string(b)
	}
	if n := strings.Count(text, e.old); n != 1 {
		return fmt.Errorf("%s has %d times, and should have once:\n%s", e.file, n, e.old)
	}
	files[e.file] = strings.Replace(text, e.old, e.with, 1)
	return nil
}

func TestApply(t *testing.T) {
	root := t.TempDir()
	must(t, os.WriteFile(filepath.Join(root, "a.go"), []byte("one two two three"), 0o600))
	files := make(map[string]string)
	must(t, apply(root, files, edit{"a.go", "one", "1"}))
	must(t, apply(root, files, edit{"a.go", "three", "3"}))
	if got := files["a.go"]; got != "1 two two 3" {
		t.Errorf("two edits of a file made %q", got)
	}
	for _, bad := range []edit{{"a.go", "two", "2"}, {"a.go", "four", "4"}, {"b.go", "one", "1"}} {
		if apply(root, files, bad) == nil {
			t.Errorf("%+v was applied", bad)
		}
	}
}

// moduleRoot returns the directory of the module that is put under faults.
func moduleRoot(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	must(t, err)
	if _, err := os.Stat(filepath.Join(root, "distributed.go")); err != nil {
		t.Fatalf("the source must be there to plant bugs in it: %v", err)
	}
	return root
}
