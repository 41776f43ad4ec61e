// Package codec is the wire, for both ends: dflockd's base protocol, and the
// frames of session mode, which a connection can be switched to. It turns
// requests and answers into bytes and bytes into requests and answers.
//
// A request is three lines, the command, a key and an argument; an answer is
// one line. The server's end reads with a [RequestReader] and writes with
// [AppendAnswer]; the client's end writes with [AppendRequest] and reads with
// an [AnswerReader]. The package does no I/O but to read from the io.Reader it
// was given, and knows no clock: deadlines belong to whoever owns the
// connection. What requests and answers mean is in docs/protocol.md.
//
// # Session mode
//
// A frame is a request or an answer with an ID before it, so that answers may
// come in any order; beside them come notices, which nothing asked for. The
// same types carry both: a [Request] with an ID is a frame, and so is an
// [Answer] with an ID or a [Notice]. A connection begins in the base protocol;
// after [Hello] was answered (the client reads that with AnswerReader.ReadHello)
// both ends call Frames on their readers. Nothing of session mode is understood
// before that, so a peer of the base protocol sees no difference.
//
// # Limits
//
// Nothing that arrives can make the package panic or keep more than a stated
// number of bytes: every line has a cap ([MaxLine], [MaxSecret], [MaxArgument],
// [MaxAnswer], [MaxStats]), and buffers grow with what was received, never with
// what was announced. Reading and appending the requests and answers that locks
// are made of allocates nothing.
//
// What is stricter here than in some servers: numbers are decimal digits
// alone ("+5" is malformed), and keys are valid UTF-8.
package codec
