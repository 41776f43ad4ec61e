package planting

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/distributed-go/distributed/internal/assert"
)

func TestApply(t *testing.T) {
	root := t.TempDir()
	assert.Sure(t, os.WriteFile(filepath.Join(root, "a.go"), []byte("one two two three"), 0o600))
	files := make(map[string]string)
	assert.Sure(t, apply(root, files, Edit{"a.go", "one", "1"}))
	assert.Sure(t, apply(root, files, Edit{"a.go", "three", "3"}))
	if got := files["a.go"]; got != "1 two two 3" {
		t.Errorf("two edits of a file made %q", got)
	}
	for _, bad := range []Edit{{"a.go", "two", "2"}, {"a.go", "four", "4"}, {"b.go", "one", "1"}} {
		if apply(root, files, bad) == nil {
			t.Errorf("%+v was applied", bad)
		}
	}
}

// TestChoose has -only name one, nothing, and what is no regular expression.
func TestChoose(t *testing.T) {
	mutants := []Mutant{{Name: "first bug"}, {Name: "second bug"}, {Name: "third"}}
	defer func(s string) { *only = s }(*only)
	for _, c := range []struct {
		only string
		few  int
		want []string
	}{
		{"", 0, nil}, {"", 1, []string{"first bug"}}, {"bug", 0, []string{"first bug", "second bug"}}, {"third", 1, []string{"third"}},
	} {
		*only = c.only
		chosen, err := choose(mutants, c.few)
		var got []string
		for _, m := range chosen {
			got = append(got, m.Name)
		}
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("-only %q of a few, %d: %q, %v; want %q", c.only, c.few, got, err, c.want)
		}
	}
	for _, bad := range []string{"fourth", "("} {
		*only = bad
		if chosen, err := choose(mutants, 1); err == nil {
			t.Errorf("-only %q chose %d", bad, len(chosen))
		}
	}
}
