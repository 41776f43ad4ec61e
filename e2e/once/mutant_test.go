//go:build unix

package once

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
	"testing"
	"time"

	"github.com/distributed-go/distributed/e2e/internal/size"
	"github.com/distributed-go/distributed/internal/figures"
)

// An edit replaces a text that stands exactly once in a file of the module, the
// path of which counts from its root. No mutant needs a hook in the product.
type edit struct{ file, old, with string }

// A mutant is a bug that is planted in a copy of the source. The campaign must fail
// with a violation of one of the kinds.
type mutant struct {
	name  string
	bug   []edit
	run   string   // the campaign
	args  []string // beside it
	kinds []string
}

// attempts is how often a campaign may look for a bug: what is random may miss it
// once.
const attempts = 3

// TestMutantsApply sees that each bug can still be planted: whoever changes the
// text that it stands in has to plant it again.
func TestMutantsApply(t *testing.T) {
	root := moduleRoot(t)
	for _, m := range mutants {
		files := make(map[string]string)
		for _, e := range m.bug {
			if err := apply(root, files, e); err != nil {
				t.Errorf("%s: %v", m.name, err)
			}
		}
	}
}

// TestMutants plants each bug and runs the campaign that must catch it; without
// -full only those that -only names.
func TestMutants(t *testing.T) {
	root := moduleRoot(t)
	table, n, all := figures.NewTable("planted bug", "campaign", "caught by", "attempt", "s"), 0, 0
	for _, m := range mutants {
		if *only == "" && !size.Full() || *only != "" && !regexp.MustCompile(*only).MatchString(m.name) {
			continue
		}
		all++
		began := time.Now()
		by, attempt, err := m.hunt(t, root)
		switch {
		case err != nil:
			t.Errorf("%s: %v", m.name, err)
		case by == "":
			t.Errorf("%s: %s did not catch it in %d attempts", m.name, m.run, attempts)
			by = "NOTHING"
		default:
			n++
		}
		table.Row(m.name, m.run, by, attempt, time.Since(began).Seconds())
	}
	if all > 0 {
		show(t, table)
		t.Logf("%d of %d planted bugs were caught", n, all)
	}
}

// hunt runs the campaign with the bug, until it was caught, and returns by which
// kinds of violations.
func (m *mutant) hunt(t *testing.T, root string) (by string, attempt int, err error) {
	t.Helper()
	binary, err := plant(root, t.TempDir(), m.bug)
	if err != nil {
		return "", 0, err
	}
	defer os.Remove(binary)
	for attempt = 1; attempt <= attempts; attempt++ {
		run := "^" + strings.ReplaceAll(m.run, "/", "$/^") + "$"
		args := append([]string{"-test.run", run, "-test.timeout", "150s", "-limit", "6s"}, m.args...)
		out, err := exec.CommandContext(t.Context(), binary, args...).CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			return "", attempt, err
		}
		found := violationKinds(string(out))
		if slices.ContainsFunc(m.kinds, func(k string) bool { return slices.Contains(found, k) }) {
			return strings.Join(found, ", "), attempt, nil
		}
		t.Logf("%s, attempt %d: %v, found %q, want one of %q\n%s", m.name, attempt, err, found, m.kinds, out[max(0, len(out)-3000):])
	}
	return "", attempts, nil
}

// violationKinds returns the kinds of violations that a campaign printed, each
// once.
func violationKinds(out string) []string {
	var kinds []string
	for _, m := range regexp.MustCompile(`violation (\w+):`).FindAllStringSubmatch(out, -1) {
		kinds = append(kinds, m[1])
	}
	slices.Sort(kinds)
	return slices.Compact(kinds)
}

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

// moduleRoot returns the directory of the module that the bugs are planted in.
func moduleRoot(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	must(t, err)
	if _, err := os.Stat(filepath.Join(root, "distributed.go")); err != nil {
		t.Fatalf("the source must be there to plant bugs in it: %v", err)
	}
	return root
}
