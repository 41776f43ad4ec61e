// Package session is session mode, both ends of it, as state machines: what a
// server answers and in which order, what a client sends, keeps and believes,
// and how the two find each other again after a connection broke. There is no
// goroutine, clock, socket or other I/O in it. Time is an argument, requests
// and answers are the structs of package codec, and whoever has the sockets
// carries them to and fro. So the very code that servers and clients run can be
// searched and simulated together, with every cut, delay and order of messages.
//
// # The server's end
//
// A [Server] keeps sessions over a [table.Table]. Each connection that said
// hello is a [Link]; what is to be written to it goes to its [Outlet], in the
// order in which the table changed. A session has one link at most: the newest.
//
// # The client's end
//
// A [Client] is one session. It gives out IDs, keeps every [Call] until it is
// answered and every [Hold] until it is released or lost, and says all of it
// again when it resumes.
//
// # When a lease counts
//
// A client may believe in a hold until [Deadline] of the instant before it sent
// the latest request that is known to have started the lease's TTL. Three kinds
// do: the request that was granted, a renewal by token, and a beat that was
// answered after the hold was last confirmed. Because a server's lines come in
// the order in which its table changed, a beat that was answered before a grant
// was handled before it; so a grant that was waited for counts from the latest
// answered beat, and not from the request, which may be a TTL ago and more.
//
// After a connection broke, a hold counts from a beat again only when its own
// renewal over the new connection was answered.
//
// # Values
//
// A join is an acquisition that a put on the key answers as well: to the table both
// are leases in one queue. Where values are durable, a put or a removal is pending
// in the table from when it was accepted to when the shell says that it is on disk;
// until then nobody is told of it, nobody is granted the key, and requests that
// could tell wait behind it. Changes of one key are accepted, written and answered in
// the order in which their holder asked for them.
//
// A request that comes again after a broken connection must not put twice: that
// would answer those who joined later with a result that is older than they are.
// So a session keeps in mind what its changes and joins were answered, until two
// beats show that the client has it; see outcomes.
package session
