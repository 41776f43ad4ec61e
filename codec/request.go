package codec

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"
)

// A Command is what a request asks for. The zero Command is none.
type Command uint8

// The commands of the base protocol, and Hello, which asks for session mode.
// Those for locks are for semaphores too, where Request.Semaphore is set.
const (
	Lock    Command = iota + 1 // l, sl: acquire, waiting up to Timeout
	Release                    // r, sr: end the hold of Token
	Renew                      // n, sn: start the lease of Token anew
	Enqueue                    // e, se: take a place in the queue
	Wait                       // w, sw: wait for the turn of that place
	Auth                       // auth: show the secret
	Ping                       // ping: nothing but an answer
	Stats                      // stats: report who holds and who waits
	Hello                      // hello: ask for session mode, with the words of a Greeting
	Force                      // force: take the key away from all who hold it; only this project's server knows it
)

// The commands that exist in frames only.
const (
	Cancel Command = iota + Force + 1 // cancel: take the request, or the place, with the ID Ticket back
	Beat                              // beat: start every lease of the session anew
	Sync                              // sync: everything that was to be resumed has been named
	Bye                               // bye: release everything and close
	Claim                             // claim: go on with the lease of Token, which an earlier run of the server granted
	Put                               // put: store Value under the key that Token holds
	Get                               // get: the value under the key
	Delete                            // del: remove the value under the key that Token holds
	Join                              // join: queue as Lock does, for the lock or for a value
)

// words are the commands' names on the wire; with an "s" before them those of
// one letter are about semaphores.
var words = [...]string{
	Lock: "l", Release: "r", Renew: "n", Enqueue: "e", Wait: "w", Auth: "auth", Ping: "ping", Stats: "stats",
	Hello: "hello", Force: "force", Cancel: "cancel", Beat: "beat", Sync: "sync", Bye: "bye",
	Claim: "claim", Put: "put", Get: "get", Delete: "del", Join: "join",
}

// String returns the command's name on the wire, for locks.
func (c Command) String() string {
	if c == 0 || int(c) >= len(words) {
		return "invalid"
	}
	return words[c]
}

// exists says whether the command exists in frames, or else in the base protocol.
func (c Command) exists(frame bool) bool {
	switch c {
	case Auth, Hello:
		return !frame
	case Cancel, Beat, Sync, Bye, Claim, Put, Get, Delete, Join:
		return frame
	}
	return true
}

// keyed says whether the command is about a key.
func (c Command) keyed() bool { return c >= Lock && c <= Wait || c == Force || c >= Claim }

// A Request is one request of the base protocol, or a frame of session mode if
// it has an ID. Which fields count depends on that and on the command; the
// others are zero after reading and ignored in writing.
type Request struct {
	// ID makes the request a frame and pairs it with its answer: at most MaxID,
	// larger than every ID before it in the session, and 0 in the base protocol.
	ID      uint64
	Command Command
	// Semaphore makes Lock, Release, Renew, Enqueue, Wait and Force act on the
	// semaphore of that name, not on the lock. Claim does not say it: the token
	// tells, whose second half depends on it.
	Semaphore bool
	// NoTimeout makes Lock, Wait and Join wait for ever, whatever Timeout says; in
	// frames alone.
	NoTimeout bool
	// Volatile says that the value of Put need not be there after a restart of the
	// server.
	Volatile bool
	// Key names what is locked. After RequestReader.Read it is part of the
	// reader's buffer and valid until the next Read or Fill.
	Key []byte
	// Timeout is how long Lock, Wait and Join wait; 0 tries once. It is written in
	// whole seconds, or in frames milliseconds, rounded up, so that a wait never
	// becomes a try.
	Timeout time.Duration
	// TTL is the lease that Lock, Enqueue, Renew and Join ask for; 0 leaves it to
	// the server. Claim must have one. It is written as Timeout is.
	TTL time.Duration
	// Limit is the number of slots, at least 1, of Lock and Enqueue on a
	// semaphore, and of what Claim is about: 1 for a lock.
	Limit int
	// Weight is how many of the slots Lock and Enqueue on a semaphore take; 0
	// leaves it out, which means 1. Claim must have one. Whether it fits the limit
	// is not asked here. In frames alone.
	Weight int
	// Fences is how many fences the grant of Lock, Enqueue and Join owns, its
	// token's being the first; 0 leaves it out, which means 1. In frames alone.
	Fences int
	// Ticket is the ID of the Enqueue that Wait waits for, or of the request
	// that Cancel takes back; in frames alone.
	Ticket uint64
	// Token names the hold for Release, Renew, Claim, Put and Delete.
	Token Token
	// Value is what Put stores, which may be empty. After RequestReader.Read it is
	// part of the reader's buffer, as Key is.
	Value []byte
	// Keep is after how long the value of Put goes by itself; 0 is never. It is
	// written as Timeout is.
	Keep time.Duration
	// Fresh is how old a value may be that answers Join at once: only one that is
	// younger does. 0 is none, and AnyAge is all. It is written as Timeout is.
	Fresh time.Duration
	// Secret is what Auth shows. After RequestReader.Read it is part of the
	// reader's buffer, as Key is.
	Secret []byte
	// Hello is what Hello says. It is a copy, not part of a buffer.
	Hello *Greeting
}

// Format prints the request without its token, secret and session, whatever the
// verb.
func (r Request) Format(f fmt.State, _ rune) {
	if r.ID != 0 {
		fmt.Fprint(f, r.ID, " ") //nolint:errcheck // fmt.State keeps its own error
	}
	kind := ""
	if r.Semaphore {
		kind = "s"
	}
	fmt.Fprintf(f, "%s%s %q timeout=%v ttl=%v limit=%d", kind, r.Command, r.Key, r.Timeout, r.TTL, r.Limit) //nolint:errcheck // as above
	if r.ID != 0 {
		fmt.Fprintf(f, " unlimited=%t weight=%d fences=%d ticket=%d", r.NoTimeout, r.Weight, r.Fences, r.Ticket) //nolint:errcheck // as above
	}
	if r.Command >= Put {
		fmt.Fprintf(f, " keep=%v fresh=%v and %d bytes", r.Keep, r.Fresh, len(r.Value)) //nolint:errcheck // as above
	}
	if r.Hello != nil {
		fmt.Fprintf(f, " %+v", *r.Hello) //nolint:errcheck // as above
	}
}

// AppendRequest appends the request's three lines to dst: a frame if it has an
// ID, and a request of the base protocol if not. Negative durations count as
// zero.
//
// Key, Secret and the name in Hello must have passed CheckKey, CheckSecret and
// CheckName. A line feed in any of them would smuggle in further requests, so
// AppendRequest panics on it, and on commands and endless waits where they do not
// exist: a server's answer cannot bring that about, only a caller with a bug.
func AppendRequest(dst []byte, r *Request) []byte {
	if bytes.IndexByte(r.Key, '\n') >= 0 || bytes.IndexByte(r.Secret, '\n') >= 0 {
		panic("codec: bug: unchecked key or secret with a line feed in it")
	}
	frame := r.ID != 0
	if !r.Command.exists(frame) || r.NoTimeout && !frame {
		panic("codec: bug: a frame that the base protocol does not have, or the other way round")
	}
	if frame {
		dst = append(strconv.AppendUint(dst, r.ID, 10), ' ')
	}
	if !r.Command.keyed() {
		dst = append(append(dst, r.Command.String()...), "\n_\n"...)
		return append(appendUnkeyed(dst, r), '\n')
	}
	if r.Semaphore && r.Command <= Wait {
		dst = append(dst, 's')
	}
	dst = append(append(dst, words[r.Command]...), '\n')
	dst = append(append(dst, r.Key...), '\n')
	return append(appendArguments(dst, r), '\n')
}

// appendUnkeyed appends the argument of a command that is about no key.
func appendUnkeyed(dst []byte, r *Request) []byte {
	switch r.Command {
	case Auth:
		return append(dst, r.Secret...)
	case Hello:
		return appendGreeting(dst, r.Hello)
	case Cancel:
		return strconv.AppendUint(dst, r.Ticket, 10)
	}
	return append(dst, '_')
}

func appendGreeting(dst []byte, g *Greeting) []byte {
	if CheckName(g.Name) != nil || !printable(g.Process) {
		panic("codec: bug: unchecked name or process")
	}
	dst = append(strconv.AppendInt(dst, int64(g.Version), 10), ' ')
	dst = append(dst, g.Name...)
	if g.Resuming {
		dst = g.Resume.AppendHex(append(dst, " resume="...))
	}
	if g.Attempt > 0 {
		dst = strconv.AppendUint(append(dst, " attempt="...), g.Attempt, 10)
	}
	if g.Process != "" {
		dst = append(append(dst, " process="...), g.Process...)
	}
	if g.ReleaseOnClose {
		dst = append(dst, " release-on-close"...)
	}
	return dst
}

// kindWord returns the argument of Force.
func kindWord(semaphore bool) string {
	if semaphore {
		return "semaphore"
	}
	return "lock"
}

// appendArguments appends each field with a blank behind it, and takes the last
// of those away.
func appendArguments(dst []byte, r *Request) []byte {
	frame := r.ID != 0
	switch r.Command {
	case Release, Renew:
		dst = append(r.Token.AppendHex(dst), ' ')
	case Lock, Wait:
		dst = append(appendTimeout(dst, r), ' ')
	case Put:
		return appendPut(dst, r)
	case Get:
		return append(dst, '_')
	case Delete:
		return r.Token.AppendHex(dst)
	case Join:
		return appendJoin(dst, r)
	case Force:
		return append(dst, kindWord(r.Semaphore)...)
	case Claim:
		dst = append(appendDuration(append(r.Token.AppendHex(dst), ' '), r.TTL, frame), ' ')
		dst = append(strconv.AppendInt(dst, int64(r.Limit), 10), ' ')
		return strconv.AppendInt(dst, int64(r.Weight), 10)
	}
	switch r.Command {
	case Lock, Enqueue:
		if r.Semaphore {
			dst = appendSlots(dst, r)
		}
		fallthrough
	case Renew:
		if r.TTL > 0 {
			dst = append(appendDuration(dst, r.TTL, frame), ' ')
		}
	case Wait:
		if frame {
			dst = append(strconv.AppendUint(dst, r.Ticket, 10), ' ')
		}
	}
	if frame && r.Fences > 0 && (r.Command == Lock || r.Command == Enqueue) {
		return strconv.AppendInt(append(dst, "fences="...), int64(r.Fences), 10)
	}
	if last := len(dst) - 1; dst[last] == ' ' { // there is the line feed before, at least
		dst = dst[:last]
	}
	return dst
}

func appendTimeout(dst []byte, r *Request) []byte {
	if r.NoTimeout {
		return append(dst, '-')
	}
	return appendDuration(dst, r.Timeout, r.ID != 0)
}

// appendSlots appends the limit, and in frames the weight, without which no TTL
// can follow.
func appendSlots(dst []byte, r *Request) []byte {
	dst = append(strconv.AppendInt(dst, int64(r.Limit), 10), ' ')
	if r.ID != 0 && (r.Weight > 0 || r.TTL > 0) {
		dst = append(strconv.AppendInt(dst, int64(r.Weight), 10), ' ')
	}
	return dst
}

// appendDuration rounds up: a lease or a wait of less than asked for would be a
// broken promise, and zero means something else altogether.
func appendDuration(dst []byte, d time.Duration, frame bool) []byte {
	d = max(d, 0)
	if frame && d%time.Second != 0 {
		millis := min((d-1)/time.Millisecond+1, math.MaxInt64/time.Millisecond)
		return append(strconv.AppendInt(dst, int64(millis), 10), "ms"...)
	}
	seconds := int64(d / time.Second)
	if d%time.Second > 0 {
		seconds++
	}
	return strconv.AppendInt(dst, min(seconds, maxSeconds), 10)
}

// A RequestReader is the server's end of a connection: it reads requests. It
// is not safe for concurrent use.
type RequestReader struct {
	lines       lineBuffer
	frame       bool
	maxArgument int // of a frame that carries a value
}

// NewRequestReader returns a reader of the requests in r.
func NewRequestReader(r io.Reader) *RequestReader {
	return &RequestReader{lines: lineBuffer{r: r}}
}

// Frames makes all that is read from now on frames of session mode; what was
// read ahead is kept. The arguments of frames that carry a value may have up to
// maxArgument bytes, for which MaxArgument is the default; all others have the
// caps of the base protocol.
func (rr *RequestReader) Frames(maxArgument int) { rr.frame, rr.maxArgument = true, maxArgument }
