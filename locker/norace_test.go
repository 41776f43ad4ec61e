//go:build !race

package locker_test

// manyLeases is how many the test of the heap holds.
const manyLeases = 100_000
