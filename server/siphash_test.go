package server

import "testing"

// TestSipHash holds the hash to the vectors of its authors: the key is the bytes 0
// to 15, and each message the first bytes of 0, 1, 2 and so on.
func TestSipHash(t *testing.T) {
	var key [16]byte
	for i := range key {
		key[i] = byte(i)
	}
	var message [64]byte
	for i := range message {
		message[i] = byte(i)
	}
	for length, want := range map[int]uint64{
		0: 0x726fdb47dd0e0e31, 1: 0x74f839c593dc67fd, 2: 0x0d6c8009d9a94f5a, 3: 0x85676696d7fb7e2d,
		7: 0xab0200f58b01d137, 8: 0x93f5f5799a932462, 9: 0x9e0082df0ba9e4b0, 15: 0xa129ca6149be45e5,
		16: 0x3f2acc7f57c29bdb, 63: 0x958a324ceb064572,
	} {
		if got := newSiphash(key).sum(message[:length]); got != want {
			t.Errorf("of %d bytes: %#x, want %#x", length, got, want)
		}
	}
}
