package datadir

import (
	"fmt"
	"math"
	"slices"
	"time"
)

// A Stamp is something that was asked for, in order: it counts as soon as an
// update that was started after it is on disk. 0 counts already.
type Stamp uint64

const (
	noteEvery  = time.Minute // the least time between two updates for values alone
	lowerEvery = time.Minute // the least time between two falls of the mark
	maxRaises  = 4           // of the mark between two falls, before it goes to the top
)

// limits are what a ledger is told from the start.
type limits struct {
	maxGrace time.Duration
	span     uint64 // fences reserved at a time
	faults   faults
}

// A ledger decides what may be relied on and what has to be written first. It
// does no I/O and has no clock; instants are durations since it began. Whoever
// has it writes what next returns, and then calls wrote; in between the disk may
// hold either state, and nothing counts that only one of them covers.
type ledger struct {
	limits

	saved  State  // on disk
	flying *State // being written, or nil
	wanted State  // to be written, but for Records

	records map[recordKey]kept // of wanted
	lists   bool               // records changed since they were listed in wanted

	asked, flew, done Stamp // of wanted, flying and saved

	raises  int           // of the mark since it fell last
	lowered time.Duration // when it did
	noted   time.Duration // when a transaction of values was last asked to be known
	carry   time.Duration // leases of earlier starts may be out until then
	stopped bool          // nothing more is asked for
}

// A kept is a record that was asked for, and when.
type kept struct {
	Record
	stamp Stamp
}

// A recordKey names a record.
type recordKey struct {
	kind  uint8
	key   string
	fence uint64
}

func (r *Record) name() recordKey { return recordKey{r.Kind, r.Key, r.Fence} }

// begin returns the state that a start must write before anything else, given
// what it found. The mark then covers the leases that have no record any more,
// and the ceiling is a span above all fences of earlier starts and the clock.
func (lim limits) begin(found *State, wall int64) State {
	s := *found
	s.Boot++
	s.Wall = max(found.Wall, wall)
	s.Ceiling = plus(lim.firstFence(found, wall), lim.span)
	s.Clean = found.Clean && lim.faults.staysClean
	s.Records = nil
	for _, r := range found.Records {
		if found.Clean && r.TTL <= lim.maxGrace && !s.Clean {
			s.Mark = max(s.Mark, r.TTL)
			continue
		}
		s.Records = append(s.Records, r)
	}
	return s
}

// firstFence returns the fence that is behind all that earlier starts can have
// given. The clock is for directories that were replaced by an older copy.
func (lim limits) firstFence(found *State, wall int64) uint64 {
	if lim.faults.clockAlone {
		return uint64(max(wall, 0))
	}
	return max(found.Ceiling, uint64(max(wall, 0)))
}

// plus adds, up to the largest number.
func plus(a, b uint64) uint64 {
	if a > math.MaxUint64-b {
		return math.MaxUint64
	}
	return a + b
}

// newLedger returns the ledger of a start that found one state and wrote another.
func newLedger(lim limits, found, began *State) *ledger {
	l := &ledger{limits: lim, saved: *began, wanted: *began, records: make(map[recordKey]kept, len(began.Records))}
	for _, r := range began.Records {
		l.records[r.name()] = kept{Record: r}
	}
	if !found.Clean && !lim.faults.noCarry {
		l.carry = found.Mark
	}
	return l
}

// ask takes note that wanted changed.
func (l *ledger) ask() Stamp {
	l.asked++
	return l.asked
}

// ceiling returns the highest fence that may be given.
func (l *ledger) ceiling() uint64 {
	if l.faults.ceilingEarly {
		return l.wanted.Ceiling
	}
	return l.saved.Ceiling
}

// plenty returns the highest fence that can be given without asking for more.
func (l *ledger) plenty() uint64 {
	c := l.wanted.Ceiling
	return c - min(l.span/2, c)
}

// reserve asks for the fences up to the given one, and for a span more if that
// leaves little. The stamp is 0 if it may be given.
func (l *ledger) reserve(fence uint64) Stamp {
	if fence > l.plenty() && !l.stopped {
		l.wanted.Ceiling = plus(max(l.wanted.Ceiling, fence), l.span)
		l.ask()
	}
	if fence <= l.ceiling() {
		return 0
	}
	return l.asked
}

// mark returns the longest TTL that whatever is on disk covers.
func (l *ledger) mark() time.Duration {
	if l.flying != nil && !l.faults.lowerForgets {
		return min(l.saved.Mark, l.flying.Mark)
	}
	return l.saved.Mark
}

// admit asks for a mark that covers a TTL. The stamp is 0 if it does already, or
// if a lease of that TTL needs a record instead.
func (l *ledger) admit(ttl time.Duration) Stamp {
	if ttl > l.maxGrace {
		return 0
	}
	if ttl > l.wanted.Mark && !l.stopped {
		if l.raises++; l.raises > maxRaises {
			l.wanted.Mark = max(l.wanted.Mark, l.maxGrace)
		}
		l.wanted.Mark = max(l.wanted.Mark, ttl)
		l.ask()
	}
	if ttl <= l.mark() {
		return 0
	}
	return l.asked
}

// lower lets the mark fall to what is still needed by those leases of this start
// that have no record, if it is time to.
func (l *ledger) lower(now, need time.Duration) {
	if now < l.carry {
		return
	}
	if l.faults.lowerEarly {
		need = 0
	}
	if need >= l.wanted.Mark || now < l.lowered+lowerEvery || l.stopped {
		return
	}
	l.wanted.Mark = need
	l.lowered, l.raises = now, 0
	l.ask()
}

// note takes note of the last transaction of values.db that is on disk. It is
// written with what else is, and by itself now and then and at the end.
func (l *ledger) note(now time.Duration, tx uint64, end bool) {
	l.wanted.ValuesTx = max(l.wanted.ValuesTx, tx)
	if l.wanted.ValuesTx > l.saved.ValuesTx && !l.stopped && (end || now >= l.noted+noteEvery) {
		l.noted = now
		l.ask()
	}
}

// keep asks for a record, in place of any of the same name.
func (l *ledger) keep(r Record) (Stamp, error) {
	if err := r.check(); err != nil {
		return 0, fmt.Errorf("datadir: %w", err)
	}
	name := r.name()
	old, ok := l.records[name]
	switch {
	case l.stopped:
		return 0, ErrClosed
	case ok && old.Record == r && old.stamp <= l.done:
		return 0, nil
	case ok && old.Record == r:
		return old.stamp, nil
	case !ok && len(l.records) >= MaxLong:
		return 0, fmt.Errorf("datadir: %w: %d", ErrFull, len(l.records))
	}
	l.records[name] = kept{r, l.ask()}
	l.lists = true
	if l.faults.recordEarly {
		return 0, nil
	}
	return l.asked, nil
}

// drop asks for a record to be gone.
func (l *ledger) drop(name recordKey) {
	if _, ok := l.records[name]; !ok || l.stopped {
		return
	}
	delete(l.records, name)
	l.lists = true
	l.ask()
}

// stop asks for the last update: a clean one with all leases there are, unless
// leases of earlier starts may be out of which nobody knows. Those would not be
// among the records, and the next start would not wait for them.
func (l *ledger) stop(now time.Duration, all []Record) (_ Stamp, clean bool, err error) {
	if l.stopped {
		return 0, false, ErrClosed
	}
	l.stopped = true
	if now < l.carry && !l.faults.cleanInGrace {
		return l.asked, false, nil
	}
	records := make(map[recordKey]kept, len(all))
	for _, r := range all {
		if err := r.check(); err != nil {
			return l.asked, false, fmt.Errorf("datadir: %w", err)
		}
		records[r.name()] = kept{Record: r}
	}
	if len(records) > MaxRecords {
		return l.asked, false, fmt.Errorf("datadir: %w: %d, at most %d", ErrFull, len(records), MaxRecords)
	}
	l.records, l.lists, l.wanted.Clean = records, true, true
	return l.ask(), true, nil
}

// next starts an update and returns what to write, or false if there is nothing
// that was asked for.
func (l *ledger) next(wall int64) (*State, bool) {
	if l.asked == l.flew {
		return nil, false
	}
	if l.lists {
		l.wanted.Records = make([]Record, 0, len(l.records))
		for _, k := range l.records {
			l.wanted.Records = append(l.wanted.Records, k.Record)
		}
		slices.SortFunc(l.wanted.Records, Record.Compare)
		l.lists = false
	}
	l.wanted.Wall = max(l.wanted.Wall, wall)
	s := l.wanted
	l.flying, l.flew = &s, l.asked
	return l.flying, true
}

// wrote ends an update: what next returned is on disk.
func (l *ledger) wrote() { l.saved, l.flying, l.done = *l.flying, nil, l.flew }
