package datadir

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
)

// A rest is a directory at which damage is tried, and what it may then say.
type rest struct {
	name string
	idle bool // no update was under way
	disk *simDisk
	may  []State
}

// rests returns directories in every condition in which one can be: with no, one
// and many records, after a clean stop, and cut off at each step of an update.
func rests(t *testing.T) []rest {
	t.Helper()
	random := rand.New(rand.NewPCG(5, 5)) //nolint:gosec // it repeats itself on purpose
	d := newSimDisk(random)
	d.sector = 64
	st, found, err := openStore(simPath, d, false, 77, faults{})
	assert.Sure(t, err)
	s := limits{maxGrace: time.Minute, span: 100}.begin(found, 77)
	s.Mark = 33 * time.Second
	assert.Sure(t, st.update(&s)) // before that it may all begin anew
	before := s
	var all []rest
	for _, records := range []int{0, 1, 4} {
		s.Records = nil
		for n := range records {
			s.Records = append(s.Records, Record{
				Kind: 1, Key: fmt.Sprintf("orders/%03d", n), Fence: uint64(n), Limit: 3, Weight: 2, TTL: time.Hour, //nolint:gosec // small
			})
		}
		s.Ceiling += 100
		s.Clean = records == 4
		next := s
		d.before = func(op string) {
			all = append(all, rest{fmt.Sprintf("%d records, before %s", records, op), false, d.cut(random), []State{before, next}})
		}
		assert.Sure(t, st.update(&s))
		d.before = nil
		all = append(all, rest{fmt.Sprintf("%d records", records), true, d.copied(), []State{s}})
		before = s
	}
	return all
}

// look opens a damaged disk, and returns whether it was recovered. Anything but
// that, to a state that may be, and a refusal that names the file fails the test.
func (r rest) look(t *testing.T, d *simDisk, what string) bool {
	t.Helper()
	_, found, err := openStore(simPath, d, false, 0, faults{})
	if err != nil {
		var de *DamagedError
		if !errors.As(err, &de) || !refusal(err) {
			t.Fatalf("%s, %s: %v", r.name, what, err)
		}
		return false
	}
	if !slices.ContainsFunc(r.may, func(s State) bool { return s.equal(found) }) {
		t.Fatalf("%s, %s: %+v was found, it must be one of %+v", r.name, what, *found, r.may)
	}
	return true
}

// TestEveryDamage tries other values of every byte, all 255 of them where no update
// was under way, and every truncation, extension, loss and exchange of every file.
func TestEveryDamage(t *testing.T) {
	var bytes, cuts, lost, recovered int
	for _, r := range rests(t) {
		if !r.look(t, r.disk.copied(), "whole") {
			t.Fatalf("%s is refused", r.name)
		}
		for _, name := range []string{identityName, slotNames[0], slotNames[1]} {
			whole := r.disk.names[name].now
			try := func(b []byte, what string) {
				d := r.disk.copied()
				d.names[name].long = r.disk.names[name].long
				if b == nil {
					delete(d.names, name)
				} else {
					d.names[name].now = b
				}
				if r.look(t, d, what) {
					recovered++
				}
			}
			for at := range whole {
				for flip := 1; flip < 256; flip += r.step() {
					b := slices.Clone(whole)
					b[at] ^= byte(flip)
					try(b, fmt.Sprintf("byte %d of %s xor %#x", at, name, flip))
					bytes++
				}
				try(slices.Clone(whole[:at]), fmt.Sprintf("%s cut to %d bytes", name, at))
				cuts++
			}
			try(append(slices.Clone(whole), 0), name+" with a byte more")
			r.disk.names[name].long = true
			try([]byte{}, name+" far too long")
			r.disk.names[name].long = false
			try(nil, name+" lost")
			for _, other := range []string{identityName, slotNames[0], slotNames[1]} {
				try(slices.Clone(r.disk.names[other].now), name+" replaced by "+other)
			}
			lost += 6
		}
	}
	t.Logf("%d bytes changed, %d truncations, %d others; %d recovered, the rest refused", bytes, cuts, lost, recovered)
}

// step is 1 for all other values of a byte, and 85 for three of them.
func (r rest) step() int {
	if r.idle && !testing.Short() {
		return 1
	}
	return 85
}

// TestRefusals wants each kind of damage refused by what it is, with the file.
func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(*simDisk)
		file   string
	}{
		"a slot is missing":       {func(d *simDisk) { delete(d.names, "state-b") }, "state-b"},
		"the identity is missing": {func(d *simDisk) { delete(d.names, "identity") }, "identity"},
		"all but a slot is missing": {func(d *simDisk) {
			delete(d.names, "identity")
			delete(d.names, "state-a")
		}, "identity"},
		"both slots are missing": {func(d *simDisk) {
			delete(d.names, "state-a")
			delete(d.names, "state-b")
		}, "state-a"},
		"both slots are empty":  {func(d *simDisk) { d.names["state-a"].now, d.names["state-b"].now = nil, nil }, "state-a and state-b"},
		"state-a is older":      {func(d *simDisk) { edit(d, 0, func(s *slot) { s.generation-- }) }, "state-a"},
		"state-b is much older": {func(d *simDisk) { edit(d, 1, func(s *slot) { s.generation -= 2 }) }, "state-b"},
		"the slots differ":      {func(d *simDisk) { edit(d, 1, func(s *slot) { s.state.Mark++ }) }, "state-b"},
		"a foreign slot":        {func(d *simDisk) { edit(d, 1, func(s *slot) { s.id[0]++ }) }, "state-b"},
		"a foreign slot, the other one damaged": {func(d *simDisk) {
			d.names["state-a"].now = nil
			edit(d, 1, func(s *slot) { s.id[0]++ })
		}, "state-b"},
		"foreign slots": {func(d *simDisk) {
			edit(d, 0, func(s *slot) { s.id[0]++ })
			edit(d, 1, func(s *slot) { s.id[0]++ })
		}, "state-a"},
		"a newer version":  {func(d *simDisk) { newer(d, "state-a") }, "state-a"},
		"a newer identity": {func(d *simDisk) { newer(d, "identity") }, "identity"},
	} {
		t.Run(name, func(t *testing.T) {
			all := rests(t)
			d := all[len(all)-1].disk
			c.damage(d)
			_, _, err := openStore(simPath, d, false, 0, faults{})
			assert.Matches(t, err, ErrDamaged)
			var de *DamagedError
			if !errors.As(err, &de) || de.File != filepath.Join(simPath, c.file) {
				t.Fatalf("%v does not name %s", err, c.file)
			}
			t.Log(err)
			if d.locked {
				t.Error("the directory is still locked")
			}
		})
	}
}

// edit changes a slot and seals it again.
func edit(d *simDisk, which int, change func(*slot)) {
	f := d.names[slotNames[which]]
	s, err := decodeSlot(f.now, false)
	if err != nil {
		panic(err)
	}
	change(s)
	if f.now, err = s.encode(); err != nil {
		panic(err)
	}
}

// newer makes a file one of the next version.
func newer(d *simDisk, name string) {
	f := d.names[name]
	f.now = f.now[:len(f.now)-32]
	f.now[len(slotMagic)+3]++
	f.now = seal(f.now)
}

// TestDamagedIdentityIsWrittenAgain wants the name back that the slots know.
func TestDamagedIdentityIsWrittenAgain(t *testing.T) {
	all := rests(t)
	d := all[len(all)-1].disk
	good := slices.Clone(d.names[identityName].now)
	d.names[identityName].now[20] ^= 1
	_, _, err := openStore(simPath, d, false, 0, faults{})
	assert.Sure(t, err)
	was, err := decodeIdentity(good)
	assert.Sure(t, err)
	is, err := decodeIdentity(d.names[identityName].now)
	assert.Sure(t, err)
	assert.Exactly(t, "the identity", is, was)
}

// TestFirstUse wants a directory that only creation can have left to be a first
// use, and one that must exist to be refused without a trace.
func TestFirstUse(t *testing.T) {
	random := rand.New(rand.NewPCG(6, 6)) //nolint:gosec // it repeats itself on purpose
	d := newSimDisk(random)
	_, _, err := openStore(simPath, d, false, 0, faults{})
	assert.Sure(t, err)
	delete(d.names, identityName)
	d.locked = false
	_, found, err := openStore(simPath, d, false, 0, faults{})
	assert.Sure(t, err)
	assert.Exactly(t, "starts", found.Boot, 0)

	d = newSimDisk(random)
	d.dirMade = true
	if _, _, err = openStore(simPath, d, true, 0, faults{}); err == nil || len(d.trace) > 0 {
		t.Errorf("error %v after %v", err, d.trace)
	}
	t.Log(err)
}

// TestOpeningSyncsTheNames has a creation killed before its last sync: the names
// are seen by the next start, and must not be lost to a power cut after it.
func TestOpeningSyncsTheNames(t *testing.T) {
	d := newSimDisk(rand.New(rand.NewPCG(7, 7))) //nolint:gosec // it repeats itself on purpose
	d.fails = func(op string) bool { return op == "syncdir" && slices.Contains(d.trace, "rename identity") }
	_, _, err := openStore(simPath, d, false, 0, faults{})
	assert.Matches(t, err, errDisk)
	d = d.killed()
	_, _, err = openStore(simPath, d, false, 0, faults{})
	assert.Sure(t, err)
	if len(d.pending) > 0 || !d.dirKept {
		t.Errorf("not on disk: %+v, directory %v", d.pending, d.dirKept)
	}
}
