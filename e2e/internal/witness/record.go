//go:build unix

package witness

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Monotonic reads the clock that all processes of a machine share, in ns.
func Monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts); err != nil {
		panic("a system without CLOCK_MONOTONIC: " + err.Error())
	}
	return ts.Nano()
}

// A Record is one line that a process wrote down, with one write(2) to a file
// that all append to: what was written survives SIGKILL.
//
//	ask     an acquisition begins, at At
//	enter   a lock was returned, with Fence, at At
//	alive   the last Check that returned nil began at At
//	gone    a Check failed; the last one that returned nil began at At
//	leave   the last Check that returned nil began at At, and Release follows
//	freed   Release returned without an error, at At
type Record struct {
	What  string
	Who   string // process and lane: there is one hold at a time for each
	Key   string
	Fence uint64 // of enter
	At    int64  // by monotonic
}

func (r Record) line() []byte {
	return fmt.Appendf(nil, "%s %s %s %d %d\n", r.What, r.Who, r.Key, r.Fence, r.At)
}

func parseRecord(line string) (r Record, err error) {
	if _, err := fmt.Sscanf(line, "%s %s %s %d %d", &r.What, &r.Who, &r.Key, &r.Fence, &r.At); err != nil {
		return r, fmt.Errorf("%q: %w", line, err)
	}
	switch r.What {
	case "ask", "enter", "alive", "gone", "leave", "freed":
		return r, nil
	}
	return r, fmt.Errorf("%q says nothing known", line)
}

// A Recorder writes records down.
type Recorder struct{ file *os.File }

// OpenRecorder returns a recorder that appends to a file.
func OpenRecorder(path string) (*Recorder, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	return &Recorder{f}, err
}

// Close closes the file.
func (r *Recorder) Close() error { return r.file.Close() }

// Write writes a record down.
func (r *Recorder) Write(rec Record) error {
	_, err := r.file.Write(rec.line())
	return err
}

// A Follower reads the records of a run while they are written, and keeps
// them. It is safe for concurrent use.
type Follower struct {
	path string
	stop func()
	done chan struct{} // closed when everything was read

	mu      sync.Mutex
	waits   map[string]chan Interval // guarded by mu, as all below; by who is awaited to hold
	records []Record                 // in the order of the file
	holds   map[string]*Interval     // by who, those that go on
	grants  map[string]int64         // by key, the instant of the last
	err     error
}

// FollowEvery is how often the file is read while it grows.
const FollowEvery = 2 * time.Millisecond

// Follow reads the records in a file, which need not exist yet, until the test ends.
func Follow(t testing.TB, path string) *Follower {
	t.Helper()
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	f := &Follower{path: path, stop: stop, done: make(chan struct{}), waits: make(map[string]chan Interval), holds: make(map[string]*Interval), grants: make(map[string]int64)}
	go func() {
		defer close(f.done)
		defer file.Close()
		f.read(ctx, file)
	}()
	t.Cleanup(func() { f.End() })
	return f
}

// read reads until ctx ends, and then to the end of the file. A line that is not
// whole yet waits for its rest.
func (f *Follower) read(ctx context.Context, file *os.File) {
	var (
		rest []byte
		buf  = make([]byte, 1<<16)
	)
	for {
		ended := ctx.Err() != nil
		n, _ := file.Read(buf) // at the end of the file it is 0
		rest = append(rest, buf[:n]...)
		if i := bytes.LastIndexByte(rest, '\n'); i >= 0 {
			f.take(rest[:i+1])
			rest = append(rest[:0], rest[i+1:]...)
		}
		if n == 0 {
			if ended {
				return
			}
			time.Sleep(FollowEvery) // real time: other processes write
		}
	}
}

func (f *Follower) take(lines []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for line := range bytes.Lines(lines) {
		r, err := parseRecord(string(line))
		if err != nil {
			f.err = err
			continue
		}
		f.records = append(f.records, r)
		switch r.What {
		case "enter":
			h := &Interval{Record: r, Last: r.At}
			f.holds[r.Who] = h
			f.grants[r.Key] = max(f.grants[r.Key], r.At)
			if c := f.waits[r.Who]; c != nil {
				delete(f.waits, r.Who)
				c <- *h
			}
		case "gone", "leave":
			delete(f.holds, r.Who)
		}
	}
}

// Holding returns the hold of a lane, and false if it has none as far as was
// read.
func (f *Follower) Holding(who string) (Interval, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h, ok := f.holds[who]
	if !ok {
		return Interval{}, false
	}
	return *h, true
}

// FirstGrants returns when each key was first granted after an instant, as far as
// was read.
func (f *Follower) FirstGrants(since int64) map[string]int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	first := make(map[string]int64)
	for _, r := range f.records {
		if at := first[r.Key]; r.What == "enter" && r.At >= since && (at == 0 || r.At < at) {
			first[r.Key] = r.At
		}
	}
	return first
}

// Await waits until one of the lanes holds, and returns false if ctx ends first.
func (f *Follower) Await(ctx context.Context, who ...string) (Interval, bool) {
	c := make(chan Interval, len(who))
	f.mu.Lock()
	for _, w := range who {
		if h, ok := f.holds[w]; ok {
			c <- *h
		} else {
			f.waits[w] = c
		}
	}
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, w := range who {
			delete(f.waits, w)
		}
	}()
	select {
	case h := <-c:
		return h, true
	case <-ctx.Done():
		return Interval{}, false
	}
}

// End reads what is left and returns all records. It is idempotent.
func (f *Follower) End() ([]Record, error) {
	f.stop()
	<-f.done
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.records, f.err
}

// Path is the file that is read.
func (f *Follower) Path() string { return f.path }

// Holds returns the holds that go on, by who has them, as far as was read.
func (f *Follower) Holds() map[string]Interval {
	f.mu.Lock()
	defer f.mu.Unlock()
	holds := make(map[string]Interval, len(f.holds))
	for who, h := range f.holds {
		holds[who] = *h
	}
	return holds
}

// Each calls a function for every record that was read so far, in the order of
// the file. It must not call the follower.
func (f *Follower) Each(see func(Record)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.records {
		see(r)
	}
}

// GrantedSince says whether each of the keys was granted after an instant, as far
// as was read, and names one that was not.
func (f *Follower) GrantedSince(keys []string, since int64) (missing string, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, key := range keys {
		if f.grants[key] < since {
			return key, false
		}
	}
	return "", true
}
