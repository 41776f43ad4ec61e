// Package once runs a function one time for a whole fleet, and shares its answer:
// the distributed counterparts of sync.Once, sync.OnceValue and
// golang.org/x/sync/singleflight.
//
// # Basics
//
// Ten replicas start, and one of them migrates the database. The others wait for
// it, and those that start tomorrow find that it is done:
//
//	migrate := once.New(client, "migrate/v7")
//	err := migrate.Do(ctx, func(ctx context.Context) error {
//		return up(ctx, db) // ctx is cancelled before anybody else may start
//	})
//
// Done means that the function returned nil and that a mark was written under the
// lease that it ran under. So an error, a panic, a crash or a lost lease is not
// done, and the next one runs. A Value is a Once whose function returns something,
// for all to have.
//
// A thousand processes miss the same key of a cache, and one of them asks the
// database; all get its answer, and nothing is remembered:
//
//	users := once.NewGroup[User](client, "users")
//	user, _, err := users.Do(ctx, "42", func(ctx context.Context) (User, error) {
//		return load(ctx, 42)
//	})
//
// # Caveats
//
// At most one run of a Once commits. A function may start more than once: after
// its runner crashed, or lost its lease and does not know it yet. What it does
// must stand that, or carry the fence of its lease (LeaseOf, package guard).
//
// A mark lives on the lock server. One without a data directory forgets it in a
// restart, so there Do refuses to run anything for ever (ErrVolatile), unless
// WithExpiry or WithVolatile say that this will do. A stock dflockd server keeps
// no marks at all: errors.ErrUnsupported, unless WithMarker or WithResults give a
// Store, such as a row in a database.
//
// A result of a Group is that of a call that had not answered in this process
// when its caller came. It may have been computed, on another machine, an instant
// before: what a caller wrote itself before it asked is seen only if it wrote
// before that call began. Group.Forget is for who needs more.
//
// Functions and callers of one key must agree on what it means: fingerprints find
// a Once that was given another input (WithFingerprint), and nothing finds two
// Groups of one name with different types, but for results that cannot be decoded.
package once
