package datadir

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
)

const (
	slotMagic     = "dlkstate"
	identityMagic = "dlkident"
	version       = 2

	headSize     = len(slotMagic) + 4 + 8 + 8 + idSize
	fixedSize    = 8 + 8 + KeySize + 8 + 8 + 1 + 8 + 4 // of the body, without records
	recordSize   = 1 + 8 + 8 + 8 + 8 + 2               // without the key
	maxSlot      = headSize + fixedSize + MaxRecords*(recordSize+MaxKey) + sha256.Size
	idSize       = 16
	identitySize = len(identityMagic) + 4 + idSize + 8 + sha256.Size
)

// An id names a directory for ever, so that no file of another one is taken for
// one of its own.
type id [idSize]byte

// A slot is what one of the two state files holds.
type slot struct {
	generation uint64
	id         id
	state      State
}

// errVersion is a file that is whole and of another version.
var errVersion = errors.New("is of another version")

// encode returns the bytes of the slot, or why it cannot be written.
func (s *slot) encode() ([]byte, error) {
	if err := s.state.check(); err != nil {
		return nil, err
	}
	size := fixedSize
	for i := range s.state.Records {
		size += recordSize + len(s.state.Records[i].Key)
	}
	b := make([]byte, 0, headSize+size+sha256.Size)
	b = append(b, slotMagic...)
	b = binary.BigEndian.AppendUint32(b, version)
	b = binary.BigEndian.AppendUint64(b, uint64(size))
	b = binary.BigEndian.AppendUint64(b, s.generation)
	b = append(b, s.id[:]...)
	return seal(s.state.append(b)), nil
}

func (s *State) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, s.Boot)
	b = binary.BigEndian.AppendUint64(b, uint64(s.Wall))
	b = append(b, s.Key[:]...)
	b = binary.BigEndian.AppendUint64(b, s.Ceiling)
	b = binary.BigEndian.AppendUint64(b, uint64(s.Mark))
	clean := byte(0)
	if s.Clean {
		clean = 1
	}
	b = append(b, clean)
	b = binary.BigEndian.AppendUint64(b, s.ValuesTx)
	b = binary.BigEndian.AppendUint32(b, uint32(len(s.Records))) //nolint:gosec // check caps it
	for i := range s.Records {
		r := &s.Records[i]
		b = append(b, r.Kind)
		b = binary.BigEndian.AppendUint64(b, r.Fence)
		b = binary.BigEndian.AppendUint64(b, uint64(r.Limit))
		b = binary.BigEndian.AppendUint64(b, uint64(r.Weight))
		b = binary.BigEndian.AppendUint64(b, uint64(r.TTL))
		b = binary.BigEndian.AppendUint16(b, uint16(len(r.Key))) //nolint:gosec // check caps it
		b = append(b, r.Key...)
	}
	return b
}

// seal appends the checksum of all that is before it.
func seal(b []byte) []byte {
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// open returns what is in a sealed file after its magic and version.
func open(b []byte, magic string, unchecked bool) ([]byte, error) {
	body := len(b) - sha256.Size
	if body < len(magic)+4 {
		return nil, fmt.Errorf("is cut off after %d bytes", len(b))
	}
	if sum := sha256.Sum256(b[:body]); sum != [sha256.Size]byte(b[body:]) && !unchecked {
		return nil, errors.New("has a wrong checksum")
	}
	if string(b[:len(magic)]) != magic {
		return nil, errors.New("is of another kind")
	}
	if v := binary.BigEndian.Uint32(b[len(magic):]); v != version {
		return nil, fmt.Errorf("%w, %d instead of %d", errVersion, v, version)
	}
	return b[len(magic)+4 : body], nil
}

// decodeSlot returns what the bytes of a state file say, if every one of them is
// as it must be. It allocates no more than a small multiple of their number.
func decodeSlot(b []byte, unchecked bool) (s *slot, err error) {
	defer func() {
		if p := recover(); p != nil {
			s, err = nil, fmt.Errorf("cannot be read: %v", p)
		}
	}()
	rest, err := open(b, slotMagic, unchecked)
	if err != nil {
		return nil, err
	}
	r := reader{rest: rest}
	length := r.uint64()
	s = &slot{generation: r.uint64(), id: id(r.take(idSize))}
	if length != uint64(len(r.rest)) {
		return nil, fmt.Errorf("is %d bytes long inside and should be %d", len(r.rest), length)
	}
	s.state.read(&r)
	switch {
	case r.short:
		return nil, errors.New("ends early")
	case len(r.rest) > 0:
		return nil, errors.New("has something behind its end")
	case s.generation == 0:
		return nil, errors.New("has generation 0")
	}
	return s, s.state.check()
}

func (s *State) read(r *reader) {
	s.Boot = r.uint64()
	s.Wall = r.int64()
	s.Key = [KeySize]byte(r.take(KeySize))
	s.Ceiling = r.uint64()
	s.Mark = time.Duration(r.int64())
	clean := r.take(1)[0]
	s.Clean = clean == 1
	s.ValuesTx = r.uint64()
	n := int(binary.BigEndian.Uint32(r.take(4)))
	if clean > 1 || n > len(r.rest)/(recordSize+1) {
		r.short = true
		return
	}
	if n > 0 {
		s.Records = make([]Record, n)
	}
	for i := 0; i < n && !r.short; i++ {
		s.Records[i] = Record{
			Kind: r.take(1)[0], Fence: r.uint64(),
			Limit: int(r.int64()), Weight: int(r.int64()), TTL: time.Duration(r.int64()),
			Key: string(r.take(int(binary.BigEndian.Uint16(r.take(2))))),
		}
	}
}

// A reader takes bytes off the front. When there are too few it gives zeros.
type reader struct {
	rest  []byte
	short bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.rest) {
		r.short = true
		return make([]byte, n) // n is below 64 KiB
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

func (r *reader) uint64() uint64 { return binary.BigEndian.Uint64(r.take(8)) }

// int64 takes a number that must not be negative.
func (r *reader) int64() int64 {
	n := r.uint64()
	if n > math.MaxInt64 {
		r.short = true
	}
	return int64(n) //nolint:gosec // short refuses it
}

// encodeIdentity returns the bytes of the identity file.
func encodeIdentity(name id, created int64) []byte {
	b := append(make([]byte, 0, identitySize), identityMagic...)
	b = binary.BigEndian.AppendUint32(b, version)
	b = append(b, name[:]...)
	return seal(binary.BigEndian.AppendUint64(b, uint64(created))) //nolint:gosec // a clock
}

// decodeIdentity returns the name that the identity file gives.
func decodeIdentity(b []byte) (id, error) {
	rest, err := open(b, identityMagic, false)
	if err == nil && len(b) != identitySize {
		err = fmt.Errorf("is %d bytes long and should be %d", len(b), identitySize)
	}
	if err != nil {
		return id{}, err
	}
	return id(rest), nil
}
