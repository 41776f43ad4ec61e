// Package stocktest is a lock server for tests that behaves as the oldest stock
// dflockd does: v1.0, whose manners a client must get along with.
//
//   - It knows l, r, n, e and w, and nothing else: no semaphores, no ping, no
//     stats, no auth. Malformed and unknown requests are answered with "error"
//     and a closed connection.
//   - Each connection is served strictly in order by one goroutine, which does
//     not read while a request waits: a client that has left is noticed only
//     when its turn has come.
//   - A connection that is silent for the read timeout gets an unasked "error"
//     and is closed, and gives up what it held.
//   - Leases end at a sweep once a second, tokens are random throughout, and a
//     renewal answers a second less than it granted.
//
// It shares no code with package codec and package server on purpose: where a
// client misreads the protocol, its own server would misread it in the same
// way.
package stocktest
