package datadir

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// image looks at what a server would find on a disk. Where the disk was damaged
// it may also refuse to start.
func (w *world) image(d *simDisk, mayRefuse bool) {
	w.count.images++
	files := d.String()
	_, found, err := openStore(simPath, d, false, 0, w.lim.faults)
	switch {
	case err == nil:
		if err := w.check(found, 0); err != nil {
			w.failf("an image (damaged: %v) with %sgives %w", mayRefuse, files, err)
		}
	case mayRefuse && refusal(err):
		w.count.refused++
	default:
		w.failf("an image (damaged: %v) with %sis refused: %w", mayRefuse, files, err)
	}
}

// refusal says whether an error is as it must be when a damaged directory is not
// taken.
func refusal(err error) bool {
	var d *DamagedError
	return errors.Is(err, ErrDamaged) && errors.As(err, &d) &&
		strings.HasPrefix(d.File, filepath.Join(simPath, "")) && filepath.Base(d.File) != "dir" && d.What != "" && d.Do != ""
}

// damage looks at an image of which one file was damaged, lost, or replaced by an
// older copy.
func (w *world) damage(d *simDisk) {
	names := []string{slotNames[0], slotNames[1], identityName}
	which := w.random.IntN(3)
	f := d.names[names[which]]
	if f == nil || !w.used {
		return
	}
	w.count.damages++
	switch n, kind := len(f.now), w.random.IntN(6); {
	case kind == 0 && which < 2:
		if !w.putBack(d, which) {
			return
		}
	case kind == 1:
		delete(d.names, names[which])
	case n > 0 && kind == 2:
		f.now = f.now[:w.random.IntN(n)]
	case n > 0:
		f.now[w.random.IntN(n)] ^= byte(1 + w.random.IntN(255))
	}
	w.image(d, true)
}

// putBack puts an older copy in the place of a slot, if the other one is whole:
// else nothing could tell.
func (w *world) putBack(d *simDisk, which int) bool {
	own, other := d.names[slotNames[which]], d.names[slotNames[1-which]]
	if other == nil {
		return false
	}
	if _, err := decodeSlot(other.now, false); err != nil {
		return false
	}
	if w.chance(1, 2) || len(w.copies[which]) == 0 {
		w.copies[which] = append(w.copies[which], slices.Clone(own.now))
		return false
	}
	own.now = w.copies[which][w.random.IntN(len(w.copies[which]))]
	return true
}

// check says what a state that a start found does not cover.
func (w *world) check(found *State, wall int64) error {
	if !w.used {
		return nil
	}
	if found.Key != w.key {
		return errors.New("another key: all was forgotten")
	}
	if f := w.lim.firstFence(found, wall); f < w.fence {
		return fmt.Errorf("fences from %d, %d was given", f, w.fence)
	}
	for _, h := range slices.Concat(w.table, w.old) {
		if !h.told || h.until <= w.now {
			continue
		}
		recorded := slices.ContainsFunc(found.Records, func(r Record) bool { return r.name() == h.name() && r.TTL >= h.TTL })
		if !recorded && (found.Clean || h.TTL > found.Mark) {
			return fmt.Errorf("clean %v, mark %v and no record of a lease of %v that is out", found.Clean, found.Mark, h.TTL)
		}
	}
	if !slices.ContainsFunc(w.states, func(s State) bool { return s.equal(found) }) {
		return fmt.Errorf("a state that should not be there any more: %+v", *found)
	}
	return nil
}
