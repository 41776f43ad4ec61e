package datadir

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
)

// openAt opens a real directory and sees to its end.
func openAt(t *testing.T, path string, opts Options) *Dir {
	t.Helper()
	d, err := Open(path, opts)
	assert.Sure(t, err)
	t.Cleanup(func() { assert.Sure(t, d.Close()) })
	return d
}

func wait(t *testing.T, d *Dir, s Stamp) {
	t.Helper()
	assert.Sure(t, d.Wait(t.Context(), s))
}

// TestLife goes through first use, crash and clean stop on the real file system.
func TestLife(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	d := openAt(t, path, Options{})
	first := d.Found()
	if first.Boot != 0 || first.Clean || first.Grace != 0 || first.Fence == 0 || d.Ceiling() != first.Fence+1<<20 {
		t.Errorf("the first start found %+v, ceiling %d", first, d.Ceiling())
	}
	info, err := os.Stat(path)
	assert.Sure(t, err)
	assert.Exactly(t, "the mode", info.Mode().Perm(), 0o700)

	wait(t, d, d.Admit(20*time.Second))
	assert.Exactly(t, "20 s may be granted", d.Admit(20*time.Second), 0)
	long := Record{Key: "long", Fence: first.Fence + 1, Limit: 1, Weight: 1, TTL: time.Hour}
	stamp, err := d.Keep(long)
	assert.Sure(t, err)
	wait(t, d, stamp)
	top := d.Ceiling()
	assert.Sure(t, d.Close())

	d = openAt(t, path, Options{Wall: func() time.Time { return time.Unix(5, 0) }})
	f := d.Found()
	if f.Boot != 1 || f.Clean || f.Grace != 20*time.Second || f.Fence < top || f.Key != first.Key ||
		len(f.Records) != 1 || f.Records[0] != long || f.SetBack <= 0 {
		t.Errorf("after a crash %+v was found", f)
	}
	clean, err := d.Stop(nil)
	if clean || err != nil {
		t.Errorf("a stop within the grace: clean %v, error %v", clean, err)
	}

	d = openAt(t, path, Options{})
	d.mu.Lock()
	d.ledger.carry = 0 // as if the grace was over
	d.mu.Unlock()
	live := []Record{{Key: "short", Fence: 7, Limit: 1, Weight: 1, TTL: time.Second}, long}
	clean, err = d.Stop(live)
	if !clean || err != nil {
		t.Errorf("a stop: clean %v, error %v", clean, err)
	}
	assert.Matches(t, d.Err(), ErrClosed)

	d = openAt(t, path, Options{MustExist: true})
	if f := d.Found(); f.Boot != 3 || !f.Clean || f.Grace != 0 || len(f.Records) != 2 || f.Mark != 20*time.Second {
		t.Errorf("after a clean stop %+v was found", f)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	_, err := Open(filepath.Join(dir, "no", "parent"), Options{})
	assert.Matches(t, err, os.ErrNotExist)
	_, err = Open(filepath.Join(dir, "none"), Options{MustExist: true})
	assert.Matches(t, err, os.ErrNotExist)
	_, err = Open(dir, Options{MustExist: true})
	assert.Matches(t, err, os.ErrNotExist)
	_, err = Open(dir, Options{MaxGrace: -1})
	if err == nil {
		t.Error("a negative grace was taken")
	}
	file := filepath.Join(dir, "file")
	assert.Sure(t, os.WriteFile(file, nil, 0o600))
	if _, err = Open(file, Options{}); err == nil {
		t.Error("a file was taken for a directory")
	}
	t.Log(err)

	path := filepath.Join(dir, "data")
	openAt(t, path, Options{})
	_, err = Open(path, Options{})
	assert.Matches(t, err, ErrInUse)
	t.Log(err)
	link := filepath.Join(dir, "link")
	assert.Sure(t, os.Symlink(path, link))
	_, err = Open(link, Options{})
	assert.Matches(t, err, ErrInUse)
}

// TestRealDamage removes and damages real files.
func TestRealDamage(t *testing.T) {
	for _, name := range []string{identityName, slotNames[0], slotNames[1]} {
		path := filepath.Join(t.TempDir(), "data")
		assert.Sure(t, openAt(t, path, Options{}).Close())
		assert.Sure(t, os.Remove(filepath.Join(path, name)))
		_, err := Open(path, Options{})
		assert.Matches(t, err, ErrDamaged)
	}
	path := filepath.Join(t.TempDir(), "data")
	assert.Sure(t, openAt(t, path, Options{}).Close())
	for i, name := range slotNames {
		assert.Sure(t, os.Truncate(filepath.Join(path, name), int64(maxSlot)+1)) // a sparse one
		d, err := Open(path, Options{})
		if i == 0 {
			assert.Sure(t, err)
			assert.Sure(t, d.Close())
			assert.Sure(t, os.Truncate(filepath.Join(path, name), 10))
			continue
		}
		assert.Matches(t, err, ErrDamaged)
		t.Log(err)
	}
}

// inChild is set for a process that only holds a directory.
const inChild = "DATADIR_TEST_HOLDS"

// TestSecondProcess has another process hold the directory, and killed.
func TestSecondProcess(t *testing.T) {
	if path := os.Getenv(inChild); path != "" {
		d, err := Open(path, Options{})
		assert.Sure(t, err)
		fmt.Println("open", d.Found().Boot)
		time.Sleep(time.Hour) // until it is killed
	}
	path := filepath.Join(t.TempDir(), "data")
	cmd := exec.Command(os.Args[0], "-test.run=^TestSecondProcess$")
	cmd.Env = append(os.Environ(), inChild+"="+path)
	out, err := cmd.StdoutPipe()
	assert.Sure(t, err)
	assert.Sure(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "open 0\n" {
		t.Errorf("the other process says %q, %v", line, err)
	}
	_, err = Open(path, Options{})
	assert.Matches(t, err, ErrInUse)
	assert.Sure(t, cmd.Process.Kill())
	cmd.Wait() //nolint:errcheck // it was killed
	assert.Exactly(t, "starts before", openAt(t, path, Options{}).Found().Boot, 1)
}

// A slowDisk is a simulated disk on which each sync takes a while. Like that it is
// for one goroutine at a time: a Dir's writer.
type slowDisk struct {
	*simDisk
	broken atomic.Bool
	syncs  atomic.Int64
}

func newSlowDisk() *slowDisk {
	d := &slowDisk{simDisk: newSimDisk(rand.New(rand.NewPCG(1, 1)))} //nolint:gosec // it repeats itself on purpose
	d.fails = func(op string) bool { return d.broken.Load() && op[:4] == "sync" }
	return d
}

func (d *slowDisk) Open(path string, create bool) (File, error) {
	f, err := d.simDisk.Open(path, create)
	return &slowFile{f, d}, err
}

type slowFile struct {
	File
	d *slowDisk
}

func (f *slowFile) Sync() error {
	time.Sleep(5 * time.Millisecond)
	f.d.syncs.Add(1)
	return f.File.Sync()
}

// TestGrantsDoNotWait gives a million fences over ten seconds, on a disk that takes
// 10 ms for an update.
func TestGrantsDoNotWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newSlowDisk()
		d := openAt(t, simPath, Options{FS: disk, Span: 10_000})
		disk.syncs.Store(0)
		fence, waited := d.Found().Fence, 0
		for range 1000 {
			for range 1000 {
				fence++
				if d.Reserve(fence) != 0 {
					waited++
				}
			}
			time.Sleep(10 * time.Millisecond)
		}
		synctest.Wait()
		t.Logf("%d updates, %d syncs, %d waits", d.Updates(), disk.syncs.Load(), waited)
		if waited > 0 || d.Updates() > 101 {
			t.Error("too many")
		}
	})
}

// TestFailedSync wants nothing new to count after a sync failed, and what counted
// to go on.
func TestFailedSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newSlowDisk()
		changes := 0
		d := openAt(t, simPath, Options{FS: disk, Span: 1000, Changed: func() { changes++ }})
		wait(t, d, d.Admit(10*time.Second))
		disk.broken.Store(true)
		top, syncs := d.Ceiling(), disk.syncs.Load()
		assert.Exactly(t, "a fence below the ceiling", d.Reserve(top), 0)
		stamp := d.Reserve(top + 1)
		err := d.Wait(t.Context(), stamp)
		assert.Matches(t, err, errDisk)
		assert.Matches(t, d.Err(), errDisk)
		synctest.Wait()
		assert.Exactly(t, "calls of Changed", changes, 2)
		assert.Exactly(t, "syncs", disk.syncs.Load()-syncs, 1)

		disk.broken.Store(false)
		assert.Exactly(t, "the ceiling", d.Ceiling(), top)
		assert.Exactly(t, "a fence below the ceiling", d.Reserve(top), 0)
		assert.Exactly(t, "a TTL below the mark", d.Admit(10*time.Second), 0)
		done, err := d.Done(d.Admit(11 * time.Second))
		assert.Exactly(t, "a TTL above the mark", done, false)
		assert.Matches(t, err, errDisk)
		stamp, err = d.Keep(Record{Key: "k", Limit: 1, Weight: 1, TTL: time.Hour})
		assert.Sure(t, err)
		assert.Matches(t, d.Wait(t.Context(), stamp), errDisk)
		clean, err := d.Stop(nil)
		assert.Exactly(t, "a clean stop", clean, false)
		assert.Matches(t, err, errDisk)
		assert.Exactly(t, "syncs", disk.syncs.Load()-syncs, 1)
	})
}

// TestTogether has many ask at once, and see their records in few updates.
func TestTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newSlowDisk()
		d := openAt(t, simPath, Options{FS: disk})
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				stamp, err := d.Keep(Record{Key: fmt.Sprint(i), Limit: 1, Weight: 1, TTL: time.Hour})
				if err == nil {
					err = d.Wait(t.Context(), stamp)
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := d.Updates(); n > 2 {
			t.Errorf("%d updates", n)
		}
		for i := range 50 {
			d.Drop(0, fmt.Sprint(i), 0)
		}
		assert.Sure(t, d.Close())
		assert.Exactly(t, "records left", len(openAt(t, simPath, Options{FS: disk}).Found().Records), 50)
	})
}

// TestMarkFalls tells a Dir every ten seconds what is needed.
func TestMarkFalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := newSlowDisk()
		d := openAt(t, simPath, Options{FS: disk})
		wait(t, d, d.Admit(time.Minute))
		for range 12 {
			time.Sleep(10 * time.Second)
			d.Tidy(time.Second)
		}
		assert.Sure(t, d.Close())
		assert.Exactly(t, "the grace", openAt(t, simPath, Options{FS: disk}).Found().Grace, time.Second)
	})
}

func TestWaitEndsWithItsContext(t *testing.T) {
	d := openAt(t, filepath.Join(t.TempDir(), "data"), Options{})
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	assert.Matches(t, d.Wait(ctx, 100), cause)
	assert.Sure(t, d.Close())
	assert.Matches(t, d.Wait(t.Context(), 100), ErrClosed)
	assert.Sure(t, d.Wait(t.Context(), 0))
}

// TestEverybodyAtOnce is for the race detector.
func TestEverybodyAtOnce(t *testing.T) {
	d := openAt(t, filepath.Join(t.TempDir(), "data"), Options{Span: 100})
	fence := &atomic.Uint64{}
	fence.Store(d.Found().Fence)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 200 {
				if s := d.Reserve(fence.Add(1)); s != 0 && d.Wait(t.Context(), s) != nil {
					t.Error(d.Err())
				}
				d.Admit(time.Duration(i%60+1) * time.Second)
				r := Record{Key: "k", Fence: uint64(g), Limit: 1, Weight: 1, TTL: time.Hour} //nolint:gosec // small
				if i%10 == 0 {
					d.Keep(r) //nolint:errcheck // it is a good one
				} else if i%10 == 5 {
					d.Drop(r.Kind, r.Key, r.Fence)
				}
				d.Tidy(0)
				d.Done(1)
			}
		})
	}
	wg.Wait()
	if top := d.Ceiling(); top < fence.Load() {
		t.Errorf("fence %d was given below the ceiling %d", fence.Load(), top)
	}
	assert.Sure(t, d.Err())
}

func BenchmarkReserve(b *testing.B) {
	d, err := Open(filepath.Join(b.TempDir(), "data"), Options{})
	if err != nil {
		b.Fatal(err)
	}
	fence := d.Found().Fence
	for b.Loop() {
		fence++
		d.Reserve(fence)
	}
	b.ReportMetric(float64(2*d.Updates())/float64(b.N)*100_000, "syncs/100k")
	if err := d.Close(); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkAdmit(b *testing.B) {
	d, err := Open(filepath.Join(b.TempDir(), "data"), Options{})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		d.Admit(10 * time.Second)
	}
	if err := d.Close(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkUpdate is what those wait who must: a record, on the disk of the
// temporary directory.
func BenchmarkUpdate(b *testing.B) {
	d, err := Open(filepath.Join(b.TempDir(), "data"), Options{})
	if err != nil {
		b.Fatal(err)
	}
	r := Record{Key: "k", Limit: 1, Weight: 1, TTL: time.Hour}
	for b.Loop() {
		r.TTL++
		stamp, err := d.Keep(r)
		if err != nil {
			b.Fatal(err)
		}
		if err := d.Wait(b.Context(), stamp); err != nil {
			b.Fatal(err)
		}
	}
	if err := d.Close(); err != nil {
		b.Fatal(err)
	}
}
