package datadir

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
)

const second = time.Second

func newTestLedger(found State) *ledger {
	lim := limits{maxGrace: time.Minute, span: 1 << 20}
	began := lim.begin(&found, 0)
	return newLedger(lim, &found, &began)
}

// write makes an update if one was asked for.
func (l *ledger) write(t *testing.T) bool {
	t.Helper()
	_, ok := l.next(0)
	if ok {
		l.wrote()
	}
	return ok
}

func TestBegin(t *testing.T) {
	lim := limits{maxGrace: time.Minute, span: 100}
	short := Record{Key: "short", Limit: 1, Weight: 1, TTL: 50 * second}
	long := Record{Key: "long", Limit: 1, Weight: 1, TTL: 61 * second}
	for name, c := range map[string]struct {
		found State
		wall  int64
		want  State
	}{
		"first":      {State{}, 1000, State{Boot: 1, Wall: 1000, Ceiling: 1100}},
		"crash":      {State{Boot: 1, Wall: 9, Ceiling: 5000, Mark: second}, 1000, State{Boot: 2, Wall: 1000, Ceiling: 5100, Mark: second}},
		"set back":   {State{Boot: 1, Wall: 2000, Ceiling: 50}, 1000, State{Boot: 2, Wall: 2000, Ceiling: 1100}},
		"clean":      {State{Clean: true, Mark: second, Records: []Record{long, short}}, 0, State{Boot: 1, Ceiling: 100, Mark: 50 * second, Records: []Record{long}}},
		"unclean":    {State{Mark: second, Records: []Record{long, short}}, 0, State{Boot: 1, Ceiling: 100, Mark: second, Records: []Record{long, short}}},
		"at the end": {State{Ceiling: math.MaxUint64 - 1}, 0, State{Boot: 1, Ceiling: math.MaxUint64}},
	} {
		if got := lim.begin(&c.found, c.wall); !got.equal(&c.want) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// TestSyncsPerGrant is the price: two syncs an update.
func TestSyncsPerGrant(t *testing.T) {
	l := newTestLedger(State{})
	const grants = 10_000_000
	updates, waits := 0, 0
	for fence := uint64(1); fence <= grants; fence++ {
		if l.reserve(fence) != 0 {
			waits++
		}
		if fence%100_000 == 0 && l.write(t) { // a very slow disk
			updates++
		}
	}
	t.Logf("%d grants: %d updates, %.2f syncs per 100,000 grants, %d waited", grants, updates, 2*float64(updates)/(grants/100_000), waits)
	if 2*updates > grants/100_000 || waits > 0 {
		t.Error("that is more than one sync per 100,000 grants, or one that waited")
	}
}

func TestReserve(t *testing.T) {
	l := newTestLedger(State{})
	top := l.ceiling()
	assert.Exactly(t, "the first half", l.reserve(top/2), 0)
	assert.Exactly(t, "asked for", l.asked, 0)
	assert.Exactly(t, "the second half", l.reserve(top/2+1), 0)
	assert.Exactly(t, "asked for", l.asked, 1)
	assert.Exactly(t, "all", l.reserve(top), 0)
	if s := l.reserve(top + 1); s == 0 || l.ceiling() != top {
		t.Error("a fence above the ceiling may be given")
	}
	assert.Exactly(t, "asked for", l.asked, 1)
	_, _ = l.next(0)
	if l.reserve(top+1) == 0 {
		t.Error("a fence may be given while its update is on the way")
	}
	l.wrote()
	assert.Exactly(t, "the stamp afterwards", l.reserve(top+1), 0)
	far := uint64(1 << 40)
	s := l.reserve(far)
	if s == 0 || !l.write(t) || l.done < s || l.reserve(far) != 0 {
		t.Error("a large grant is not covered by its own update")
	}
	if l.reserve(math.MaxUint64); !l.write(t) || l.ceiling() != math.MaxUint64 {
		t.Error("the end of the numbers")
	}
}

func TestMarkRisesFirstAndFallsLast(t *testing.T) {
	l := newTestLedger(State{})
	admits := func(ttl time.Duration, want bool) {
		t.Helper()
		assert.Exactly(t, fmt.Sprintf("%v may be granted", ttl), l.admit(ttl) == 0, want)
	}
	admits(10*second, false)
	_, _ = l.next(0)
	admits(10*second, false)
	l.wrote()
	admits(10*second, true)
	admits(time.Minute+1, true) // by a record

	l.lower(lowerEvery-1, second)
	assert.Exactly(t, "the mark before its time", l.wanted.Mark, 10*second)
	l.lower(lowerEvery, 10*second)
	assert.Exactly(t, "asked for, at the same need", l.asked, 1)
	l.lower(lowerEvery, second)
	admits(second, true)
	_, _ = l.next(0)
	admits(10*second, false) // the disk may say a second already
	assert.Exactly(t, "the mark on disk", l.saved.Mark, 10*second)
	l.wrote()
	admits(10*second, false)
	l.write(t)
	admits(10*second, true)

	l.lower(2*lowerEvery, second)
	admits(10*second, true) // the fall was not begun, and is taken back
	l.write(t)
	assert.Exactly(t, "the mark", l.saved.Mark, 10*second)
}

func TestMarkCoversEarlierStarts(t *testing.T) {
	l := newTestLedger(State{Mark: 5 * time.Minute})
	l.lower(5*time.Minute-1, 0)
	assert.Exactly(t, "the mark while leases may be out", l.wanted.Mark, 5*time.Minute)
	l.lower(5*time.Minute, 0)
	assert.Exactly(t, "the mark afterwards", l.wanted.Mark, 0)
	l = newTestLedger(State{Mark: 5 * time.Minute, Clean: true})
	l.lower(lowerEvery, second)
	assert.Exactly(t, "the mark after a clean stop", l.wanted.Mark, second)
}

// TestMarkIsCheap plays clients whose TTLs jump about for an hour.
func TestMarkIsCheap(t *testing.T) {
	l := newTestLedger(State{})
	const hours = 1
	updates := 0
	for now := time.Duration(0); now < hours*time.Hour; now += 10 * time.Millisecond {
		ttl := time.Duration(1+int(now/second)%60) * second
		l.admit(ttl)
		l.lower(now, time.Millisecond)
		if l.write(t) {
			updates++
		}
	}
	t.Logf("%d updates in %d minutes", updates, hours*60)
	if updates > 6*60*hours {
		t.Error("that is more than six a minute")
	}
}

func TestRecords(t *testing.T) {
	l := newTestLedger(State{})
	r := Record{Kind: 1, Key: "k", Fence: 9, Limit: 3, Weight: 2, TTL: time.Hour}
	stamp, err := l.keep(r)
	assert.Sure(t, err)
	again, err := l.keep(r)
	assert.Sure(t, err)
	assert.Exactly(t, "the stamp of the same record", again, stamp)
	assert.Exactly(t, "the stamp", stamp > l.done, true)
	l.write(t)
	assert.Exactly(t, "the stamp afterwards", stamp <= l.done, true)
	again, err = l.keep(r)
	assert.Sure(t, err)
	assert.Exactly(t, "the stamp of a record on disk", again, 0)
	assert.Exactly(t, "records", len(l.saved.Records), 1)

	l.drop(recordKey{1, "k", 8})
	assert.Exactly(t, "an update after a drop of nothing", l.write(t), false)
	l.drop(r.name())
	l.write(t)
	assert.Exactly(t, "records", len(l.saved.Records), 0)

	r.Weight = 4
	if _, err := l.keep(r); err == nil {
		t.Error("a record was kept that could not be read")
	}
	r.Weight = 1
	for r.Fence = range MaxLong {
		if _, err := l.keep(r); err != nil {
			t.Fatal(err)
		}
	}
	r.Fence++
	_, err = l.keep(r)
	assert.Matches(t, err, ErrFull)
}

func TestStop(t *testing.T) {
	live := []Record{{Key: "b", Limit: 1, Weight: 1, TTL: 1}, {Key: "a", Limit: 1, Weight: 1, TTL: 1}}
	l := newTestLedger(State{Mark: second})
	_, clean, err := l.stop(second-1, live)
	if clean || err != nil || l.write(t) {
		t.Errorf("in the grace: clean %v, error %v, %+v", clean, err, l.saved)
	}
	l = newTestLedger(State{Mark: second})
	_, clean, err = l.stop(second, live)
	if !clean || err != nil || !l.write(t) || !l.saved.Clean || len(l.saved.Records) != 2 || l.saved.Records[0].Key != "a" {
		t.Errorf("after the grace: clean %v, error %v, %+v", clean, err, l.saved)
	}
	l.drop(live[0].name())
	l.lower(time.Hour, 0)
	_, kerr := l.keep(live[0])
	_, _, err = l.stop(0, nil)
	if !errors.Is(err, ErrClosed) || !errors.Is(kerr, ErrClosed) || l.write(t) {
		t.Error("something can be asked for after a stop")
	}
	l.reserve(math.MaxUint64)
	l.admit(time.Minute)
	assert.Exactly(t, "an update after a stop", l.write(t), false)

	l = newTestLedger(State{})
	_, clean, err = l.stop(0, []Record{{}})
	if clean || err == nil {
		t.Error("a record that cannot be read was taken")
	}
}

// TestValuesAreNoted wants the slots to learn of values with what else they are
// written for, and by themselves only once a minute and at the end.
func TestValuesAreNoted(t *testing.T) {
	l := newLedger(limits{maxGrace: time.Minute, span: 8}, &State{}, &State{Boot: 1, ValuesTx: 1})
	write := func() (uint64, bool) {
		s, ok := l.next(0)
		if !ok {
			return 0, false
		}
		l.wrote()
		return s.ValuesTx, true
	}
	for _, c := range []struct {
		now  time.Duration
		tx   uint64
		end  bool
		want uint64 // 0: nothing is written
	}{
		{1, 2, false, 0}, {time.Minute, 3, false, 3}, {time.Minute + 1, 4, false, 0},
		{2 * time.Minute, 4, false, 4}, {4 * time.Minute, 4, false, 0}, {4*time.Minute + 1, 5, false, 5},
		{4*time.Minute + 2, 6, false, 0}, {4*time.Minute + 3, 0, true, 6}, {4*time.Minute + 4, 0, true, 0},
	} {
		l.note(c.now, c.tx, c.end)
		tx, wrote := write()
		if wrote != (c.want > 0) || tx != c.want {
			t.Errorf("at %v, transaction %d: wrote %v, transaction %d", c.now, c.tx, wrote, tx)
		}
	}
	l.note(5*time.Minute, 7, false)
	write()
	l.note(5*time.Minute+1, 8, false)
	l.admit(time.Second)
	if tx, _ := write(); tx != 8 {
		t.Errorf("an update for something else says %d", tx)
	}
}
