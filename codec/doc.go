// Package codec is the wire of dflockd's base protocol, for both ends: it
// turns requests and answers into bytes and bytes into requests and answers.
//
// A request is three lines, the command, a key and an argument; an answer is
// one line. The server's end reads with a [RequestReader] and writes with
// [AppendAnswer]; the client's end writes with [AppendRequest] and reads with
// an [AnswerReader]. The package does no I/O but to read from the io.Reader it
// was given, and knows no clock: deadlines belong to whoever owns the
// connection.
//
// Nothing that arrives can make it panic or keep more than a stated number of
// bytes: every line has a cap ([MaxLine], [MaxSecret], [MaxAnswer],
// [MaxStats]), and buffers grow with what was received, never with what was
// announced. Reading and appending the requests and answers that locks are
// made of allocates nothing.
//
// What is stricter here than in some servers: numbers are decimal digits
// alone ("+5" is malformed), and keys are valid UTF-8.
package codec
