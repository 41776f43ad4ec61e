package datadir

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	// MaxValue caps the data of a value, as a limit of the file: a server has
	// a lower one.
	MaxValue = 1 << 30

	valuesName    = "values.db"
	valuesVersion = 1
	sumSize       = 16
	valueHead     = sumSize + 8 + 8 + 8 // of a value, before its data
	headLength    = sumSize + 4 + idSize + 8 + 8 + 1 + 8 + sumSize
)

// The names in the one bucket of values.db: the head has a name that no value has.
const (
	bucketName  = "values"
	headName    = "head"
	valuePrefix = "v"
)

// A StoredValue is a value that is on disk.
type StoredValue struct {
	Key   string // 1 to MaxKey bytes
	Data  []byte // up to MaxValue bytes; not to be changed
	Fence uint64 // with which it was put
	At    int64  // when, in milliseconds since 1970
	Until int64  // when it expires, in milliseconds since 1970; 0 is never
}

// expired says whether the value is over at an instant.
func (v *StoredValue) expired(ms int64) bool { return v.Until != 0 && v.Until <= ms }

// A sum is the first half of a SHA-256.
type sum [sumSize]byte

// sumOf returns the sum over a name and all that is stored under it. The name is
// part of it, so that no value is taken for another one's.
func sumOf(name string, rest []byte) sum {
	h := sha256.New()
	h.Write(binary.BigEndian.AppendUint16(nil, uint16(len(name)))) //nolint:gosec // MaxKey is below it
	h.Write([]byte(name))
	h.Write(rest)
	return sum(h.Sum(nil)[:sumSize])
}

// toggle puts a value's sum into a sum of many in any order, or takes it out.
func (s *sum) toggle(o sum) {
	for i := range s {
		s[i] ^= o[i]
	}
}

// encode returns what stands in the file under the value's name.
func (v *StoredValue) encode() []byte {
	b := make([]byte, sumSize, valueHead+len(v.Data))
	b = binary.BigEndian.AppendUint64(b, v.Fence)
	b = binary.BigEndian.AppendUint64(b, uint64(v.At))    //nolint:gosec // decoded the same way
	b = binary.BigEndian.AppendUint64(b, uint64(v.Until)) //nolint:gosec // decoded the same way
	b = append(b, v.Data...)
	s := sumOf(valuePrefix+v.Key, b[sumSize:])
	copy(b, s[:])
	return b
}

// decodeValue returns the value that stands under a name. Its data are a part of b.
func decodeValue(name string, b []byte, f faults) (v StoredValue, s sum, err error) {
	if len(b) < valueHead || len(name) < 2 || len(name) > 1+MaxKey || name[:1] != valuePrefix {
		return v, s, fmt.Errorf("has a value of %d bytes under a name of %d", len(b), len(name))
	}
	s = sum(b)
	if s != sumOf(name, b[sumSize:]) && !f.valuesUnchecked {
		return v, s, fmt.Errorf("has a wrong checksum of the value %q", name[1:])
	}
	v = storedHead(name, b)
	v.Data = b[valueHead:len(b):len(b)]
	return v, s, nil
}

// storedHead returns the value that stands under a name, without its data.
func storedHead(name string, b []byte) StoredValue {
	b = b[sumSize:valueHead]
	return StoredValue{
		Key: name[len(valuePrefix):], Fence: binary.BigEndian.Uint64(b),
		At: int64(binary.BigEndian.Uint64(b[8:])), Until: int64(binary.BigEndian.Uint64(b[16:])), //nolint:gosec // as encoded
	}
}

// A valuesHead says which values.db it is and what is in it. Every transaction
// writes it anew.
type valuesHead struct {
	id    id
	boot  uint64 // of the start that wrote it last
	tx    uint64 // counts the transactions, for ever
	fresh bool   // nothing but the start itself did since the start
	count uint64 // of the values
	sums  sum    // of all values together
}

func (h *valuesHead) encode() []byte {
	b := make([]byte, sumSize, headLength)
	b = binary.BigEndian.AppendUint32(b, valuesVersion)
	b = append(b, h.id[:]...)
	b = binary.BigEndian.AppendUint64(b, h.boot)
	b = binary.BigEndian.AppendUint64(b, h.tx)
	fresh := byte(0)
	if h.fresh {
		fresh = 1
	}
	b = append(b, fresh)
	b = binary.BigEndian.AppendUint64(b, h.count)
	b = append(b, h.sums[:]...)
	s := sumOf(headName, b[sumSize:])
	copy(b, s[:])
	return b
}

func decodeValuesHead(b []byte, f faults) (h valuesHead, err error) {
	if len(b) < sumSize+4 {
		return h, errors.New("has a head that is too short")
	}
	if sum(b) != sumOf(headName, b[sumSize:]) && !f.valuesUnchecked {
		return h, errors.New("has a wrong checksum of its head")
	}
	r := reader{rest: b[sumSize:]}
	if v := binary.BigEndian.Uint32(r.take(4)); v != valuesVersion {
		return h, fmt.Errorf("%w, %d instead of %d", errVersion, v, valuesVersion)
	}
	h = valuesHead{id: id(r.take(idSize)), boot: r.uint64(), tx: r.uint64(), fresh: r.take(1)[0] == 1, count: r.uint64(), sums: sum(r.take(sumSize))}
	if r.short || len(r.rest) > 0 {
		return h, fmt.Errorf("has a head of %d bytes, it must have %d", len(b), headLength)
	}
	return h, nil
}

// belongs says why a values.db cannot be the one that the slots were written
// beside, or nil. Doc.go has the reasons.
func (h *valuesHead) belongs(to id, slots *State, f faults) error {
	switch {
	case h.id != to:
		return errors.New("is of another data directory than " + slotNames[0])
	case h.tx < slots.ValuesTx && !f.olderValues:
		return fmt.Errorf("is older than it can be, transaction %d where %d was on disk", h.tx, slots.ValuesTx)
	case h.boot < slots.Boot && !f.olderValues:
		return fmt.Errorf("is older than it can be, of start %d where start %d was the last", h.boot, slots.Boot)
	case h.boot > slots.Boot+1, h.boot == slots.Boot+1 && !h.fresh:
		return fmt.Errorf("is of start %d, and %s of start %d: that one and %s are older copies", h.boot, slotNames[0], slots.Boot, slotNames[1])
	case slots.ValuesTx == 0 && h.count > 0:
		return fmt.Errorf("has %d values, and %s knows of none: that one and %s are older copies", h.count, slotNames[0], slotNames[1])
	}
	return nil
}
