package planting

import (
	"encoding/json"
	"errors"
	"flag"
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

	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/size"
	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/internal/figures"
)

// An Edit replaces a text that stands exactly once in a file of the module: the
// path of the file from the root of the module, the text, and what comes in its
// place. No mutant needs a hook in the product.
type Edit [3]string

// A Mutant is a bug that is planted in a copy of the source. The campaign must
// fail with a violation of one of the kinds.
type Mutant struct {
	Name  string
	World []Edit // what is true of the machine in this case, such as a slow clock: no bug, and harmless alone
	Bug   []Edit
	Run   string   // the campaign, or one of its subtests
	Args  []string // its flags
	Kinds []string
}

// attempts is how often a campaign may look for a bug: what is random may miss
// it once.
const attempts = 3

// Apply sees that each bug can still be planted: whoever changes the text that it
// stands in has to plant it again.
func Apply(t *testing.T, mutants []Mutant) {
	t.Helper()
	root := Root(t)
	for _, m := range mutants {
		files := make(map[string]string)
		for _, e := range append(slices.Clone(m.World), m.Bug...) {
			if err := apply(root, files, e); err != nil {
				t.Errorf("%s: %v", m.Name, err)
			}
		}
	}
}

var only = flag.String("only", "", "run the mutants whose names this regular expression matches")

// choose returns those that -only names; without it, all with -full, else the first
// few.
func choose(mutants []Mutant, few int) ([]Mutant, error) {
	switch {
	case *only != "":
		pattern, err := regexp.Compile(*only)
		if err != nil {
			return nil, err
		}
		chosen := slices.DeleteFunc(slices.Clone(mutants), func(m Mutant) bool { return !pattern.MatchString(m.Name) })
		if len(chosen) == 0 {
			return nil, fmt.Errorf("no mutant has a name like %q", *only)
		}
		return chosen, nil
	case size.Full():
		return mutants, nil
	}
	return mutants[:few], nil
}

// Hunt plants bugs and runs the campaigns that must catch them, some at a time, and
// first the worlds that some of them need, in which nothing may be caught. It does
// so for all with -full, for those that -only names, and else for the first few,
// to see that the machinery works. The program that it is part of has a flag -limit,
// which says when a campaign is stuck.
func Hunt(t *testing.T, mutants []Mutant, few, atOnce int) {
	t.Helper()
	chosen, err := choose(mutants, few)
	assert.Sure(t, err)
	if len(chosen) == 0 {
		return
	}
	root := Root(t)
	var (
		all     sync.WaitGroup
		slots   = make(chan struct{}, atOnce)
		results = make([]caught, len(chosen))
	)
	for i := range chosen {
		m, dir := &chosen[i], t.TempDir()
		all.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			results[i] = m.catch(t, root, dir)
		})
	}
	all.Wait()
	table, n := figures.NewTable("planted bug", "campaign", "caught by", "attempt", "s"), 0
	for i := range chosen {
		m, r := &chosen[i], results[i]
		if r.by == "" {
			r.by = "NOTHING"
		} else {
			n++
		}
		table.Row(m.Name, m.Run, r.by, r.attempt, r.took.Seconds())
	}
	campaign.Show(t, table)
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
func (m *Mutant) catch(t *testing.T, root, dir string) (c caught) {
	t.Helper()
	began := time.Now()
	var err error
	if len(m.World) > 0 {
		err = m.control(t, root, dir)
	}
	if err == nil {
		c.by, c.attempt, err = m.hunt(t, root, dir)
	}
	c.took = time.Since(began)
	switch {
	case err != nil:
		t.Errorf("%s: %v", m.Name, err)
	case c.by == "":
		t.Errorf("%s: %s did not catch it in %d attempts", m.Name, m.Run, attempts)
	default:
		t.Logf("%s: caught by %s in attempt %d", m.Name, c.by, c.attempt)
	}
	return c
}

// control runs the campaign in the mutant's world without the bug.
func (m *Mutant) control(t *testing.T, root, dir string) error {
	t.Helper()
	binary, err := Plant(root, dir, m.World)
	if err != nil {
		return err
	}
	if out, err := m.campaign(t, binary); err != nil {
		return fmt.Errorf("without the bug, in its world, %s fails: %w\n%s", m.Run, err, out)
	}
	return nil
}

// hunt runs the campaign with the bug, until it was caught, and returns by which
// kinds of violations.
func (m *Mutant) hunt(t *testing.T, root, dir string) (by string, attempt int, err error) {
	t.Helper()
	binary, err := Plant(root, dir, append(slices.Clone(m.World), m.Bug...))
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
		found := campaign.Kinds(out)
		if slices.ContainsFunc(m.Kinds, func(k string) bool { return slices.Contains(found, k) }) {
			return strings.Join(found, ", "), attempt, nil
		}
		t.Logf("%s, attempt %d: %v, found %q, want one of %q\n%s", m.Name, attempt, err, found, m.Kinds, Tail(out))
	}
	return "", attempts, nil
}

func (m *Mutant) campaign(t *testing.T, binary string) (string, error) {
	args := append([]string{"-test.run", campaign.Pattern(m.Run), "-test.timeout", "150s", "-limit", "20s"}, m.Args...)
	out, err := exec.CommandContext(t.Context(), binary, args...).CombinedOutput()
	if err == nil && strings.Contains(string(out), "no tests to run") {
		err = fmt.Errorf("there is no campaign called %s", m.Run)
	}
	return string(out), err
}

// Tail is the end of what a campaign printed.
func Tail(out string) string { return out[max(0, len(out)-4000):] }

// Plant builds this test with edits, which the compiler is told to read in the
// place of the files: nothing is copied, and nothing in the tree is touched.
func Plant(root, dir string, edits []Edit) (binary string, err error) {
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
func apply(root string, files map[string]string, e Edit) error {
	file, old, with := e[0], e[1], e[2]
	text, ok := files[file]
	if !ok {
		b, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(file)))
		if err != nil {
			return err
		}
		text = string(b)
	}
	if n := strings.Count(text, old); n != 1 {
		return fmt.Errorf("%s has %d times, and should have once:\n%s", file, n, old)
	}
	files[file] = strings.Replace(text, old, with, 1)
	return nil
}

// Root returns the directory of the module that is put under faults.
func Root(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	assert.Sure(t, err)
	if _, err := os.Stat(filepath.Join(root, "distributed.go")); err != nil {
		t.Fatalf("the source must be there to plant bugs in it: %v", err)
	}
	return root
}
