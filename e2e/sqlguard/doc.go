// Package sqlguard puts the SQL guard of package guard before a real database,
// SQLite: locks of a real server, transactions that run at the same time on
// connections of their own, and writers who come when their lock is long
// somebody else's. It has no code to import and is never released.
//
// It is a package of its own so that the processes of the other tests, which
// start by the thousand, are not made larger by a database.
package sqlguard
