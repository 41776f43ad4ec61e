//go:build race

package locker_test

// manyLeases is fewer where each costs many times as much.
const manyLeases = 10_000
