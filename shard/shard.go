// Package shard decides which of several servers owns a key.
//
// There is no coordination between the servers: exclusion holds because every
// client that uses a key asks the same server for it. All clients must
// therefore agree on the list of servers, on its order and on the function.
// Two clients with different lists can both hold one key.
package shard

import (
	"errors"
	"fmt"
	"hash/crc32"
)

// A Func maps a key to one of a number of servers: an index from 0 to
// servers-1. It must be pure, so that every process gets the same answer, and
// safe for concurrent use. Servers is at least 1; Pick sees to that.
type Func func(key string, servers int) int

// ErrRange says that a Func returned an index that no server has.
var ErrRange = errors.New("shard index out of range")

// A RangeError is the failure of a Func on a key. It matches ErrRange.
type RangeError struct {
	// Key is what the Func was asked about.
	Key string
	// Index is what it returned.
	Index int
	// Servers is the number of servers: Index should have been below it.
	Servers int
}

// Error says what the function returned, for which key, and what would have
// been right.
func (e *RangeError) Error() string {
	return fmt.Sprintf("distributed: shard function returned %d for key %q, not an index from 0 to %d", e.Index, e.Key, e.Servers-1)
}

// Unwrap returns ErrRange.
func (e *RangeError) Unwrap() error { return ErrRange }

// Pick asks f which of the servers owns the key. It returns a *RangeError when
// f answers with an index that no server has: taking it modulo the number of
// servers instead would hide a bug that makes two clients disagree. A nil f is
// CRC32; fewer than one server is an error.
func Pick(f Func, key string, servers int) (int, error) {
	if servers < 1 {
		return 0, fmt.Errorf("distributed: no server to pick for key %q", key)
	}
	if f == nil {
		f = CRC32
	}
	i := f(key, servers)
	if i < 0 || i >= servers {
		return 0, &RangeError{Key: key, Index: i, Servers: servers}
	}
	return i, nil
}

// CRC32 is the CRC-32 (IEEE) of the key's bytes, modulo the number of servers.
// It is what every official dflockd client does, in every language, and so
// the default. Changing the number of servers moves nearly all keys; see
// Rendezvous.
func CRC32(key string, servers int) int {
	if servers == 1 {
		return 0 // most clients have one, and should not pay for a sum
	}
	// Byte by byte over the table, as the bytes of a string cannot be given
	// to crc32.ChecksumIEEE without a copy on the heap.
	sum := ^uint32(0)
	for i := range len(key) {
		sum = crc32.IEEETable[byte(sum)^key[i]] ^ sum>>8
	}
	// The sum is taken modulo as an unsigned number: where int has 32 bits,
	// half of all sums would otherwise be negative.
	return int(uint64(^sum) % uint64(servers))
}
