// Package memory is a lock server inside this process: the lock table of the
// real server, with function calls in place of a connection. It is for tests,
// and for programs that run alone today and on a server tomorrow.
//
// A [Server] is the table. Each [Backend] is one client of it, as another
// process would be: clients of one Server exclude each other, those of two
// Servers do not. New, and a URL of memory:// too, makes a Server of its own;
// clients that are to exclude each other share one:
//
//	s := memory.NewServer()
//	a, b := locker.New(s.Backend()), locker.New(s.Backend())
//
// It can do all that a backend can: FIFO queues, tries, two-phase queueing,
// semaphores with weights, fences, inspection, force, values and joins. Durations are exact. A lease is
// 33 s long unless the request says otherwise, as on dflockd. Closing a Backend
// releases what it holds.
//
// A Server keeps the values that were put for as long as it is there, in memory:
// up to 64 KiB each, and 256 MiB together. They are gone with the process, as
// Shelf says.
//
// # Virtual time
//
// There is no goroutine and no lock held across a wait, only one timer while
// something can run out. So a program whose locks are here runs in a bubble of
// package testing/synctest, where leases of hours end in microseconds and
// nothing is left to chance. Make the Server inside the bubble: its timer
// belongs to the bubble that it was first needed in.
//
// # Faults
//
// For tests of what must survive them, a Server can be made to stop answering
// ([Server.Freeze]) or to refuse everything ([Server.Fail]), and the connection
// that a real client would have can break ([Backend.Disconnect]).
package memory
