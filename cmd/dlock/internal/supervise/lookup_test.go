//go:build unix

package supervise

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// write creates a file with these permissions and returns its path.
func write(t *testing.T, dir, name, text string, mode os.FileMode) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestLook(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	write(t, first, "plain", "", 0o644)
	write(t, first, "hidden", "", 0o644)
	both := write(t, first, "both", "#!/bin/sh\n", 0o755)
	write(t, second, "both", "#!/bin/sh\n", 0o755)
	hidden := write(t, second, "hidden", "#!/bin/sh\n", 0o755)
	if err := os.Mkdir(filepath.Join(first, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	path := first + ":" + second

	for _, c := range []struct {
		name, path, want string
		code             int
	}{
		{"both", path, both, 0},
		{"hidden", path, hidden, 0}, // what cannot be executed does not hide what can
		{"plain", path, "", CannotRun},
		{"dir", path, "", CannotRun},
		{"missing", path, "", NotFound},
		{"both", "", "", NotFound},
		{"", path, "", NotFound},
		{"./missing", path, "./missing", 0}, // for the system to judge
	} {
		got, err := Look(c.name, c.path)
		var start *StartError
		switch {
		case c.code == 0 && (err != nil || got != c.want):
			t.Errorf("Look(%q) = %q, %v, want %q", c.name, got, err, c.want)
		case c.code != 0 && !errors.As(err, &start):
			t.Errorf("Look(%q) = %q, %v, want a StartError", c.name, got, err)
		case c.code != 0 && start.ExitCode() != c.code:
			t.Errorf("Look(%q): %v: exit code %d, want %d", c.name, err, start.ExitCode(), c.code)
		}
	}
}

func TestLookInWorkingDirectory(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "here", "#!/bin/sh\n", 0o755)
	t.Chdir(dir)
	if got, err := Look("here", "/nonexistent:"); err != nil || got != "./here" {
		t.Errorf(`Look("here") = %q, %v, want "./here" through the empty entry`, got, err)
	}
}
