package datadir

import (
	"errors"
	"fmt"
	"path/filepath"
)

// Files are what was found in a directory. What to make of them is decided here,
// without I/O.
type files struct {
	identity bool // there is one
	idBad    bool // it is damaged or missing
	id       id   // what it says if not
	there    [2]bool
	slots    [2]*slot // nil if missing or bad
	bad      [2]error // what is wrong with those that are there
}

// firstUse says whether nobody can have relied on the directory yet: it has no
// identity, and nothing that creation would not have left if it was cut short.
func (fl *files) firstUse(f faults) bool {
	if f.missingIsEmpty && !(fl.there[0] && fl.there[1]) {
		return true
	}
	if fl.identity {
		return false
	}
	for i, s := range fl.slots {
		if fl.there[i] && (s == nil || s.generation > 1) {
			return false
		}
	}
	return true
}

// newest returns the slot that counts, or a *DamagedError if that cannot be told
// for sure. Doc.go has the reasons.
func (fl *files) newest(path string, f faults) (*slot, error) {
	if !fl.identity {
		return nil, damaged(path, identityName, errors.New("is missing, and the directory has been used"), restore)
	}
	for i, there := range fl.there {
		if !there {
			return nil, damaged(path, slotNames[i], errors.New("is missing"), restore)
		}
		if errors.Is(fl.bad[i], errVersion) {
			return nil, damaged(path, slotNames[i], fl.bad[i], upgrade)
		}
	}
	a, b := fl.slots[0], fl.slots[1]
	switch {
	case a == nil && b == nil:
		return nil, &DamagedError{
			File: filepath.Join(path, slotNames[0]) + " and " + slotNames[1],
			What: fmt.Sprintf("are both damaged: the one %v, the other %v", fl.bad[0], fl.bad[1]),
			Do:   restore,
		}
	case a == nil:
		return b, fl.ours(path, 1)
	case b == nil:
		return a, fl.ours(path, 0)
	}
	return fl.agreed(path, f)
}

// agreed returns the newer of two whole slots, if they fit together.
func (fl *files) agreed(path string, f faults) (*slot, error) {
	a, b := fl.slots[0], fl.slots[1]
	switch {
	case f.oneSlot || f.pingPong || f.olderWins:
		return fl.believed(f), nil
	case a.id != b.id:
		return nil, damaged(path, slotNames[1], errors.New("is of another data directory than "+slotNames[0]), restore)
	case a.generation < b.generation:
		return nil, damaged(path, slotNames[0], older(a, b, slotNames[1]), restoreNewer)
	case a.generation > b.generation+1:
		return nil, damaged(path, slotNames[1], older(b, a, slotNames[0]), restoreNewer)
	case a.generation == b.generation && !a.state.equal(&b.state):
		return nil, damaged(path, slotNames[1], errors.New("differs from "+slotNames[0]+" of the same generation"), restore)
	}
	return a, fl.ours(path, 0)
}

func older(old, other *slot, name string) error {
	return fmt.Errorf("is older than it can be, generation %d beside %d of %s", old.generation, other.generation, name)
}

// ours says whether a slot is of the directory that the identity names. If the
// identity is damaged the slots are believed: it will be written again.
func (fl *files) ours(path string, i int) error {
	if fl.idBad || fl.slots[i].id == fl.id {
		return nil
	}
	return damaged(path, slotNames[i], errors.New("is of another data directory than "+identityName), restore)
}

func damaged(path, name string, what error, do string) error {
	return &DamagedError{File: filepath.Join(path, name), What: what.Error(), Do: do}
}

// repairs says which files settle writes again because they are damaged, and how.
func (fl *files) repairs(path string) []string {
	var all []string
	for i, name := range slotNames {
		if fl.there[i] && fl.slots[i] == nil {
			all = append(all, fmt.Sprintf("%s %v", filepath.Join(path, name), fl.bad[i]))
		}
	}
	if fl.idBad {
		all = append(all, filepath.Join(path, identityName)+" was damaged")
	}
	return all
}

// unsettled returns the slots that have to be written again before both are equal
// and on disk, in the order in which that is safe. A slot may be whole in memory
// and not on disk if its sync failed and the directory was opened again without a
// power cut between: that is state-a when it is ahead, because state-b was not
// begun then, and else state-b.
func (fl *files) unsettled(f faults) []int {
	a, b := fl.slots[0], fl.slots[1]
	switch {
	case f.noSettle:
		return nil
	case a == nil:
		return []int{0}
	case b == nil || a.generation == b.generation:
		return []int{1}
	}
	return []int{0, 1}
}
