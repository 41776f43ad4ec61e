package datadir

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/distributed-go/distributed/internal/assert"
)

func exampleSlot() *slot {
	return &slot{generation: 7, id: id{1, 2, 3}, state: State{
		Boot: 3, Wall: 1 << 60, Key: [KeySize]byte{9, 8, 7}, Ceiling: math.MaxUint64, Mark: 33 * time.Second, Clean: true,
		Records: []Record{
			{Kind: 0, Key: "a", Fence: 1, Limit: 1, Weight: 1, TTL: time.Hour},
			{Kind: 0, Key: "a", Fence: 2, Limit: 1, Weight: 1, TTL: 1},
			{Kind: 1, Key: strings.Repeat("k", MaxKey), Fence: math.MaxUint64, Limit: math.MaxInt, Weight: math.MaxInt, TTL: math.MaxInt64},
		},
	}}
}

func TestEncoding(t *testing.T) {
	for _, s := range []*slot{exampleSlot(), {generation: 1}} {
		b, err := s.encode()
		assert.Sure(t, err)
		back, err := decodeSlot(b, false)
		assert.Sure(t, err)
		if back.generation != s.generation || back.id != s.id || !back.state.equal(&s.state) {
			t.Errorf("%+v became %+v", s, back)
		}
		if len(b) != cap(b) {
			t.Errorf("%d bytes were meant, %d written", cap(b), len(b))
		}
	}
}

// TestFormat pins the bytes: those who upgrade a server have files of the old one.
func TestFormat(t *testing.T) {
	b, err := exampleSlot().encode()
	assert.Sure(t, err)
	assert.Exactly(t, "the encoding's sum", fmt.Sprintf("%x", sha256.Sum256(b)), "0670a7c78e4cc9844ecf4cdb3fc6298908492f887216b2a2de11f5c599655083")
	assert.Exactly(t, "its length", len(b), 516)
	assert.Exactly(t, "the identity", fmt.Sprintf("%x", encodeIdentity(id{1, 2, 3}, 4)[:36]),
		"646c6b6964656e740000000201020300000000000000000000000000"+"0000000000000004")
}

// TestNothingIsWrittenThatWouldBeRefused wants the same rules on both ways.
func TestNothingIsWrittenThatWouldBeRefused(t *testing.T) {
	for name, change := range map[string]func(*State){
		"no key":          func(s *State) { s.Records[0].Key = "" },
		"a long key":      func(s *State) { s.Records[2].Key += "k" },
		"no weight":       func(s *State) { s.Records[0].Weight = 0 },
		"too much weight": func(s *State) { s.Records[0].Weight = 2 },
		"no TTL":          func(s *State) { s.Records[0].TTL = 0 },
		"a record twice":  func(s *State) { s.Records[1] = s.Records[0] },
		"out of order":    func(s *State) { s.Records[0], s.Records[1] = s.Records[1], s.Records[0] },
		"a negative mark": func(s *State) { s.Mark = -1 },
		"a negative wall": func(s *State) { s.Wall = -1 },
	} {
		s := exampleSlot()
		change(&s.state)
		if _, err := s.encode(); err == nil {
			t.Errorf("%s is written", name)
		} else {
			t.Log(err)
		}
		head := []byte(slotMagic + "\x00\x00\x00\x01" + strings.Repeat("\x00", 32))
		b := s.state.append(head)
		n := len(b) - headSize
		b[18], b[19] = byte(n>>8), byte(n)
		b[27] = 1
		if _, err := decodeSlot(seal(b), false); err == nil {
			t.Errorf("%s is read", name)
		}
	}
	s := State{Records: make([]Record, MaxRecords+1)}
	assert.Matches(t, s.check(), ErrFull)
}

// FuzzDecode feeds the decoder with what has a right checksum, so that it is not
// the checksum alone that keeps it from panicking, and wants one encoding for
// each state.
func FuzzDecode(f *testing.F) {
	b, err := exampleSlot().encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b[:len(b)-sha256.Size])
	empty, err := (&slot{generation: 1}).encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(empty[:len(empty)-sha256.Size])
	f.Add(encodeIdentity(id{1}, 1)[:identitySize-sha256.Size])
	f.Fuzz(func(t *testing.T, b []byte) {
		b = seal(b)
		if s, err := decodeSlot(b, false); err == nil {
			again, err := s.encode()
			if err != nil || !bytes.Equal(b, again) {
				t.Fatalf("%x was read and would be written as %x, %v", b, again, err)
			}
		} else if strings.Contains(err.Error(), "cannot be read") {
			t.Fatalf("%x: %v", b, err)
		}
		if name, err := decodeIdentity(b); err == nil && !bytes.Contains(b, name[:]) {
			t.Fatal("a name from nowhere")
		}
		b[len(b)-1] ^= 1
		if _, err := decodeSlot(b, false); err == nil || errors.Is(err, errVersion) {
			t.Fatal("a wrong checksum passed")
		}
	})
}
