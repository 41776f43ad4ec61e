package datadir

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// A valuesDisk is a simulated disk for all but values.db, which is a real file.
type valuesDisk struct {
	*simDisk
	dir string
}

func (d *valuesDisk) ValuesDir(string) string { return d.dir }

// shelved are values by their keys.
type shelved map[string]StoredValue

func (s shelved) is(values []StoredValue) bool {
	for _, v := range values {
		if w, ok := s[v.Key]; !ok || !sameValue(v, w) {
			return false
		}
	}
	return len(values) == len(s)
}

func sameValue(v, w StoredValue) bool {
	return v.Key == w.Key && v.Fence == w.Fence && v.At == w.At && v.Until == w.Until && bytes.Equal(v.Data, w.Data)
}

// A valueWorld is a disk with slots and values, and one server after another on
// it. Power cuts leave of values.db what bbolt's order of writes and syncs allows:
// of the pages of a transaction any sectors and neither meta page, or all of them
// and one of the two versions of a meta page, which lies within a sector.
type valueWorld struct {
	random *rand.Rand
	disk   *valuesDisk
	trial  string // the directory in which images are tried
	faults faults
	wall   int64

	store *store
	vs    *valueStore
	state State

	used   bool    // a server came up
	counts shelved // what must be there
	next   shelved // what may be there instead while a transaction is written
	synced []byte  // values.db as it was synced last
	copies [][]byte
	fence  uint64

	bad   error
	count struct{ images, cuts, refused, damages, older, boots, halves, crashes, transactions int }
}

func newValueWorld(dir string, seed uint64, f faults) *valueWorld {
	r := rand.New(rand.NewPCG(seed, 21)) //nolint:gosec // it repeats itself on purpose
	w := &valueWorld{random: r, faults: f, counts: shelved{}, wall: int64(1000 * time.Hour)}
	w.disk = &valuesDisk{newSimDisk(r), filepath.Join(dir, "real")}
	w.disk.sector = 512
	w.trial = filepath.Join(dir, "trial")
	for _, d := range []string{w.disk.dir, w.trial} {
		w.must(os.RemoveAll(d))
		w.must(os.Mkdir(d, 0o700))
	}
	return w
}

func (w *valueWorld) must(err error) {
	if err != nil && w.bad == nil {
		w.bad = err
	}
}

func (w *valueWorld) failf(format string, args ...any) {
	w.must(fmt.Errorf("boot %d, after %s: %w", w.count.boots, last(w.disk.trace, 4), fmt.Errorf(format, args...)))
}

// file returns values.db as processes see it, or nil.
func (w *valueWorld) file() []byte {
	b, err := os.ReadFile(filepath.Join(w.disk.dir, valuesName))
	if !errors.Is(err, os.ErrNotExist) {
		w.must(err)
	}
	return b
}

// boot starts a server on what is there, with images at every step of it.
func (w *valueWorld) boot() {
	w.disk.before = nil
	st, found, err := openStore(simPath, w.disk, false, w.wall, w.faults)
	if err != nil {
		w.failf("the slots: %w", err)
		return
	}
	began := limits{maxGrace: time.Minute, span: 100}.begin(found, w.wall)
	was, looked := w.file(), false
	w.disk.before = func(string) {
		if !looked { // the file has changed, the slots have not
			w.cuts(was, w.file(), 4)
			looked = true
		}
		w.look(w.disk.cut(w.random), w.file(), "the start", false)
	}
	vs, live, err := st.begin(found, &began, w.wall)
	w.disk.before = nil
	if err != nil {
		w.failf("the values: %w", err)
		return
	}
	if !w.allowed(live) {
		w.failf("%d values were found, there must be %d", len(live), len(w.counts))
	}
	w.counts, w.next = shelved{}, nil
	for _, v := range live {
		v.Data = bytes.Clone(v.Data)
		w.counts[v.Key] = v
	}
	w.store, w.vs, w.state, w.used = st, vs, began, true
	w.count.boots++
	w.synced = w.file() // also if the bug is planted: it is to be found in what follows
}

func (w *valueWorld) allowed(live []StoredValue) bool {
	return w.counts.is(live) || w.next != nil && w.next.is(live)
}

// end is the end of a process. At a power cut some image is what is left.
func (w *valueWorld) end() {
	w.must(w.vs.close())
	w.vs = nil
	w.disk.locked = false
	w.count.crashes++
	if w.random.IntN(2) == 0 {
		w.disk.simDisk = w.disk.cut(w.random)
		w.disk.sector = 512
	}
	for range w.random.IntN(3) {
		w.halfStart()
	}
}

// halfStart is a start that ends after it wrote values.db, before the slots.
func (w *valueWorld) halfStart() {
	if w.faults.slotsFirst || w.bad != nil {
		return
	}
	st, found, err := openStore(simPath, w.disk, false, w.wall, w.faults)
	if err != nil {
		w.failf("the slots: %w", err)
		return
	}
	vs, live, err := openValues(w.disk.dir, st.id, found, w.wall, w.faults)
	if err != nil {
		w.failf("the values: %w", err)
		return
	}
	if !w.allowed(live) {
		w.failf("%d values were found, there must be %d", len(live), len(w.counts))
	}
	w.count.halves++
	w.must(vs.close())
	w.disk.locked = false
}

// act is a transaction, or an update of the slots.
func (w *valueWorld) act() {
	if w.random.IntN(4) == 0 {
		w.disk.before = func(string) { w.look(w.disk.cut(w.random), w.file(), "an update", false) }
		w.state.ValuesTx = w.vs.head.tx
		w.state.Clean = w.random.IntN(2) == 0
		w.must(w.store.update(&w.state))
		w.state.Clean = false
		w.disk.before = nil
		return
	}
	if w.state.ValuesTx > 0 && w.state.ValuesTx == w.vs.head.tx { // it may have been a clean stop
		w.must(w.store.update(&w.state))
	}
	was := w.file()
	ops := w.ops()
	if err := w.vs.apply(ops); err != nil {
		w.failf("%w", err)
		return
	}
	w.count.transactions++
	now := w.file()
	if !w.faults.noValuesSync {
		w.cuts(was, now, 6)
		w.synced = now
	}
	w.counts, w.next = w.next, nil
	if w.faults.noValuesSync {
		w.cuts(w.synced, now, 6)
	}
	w.look(w.disk.copied(), now, "a transaction", false)
	w.damage(now)
	if w.copies = append(w.copies, now); len(w.copies) > 10 {
		w.copies = slices.Delete(w.copies, 5, 6)
	}
}

// ops are the changes of a transaction, and next what they make.
func (w *valueWorld) ops() (ops []valueOp) {
	w.next = maps.Clone(w.counts)
	for range 1 + w.random.IntN(5) {
		w.fence++
		v := StoredValue{Key: fmt.Sprintf("key-%02d", w.random.IntN(40)), Fence: w.fence, At: int64(w.fence)} //nolint:gosec // small
		if w.random.IntN(4) == 0 {
			delete(w.next, v.Key)
			ops = append(ops, valueOp{v, true})
			continue
		}
		v.Data = make([]byte, w.random.IntN([]int{1, 50, 1500, 20_000}[w.random.IntN(4)]))
		for i := range v.Data {
			v.Data[i] = byte(w.random.Uint32())
		}
		w.next[v.Key] = v
		ops = append(ops, valueOp{v, false})
	}
	return ops
}

// cuts looks at images of a power cut while values.db became another one.
func (w *valueWorld) cuts(was, now []byte, n int) {
	for range n {
		w.count.cuts++
		w.look(w.disk.cut(w.random), w.torn(was, now), "a cut", false)
	}
}

// torn returns what a power cut may leave of a transaction that made one file
// another: without syncs any sectors of it, with them those of the data, or all of
// them and the meta page or not.
func (w *valueWorld) torn(was, now []byte) []byte {
	if len(was) == 0 { // creation goes by another name
		return [][]byte{nil, now}[w.random.IntN(2)]
	}
	size := len(now)
	if len(now) != len(was) && w.random.IntN(3) == 0 {
		size = len(was)
	}
	b := make([]byte, size)
	copy(b, was)
	data, metas := w.random.IntN(2) == 0, false
	if !data && !w.faults.noValuesSync {
		b = append(b[:0], now...)
		copy(b, was[:2*valuesPage])
		metas = w.random.IntN(2) == 0
	}
	for at := 0; at+512 <= len(b); at += 512 {
		meta := at < 2*valuesPage
		if !meta && !data && !w.faults.noValuesSync || meta && !metas && !w.faults.noValuesSync {
			continue
		}
		if meta && metas || w.random.IntN(2) == 0 {
			copy(b[at:at+512], now[at:])
		}
	}
	return b
}

// look starts a server on an image. It must come up with what counts, or refuse
// if the image was damaged.
func (w *valueWorld) look(d *simDisk, values []byte, what string, damaged bool) {
	if w.bad != nil {
		return
	}
	w.count.images++
	path := filepath.Join(w.trial, valuesName)
	w.must(os.RemoveAll(path))
	if values != nil {
		w.must(os.WriteFile(path, values, 0o600))
	}
	refused, live, err := w.try(d)
	switch {
	case err != nil && refused && damaged:
		w.count.refused++
	case err != nil:
		w.failf("an image of %s (damaged: %v): %w", what, damaged, err)
	case !w.allowed(live) && w.used:
		w.failf("an image of %s (damaged: %v) has %d values that are not the %d that must be there", what, damaged, len(live), len(w.counts))
	}
}

// try starts a server on the directory of trials, and ends it.
func (w *valueWorld) try(d *simDisk) (refused bool, live []StoredValue, err error) {
	st, found, err := openStore(simPath, &valuesDisk{d, w.trial}, false, w.wall, w.faults)
	if err != nil {
		return false, nil, err
	}
	st.faults.noValuesSync = true // what is tried here needs no disk
	began := limits{maxGrace: time.Minute, span: 100}.begin(found, w.wall)
	vs, live, err := st.begin(found, &began, w.wall)
	if err != nil {
		return errors.Is(err, ErrDamaged), nil, err
	}
	defer func() { w.must(vs.close()) }()
	// What was taken must also take more.
	return false, live, vs.apply([]valueOp{{StoredValue{Key: "more", Data: make([]byte, 9000), Fence: 1 << 60}, false}})
}

// damage looks at values.db with a byte, an end, a page or all of it gone wrong.
func (w *valueWorld) damage(now []byte) {
	w.count.damages++
	b := bytes.Clone(now)
	what := "damage"
	switch kind := w.random.IntN(8); {
	case kind == 0:
		b, what = nil, "a loss"
	case kind == 1:
		b, what = b[:w.random.IntN(len(b))], "a truncation"
	case kind == 2 && len(w.copies) > 0:
		w.putBack(w.copies[w.random.IntN(len(w.copies))])
		return
	case kind < 5 && len(w.copies) > 0: // a page as it was
		what = w.olderPage(b, w.copies[w.random.IntN(len(w.copies))])
	case kind == 5:
		at := w.random.IntN(2)*valuesPage + w.random.IntN(pageHead+metaSize)
		b[at] ^= byte(1 + w.random.IntN(255))
		what = fmt.Sprintf("damage at %d", at)
	default:
		at := w.random.IntN(len(b))
		b[at] ^= byte(1 + w.random.IntN(255))
		what = fmt.Sprintf("damage at %d", at)
	}
	w.look(w.disk.copied(), b, what, true)
}

// olderPage puts one of the pages that were others into a file as it was, but for
// the first two: with an older one of these the file is an older copy as a whole,
// of which putBack sees to those that can be told.
func (w *valueWorld) olderPage(b, old []byte) string {
	var others []int
	for at := 2 * valuesPage; at < min(len(b), len(old)); at += valuesPage {
		if !bytes.Equal(b[at:at+valuesPage], old[at:at+valuesPage]) {
			others = append(others, at)
		}
	}
	if len(others) == 0 {
		return "nothing"
	}
	at := others[w.random.IntN(len(others))]
	copy(b[at:at+valuesPage], old[at:])
	return fmt.Sprintf("an older page at %d", at)
}

// putBack puts an older values.db in the place of the right one. If the slots know
// of a later transaction it must be refused.
func (w *valueWorld) putBack(old []byte) {
	found, err := readValues(bytes.NewReader(old), int64(len(old)), w.faults)
	if err != nil || found.head.tx >= w.state.ValuesTx {
		return
	}
	w.count.older++
	refused := w.count.refused
	w.look(w.disk.copied(), old, "an older copy", true)
	if w.bad == nil && w.count.refused == refused {
		w.failf("an older copy was taken")
	}
}

// run plays n transactions and updates.
func (w *valueWorld) run(n int) error {
	w.boot()
	for ; n > 0 && w.bad == nil; n-- {
		w.act()
		if w.random.IntN(12) == 0 && w.bad == nil {
			w.end()
			w.boot()
		}
	}
	if w.vs != nil {
		w.must(w.vs.close())
	}
	return w.bad
}

// simulateValues plays worlds until one went wrong or all are over.
func simulateValues(dir string, first uint64, worlds int, f faults) (total valueWorld, err error) {
	for seed := first; seed < first+uint64(worlds); seed++ { //nolint:gosec // small
		w := newValueWorld(dir, seed, f)
		if err = w.run(60); err != nil {
			err = fmt.Errorf("seed %d: %w", seed, err)
		}
		c, t := w.count, &total.count
		t.images += c.images
		t.cuts += c.cuts
		t.refused += c.refused
		t.damages += c.damages
		t.older += c.older
		t.boots += c.boots
		t.halves += c.halves
		t.crashes += c.crashes
		t.transactions += c.transactions
		if err != nil {
			break
		}
	}
	return total, err
}

// TestValuePowerCuts looks at images of the slots and of values.db together.
func TestValuePowerCuts(t *testing.T) {
	worlds := 4
	if testing.Short() {
		worlds = 2
	}
	began := time.Now()
	total, err := simulateValues(t.TempDir(), 0, worlds, faults{})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v in %v", total.count, time.Since(began).Round(time.Millisecond))
	c := total.count
	if c.cuts < 500 || c.images < 700 || c.damages < 50 || c.older == 0 || c.refused == 0 || c.crashes == 0 || c.halves == 0 {
		t.Error("something never happened: does the simulation still look?")
	}
}

// TestValuePlantedBugs makes sure that the simulation is not blind.
func TestValuePlantedBugs(t *testing.T) {
	for name, f := range map[string]faults{
		"checksums ignored":               {valuesUnchecked: true},
		"one whole first page is enough":  {fallBack: true},
		"missing file taken as empty":     {missingValues: true},
		"older copy accepted":             {olderValues: true},
		"answer without sync":             {noValuesSync: true},
		"slots written before values.db":  {slotsFirst: true},
		"sum and number of all unchecked": {noSums: true},
	} {
		t.Run(name, func(t *testing.T) {
			began := time.Now()
			total, err := simulateValues(t.TempDir(), 2, 100, f) // in world 2 the rarest shows soon
			if err == nil {
				t.Fatalf("not found in %d images", total.count.images)
			}
			t.Logf("found after %d images, %v: %v", total.count.images, time.Since(began).Round(time.Millisecond), err)
		})
	}
}
