// Package distributed gives goroutines in different processes and on different
// machines what package sync gives goroutines in one.
//
// # Basics
//
// Open a Client once, and make a Mutex where there was a sync.Mutex:
//
//	client, err := distributed.Open("dflockd://127.0.0.1:6388")
//	...
//	mu := distributed.NewMutex(client, "invoices") // was: var mu sync.Mutex
//	mu.Lock()
//	defer mu.Unlock()
//
// Lock and Unlock are those of sync.Locker. Where waiting must have an end, or
// the work must end when the lock is lost, use the form with a context:
//
//	err = mu.Do(ctx, func(ctx context.Context) error {
//		return charge(ctx) // ctx is cancelled before anybody else may start
//	})
//
// Everything stands on one primitive, a lease on a key: granted in FIFO order
// over all processes, renewed in the background while its holder lives, and
// passed on when the holder dies. A Mutex is a lease of which there is one, a
// Semaphore one of which there are n, and an RWMutex one of which readers take
// a little and a writer takes all. A Lease says its key, its fence and whether
// it may still be believed in: Check, Lost, Context.
//
// A Once runs something one time for the whole fleet, such as a migration; a Value
// computes something one time for all; and a Group lets all who ask for the same
// thing at once have one answer, whichever process they are in:
//
//	err = distributed.NewOnce(client, "migrate/v7").Do(ctx, migrate)
//	user, _, err := distributed.NewGroup[User](client, "users").Do(ctx, "42", load)
//
// The context of an acquisition bounds the wait and not the hold. How long to
// wait, how long a lease lasts without renewal and how long a hold may last in
// all are three things: the context or locker.WithWait, locker.WithTTL, and
// locker.WithMaxHold.
//
// Errors say key and backend and are matched with errors.Is. A lock that
// somebody else holds (ErrLocked), a backend that cannot be reached
// (ErrUnavailable) and a hold that is over (ErrLost) are never mixed up.
//
// # Caveats
//
// A lock on leases alone cannot exclude. A process that is paused, by a garbage
// collector, a stopped virtual machine or a closed laptop, may go on after its
// lease has passed to another, and write before it learns of it. No lock
// service can prevent that; only the resource can. So a grant carries a fence,
// a number that grows with every grant of the key (Lease.Fence), and package
// guard has what refuses writes with a smaller one. This project's server has
// fences. So has dflockd from 2.1, and needs ?fences=1 in the URL, because on
// dflockd's protocol servers do not say; without, Fence says that there is none.
//
// The zero values of Mutex, RWMutex, Semaphore, Once, Value and Group are not
// usable: they have no key and no client. This is the one promise of package sync that cannot be
// kept.
//
// A Mutex is not reentrant: a goroutine that locks it twice waits for itself. Nor
// is an RWMutex, whose readers cannot become writers either: with the context of
// Do or RDo that is ErrUpgrade at once.
//
// On the base protocol of dflockd a hold depends on the connection that it was
// granted on: when that closes the server releases the lock at once, and may
// grant it to the next before this side has noticed. Each wait under way needs
// a connection of its own there, leases are whole seconds, and nobody writes
// under an RWMutex, because it has no weights.
//
// At most one run of a Once is marked as done, but its function may start again
// after a runner crashed or lost its lease. The mark is on the server: one without a
// data directory forgets it in a restart, so Do refuses to run there unless it is
// told that this will do. A stock dflockd server keeps no marks; a table of a
// database can (once.WithMarker).
//
// A Mutex, an RWMutex, a Semaphore and a Once of one key do not exclude each other. All
// users of a semaphore's key must agree on its limit, and all clients of
// several servers on their list, in the same order: a key lives on one of them.
//
// A server without a data directory that restarts has forgotten its locks, and
// grants them anew while old holders may not have noticed yet; fences go on
// growing over restarts.
package distributed
