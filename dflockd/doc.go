// Package dflockd is a locker.Backend that speaks to one lock server, or to
// several that share the keys between them: in session mode where the server
// knows it, as this project's does, and dflockd's base protocol with all others.
// Which it is the backend asks each server, unless WithBaseProtocol says.
//
// # Session mode
//
// One connection to each server carries everything, waits and holds, however
// many. Holds do not depend on it: a session outlives its connections.
//
//   - All holds are kept alive by one request, a beat, every third of the
//     shortest lease and every two seconds at most. There is no timer, goroutine
//     or message for a hold, and 80 bytes of memory.
//   - A connection that breaks is replaced at once, and so is one that does not
//     answer a beat for 0.6 of the time between two beats, or 400 ms: with leases
//     of two seconds and more that leaves the time to try twice. The session then
//     goes on, with its holds, and with its places in queues.
//   - While there is no connection, what waits goes on waiting, for as long as
//     its TTL: the server keeps its place no longer. What wants an answer at
//     once fails.
//   - A connection that nobody needs is kept, by a beat every ten seconds,
//     because to connect again would delay the next one who does. If it breaks
//     then it stays so until somebody needs it.
//   - A server that was restarted on its data directory takes claims: what is
//     held, and still believed in, is claimed within a tenth of a second, before
//     anything new is asked for, and what waits takes new places. Without one it
//     knows nothing any more: holders are told when it is back, or at their
//     deadlines, and the next request begins another session.
//   - On the same machine the server is told which process this is, and releases
//     what it held as soon as it has died; see WithoutProcess.
//
// # Base protocol
//
// The package is at home with every version of dflockd, and works around what
// their common protocol lacks. Answers come strictly in the order of requests,
// so a request that waits blocks everything behind it; and by default a server
// releases what was granted on a connection as soon as that connection closes.
// Therefore, for each server:
//
//   - One shared connection carries everything that does not wait, from all
//     goroutines, pipelined. What is granted on it depends on it.
//   - Each acquisition that has to wait, and each place in a queue, has a
//     connection of its own, which stays with what it was granted until that is
//     released, and is then used again. WithMaxConns bounds them.
//   - A read is always pending on every connection, so that its end is known
//     within a round trip: then what depended on it is lost, and says so.
//   - A connection that something depends on is never silent for longer than
//     WithKeepalive, since servers close silent ones.
//   - A wait is taken back by closing its connection, and a grant that was
//     already on its way is given back by token.
//
// Leases cost nothing here beyond their connection: the package keeps no list
// of them.
//
// # Basics
//
//	b, err := dflockd.New([]string{"127.0.0.1:6388"})
//	if err != nil {
//		return err
//	}
//	c := locker.New(b)
//	defer c.Close()
//	lease, err := c.Acquire(ctx, "invoices")
//
// # URLs
//
// With the package imported, locker.Open takes URLs such as
//
//	dflockd://h1:6388,h2:6388?ttl=10s&fences=1
//
// The scheme is dflockd for plaintext and dflockds for TLS. Several servers
// share the keys between them; a missing port is 6388, a missing server
// 127.0.0.1. The parameters are
//
//	fences=1               WithFences
//	insecure-secret=1      WithInsecureSecret
//	keepalive=5s           WithKeepalive
//	keep-on-disconnect=1   WithKeepOnDisconnect
//	max-conns=100          WithMaxConns
//	name=web-3             WithName
//	process=0              WithoutProcess
//	release-on-close=1     WithReleaseOnClose
//	session=0              WithBaseProtocol
//	shard=rendezvous       WithShard: crc32 (the default) or rendezvous
//	ttl=10s                locker.WithTTL
//
// # Caveats
//
//   - All clients of a key must have the same list of servers, in the same
//     order, and the same shard function.
//   - Session mode has fences in any case; WithFences, WithKeepalive,
//     WithKeepOnDisconnect and WithMaxConns are about the base protocol.
//   - On the base protocol, when a connection breaks, the server may grant its
//     keys to others before this process notices. Against a server started with
//     --no-auto-release-on-disconnect, WithKeepOnDisconnect avoids that.
//   - The base protocol knows whole seconds only: leases are rounded up, to at
//     least one second.
//   - A server that was restarted without a data directory, as all of dflockd's
//     are, has forgotten everything, and grants it anew. Only a fence checked at
//     the resource (WithFences) protects from that.
package dflockd
