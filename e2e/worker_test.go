//go:build unix

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/distributed-go/distributed"
	"github.com/distributed-go/distributed/e2e/internal/overlap"
	"github.com/distributed-go/distributed/internal/proc"
	"github.com/distributed-go/distributed/locker"
)

const counterFile = "counter"

// encodeCounter writes all counters with the same length, so that one write
// replaces another.
func encodeCounter(n uint64) []byte { return fmt.Appendf(nil, "%020d\n", n) }

func decodeCounter(b []byte) (uint64, error) {
	return strconv.ParseUint(string(bytes.TrimRight(b, "\n")), 10, 64)
}

// monotonic reads the clock that all processes of a machine share.
func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic("a system without CLOCK_MONOTONIC: " + err.Error())
	}
	return ts.Nano()
}

type workerArgs struct {
	URL  string
	Dir  string
	Name string // also of the file in which it writes its holds down
}

// A worker is a process that increments a file under a Mutex.
type worker struct {
	mutex   *distributed.Mutex
	counter *os.File
	notes   *os.File

	stop      atomic.Bool
	linger    atomic.Bool   // the next holder is to stay until it is killed
	lingering chan struct{} // closed when it does
	wg        sync.WaitGroup
	failed    atomic.Pointer[error]
}

func workerRole(c *proc.Child) error {
	var args workerArgs
	if err := c.Args(&args); err != nil {
		return err
	}
	client, err := distributed.Open(args.URL, locker.WithTTL(10*time.Second))
	if err != nil {
		return err
	}
	w := &worker{mutex: distributed.NewMutex(client, "counter"), lingering: make(chan struct{})}
	if w.counter, err = os.OpenFile(filepath.Join(args.Dir, counterFile), os.O_RDWR, 0); err != nil {
		return err
	}
	if w.notes, err = os.OpenFile(filepath.Join(args.Dir, args.Name), os.O_CREATE|os.O_EXCL|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return err
	}
	c.Handle("increment", proc.Handle(func(n int) (struct{}, error) {
		for g := range workerGoroutines {
			w.wg.Go(func() { w.increment(g, n) })
		}
		return struct{}{}, w.join()
	}))
	c.Handle("go", proc.Handle(func(struct{}) (struct{}, error) {
		for g := range workerGoroutines {
			w.wg.Go(func() { w.increment(g, 1<<62) })
		}
		return struct{}{}, nil
	}))
	c.Handle("linger", proc.Handle(func(struct{}) (struct{}, error) {
		w.linger.Store(true)
		<-w.lingering
		return struct{}{}, nil
	}))
	c.Handle("stop", proc.Handle(func(struct{}) (struct{}, error) {
		w.stop.Store(true)
		return struct{}{}, w.join()
	}))
	if err := c.Serve(nil); err != nil {
		return err
	}
	return client.Close()
}

// join waits for the goroutines and returns the first error.
func (w *worker) join() error {
	w.wg.Wait()
	if err := w.failed.Load(); err != nil {
		return *err
	}
	return nil
}

func (w *worker) increment(g, n int) {
	for i := 0; i < n && !w.stop.Load(); i++ {
		w.mutex.Lock()
		err := w.critical(g)
		w.mutex.Unlock()
		if err != nil {
			w.failed.CompareAndSwap(nil, &err)
			return
		}
	}
}

// critical is the critical section. It writes down what it does before it does
// it, and that it has left before it leaves.
func (w *worker) critical(g int) error {
	now := monotonic()
	fence, ok := w.mutex.Lease().Fence()
	if !ok {
		return fmt.Errorf("the server has no fences")
	}
	b := make([]byte, len(encodeCounter(0)))
	if _, err := w.counter.ReadAt(b, 0); err != nil {
		return err
	}
	value, err := decodeCounter(b)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w.notes, "enter %d %d %d %d\n", g, now, fence, value); err != nil {
		return err
	}
	if _, err := w.counter.WriteAt(encodeCounter(value+1), 0); err != nil {
		return err
	}
	if w.linger.CompareAndSwap(true, false) {
		close(w.lingering)
		for { // until it is killed, and then it was in here for that long
			if _, err := fmt.Fprintf(w.notes, "alive %d %d\n", g, monotonic()); err != nil {
				return err
			}
		}
	}
	_, err = fmt.Fprintf(w.notes, "exit %d %d\n", g, monotonic())
	return err
}

// A note is a hold as its worker wrote it down.
type note struct {
	overlap.Hold
	Value uint64 // what the file held
	Died  bool   // it has no end
}

// parseNotes reads what a worker wrote down. Its goroutines exclude each other
// too, or else their notes would be nested, which is an error here.
func parseNotes(name string, b []byte) ([]note, error) {
	var (
		notes []note
		open  bool
	)
	for line := range strings.Lines(string(b)) {
		var (
			word string
			g    int
			at   int64
			n    note
		)
		if _, err := fmt.Sscan(line, &word, &g, &at); err != nil {
			return nil, fmt.Errorf("%s: %q: %w", name, line, err)
		}
		n.Who = fmt.Sprintf("%s.%d", name, g)
		if open == (word == "enter") || open && notes[len(notes)-1].Who != n.Who {
			return nil, fmt.Errorf("%s: %q in the hold of another goroutine, or in none", name, line)
		}
		switch word {
		case "enter":
			if _, err := fmt.Sscan(line, &word, &g, &at, &n.Fence, &n.Value); err != nil {
				return nil, fmt.Errorf("%s: %q: %w", name, line, err)
			}
			n.Enter, n.Exit, n.Died = at, at, true
			notes, open = append(notes, n), true
		case "alive":
			notes[len(notes)-1].Exit = at
		case "exit":
			notes[len(notes)-1].Exit, notes[len(notes)-1].Died, open = at, false, false
		default:
			return nil, fmt.Errorf("%s: %q says nothing known", name, line)
		}
	}
	return notes, nil
}

func TestParseNotes(t *testing.T) {
	got, err := parseNotes("w", []byte("enter 1 10 7 0\nexit 1 20\nenter 2 30 8 1\nalive 2 40\nalive 2 50\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []note{
		{overlap.Hold{Who: "w.1", Enter: 10, Exit: 20, Fence: 7}, 0, false},
		{overlap.Hold{Who: "w.2", Enter: 30, Exit: 50, Fence: 8}, 1, true},
	}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for _, bad := range []string{
		"exit 1 20\n", "enter 1 10 7 0\nenter 2 11 8 0\n", "enter 1 10 7 0\nexit 2 20\n", "enter 1 10\n", "leave 1 10\n", "\n",
		"enter 1 10 7 0\nleft 1 10\n",
	} {
		if notes, err := parseNotes("w", []byte(bad)); err == nil {
			t.Errorf("%q was read as %+v", bad, notes)
		}
	}
}

func TestUpdatesLost(t *testing.T) {
	hold := func(value uint64, died bool) note { return note{Value: value, Died: died} }
	for name, c := range map[string]struct {
		notes []note
		end   uint64
		want  int
	}{
		"nobody":                        {nil, 0, 0},
		"in order":                      {[]note{hold(0, false), hold(1, false)}, 2, 0},
		"died after writing":            {[]note{hold(0, true), hold(1, false)}, 2, 0},
		"died before writing":           {[]note{hold(0, true), hold(0, false)}, 1, 0},
		"died last":                     {[]note{hold(0, false), hold(1, true)}, 1, 0},
		"two read the same":             {[]note{hold(0, false), hold(0, false)}, 1, 1},
		"an update from nowhere":        {[]note{hold(0, false), hold(2, false)}, 3, 1},
		"an update from a dead one":     {[]note{hold(0, true), hold(2, false)}, 3, 1},
		"the end lacks the last update": {[]note{hold(0, false), hold(1, false)}, 1, 1},
	} {
		if got := updatesLost(c.notes, c.end); len(got) != c.want {
			t.Errorf("%s: %q, want %d problems", name, got, c.want)
		}
	}
}
