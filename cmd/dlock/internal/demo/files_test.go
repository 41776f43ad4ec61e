package demo

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

func TestGuardRefusesStaleFences(t *testing.T) {
	g := guard(filepath.Join(t.TempDir(), "guarded"))
	if now, err := g.read(); err != nil || now != (guarded{}) {
		t.Fatalf("a file that is not there says %+v, %v", now, err)
	}
	for _, w := range []struct {
		fence uint64
		text  string
		stale bool
	}{
		{5, "first, which is longer than the others", false},
		{5, "same", false},
		{4, "late", true},
		{9, "next", false},
		{5, "late again", true},
	} {
		err := g.write(w.fence, w.text)
		if errors.Is(err, errStale) != w.stale || !w.stale && err != nil {
			t.Errorf("write of %q with fence %d: %v", w.text, w.fence, err)
		}
	}
	if now, err := g.read(); err != nil || now != (guarded{Fence: 9, Text: "next"}) {
		t.Errorf("the file says %+v, %v, want what the largest fence wrote", now, err)
	}
}

func TestGuardOfGarbageRefusesAll(t *testing.T) {
	g := guard(filepath.Join(t.TempDir(), "guarded"))
	if err := os.WriteFile(string(g), []byte("garbage"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := g.write(1, "text"); err == nil {
		t.Error("a write over what cannot be read passed")
	}
	if _, err := g.read(); err == nil {
		t.Error("garbage was read")
	}
}

func TestGuardComparesAndWritesInOneStep(t *testing.T) {
	g := guard(filepath.Join(t.TempDir(), "guarded"))
	const most = 50
	var wg sync.WaitGroup
	for fence := uint64(1); fence <= most; fence++ {
		wg.Go(func() {
			if err := g.write(fence, "text"); err != nil && !errors.Is(err, errStale) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if now, err := g.read(); err != nil || now.Fence != most {
		t.Errorf("the file says %+v, %v, want the largest fence", now, err)
	}
}

func TestIncrement(t *testing.T) {
	file := filepath.Join(t.TempDir(), "number")
	if err := increment(file); err == nil {
		t.Error("a file that is not there was incremented")
	}
	if err := writeNumber(file, 98); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if err := increment(file); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := readNumber(file); err != nil || n != 101 {
		t.Errorf("98 and 3 is %d, %v", n, err)
	}
}
