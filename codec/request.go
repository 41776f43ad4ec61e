package codec

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"time"
)

// A Command is what a request asks for. The zero Command is none.
type Command uint8

// The commands of the base protocol. Those for locks are for semaphores too,
// where Request.Semaphore is set.
const (
	Lock    Command = iota + 1 // l, sl: acquire, waiting up to Timeout
	Release                    // r, sr: end the hold of Token
	Renew                      // n, sn: start the lease of Token anew
	Enqueue                    // e, se: take a place in the queue
	Wait                       // w, sw: wait for the turn of that place
	Auth                       // auth: show the secret
	Ping                       // ping: nothing but an answer
	Stats                      // stats: report who holds and who waits
)

// words are the commands' names on the wire; with an "s" before them those of
// one letter are about semaphores.
var words = [...]string{Lock: "l", Release: "r", Renew: "n", Enqueue: "e", Wait: "w", Auth: "auth", Ping: "ping", Stats: "stats"}

// String returns the command's name on the wire, for locks.
func (c Command) String() string {
	if c == 0 || int(c) >= len(words) {
		return "invalid"
	}
	return words[c]
}

// keyed says whether the command is about a key, and so exists for semaphores.
func (c Command) keyed() bool { return c >= Lock && c <= Wait }

// A Request is one request of the base protocol. Which fields count depends on
// the command; the others are zero after reading and ignored in writing.
type Request struct {
	Command Command
	// Semaphore makes Lock, Release, Renew, Enqueue and Wait act on the
	// semaphore of that name, not on the lock.
	Semaphore bool
	// Key names what is locked. After RequestReader.Read it is part of the
	// reader's buffer and valid until the next Read or Fill.
	Key []byte
	// Timeout is how long Lock and Wait wait; 0 tries once. It is written in
	// whole seconds, rounded up, so that a wait never becomes a try.
	Timeout time.Duration
	// TTL is the lease that Lock, Enqueue and Renew ask for; 0 leaves it to
	// the server. It is written in whole seconds, rounded up.
	TTL time.Duration
	// Limit is the number of slots, at least 1, of Lock and Enqueue on a
	// semaphore.
	Limit int
	// Token names the hold for Release and Renew.
	Token Token
	// Secret is what Auth shows. After RequestReader.Read it is part of the
	// reader's buffer, as Key is.
	Secret []byte
}

// Format prints the request without its token and secret, whatever the verb.
func (r Request) Format(f fmt.State, _ rune) {
	kind := ""
	if r.Semaphore {
		kind = "s"
	}
	fmt.Fprintf(f, "%s%s %q timeout=%v ttl=%v limit=%d", kind, r.Command, r.Key, r.Timeout, r.TTL, r.Limit) //nolint:errcheck // fmt.State keeps its own error
}

// AppendRequest appends the request's three lines to dst. Durations are
// rounded up to whole seconds; negative ones count as zero.
//
// Key and Secret must have passed CheckKey and CheckSecret. A line feed in
// either would smuggle in further requests, so AppendRequest panics on it; a
// server's answer cannot bring that about, only a caller who did not check.
func AppendRequest(dst []byte, r *Request) []byte {
	if bytes.IndexByte(r.Key, '\n') >= 0 || bytes.IndexByte(r.Secret, '\n') >= 0 {
		panic("codec: bug: unchecked key or secret with a line feed in it")
	}
	if !r.Command.keyed() {
		dst = append(append(dst, r.Command.String()...), "\n_\n"...)
		if r.Command == Auth {
			dst = append(dst, r.Secret...)
		} else {
			dst = append(dst, '_')
		}
		return append(dst, '\n')
	}
	if r.Semaphore {
		dst = append(dst, 's')
	}
	dst = append(append(dst, words[r.Command]...), '\n')
	dst = append(append(dst, r.Key...), '\n')
	return append(appendArguments(dst, r), '\n')
}

func appendArguments(dst []byte, r *Request) []byte {
	sized := r.Semaphore // whether the limit comes next
	switch r.Command {
	case Release:
		return r.Token.AppendHex(dst)
	case Renew:
		dst = append(r.Token.AppendHex(dst), ' ')
		sized = false
	case Lock:
		dst = append(appendSeconds(dst, r.Timeout), ' ')
	case Wait:
		return appendSeconds(dst, r.Timeout)
	}
	if sized {
		dst = append(strconv.AppendInt(dst, int64(r.Limit), 10), ' ')
	}
	if r.TTL > 0 {
		return appendSeconds(dst, r.TTL)
	}
	return bytes.TrimSuffix(dst, []byte{' '})
}

// appendSeconds rounds up: a lease or a wait of less than asked for would be a
// broken promise, and zero means something else altogether.
func appendSeconds(dst []byte, d time.Duration) []byte {
	seconds := int64(d / time.Second)
	if d%time.Second > 0 {
		seconds++
	}
	return strconv.AppendInt(dst, min(max(seconds, 0), maxSeconds), 10)
}

// A RequestReader is the server's end of a connection: it reads requests. It
// is not safe for concurrent use.
type RequestReader struct{ lines lineBuffer }

// NewRequestReader returns a reader of the requests in r.
func NewRequestReader(r io.Reader) *RequestReader {
	return &RequestReader{lines: lineBuffer{r: r}}
}
