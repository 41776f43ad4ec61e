// Package guard is the resource's side of a lock: it refuses writes of holders
// who do not know yet that they lost it.
//
// A lock alone cannot be safe. Say that A takes the lock with a TTL of 10 s at
// 12:00:00, computes, checks at 12:00:02 that it still holds it, and is about to
// write when its machine stops: a garbage collection that swaps, a virtual
// machine that is moved, a closed laptop. At 12:00:10 the lease runs out, at
// 12:00:11 B gets the lock and writes. At 12:00:40 A goes on where it was, after
// the check and before the write, and overwrites what B wrote. No clock of A has
// to have seen the pause, and no lock service can prevent the write: it is not
// asked. Only the resource is. So each grant carries a fence, a number that
// grows with every grant of the key: A has 7, B has 8. The resource remembers
// the largest that it has seen, and A's write, with 7 after 8, is refused.
//
// # The rule
//
// A guard remembers for each key the largest fence it has seen. A smaller one
// is refused with a *StaleError, which matches ErrStale. An equal one is
// accepted, for the same holder may write again, and repeat a write whose answer
// was lost. A hold without a fence is refused with ErrNoFence, never let
// through: 0 is not a fence.
//
// Looking and writing must be one step for the resource. A guard that compares
// and then writes has the gap that it was meant to close, between the two. Each
// guard here closes it in its own way:
//
//   - Table is for database/sql: the row that remembers the fence stays locked
//     until the caller's transaction ends.
//   - File replaces a file while it holds a lock of the operating system, and
//     stores the fence before the data.
//   - Handler is for HTTP: requests with a larger fence wait until those with a
//     smaller one have been served. Transport and SetHeader are its client.
//   - Update and Write are for everything that can compare and swap, by the
//     Store interface: object stores, etcd, or Memory in this process.
//
// A holder that changes what it reads must show its fence before it reads: else
// the last write of its predecessor may come between, be accepted, and be lost.
// In a transaction call Table.Check first; a File has Check for this; Update
// does it by itself.
//
// # Fences
//
// Fences are comparable for one key of one service. Who moves a key to a lock
// service that counts otherwise has to clear what guards remember, while nobody
// holds the key; until then they refuse, which is the safe side. Holders that
// share a key, those of a semaphore, have no fence. On the base protocol of
// dflockd the URL must say fences=1.
//
// A fence is no secret and proves nothing: it protects from holders who are
// late, not from those who lie.
package guard
