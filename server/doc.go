// Package server is the lock server, to embed or to run: it serves dflockd's
// base protocol over any net.Conn, so clients in every language that dflockd
// has one for can use it, and session mode to those who ask for it.
//
//	s, err := server.New(server.Config{AuthToken: "hunter2"})
//	...
//	go s.Serve(listener)
//	...
//	s.Shutdown(ctx)
//
// The zero Config is dflockd's; every field says its default. SettingsFromEnv
// reads dflockd's environment variables.
//
// # How it is built
//
// The lock table is a state machine behind one mutex, which is never held
// across I/O (locks.go). Each connection is one goroutine that reads requests,
// asks the table, and writes answers (conn.go, base.go). It flushes its answers
// before every read that may block, so that the answers to what a client sent
// at once leave at once, and no timer is needed.
//
// While a connection waits for a lock, its goroutine goes on reading into a
// bounded buffer, and so hears at once when the client is gone. Whoever frees
// the lock wakes it by a read deadline in the past, and the connection writes
// its own answer: nobody ever writes to a connection but its own goroutine, so
// a client that does not read harms nobody else. It is closed when nothing more
// of its answers could be sent for Config.WriteTimeout.
//
// # Session mode
//
// A connection that says hello changes to frames (session.go), and what they do
// is decided by internal/session, over the same table and under the same mutex,
// which is taken once for all requests that a read brought. Its lines go to an
// outbox (outbox.go) while that mutex is held. The answers to what was read the
// connection's goroutine writes before it reads again, as far as the kernel takes
// them at once (direct_unix.go); all else is written by another goroutine, which
// exists while there is something to write. So a client that is slow to read is
// still heard, until 256 KiB of lines wait for it. Sessions ignore Config.ReadTimeout and Config.KeepOnDisconnect: they are
// closed after 30 s of silence, and what they hold outlives their connections,
// unless they asked otherwise or their process is seen to die (death.go).
//
// # Restarts
//
// With Config.DataDir the server goes on where the last one ended. What must be on
// disk before something is granted internal/datadir decides (durable.go): the
// table is told how far fences may go, and asks before a request that needs more
// is carried out. One of session mode is parked then and others pass it by; one of
// the base protocol waits on the goroutine of its connection (basedurable.go).
//
// # What it promises
//
// A lease that runs out is handed over by a timer set to that instant. Fences,
// the first half of every token, start at the wall clock and grow by one with
// every grant; so they grow over restarts too, for as long as the clock was not
// set back between them, and with a data directory in any case. The second half
// is a keyed hash (token.go). Its key is made anew by every New, so that tokens
// of an earlier run are worth nothing, or kept in the data directory.
//
// A pause of the whole process extends all leases by its length: the table's
// clock stands still meanwhile (locks.go).
package server
