//go:build unix

package once

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/internal/assert"
	"golang.org/x/sys/unix"
)

// A ledger is the file that the functions of a key write to: that they start, and
// what they do. Each line is appended by one write.
type ledger struct{ path string }

// ledgerOf is the ledger of a key.
func ledgerOf(dir, key string) ledger { return ledger{filepath.Join(dir, key+".ledger")} }

// A line of a ledger.
type line struct {
	what  string // "start" or "commit"
	fence uint64 // of the lease
	at    int64
	who   string
}

// errStale says that somebody with a larger fence has committed.
var errStale = errors.New("a later holder has committed")

func (l ledger) open() (*os.File, error) {
	return os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
}

// start notes that a function starts.
func (l ledger) start(fence uint64, who string) error {
	f, err := l.open()
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = fmt.Fprintf(f, "start %d %d %s\n", fence, monotonic(), who)
	return err
}

// commit is what a function does, guarded by the fence: looking and appending are
// one step, by a lock of the operating system.
func (l ledger) commit(fence uint64, who string) error {
	f, err := l.open()
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	lines, err := l.read()
	if err != nil {
		return err
	}
	for _, c := range lines {
		if c.what == "commit" && c.fence > fence {
			return errStale
		}
	}
	_, err = fmt.Fprintf(f, "commit %d %d %s\n", fence, monotonic(), who)
	return err
}

func (l ledger) read() ([]line, error) {
	b, err := os.ReadFile(l.path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var lines []line
	for text := range strings.Lines(string(b)) {
		var n line
		if _, err := fmt.Sscan(text, &n.what, &n.fence, &n.at, &n.who); err != nil {
			return nil, fmt.Errorf("%s: %q: %w", l.path, text, err)
		}
		lines = append(lines, n)
	}
	return lines, nil
}

// A trial is what became of one key.
type trial struct {
	key    string
	lines  []line
	marked uint64   // the fence of the lease that the mark was written under, in the end; 0 if there is none
	seen   []string // the runs of all records that the server ever said it has
	nils   int      // calls that returned nil
	first  int64    // when the first of them did
	lost   int      // calls whose lease was lost
	doubts int      // calls that are in doubt
	failed int      // calls that failed, panicked or exited as they were told to
	faults int      // kills, and failures that were planned
	stuck  []string // processes whose calls did not return
	other  []string // what else came back
}

// judge says what must not have been.
func (t *trial) judge() (found []campaign.Violation) {
	add := func(kind, format string, args ...any) {
		found = append(found, campaign.Violationf(kind, "%s: "+format+"\n\t%+v", append(append([]any{t.key}, args...), t)...))
	}
	for _, text := range t.other {
		add("failure", "%s", text)
	}
	for _, text := range t.stuck {
		add("stuck", "%s", text)
	}
	if t.marked == 0 {
		add("unmarked", "it is not done in the end")
		return found
	}
	if marks := slices.Compact(slices.Sorted(slices.Values(t.seen))); len(marks) != 1 {
		add("twice", "the server had %d marks: %v", len(marks), marks)
	}
	starts, commits, doneAt := 0, 0, int64(0)
	for _, n := range t.lines {
		if n.what == "start" {
			starts++
		} else if n.fence == t.marked {
			commits++
			doneAt = n.at
		}
		if n.fence > t.marked {
			add("again", "%s of fence %d after the mark of %d", n.what, n.fence, t.marked)
		}
	}
	if commits != 1 {
		add("commit", "the run that is marked committed %d times", commits)
	}
	if t.nils > 0 && t.first < doneAt {
		add("early", "a call returned nil %d ns before it was done", doneAt-t.first)
	}
	if starts < 1+t.failed {
		add("cached", "%d starts, and %d of them failed", starts, t.failed)
	}
	if most := 1 + t.faults + t.lost + t.doubts; starts > most {
		add("starts", "%d starts, at most %d are explained", starts, most)
	}
	return found
}

func TestLedger(t *testing.T) {
	l := ledgerOf(t.TempDir(), "k")
	assert.Sure(t, l.start(7, "a.1"))
	assert.Sure(t, l.commit(7, "a.1"))
	assert.Sure(t, l.start(9, "b.2"))
	assert.Sure(t, l.commit(9, "b.2"))
	if err := l.commit(7, "a.1"); !errors.Is(err, errStale) {
		t.Errorf("a late commit: %v", err)
	}
	assert.Sure(t, l.commit(9, "b.2"))
	lines, err := l.read()
	assert.Sure(t, err)
	var got bytes.Buffer
	for _, n := range lines {
		fmt.Fprintf(&got, "%s %d %s;", n.what, n.fence, n.who)
	}
	if want := "start 7 a.1;commit 7 a.1;start 9 b.2;commit 9 b.2;commit 9 b.2;"; got.String() != want {
		t.Errorf("read %s", got.String())
	}
}

func TestJudgeTrial(t *testing.T) {
	good := trial{
		lines:  []line{{"start", 7, 10, "a"}, {"commit", 7, 20, "a"}, {"start", 9, 30, "b"}, {"commit", 9, 40, "b"}},
		marked: 9, seen: []string{"b", "b"}, nils: 5, first: 50, faults: 1,
	}
	for want, change := range map[string]func(*trial){
		"":         func(*trial) {},
		"failure":  func(n *trial) { n.other = []string{"oops"} },
		"unmarked": func(n *trial) { n.marked = 0 },
		"twice":    func(n *trial) { n.seen = []string{"b", "a", "b"} },
		"again":    func(n *trial) { n.marked = 7; n.first = 20 },
		"commit":   func(n *trial) { n.lines = append(slices.Clone(n.lines), line{"commit", 9, 41, "b"}) },
		"early":    func(n *trial) { n.first = 39 },
		"starts":   func(n *trial) { n.faults = 0 },
		"stuck":    func(n *trial) { n.stuck = []string{"b"} },
		"cached":   func(n *trial) { n.failed = 2 },
	} {
		n := good
		change(&n)
		found := n.judge()
		kind := ""
		if len(found) > 0 {
			kind = found[0].Kind
		}
		if kind != want || len(found) > 1 && want != "again" { // which comes with each line after the mark
			t.Errorf("found %v, want %q", found, cmp.Or(want, "nothing"))
		}
	}
}
