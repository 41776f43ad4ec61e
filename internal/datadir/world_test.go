package datadir

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

const simPath = "/parent/dir"

// A hold is a lease that a server granted.
type hold struct {
	Record
	until    time.Duration
	told     bool // its holder believes in it
	recorded bool
	stamp    Stamp // of its record: then the holder may be told
}

// A world is a disk, one server after another on it, and those who hold its
// leases. It knows what everybody was told, and so what each image of the disk
// must still cover.
type world struct {
	random *rand.Rand
	disk   *simDisk
	lim    limits
	now    time.Duration
	wall   int64

	store  *store
	ledger *ledger
	booted time.Duration

	used   bool // a server came up: from here on nothing may be forgotten
	key    [KeySize]byte
	boots  uint64
	fence  uint64      // the highest ever given
	table  []*hold     // of the present server
	old    []*hold     // of earlier servers, believed in and not claimed
	states []State     // what may be on disk
	copies [2][][]byte // of the slots, of earlier times
	failed bool        // an update did

	calm  bool // no crash comes now
	bad   error
	count struct{ images, damages, refused, updates, boots, cleans, cuts, kills, fails int }
}

func newWorld(seed uint64, f faults) *world {
	r := rand.New(rand.NewPCG(seed, 11)) //nolint:gosec // it repeats itself on purpose
	w := &world{random: r, disk: newSimDisk(r), wall: int64(1000 * time.Second)}
	w.lim = limits{maxGrace: time.Minute, span: []uint64{8, 64, 1000}[r.IntN(3)], faults: f}
	return w
}

func (w *world) chance(one, in int) bool { return w.random.IntN(in) < one }

func (w *world) failf(format string, args ...any) {
	if w.bad == nil {
		w.bad = fmt.Errorf("at %v, boot %d, after %s: %w", w.now, w.boots, last(w.disk.trace, 8), fmt.Errorf(format, args...))
	}
}

func last(trace []string, n int) string { return strings.Join(trace[max(0, len(trace)-n):], ", ") }

// crashed is the panic by which a simulated process dies.
type crashed struct{ power bool }

// live runs a part of the server's life, and returns how it died, if it did.
func (w *world) live(f func()) (died *crashed) {
	defer func() {
		if p := recover(); p != nil {
			c, ok := p.(crashed)
			if !ok {
				panic(p)
			}
			died = &c
		}
	}()
	f()
	return nil
}

// boot starts a server, as Open does, until one comes up.
func (w *world) boot() {
	for w.bad == nil {
		w.disk.before = w.step
		w.disk.fails = func(string) bool { return !w.calm && w.chance(1, 300) }
		var err error
		died := w.live(func() { err = w.open() })
		if died == nil && err == nil {
			return
		}
		if err != nil && !errors.Is(err, errDisk) {
			w.failf("the start: %w", err)
			return
		}
		if err != nil {
			w.count.fails++
		}
		w.crash(died)
	}
}

func (w *world) open() error {
	wall := w.wall + int64(w.now)
	if w.chance(1, 2) {
		wall = int64(w.random.IntN(int(w.wall))) // set back
	}
	st, found, err := openStore(simPath, w.disk, false, wall, w.lim.faults)
	if err != nil {
		return err
	}
	if err := w.check(found, wall); err != nil {
		w.failf("%w", err)
	}
	began := w.lim.begin(found, wall)
	w.states = append(w.states, began)
	if err := st.update(&began); err != nil {
		return err
	}
	w.states = []State{began}
	w.store, w.ledger = st, newLedger(w.lim, found, &began)
	w.used, w.key, w.boots, w.booted, w.failed = true, found.Key, began.Boot, w.now, false
	w.fence = w.lim.firstFence(found, wall)
	w.restore(found)
	w.count.boots++
	return nil
}

// restore makes the records the new server's leases.
func (w *world) restore(found *State) {
	for _, h := range w.table {
		if h.told && h.until > w.now {
			w.old = append(w.old, h)
		}
	}
	w.table = nil
	for _, r := range found.Records {
		h := &hold{Record: r}
		for i, o := range w.old {
			if o.name() == r.name() {
				h, w.old = o, slices.Delete(w.old, i, i+1)
				break
			}
		}
		h.Record, h.until, h.stamp = r, w.now+r.TTL, 0
		h.recorded = !found.Clean || r.TTL > w.lim.maxGrace
		w.table = append(w.table, h)
	}
}

// crash is the end of a process, by a power cut if it died of one.
func (w *world) crash(died *crashed) {
	w.store, w.ledger = nil, nil
	if died != nil && died.power || died == nil && w.chance(1, 2) {
		w.count.cuts++
		w.disk = w.disk.cut(w.random)
		return
	}
	w.count.kills++
	w.disk = w.disk.killed()
}

// step is what may happen before each operation on the disk.
func (w *world) step(string) {
	if w.bad != nil {
		return
	}
	w.image(w.disk.cut(w.random), false)
	if w.chance(1, 2) {
		w.damage(w.disk.cut(w.random))
	}
	if w.ledger != nil && !w.ledger.stopped {
		for range w.random.IntN(4) {
			w.act()
		}
	}
	if !w.calm && w.chance(1, 60) {
		panic(crashed{power: w.chance(1, 2)})
	}
}

// act makes the server or a holder do something that does not wait for the disk.
func (w *world) act() {
	switch r := w.random.IntN(20); {
	case r < 8:
		w.grant()
	case r < 11:
		w.renew()
	case r < 12:
		w.claim()
	case r < 15:
		w.end(func(*hold) bool { return w.chance(1, 4) })
	case r < 17:
		w.tidy()
	default:
		w.now += time.Duration(w.random.Int64N(int64(10 * time.Second)))
	}
	w.end(func(h *hold) bool { return h.until <= w.now })
	for _, h := range w.table {
		if h.stamp != 0 && h.stamp <= w.ledger.done {
			h.told, h.stamp = true, 0
		}
	}
}

// ttl is often short and sometimes needs a record.
func (w *world) ttl() time.Duration {
	return time.Duration([]int{1, 2, 5, 10, 30, 45, 60, 61, 100}[w.random.IntN(9)]) * time.Second
}

func (w *world) grant() {
	n := uint64(1 + w.random.IntN(int(w.lim.span)/4))
	if w.chance(1, 10) {
		n *= 10
	}
	if w.ledger.reserve(w.fence+n) != 0 {
		return
	}
	h := &hold{Record: Record{
		Kind: uint8(w.random.IntN(2)), Key: fmt.Sprintf("key-%d", w.random.IntN(20)), //nolint:gosec // 0 or 1
		Fence: w.fence + 1, Limit: 1, Weight: 1, TTL: w.ttl(),
	}}
	h.until = w.now + h.TTL
	if w.admit(h) {
		w.fence += n
		w.table = append(w.table, h)
	}
}

// admit says whether the hold may be, and sees to its record.
func (w *world) admit(h *hold) bool {
	if w.ledger.admit(h.TTL) != 0 {
		return false
	}
	if h.TTL <= w.lim.maxGrace {
		if h.recorded {
			w.ledger.drop(h.name())
		}
		h.told, h.recorded, h.stamp = true, false, 0
		return true
	}
	stamp, err := w.ledger.keep(h.Record)
	if err != nil {
		w.failf("%w", err)
	}
	h.recorded = true
	h.stamp, h.told = stamp, stamp == 0
	return true
}

// renew gives a hold another TTL. If that has to wait for a record, its holder
// goes on with the former one, as a hold of its own in the list of the old.
func (w *world) renew() {
	if len(w.table) == 0 {
		return
	}
	h := w.table[w.random.IntN(len(w.table))]
	next := *h
	if w.chance(1, 2) {
		next.TTL = w.ttl()
	}
	next.until = w.now + next.TTL
	if h.stamp != 0 || h.recorded && next.TTL != h.TTL || !w.admit(&next) {
		return
	}
	if h.told && !next.told {
		before := *h
		w.old = append(w.old, &before)
	}
	*h = next
}

// claim makes a hold of an earlier server one of this one's, within the grace.
func (w *world) claim() {
	for i, h := range w.old {
		if w.now < w.booted+h.TTL && h.until > w.now && h.TTL <= w.lim.maxGrace && w.ledger.admit(h.TTL) == 0 &&
			!slices.ContainsFunc(w.table, func(o *hold) bool { return o.name() == h.name() }) {
			w.old = slices.Delete(w.old, i, i+1)
			h.until = w.now + h.TTL
			w.table = append(w.table, h)
			return
		}
	}
}

// end ends holds, in the table and in what holders believe.
func (w *world) end(which func(*hold) bool) {
	w.table = slices.DeleteFunc(w.table, func(h *hold) bool {
		if !which(h) {
			return false
		}
		if h.recorded {
			w.ledger.drop(h.name())
		}
		w.old = slices.DeleteFunc(w.old, func(o *hold) bool { return o.name() == h.name() })
		return true
	})
	w.old = slices.DeleteFunc(w.old, func(h *hold) bool { return h.until <= w.now })
}

func (w *world) tidy() {
	need := time.Duration(0)
	for _, h := range w.table {
		if !h.recorded {
			need = max(need, h.TTL)
		}
	}
	w.ledger.lower(w.now-w.booted, need)
}

// write makes an update, if one was asked for.
func (w *world) write() error {
	if w.failed {
		return nil // the last one was the last
	}
	s, ok := w.ledger.next(w.wall + int64(w.now))
	if !ok {
		return nil
	}
	w.states = append(w.states, *s)
	if err := w.store.update(s); err != nil {
		w.failed = true
		w.count.fails++
		return err
	}
	w.ledger.wrote()
	w.states = []State{*s}
	w.count.updates++
	return nil
}

// stop ends the server in order.
func (w *world) stop() error {
	var all []Record
	for _, h := range w.table {
		all = append(all, h.Record)
	}
	_, clean, err := w.ledger.stop(w.now-w.booted, all)
	if err != nil {
		return err
	}
	if err := w.write(); err != nil {
		return err
	}
	if clean {
		w.count.cleans++
	}
	return nil
}
