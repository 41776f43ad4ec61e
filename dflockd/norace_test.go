//go:build !race

package dflockd

// pairAllocations is what a pair may allocate.
const pairAllocations = 2
