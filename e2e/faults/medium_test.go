//go:build unix

package faults

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/distributed-go/distributed/e2e/internal/planting"
	"github.com/distributed-go/distributed/internal/assert"
)

// failingSyncs makes the syncs of a data directory, and the last one of each
// transaction of values, fail while there is a file of a certain name: no kernel does
// so on request for those who are not root.
var failingSyncs = []edit{{"internal/datadir/fs.go", "	return f, nil\n}", `	return failing{f}, nil
}

type failing struct{ *os.File }

func (f failing) Sync() error {
	if _, err := os.Stat(os.Getenv("` + syncsFail + `")); err == nil {
		return &fs.PathError{Op: "sync", Path: f.Name(), Err: errors.New("planted input/output error")}
	}
	return f.File.Sync()
}`}, {"internal/datadir/valuestore.go", "	var p *panicError\n	if errors.As(", `	if _, missing := os.Stat(os.Getenv("` + syncsFail + `")); err == nil && missing == nil && !vs.db.NoSync {
		err = errors.New("planted input/output error of bbolt's last sync")
	}
	var p *panicError
	if errors.As(`}}

// syncsFail is the variable with the name of that file.
const syncsFail = "DLOCK_FAULTS_SYNCS_FAIL"

// A medium is what a data directory is on.
type medium struct {
	config serverConfig
	fail   func(*lockServer) error
	heal   func() error
	stays  bool // it goes on failing for the next server, until it is healed
}

// inPlanted runs the test that it is called in in a program with failingSyncs.
func inPlanted(t *testing.T) {
	t.Helper()
	binary, err := planting.Plant(planting.Root(t), t.TempDir(), failingSyncs)
	assert.Sure(t, err)
	out, err := exec.CommandContext(t.Context(), binary, "-planted", "-test.v", "-disk-rounds", fmt.Sprint(diskRounds.Get()),
		"-test.run", "^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$").CombinedOutput()
	if err != nil {
		t.Errorf("%v: %s", err, planting.Tail(string(out)))
		return
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "|") {
			t.Log(strings.TrimSpace(line))
		}
	}
}

// limited is any disk, with a server that may not write a byte more.
func limited(t *testing.T) medium {
	return medium{
		config: serverConfig{DataDir: filepath.Join(t.TempDir(), "data")},
		fail:   func(s *lockServer) error { return s.Call(noContext, "limit", struct{}{}, nil) },
		heal:   func() error { return nil },
	}
}

// plantedSyncs is any disk whose syncs fail.
func plantedSyncs(t *testing.T) medium {
	mark := filepath.Join(t.TempDir(), "fail")
	return medium{
		config: serverConfig{DataDir: filepath.Join(t.TempDir(), "data"), SyncsFail: mark},
		fail:   func(*lockServer) error { return os.WriteFile(mark, nil, 0o600) },
		heal:   func() error { return os.Remove(mark) },
		stays:  true,
	}
}

// tmpfs is a file system of 256 KiB.
func tmpfs(t *testing.T) medium {
	at := mount(t, "-t", "tmpfs", "-o", "size=256k", "none")
	return filling(filepath.Join(at, "data"), filepath.Join(at, "fill"))
}

// loop is a file system whose blocks are in a file that cannot grow any more: what
// is written is lost when the kernel writes it back, which only a sync says.
func loop(t *testing.T) medium {
	below := mount(t, "-t", "tmpfs", "-o", "size=8m", "none")
	image := filepath.Join(below, "image")
	f, err := os.Create(image)
	assert.Sure(t, err)
	assert.Sure(t, errors.Join(f.Truncate(32<<20), f.Close()))
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", "-O", "^has_journal", image).CombinedOutput(); err != nil {
		t.Skipf("this machine makes no ext4: %v: %s", err, out)
	}
	return filling(filepath.Join(mount(t, "-o", "loop", image), "data"), filepath.Join(below, "fill"))
}

// mount mounts, and ends the test where that is not possible.
func mount(t *testing.T, args ...string) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("to mount a file system needs root: run the test as root, in a container if need be")
	}
	at := t.TempDir()
	if out, err := exec.Command("mount", append(args, at)...).CombinedOutput(); err != nil {
		t.Skipf("this root may not mount: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", at).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return at
}

// filling is a medium that a file fills up.
func filling(dir, file string) medium {
	return medium{
		config: serverConfig{DataDir: dir},
		fail: func(*lockServer) error {
			f, err := os.Create(file)
			for n := 1 << 16; err == nil && n > 0; {
				if _, err := f.Write(make([]byte, n)); err != nil {
					n /= 2 // down to the last byte
				}
			}
			return errors.Join(err, f.Close())
		},
		heal:  func() error { return os.Remove(file) },
		stays: true,
	}
}
