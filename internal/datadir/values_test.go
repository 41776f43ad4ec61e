package datadir

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/distributed-go/distributed/internal/assert"
)

func waitValue(t testing.TB, d *Dir, s ValueStamp) {
	t.Helper()
	assert.Sure(t, d.WaitValue(t.Context(), s))
}

// TestValuesLive puts, replaces and removes values, over a crash and a clean stop.
func TestValuesLive(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	var changes atomic.Int64
	d := openAt(t, path, Options{ValuesChanged: func() { changes.Add(1) }})
	assert.Exactly(t, "values at first", len(d.Found().Values), 0)
	d.PutValue("a", []byte("old"), 1, 0, 10)
	d.PutValue("b", []byte("b"), 2, 0, 11)
	d.PutValue("gone", nil, 3, 0, 12)
	d.RemoveValue("gone", 3)
	d.RemoveValue("never", 4)
	d.PutValue("a", []byte("new"), 5, 1<<50, 13)
	d.RemoveValue("a", 4) // it has another one now
	waitValue(t, d, d.PutValue("empty", nil, 6, 0, 14))
	if n := d.ValueUpdates(); n == 0 || n > 7 || changes.Load() > int64(n) { //nolint:gosec // small
		t.Errorf("%d transactions, %d calls of ValuesChanged", n, changes.Load())
	}
	assert.Sure(t, d.ValuesErr())
	assert.Sure(t, d.Close())

	want := shelved{
		"a": {Key: "a", Data: []byte("new"), Fence: 5, Until: 1 << 50, At: 13},
		"b": {Key: "b", Data: []byte("b"), Fence: 2, At: 11}, "empty": {Key: "empty", Fence: 6, At: 14},
	}
	for range 3 {
		d = openAt(t, path, Options{})
		if f := d.Found(); !want.is(f.Values) {
			t.Errorf("%+v was found", f.Values)
		}
		_, err := d.Stop(nil)
		assert.Sure(t, err)
	}
	done, err := d.ValueDone(d.PutValue("late", nil, 7, 0, 15))
	assert.Exactly(t, "done after the stop", done, false)
	assert.Matches(t, err, ErrClosed)
	assert.Matches(t, d.ValuesErr(), ErrClosed)
}

// TestValuesThatCannotBeKept are told so by their stamps, and do no harm.
func TestValuesThatCannotBeKept(t *testing.T) {
	d := openAt(t, filepath.Join(t.TempDir(), "data"), Options{})
	for _, key := range []string{"", strings.Repeat("k", MaxKey+1)} {
		done, err := d.ValueDone(d.PutValue(key, nil, 1, 0, 0))
		assert.Exactly(t, "done", done, false)
		assert.Matches(t, err, ErrBadValue)
	}
	waitValue(t, d, d.PutValue(strings.Repeat("k", MaxKey), nil, 1, 0, 0))

	none := openAt(t, simPath, Options{FS: newSlowDisk()})
	done, err := none.ValueDone(none.PutValue("k", nil, 1, 0, 0))
	assert.Exactly(t, "done", done, false)
	assert.Matches(t, err, errors.ErrUnsupported)
	assert.Matches(t, none.ValuesErr(), errors.ErrUnsupported)
	assert.Exactly(t, "transactions", none.ValueUpdates(), 0)
	assert.Sure(t, none.Err())
}

// TestValuesExpire has values removed at a start, and by the writer when nothing
// else is asked of it, but not because a clock was set ahead.
func TestValuesExpire(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	var ms atomic.Int64
	ms.Store(1000)
	opts := Options{Wall: func() time.Time { return time.UnixMilli(ms.Load()) }}
	d := openAt(t, path, opts)
	d.PutValue("a", nil, 1, 2000, 1000)
	d.PutValue("b", nil, 2, 5000, 1000)
	waitValue(t, d, d.PutValue("c", nil, 3, 0, 1000))
	assert.Sure(t, d.Close())
	ms.Store(2000)
	d = openAt(t, path, opts)
	assert.Exactly(t, "values at 2 s", len(d.Found().Values), 2)
	vs := d.values.store
	assert.Sure(t, d.values.stop())
	ms.Store(1 << 40)
	if now := d.values.now(); now > 1_000_000 {
		t.Errorf("a clock that was set ahead makes it %d", now)
	}
	assert.Sure(t, vs.open(vs.path()))
	for _, c := range []struct{ ms, over, due int64 }{{4999, 0, 5000}, {5000, 1, 0}} {
		over, err := vs.expired(c.ms)
		assert.Sure(t, err)
		assert.Exactly(t, fmt.Sprintf("over at %d", c.ms), len(over), int(c.over))
		assert.Exactly(t, "the next", vs.due, c.due)
		assert.Sure(t, vs.apply(over))
	}
	assert.Exactly(t, "values left", vs.head.count, 1)
	assert.Sure(t, vs.close())
}

// TestValuesTogether has a hundred put at once, and see theirs in few transactions.
func TestValuesTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	d := openAt(t, path, Options{})
	var wg sync.WaitGroup
	for g := range 100 {
		wg.Go(func() {
			for i := range 5 {
				s := d.PutValue(fmt.Sprintf("%d-%d", g, i), []byte{byte(i)}, uint64(g*10+i+1), 0, 1) //nolint:gosec // small
				if err := d.WaitValue(t.Context(), s); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("500 puts in %d transactions", d.ValueUpdates())
	if d.ValueUpdates() > 250 {
		t.Error("they did not go together")
	}
	assert.Sure(t, d.Close())
	assert.Exactly(t, "values found", len(openAt(t, path, Options{}).Found().Values), 500)
}

// TestValuesStopAtTheFirstFailure takes the file away under the writer.
func TestValuesStopAtTheFirstFailure(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	var changes atomic.Int64
	told := make(chan struct{}, 10)
	d := openAt(t, path, Options{ValuesChanged: func() { changes.Add(1); told <- struct{}{} }})
	first := d.PutValue("kept", nil, 1, 0, 1)
	waitValue(t, d, first)
	<-told
	d.values.mu.Lock() // the writer is idle
	assert.Sure(t, d.values.store.close())
	var err error
	d.values.store.db, err = bbolt.Open(d.values.store.path(), 0o600, &bbolt.Options{
		OpenFile: func(name string, _ int, _ os.FileMode) (*os.File, error) { return os.Open(name) },
	})
	assert.Sure(t, err)
	d.values.mu.Unlock()

	stamp := d.PutValue("lost", nil, 2, 0, 1)
	err = d.WaitValue(t.Context(), stamp)
	if err == nil {
		t.Fatal("it counts")
	}
	t.Log(err)
	<-told
	assert.Exactly(t, "calls of ValuesChanged", changes.Load(), 2)
	assert.Matches(t, d.WaitValue(t.Context(), d.PutValue("later", nil, 3, 0, 1)), d.ValuesErr())
	done, err := d.ValueDone(first)
	assert.Exactly(t, "done before", done, true)
	assert.Sure(t, err)
	assert.Sure(t, d.Err()) // leases go on
	wait(t, d, d.Admit(10*time.Second))
	assert.Sure(t, d.Close())
	if f := openAt(t, path, Options{}).Found(); len(f.Values) != 1 || f.Values[0].Key != "kept" {
		t.Errorf("%+v was found", f.Values)
	}
}

// TestValuesFileOfAnother has some tool of bbolt's hold values.db: the start must
// not wait for it.
func TestValuesFileOfAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	assert.Sure(t, openAt(t, path, Options{}).Close())
	db, err := bbolt.Open(filepath.Join(path, valuesName), 0o600, nil)
	assert.Sure(t, err)
	_, err = Open(path, Options{})
	assert.Matches(t, err, ErrInUse)
	t.Log(err)
	assert.Sure(t, db.Close())
	openAt(t, path, Options{})
}

// TestValuesAreMissed wants the loss of the file, and an older copy of it from
// before the last end of a server, to stop the start.
func TestValuesAreMissed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "data")
	file := filepath.Join(path, valuesName)
	d := openAt(t, path, Options{})
	waitValue(t, d, d.PutValue("a", nil, 1, 0, 1))
	older, err := os.ReadFile(file)
	assert.Sure(t, err)
	waitValue(t, d, d.PutValue("b", nil, 2, 0, 1))
	assert.Sure(t, d.Close())
	right, err := os.ReadFile(file)
	assert.Sure(t, err)
	for _, wrong := range [][]byte{nil, older, right[:len(right)/2]} {
		assert.Sure(t, os.RemoveAll(file))
		if wrong != nil {
			assert.Sure(t, os.WriteFile(file, wrong, 0o600))
		}
		_, err = Open(path, Options{})
		assert.Matches(t, err, ErrDamaged)
		t.Log(err)
	}
	assert.Sure(t, os.WriteFile(file, right, 0o600))
	assert.Exactly(t, "values", len(openAt(t, path, Options{}).Found().Values), 2)
}

// inValueChild is set for a process that puts values until it is killed.
const inValueChild = "DATADIR_TEST_PUTS"

// putUntilKilled puts numbered values under a few keys, several at a time, and
// says which ones count.
func putUntilKilled(path string) {
	d, err := Open(path, Options{faults: faults{valuesEarly: os.Getenv("DATADIR_TEST_EARLY") != ""}})
	if err != nil {
		fmt.Println("error", err)
		return
	}
	first, out := d.Found().Fence+1, bufio.NewWriter(os.Stdout)
	for n := first; ; n += 3 {
		var last ValueStamp
		for i := range uint64(3) {
			last = d.PutValue(fmt.Sprint((n+i)%7), numbered(n+i), n+i, 0, int64(n)) //nolint:gosec // a clock
		}
		for {
			done, err := d.ValueDone(last)
			if err != nil {
				fmt.Println("error", err)
				return
			}
			if done {
				break
			}
			time.Sleep(10 * time.Microsecond)
		}
		fmt.Fprintln(out, n+2)
		out.Flush() //nolint:errcheck // the pipe is there until the kill
		if n > first+3000 {
			time.Sleep(time.Minute)
		}
	}
}

// numbered are data that can be of one number only.
func numbered(n uint64) []byte { return bytes.Repeat(strconv.AppendUint(nil, n, 10), int(n%400)) } //nolint:gosec // small

// killed starts a process that puts values, kills it after a while, and says what
// is wrong with what is left.
func killed(path string, after time.Duration, early bool) (puts uint64, err error) {
	cmd := exec.Command(os.Args[0], "-test.run=^TestValuesSurviveKills$")
	cmd.Env = append(os.Environ(), inValueChild+"="+path)
	if early {
		cmd.Env = append(cmd.Env, "DATADIR_TEST_EARLY=1")
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return 0, err
	}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	lines := bufio.NewScanner(out)
	var counts, lowest uint64
	for lines.Scan() {
		n, err := strconv.ParseUint(lines.Text(), 10, 64)
		if err != nil {
			return 0, errors.New(lines.Text())
		}
		if counts = n; lowest == 0 {
			lowest = n - 2
			time.AfterFunc(after, func() { cmd.Process.Kill() }) //nolint:errcheck // it may be gone
		}
	}
	cmd.Wait() //nolint:errcheck // it was killed
	d, err := Open(path, Options{})
	if err != nil {
		return 0, err
	}
	defer d.Close() //nolint:errcheck // it is about the start
	latest := map[string]uint64{}
	for n := max(counts, 6) - 6; n <= counts; n++ {
		if n >= lowest {
			latest[fmt.Sprint(n%7)] = n
		}
	}
	for _, v := range d.Found().Values {
		if !bytes.Equal(v.Data, numbered(v.Fence)) || v.Key != fmt.Sprint(v.Fence%7) {
			return 0, fmt.Errorf("value %d is not what was put", v.Fence)
		}
		if v.Fence < latest[v.Key] {
			return 0, fmt.Errorf("key %s has put %d, and %d counts", v.Key, v.Fence, latest[v.Key])
		}
		delete(latest, v.Key)
	}
	if len(latest) > 0 {
		return 0, fmt.Errorf("%d keys have no value: %v", len(latest), latest)
	}
	return counts - lowest + 1, nil
}

// TestValuesSurviveKills kills a process that puts values, again and again on one
// directory: what counted must be there, and nothing by halves.
func TestValuesSurviveKills(t *testing.T) {
	if path := os.Getenv(inValueChild); path != "" {
		putUntilKilled(path)
		return
	}
	kills := 60
	if testing.Short() {
		kills = 8
	}
	path := filepath.Join(t.TempDir(), "data")
	random := rand.New(rand.NewPCG(3, 3)) //nolint:gosec // it repeats itself on purpose
	total := uint64(0)
	for i := range kills {
		n, err := killed(path, time.Duration(random.IntN(20_000))*time.Microsecond, false)
		if err != nil {
			t.Fatalf("kill %d: %v", i, err)
		}
		total += n
	}
	t.Logf("%d kills, %d puts that counted", kills, total)
}

// TestKillsFindEarlyAnswers makes sure that the kills are not blind.
func TestKillsFindEarlyAnswers(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 4)) //nolint:gosec // it repeats itself on purpose
	path := filepath.Join(t.TempDir(), "data")
	for i := range 100 {
		if _, err := killed(path, time.Duration(random.IntN(3000))*time.Microsecond, true); err != nil {
			t.Logf("found by kill %d: %v", i, err)
			return
		}
	}
	t.Error("not found")
}

func benchmarkPuts(b *testing.B, together, size int) {
	d, err := Open(filepath.Join(b.TempDir(), "data"), Options{})
	if err != nil {
		b.Fatal(err)
	}
	data := make([]byte, size)
	fence := uint64(0)
	for b.Loop() {
		var last ValueStamp
		for i := range together {
			fence++
			last = d.PutValue(fmt.Sprint(i), data, fence, 0, 1)
		}
		if err := d.WaitValue(b.Context(), last); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N*together)/b.Elapsed().Seconds(), "puts/s")
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(d.ValueUpdates()), "µs/transaction")
	if info, err := os.Stat(filepath.Join(d.store.path, valuesName)); err == nil {
		b.ReportMetric(float64(info.Size()), "filebytes")
	}
	if err := d.Close(); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkPutAlone(b *testing.B)    { benchmarkPuts(b, 1, 100) }
func BenchmarkPutTogether(b *testing.B) { benchmarkPuts(b, 100, 100) }
func BenchmarkPutLarge(b *testing.B)    { benchmarkPuts(b, 1, 64<<10) }

// BenchmarkSync is what a transaction waits for twice.
func BenchmarkSync(b *testing.B) {
	f, err := os.Create(filepath.Join(b.TempDir(), "f"))
	if err != nil {
		b.Fatal(err)
	}
	page := make([]byte, valuesPage)
	for b.Loop() {
		if _, err := f.WriteAt(page, 0); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		b.Fatal(err)
	}
}
