// Package table is the lock table: which key is held by whom, who waits for it
// and in which order, and when each of them runs out. It is a state machine
// with the time as an argument, without a goroutine, a clock, a socket or any
// other I/O of its own, so that a server, the backend in this process and a
// simulation all run the very same decisions, and a test can put any two
// events at any two instants.
//
// # Rules
//
//   - Per key strictly first come, first served, all of a lease's weight or
//     nothing, heads only: a heavy request holds back the lighter ones behind
//     it, so that it is never starved. A try does not jump the queue.
//   - A lease that ran out is gone for ever: it is never renewed, collected or
//     released afterwards, and its token names nothing any more.
//   - The first holder sets a semaphore's limit. Another limit is an error
//     until the key has been idle for Config.MaxIdle and was pruned.
//   - A key without holders stays as an idle entry, so that its limit is
//     remembered and its next holder costs one allocation less. Idle entries
//     count to Config.MaxKeys, but the one that has been idle for longest makes
//     room early: refusing a caller for the sake of a key that nobody uses
//     would help nobody.
//   - Fences come from one counter for all keys. They grow strictly with every
//     grant, whatever is pruned in between. A grant may take several.
//
// # Sessions
//
// An owner made by NewSession may fall silent and come back; [Table.Heard] says
// when it was there. What it holds runs out by TTL alone. Where it waits it is
// passed over, as if it were not in the queue, once it has been silent for half
// of the waiting lease's TTL or five seconds, whichever is less; after the whole
// TTL it loses the place. A beat renews all that a session holds with one stamp.
// When it comes back over a new connection, Resume, Renew and Name, and Sync
// find out what it still knows of; the rest is dropped.
//
// # Restarts
//
// A table can go on where another one was stopped, or died, if it has the same
// Config.Sign and begins with a fence behind all that the other one gave. What it
// is told with Restore is held again, by nobody at first. Of all else that the
// other one granted it knows nothing: for the grace, until Config.GraceEnd, it
// grants nothing to anybody, and those who hold come with their tokens and
// Claim. The grace must be as long as the longest lease that may be out and is
// not restored; then whoever has not claimed cannot believe in it any more.
// Nothing that was released in the grace, or ended otherwise, can be claimed
// afterwards, and after the grace only what was restored.
//
// # Values
//
// A lock's key can have a value, which only its holder puts there, by its token,
// and which stays when the hold ends, and when the table forgets the key. A put
// takes a fence of its own, so that it stands in one order with all grants. It
// answers all who are queued by requests that join, at once and in their order,
// whether their sessions are passed over or not. Whether a value that is there
// is fresh enough for somebody who comes is not the table's to say.
//
// Where values are to survive a crash a change of one is pending at first. Nobody
// sees it before it is settled; and the key is granted to nobody, because the
// next holder must find what the one before was told is there.
//
// # Time
//
// Instants are durations since any origin that the caller fixes, of which only
// the differences matter; they must not be negative. Every call that takes one
// first brings the table there, as Advance does, so that nothing that is due is
// ever seen. An instant behind an earlier call's counts as that earlier one:
// callers may read their clock before they take their mutex, and the most that
// this can do is to end something later. For the same reason a caller that was
// itself stopped for a while can extend all leases by the gap for nothing, by
// taking the gap off all later instants.
package table
