package codec

import (
	"bytes"
	"fmt"
	"io"
	"strconv"
	"time"
)

// A Status is the first word of an answer. The zero Status is none.
type Status uint8

// The statuses of the base protocol.
const (
	OK            Status = iota + 1 // "ok": done, or granted when there is a token
	Acquired                        // "acquired": Enqueue was granted at once
	Queued                          // "queued": Enqueue took a place
	Timeout                         // "timeout": not granted in time
	Failed                          // "error": everything without a name of its own
	ErrAuth                         // "error_auth": the secret is missing or wrong; the connection closes
	MaxLocks                        // "error_max_locks": the server knows too many keys
	MaxWaiters                      // "error_max_waiters": the key has too many waiters
	LimitMismatch                   // "error_limit_mismatch": the semaphore has another limit
	AlreadyQueued                   // "error_already_enqueued": Enqueue was sent twice without Wait
	NotQueued                       // "error_not_enqueued": Wait was sent without Enqueue
	LeaseExpired                    // "error_lease_expired": the turn came, and its lease ran out before Wait
	Draining                        // "error_draining": the server shuts down and grants nothing more
)

// The statuses of session mode, which Read of an AnswerReader for the base
// protocol does not know.
const (
	Canceled    Status = iota + Draining + 1 // "canceled": the request was taken back before it was granted
	ErrSession                               // "error_session": there is no such session (any more)
	Found                                    // "value": there is a value
	None                                     // "nil": there is none
	TooLarge                                 // "error_too_large": the value is larger than the server takes
	Full                                     // "error_full": the server has no room for more values
	Unavailable                              // "error_unavailable": it was not carried out, or nobody knows, because the server's disk failed or hangs
)

var statusWords = [...]string{
	OK: "ok", Acquired: "acquired", Queued: "queued", Timeout: "timeout", Failed: "error", ErrAuth: "error_auth",
	MaxLocks: "error_max_locks", MaxWaiters: "error_max_waiters", LimitMismatch: "error_limit_mismatch",
	AlreadyQueued: "error_already_enqueued", NotQueued: "error_not_enqueued", LeaseExpired: "error_lease_expired",
	Draining: "error_draining", Canceled: "canceled", ErrSession: "error_session", Found: "value", None: "nil",
	TooLarge: "error_too_large", Full: "error_full", Unavailable: "error_unavailable",
}

// String returns the word as it goes over the wire.
func (s Status) String() string {
	if s == 0 || int(s) >= len(statusWords) {
		return "invalid"
	}
	return statusWords[s]
}

// An Answer is one line of a server: an answer of the base protocol, the answer
// to Hello if it has a Version, a frame of session mode if it has an ID, or a
// notice. The forms that exist are a status alone, "ok REMAINING", "ok COUNT",
// "ok TOKEN TTL", "acquired TOKEN TTL" and "ok {json}"; in frames "queued
// POSITION", "timeout HOLDER AGE", "ok FENCE" and "value FENCE AGE DATA"; to
// Hello "ok VERSION SESSION OFFERS"; and the notices.
type Answer struct {
	// ID is that of the request, in frames.
	ID uint64
	// Notice makes this a line that answers nothing, without ID and Status.
	Notice Notice
	Status Status
	// Token names the hold that was granted, or in NoticeLost the one that was
	// lost, if HasToken.
	Token    Token
	HasToken bool
	// TTL is the lease that was granted, or what is left of it after Renew, if
	// HasTTL. It is written in whole seconds, in frames in milliseconds, rounded
	// down: a server must not promise more than it keeps.
	TTL    time.Duration
	HasTTL bool
	// Count is how many holds Force ended, if HasCount. On the wire it looks like
	// a lease in seconds, and only who asked knows which it is: what is read has
	// TTL and Count both, and Count is what is written.
	Count    int
	HasCount bool
	// Fence is that of the value beside Found, and in frames what Put took, if
	// HasFence. The latter looks like a count on the wire: what is read has both,
	// unless it is too large for one, and Fence is what is written.
	Fence    uint64
	HasFence bool
	// Age is the time since the value was put, beside Found. It is written as TTL
	// is.
	Age time.Duration
	// Value is what was put, beside Found: after AnswerReader.Read a copy, and not
	// nil where it is empty.
	Value []byte
	// Holder is what the holder calls itself beside Timeout in frames, and HeldFor
	// the time since it was granted the key: of those who hold a semaphore, the
	// one that was granted it first. An empty Holder did not say its name, and
	// neither did one that calls itself "-"; without both nothing was said.
	// HeldFor is written as TTL is.
	Holder  string
	HeldFor time.Duration
	// Claim is set beside ErrSession in the answer to Hello by a server that was
	// restarted, and can go on with what the session held: the client may begin
	// another session and claim it there.
	Claim bool
	// Position is the place in the queue beside Queued in frames: 1 is the next
	// to be granted, and 0 says nothing.
	Position int
	// JSON is the report that Stats asked for: a copy, not part of a buffer.
	JSON []byte
	// Key is what NoticeLost is about: a copy.
	Key []byte
	// Reason is why, in NoticeLost.
	Reason string
	// Version is the version of session mode that the server speaks from here
	// on, at least 1, in the answer to Hello.
	Version int
	// Session is the session that has begun or goes on, if there is a Version.
	Session SessionID
	// Offers says what the server can do, if there is a Version, as NAME or
	// NAME=VALUE with blanks between them: a copy. Offer finds one.
	Offers []byte
	// Text is an error that this package has no Status for, such as
	// "error_not_leader", beside the Status Failed; the whole answer where
	// something else than "claim" follows "error_session"; and what follows the ID
	// in NoticeOther.
	// AppendAnswer ignores it.
	Text string
}

// nobody stands for the name of a holder that has none.
const nobody = "-"

// Offer looks an offer of the server up by its name. The value is empty if it
// has none.
func (a *Answer) Offer(name string) (value string, offered bool) {
	args := arguments{rest: a.Offers}
	for field := args.next(); len(field) > 0; field = args.next() {
		if n, v, _ := bytes.Cut(field, []byte{'='}); string(n) == name {
			return string(v), true
		}
	}
	return "", false
}

// Format prints the answer without its token and session, whatever the verb.
func (a Answer) Format(f fmt.State, _ rune) {
	var parts []any
	if a.ID != 0 {
		parts = append(parts, a.ID)
	}
	if a.Notice != 0 {
		parts = append(parts, "notice", a.Notice, fmt.Sprintf("%q %s", a.Key, a.Reason))
	} else {
		parts = append(parts, a.Status)
	}
	if a.HasToken {
		parts = append(parts, a.Token)
	}
	if a.HasTTL {
		parts = append(parts, a.TTL)
	}
	if a.HasCount {
		parts = append(parts, a.Count)
	}
	if a.Holder != "" || a.HeldFor != 0 {
		parts = append(parts, fmt.Sprintf("held by %q for", a.Holder), a.HeldFor)
	}
	if a.Position != 0 {
		parts = append(parts, a.Position)
	}
	if a.HasFence {
		parts = append(parts, "fence", a.Fence)
	}
	if a.Status == Found {
		parts = append(parts, a.Age, "and", len(a.Value), "bytes")
	}
	if a.JSON != nil {
		parts = append(parts, "and", len(a.JSON), "bytes of JSON")
	}
	if a.Claim {
		parts = append(parts, claimWord)
	}
	if a.Version != 0 {
		parts = append(parts, a.Version, a.Session, fmt.Sprintf("%q", a.Offers))
	}
	if a.Text != "" {
		parts = append(parts, fmt.Sprintf("%q", a.Text))
	}
	text := fmt.Sprintln(parts...)
	io.WriteString(f, text[:len(text)-1]) //nolint:errcheck // fmt.State keeps its own error
}

// AppendAnswer appends the answer's line to dst. A negative TTL counts as zero.
//
// A notice's Key and Reason and the Offers must not contain a line feed, and a
// Holder must pass CheckName: AppendAnswer panics on it, as AppendRequest does.
func AppendAnswer(dst []byte, a *Answer) []byte {
	switch {
	case a.Notice != 0:
		return appendNotice(dst, a)
	case a.Version != 0:
		return appendWelcome(dst, a)
	case a.ID != 0:
		dst = append(strconv.AppendUint(dst, a.ID, 10), ' ')
	}
	dst = append(dst, a.Status.String()...)
	switch {
	case a.JSON != nil:
		dst = append(append(dst, ' '), a.JSON...)
	case a.Status == Found:
		dst = appendFound(dst, a)
	case a.HasFence:
		dst = strconv.AppendUint(append(dst, ' '), a.Fence, 10)
	case a.HasCount:
		dst = strconv.AppendInt(append(dst, ' '), int64(a.Count), 10)
	case a.HasToken:
		dst = a.Token.AppendHex(append(dst, ' '))
		fallthrough
	case a.HasTTL:
		dst = appendLease(append(dst, ' '), a.TTL, a.ID != 0)
	case a.ID != 0 && a.Status == Queued:
		dst = strconv.AppendInt(append(dst, ' '), int64(a.Position), 10)
	case a.ID != 0 && a.Status == Timeout:
		dst = appendHolder(dst, a)
	case a.ID == 0 && a.Status == ErrSession && a.Claim:
		dst = append(append(dst, ' '), claimWord...)
	}
	return append(dst, '\n')
}

// claimWord follows "error_session" where there is something to claim.
const claimWord = "claim"

// appendHolder appends who holds what was not granted, if anybody knows.
func appendHolder(dst []byte, a *Answer) []byte {
	switch {
	case a.Holder != "":
		if CheckName(a.Holder) != nil {
			panic("codec: bug: unchecked name of a holder")
		}
		dst = append(append(dst, ' '), a.Holder...)
	case a.HeldFor > 0:
		dst = append(append(dst, ' '), nobody...)
	default:
		return dst
	}
	return appendLease(append(dst, ' '), a.HeldFor, true)
}

// appendLease rounds down.
func appendLease(dst []byte, d time.Duration, frame bool) []byte {
	d = max(d, 0)
	if frame {
		return append(strconv.AppendInt(dst, int64(d/time.Millisecond), 10), "ms"...)
	}
	return strconv.AppendInt(dst, int64(d/time.Second), 10)
}

// appendWelcome appends the answer to Hello.
func appendWelcome(dst []byte, a *Answer) []byte {
	if bytes.IndexByte(a.Offers, '\n') >= 0 {
		panic("codec: bug: offers with a line feed in them")
	}
	dst = strconv.AppendInt(append(dst, "ok "...), int64(a.Version), 10)
	dst = a.Session.AppendHex(append(dst, ' '))
	if len(a.Offers) > 0 {
		dst = append(append(dst, ' '), a.Offers...)
	}
	return append(dst, '\n')
}

func appendNotice(dst []byte, a *Answer) []byte {
	dst = append(append(dst, "0 "...), a.Notice.String()...)
	if a.Notice == NoticeLost {
		if !validLost(a) {
			panic("codec: bug: unchecked key or reason in a notice")
		}
		dst = append(append(dst, ' '), a.Key...)
		dst = a.Token.AppendHex(append(dst, ' '))
		dst = append(append(dst, ' '), a.Reason...)
	}
	return append(dst, '\n')
}
