//go:build race

package dflockd

// pairAllocations is what a pair may allocate: the race detector has pools drop
// a part of what is put back.
const pairAllocations = 6
