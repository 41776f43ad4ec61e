//go:build unix

package faults

import (
	"bytes"
	"fmt"
	"sync"
	"testing"

	"github.com/distributed-go/distributed/e2e/internal/campaign"
)

// A write is a change of the value under a key that somebody asked for.
type write struct {
	data     []byte // no two writes have the same; nil removes what is there
	fence    uint64 // that was answered, or found beside it; 0 if it is not known
	answered bool   // with ok
}

// A shelved is the history of one key, which never has two writers at a time.
type shelved struct {
	writes []write // in the order in which they were asked for
	// floor is how many of them cannot be undone any more: the last of those was
	// answered with ok, or has been read.
	floor int
}

// A ledger knows what was asked for and answered, and so what may be found. It is
// safe for concurrent use.
type ledger struct {
	mu                  sync.Mutex
	keys                map[string]*shelved // guarded by mu, as all below
	answered, undecided int                 // writes, by what became of them
	underWay            int                 // those that are neither yet
	found               []campaign.Violation
}

func newLedger() *ledger { return &ledger{keys: make(map[string]*shelved)} }

// of returns the history of a key, with the mutex held.
func (l *ledger) of(key string) *shelved {
	s := l.keys[key]
	if s == nil {
		s = &shelved{}
		l.keys[key] = s
	}
	return s
}

// begin takes note of what is about to be asked for, and returns its number.
func (l *ledger) begin(key string, data []byte) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.of(key)
	s.writes = append(s.writes, write{data: data})
	l.underWay++
	return len(s.writes)
}

// end takes note of the answer: whatever is not ok may have been done or not.
func (l *ledger) end(key string, n int, fence uint64, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.underWay--
	if !ok {
		l.undecided++
		return
	}
	l.answered++
	s := l.of(key)
	if w := &s.writes[n-1]; w.data != nil {
		if fence < w.fence || fence <= s.highest(n-1) {
			l.wrong("the put %d of %s was answered with fence %d, it had been read with %d, and those before had up to %d", n, key, fence, w.fence, s.highest(n-1))
		}
		w.fence, w.answered = fence, true
	}
	s.floor = max(s.floor, n)
}

// before returns what a read that begins now must be judged by.
func (l *ledger) before(key string) (floor int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.of(key).floor
}

// read judges what was read of a key; data is nil if that was nothing. It must be
// what the last write left that was answered before the read began, or one that
// was asked for later, whole and with its own fence.
func (l *ledger) read(key string, floor int, data []byte, fence uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.of(key)
	if floor == 0 && data == nil {
		return
	}
	for i := max(floor, 1); i <= len(s.writes); i++ {
		w := &s.writes[i-1]
		if (w.data == nil) != (data == nil) || !bytes.Equal(w.data, data) {
			continue
		}
		if !w.answered && fence > max(w.fence, s.highest(i-1)) {
			w.fence = fence
		}
		if data != nil && w.fence != fence {
			l.wrong("%s has the put %d with fence %d, which was answered with %d; fences before it went up to %d", key, i, fence, w.fence, s.highest(i-1))
		}
		s.floor = max(s.floor, i)
		return
	}
	l.wrong("%s has %s, and must have what the write %d of %d left, or a later one: %s", key, brief(data), floor, len(s.writes), s.after(floor))
}

// highest is the highest fence of the first n writes.
func (s *shelved) highest(n int) (fence uint64) {
	for _, w := range s.writes[:n] {
		fence = max(fence, w.fence)
	}
	return fence
}

// after says what was left by the write n.
func (s *shelved) after(n int) string {
	if n == 0 {
		return brief(nil)
	}
	return brief(s.writes[n-1].data)
}

func (l *ledger) wrong(format string, args ...any) {
	l.found = append(l.found, campaign.Violationf("value", format, args...))
}

func brief(data []byte) string {
	if data == nil {
		return "no value"
	}
	return fmt.Sprintf("%d bytes that begin with %.20q", len(data), data)
}

// TestLedger sees that the ledger lets through what may be, and nothing else.
func TestLedger(t *testing.T) {
	first, second, third := []byte("first"), []byte("second"), []byte("third")
	for _, c := range []struct {
		name  string
		data  []byte
		fence uint64
		wrong bool
	}{
		{"the last that was answered", second, 5, false},
		{"one that was not", third, 6, false},
		{"a removal that was not", nil, 0, false},
		{"an older one", first, 3, true},
		{"with the fence of another", second, 3, true},
		{"with a fence that is too low", third, 5, true},
		{"half", second[:3], 5, true},
		{"nothing left of it", []byte{}, 5, true},
		{"another's", []byte("other"), 7, true},
	} {
		l := newLedger()
		l.end("key", l.begin("key", first), 3, true)
		l.end("key", l.begin("key", second), 5, true)
		l.end("key", l.begin("key", third), 0, false)
		l.end("key", l.begin("key", nil), 0, false)
		l.read("key", l.before("key"), c.data, c.fence)
		if got := len(l.found) > 0; got != c.wrong {
			t.Errorf("%s: %v, want a violation: %t", c.name, l.found, c.wrong)
		}
	}
	l := newLedger()
	l.read("key", l.before("key"), nil, 0)
	l.begin("key", first) // and is on its way
	l.read("key", l.before("key"), first, 3)
	l.read("key", l.before("key"), first, 4)
	l.end("key", 1, 4, true)
	if len(l.found) > 0 {
		t.Error(l.found)
	}
	l.read("key", l.before("key"), nil, 0)
	if len(l.found) != 1 {
		t.Errorf("what was read is gone, and of that it says %v", l.found)
	}
}
