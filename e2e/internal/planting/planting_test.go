package planting

import (
	"os"
	"path/filepath"
	"testing"
)

func TestApply(t *testing.T) {
	root := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(filepath.Join(root, "a.go"), []byte("one two two three"), 0o600))
	files := make(map[string]string)
	must(apply(root, files, Edit{"a.go", "one", "1"}))
	must(apply(root, files, Edit{"a.go", "three", "3"}))
	if got := files["a.go"]; got != "1 two two 3" {
		t.Errorf("two edits of a file made %q", got)
	}
	for _, bad := range []Edit{{"a.go", "two", "2"}, {"a.go", "four", "4"}, {"b.go", "one", "1"}} {
		if apply(root, files, bad) == nil {
			t.Errorf("%+v was applied", bad)
		}
	}
}
