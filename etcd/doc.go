// Package etcd is a backend on etcd, for locks that are to survive the loss of a
// machine: change dflockd:// to etcd:// and import the package.
//
//	import _ "github.com/distributed-go/distributed/etcd"
//
//	l, err := distributed.Open("etcd://h1:2379,h2:2379,h3:2379/myapp?ttl=10s")
//
// It stands on go.etcd.io/etcd/client/v3, and not on its package concurrency: two
// goroutines of one session of that both get the lock, each wait opens a watch in
// the past, which etcd serves ten times a second, and a lease counts there from
// the receipt of an answer.
//
// # In etcd
//
// Below a prefix, by default "distributed/", each acquisition has a key of its
// own, attached to a lease:
//
//	distributed/l/KEY NAME   of a lock           weight limit asked holder
//	distributed/s/KEY NAME   of a semaphore      weight limit asked holder
//	distributed/v/KEY        what was published  put data
//	distributed/x/l/KEY NAME that a hold was revoked
//
// NAME is 16 hexadecimal digits: one of the first few from a number that each lease
// has at random. Between it and KEY is a space, since no key may contain one: a slash
// would make the range of "a" include "a/b". A name is used again as soon as its key is
// known to be deleted: until it is compacted etcd keeps in its index each key that was
// ever there, and reads them all where it looks below KEY, so that with new names each
// acquisition of a key would be slower than the last. Who is meant is told by name and
// revision.
// Asked is the wall clock's time in milliseconds, which is shown to people only; put is
// in nanoseconds, for the age of a value.
//
// An acquisition is one transaction: it puts its key and reads those of the same
// KEY. Who has a smaller revision of creation came before. All whose weights,
// summed in that order, fit under the limit hold it: strictly first come, first
// served, and a heavy request is not starved. The limit is what the first of them
// says, and for nobody more than its own request says: who asks with another limit is
// refused, and may be the first until its key is deleted. The fence is the revision of creation. A try compares the revisions of the
// whole range instead, and leaves nothing behind. A release deletes the key
// by its name: should that go unanswered its name is never used again, and the deletion
// is repeated with a comparison of the revision of creation.
//
// # One lease for all holds
//
// All holds of a client with one TTL share one lease of etcd: ten thousand cost
// one message each third of the TTL, on a stream that lasts: with a user each new one
// would cost etcd a hash of the password. Its renewals are stamped before they are
// sent, by the clock of the [locker.Client], and every hold counts from the stamp
// of the last that was answered. A lease that nobody needs any more ends after a
// while. Etcd knows whole seconds, and has a least TTL that follows from its
// election timeout, 2 s by default: what it granted is reported, and never
// believed in for longer than was asked.
//
// That the lease is shared is why nothing may be forgotten: a key that nobody
// releases would be kept alive by the others. So what was asked goes on when its
// caller has gone, and who was cancelled leaves the answer to a cleaner. Where an
// answer is missing nobody knows whether the key exists: its deletion by name is
// tried until it is answered, and again when the server must have given the
// request up; and the lease takes no new holds and is revoked after its last, so
// that a request which some frozen member still has finds no lease to attach to.
//
// # Waiting
//
// Those who wait share one standing watch for deletions below the prefix, which is
// there before it is needed, but for the first wait after a while. So a hand-over is
// one transaction of the holder and one event. What is known of the queue of a key is
// a state machine of its own, of answers, deletions and gaps; after a gap, because
// etcd has compacted what a broken watch missed, it asks again. A watch that is silent
// is asked for a sign of life, and begun anew at another member if there is none. When
// nobody waits any more the watch ends after a while: each client that waits hears of
// every release below its prefix, so that those who only hold should not have to pay
// for it. (Give programs that have nothing to do with each other prefixes of their
// own.) After a wait of half a second or more the key is read once more before the
// caller hears of its grant: a leader that was frozen may have revoked a lease which
// its successor had renewed, and the watch may not have said so yet.
//
// Who holds hears of [Backend.Force] by another watch, of keys that say so: nothing
// comes over it otherwise. A key that was deleted by hand is missed after the next
// renewal of the lease, a third of the TTL later, when some of the holds, a hundred at
// random, are looked for; and all, where one of these is missing. Either way the lease is lost with [locker.ErrRevoked].
//
// # Batches
//
// Requests that come while a few transactions are under way go in one, at most one
// acquisition of each key, so that revisions of creation stay apart. One goroutine
// alone never waits for that, and sends its requests itself. Who queues up behind a
// holder of the same process waits for 2 ms at most, to go along with its release: so a
// hand-over is one transaction, which etcd syncs once.
//
// # What goes wrong
//
// An error of an etcd that cannot be reached, or does not answer in 7 s, matches
// [locker.ErrUnavailable] and says who was asked and what the way there last failed with.
// One whose quota is used up (NOSPACE) grants nothing and says so; renewals and releases
// go on, and a put matches [locker.ErrNotStored]. A user whose password or right is
// gone gets [locker.ErrAuth], while waiting too; holds that cannot be renewed end at their
// deadlines. Who closes a client that was passed to [New] ends every wait with
// [locker.ErrClosed].
//
// # What it cannot
//
// Local hand-over, that is, several fences in one grant: the next revision is not
// ours to give. Request.Fences above 1 is errors.ErrUnsupported, and primitives do
// without. The age of a value is by the wall clocks of who put and who reads it.
// Those who hold a key after a wait are reported as holding it since they asked.
//
// # URL
//
// etcd://HOST[:PORT],.../PREFIX?PARAMETER=VALUE or, with TLS, etcds://. The port is
// 2379 unless given, the host 127.0.0.1.
//
//	ttl              the lease to ask for, such as 10s
//	name             what the process calls itself; the default is host/pid/program
//	user             whose password the secret is
//	insecure-secret  1 sends the secret in plaintext to another machine
//
// With etcds:// a certificate has to be for the host that the URL names; etcd's client
// does not heed the ServerName of a TLS configuration.
//
// The secret, from locker.WithSecret or where the caller's environment says, is
// USER:PASSWORD, or the password where the parameter user names the user.
package etcd
