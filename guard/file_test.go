package guard

import (
	"bufio"
	"context"
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
)

// fileKind makes resources of files on the disk in memory.
func fileKind(write func(context.Context, File, uint64, []byte) error) kind {
	return func(t *testing.T, lag func()) *resource {
		r := new(resource)
		f := File{Path: crashPath, disk: &shared{model: newModel(), r: r, lag: lag, t: t}}
		r.write = func(ctx context.Context, fence uint64) error {
			return write(ctx, f, fence, strconv.AppendUint(nil, fence, 10))
		}
		return r
	}
}

// shared is a model for many writers at once, on which every step takes time,
// and which reports each new state of the file.
type shared struct {
	*model
	mu  sync.Mutex // guards model
	r   *resource
	lag func()
	t   *testing.T
}

func (s *shared) do(f func() error) error {
	s.lag()
	s.mu.Lock()
	defer s.mu.Unlock()
	return f()
}

func (s *shared) lock(path string) (func(), error) {
	var unlock func()
	err := s.do(func() (err error) { unlock, err = s.model.lock(path); return err })
	return func() { _ = s.do(func() error { unlock(); return nil }) }, err
}

func (s *shared) read(path string) (data []byte, err error) {
	err = s.do(func() (err error) { data, err = s.model.read(path); return err })
	return data, err
}

func (s *shared) remove(path string) error {
	return s.do(func() error { return s.model.remove(path) })
}

func (s *shared) create(path string, perm fs.FileMode, data []byte) error {
	return s.do(func() error { return s.model.create(path, perm, data) })
}

func (s *shared) syncDir(path string) error {
	return s.do(func() error { return s.model.syncDir(path) })
}

func (s *shared) rename(from, to string) error {
	return s.do(func() error {
		if to == crashPath {
			data, _ := s.model.read(from)
			fence, err := strconv.ParseUint(string(data), 10, 64)
			if err != nil {
				s.t.Error(err)
			}
			s.r.wrote(fence)
		}
		return s.model.rename(from, to)
	})
}

// checkThenReplace takes the lock twice.
func checkThenReplace(ctx context.Context, f File, fence uint64, data []byte) error {
	if err := f.Check(ctx, fence); err != nil {
		return err
	}
	unlock, err := f.lock(ctx, f.disk)
	if err != nil {
		return err
	}
	defer unlock()
	return f.replace(f.disk, f.Path, 0o600, data)
}

func TestFileReplacesAndRefuses(t *testing.T) {
	ctx, dir := t.Context(), t.TempDir()
	f := File{Path: filepath.Join(dir, "state"), Perm: 0o640}
	assert.Sure(t, os.WriteFile(f.Path, []byte("from before"), 0o600))
	assert.Sure(t, f.Write(ctx, 7, []byte("seven")))
	assert.Sure(t, f.Write(ctx, 7, []byte("seven again")))
	assert.Sure(t, f.Check(ctx, 8))
	err := f.Write(ctx, 7, []byte("late"))
	assert.Matches(t, err, ErrStale)
	var stale *StaleError
	if !errors.As(err, &stale) || *stale != (StaleError{Key: f.Path, Fence: 7, Seen: 8}) {
		t.Errorf("the error is %v", err)
	}
	assert.Matches(t, f.Check(ctx, 7), ErrStale)
	assert.Matches(t, f.Write(ctx, 0, nil), ErrNoFence)
	data, err := os.ReadFile(f.Path)
	assert.Sure(t, err)
	assert.Exactly(t, "content", string(data), "seven again")
	info, err := os.Stat(f.Path)
	assert.Sure(t, err)
	assert.Exactly(t, "mode", info.Mode()&^0o022, 0o640&^0o022) // whatever the umask
	assert.Sure(t, f.Write(ctx, 8, nil))
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	assert.Sure(t, err)
	assert.Exactly(t, "files: it, fence and lock", len(names), 3)
	if err := (File{}).Check(ctx, 1); err == nil {
		t.Error("a File without a path is accepted")
	}
}

func TestFileRefusesADamagedFence(t *testing.T) {
	good := string(formatFence(1785715200000000008))
	for cut := range len(good) {
		if f, err := parseFence([]byte(good[:cut])); err == nil {
			t.Errorf("%q is fence %d", good[:cut], f)
		}
	}
	for i := range len(good) {
		for bit := range 8 {
			bad := []byte(good)
			bad[i] ^= 1 << bit
			if f, err := parseFence(bad); err == nil {
				t.Errorf("%q is fence %d", bad, f)
			}
		}
	}
	for _, bad := range []string{good + good, good + "\n", "0 f4dbdf21\n", "+5 00000000\n"} {
		if f, err := parseFence([]byte(bad)); err == nil {
			t.Errorf("%q is fence %d", bad, f)
		}
	}
	f := File{Path: filepath.Join(t.TempDir(), "state")}
	assert.Sure(t, f.Write(t.Context(), 7, []byte("seven")))
	assert.Sure(t, os.WriteFile(f.fencePath(), nil, 0o600))
	err := f.Write(t.Context(), 8, []byte("eight"))
	assert.MatchesNot(t, err, ErrStale, nil)
	data, readErr := os.ReadFile(f.Path)
	assert.Sure(t, readErr)
	if err == nil || string(data) != "seven" {
		t.Errorf("with an empty fence the error is %v and the file %q", err, data)
	}
}

func TestFileWaitsForAnotherWriter(t *testing.T) {
	f := File{Path: filepath.Join(t.TempDir(), "state")}
	unlock, err := f.lock(t.Context(), machine{})
	assert.Sure(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	assert.Matches(t, f.Write(ctx, 7, nil), context.DeadlineExceeded, errLocked)
	done := make(chan error, 1)
	go func() { done <- f.Write(t.Context(), 7, nil) }()
	unlock()
	assert.Sure(t, <-done)
}

// writerEnv makes the test binary a writer instead.
const writerEnv = "GUARD_TEST_WRITER"

// writeUntilKilled writes with growing fences, one for each line that it reads,
// and says when each is written.
func writeUntilKilled(path string) int {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		fence, err := strconv.ParseUint(lines.Text(), 10, 64)
		if err == nil {
			err = File{Path: path}.Write(context.Background(), fence, content(fence))
		}
		if err != nil && !errors.Is(err, ErrStale) {
			os.Stderr.WriteString(err.Error() + "\n")
			return 1
		}
		os.Stdout.WriteString(lines.Text() + "\n")
	}
	return 0
}

func TestFileSurvivesKilledWriters(t *testing.T) {
	const kills = 30
	f := File{Path: filepath.Join(t.TempDir(), "state")}
	var fence uint64
	for range kills {
		cmd := exec.Command(os.Args[0], f.Path) //nolint:gosec // ourselves
		cmd.Env = append(os.Environ(), writerEnv+"=1")
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		assert.Sure(t, err)
		out, err := cmd.StdoutPipe()
		assert.Sure(t, err)
		assert.Sure(t, cmd.Start())
		written, answers := fence, bufio.NewScanner(out)
		for range 3 {
			fence++
			_, err = in.Write(strconv.AppendUint(nil, fence, 10))
			assert.Sure(t, err)
			_, err = in.Write([]byte("\n"))
			assert.Sure(t, err)
		}
		if answers.Scan() {
			written, err = strconv.ParseUint(answers.Text(), 10, 64)
			assert.Sure(t, err)
		}
		time.Sleep(rand.N(2 * time.Millisecond)) // somewhere in the writes after
		assert.Sure(t, cmd.Process.Kill())
		_ = cmd.Wait() // it was killed
		seen, err := f.seen(machine{})
		assert.Sure(t, err)
		data, err := os.ReadFile(f.Path)
		assert.Sure(t, err)
		whole := false
		for w := written; w <= seen; w++ {
			whole = whole || string(data) == string(content(w))
		}
		if !whole {
			t.Fatalf("%d was written, the fence is %d, the file %q", written, seen, data)
		}
	}
	assert.Sure(t, f.Write(t.Context(), fence+1, content(fence+1)))
}
