package codec

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// MaxID is the largest ID of a frame.
const MaxID = 1<<63 - 1

const (
	// maxName caps the name in a Greeting.
	maxName = 64
	// maxReason caps the reason in a notice that a lease was lost.
	maxReason = 64
)

// A SessionID names a session, and whoever knows it can take the session over.
// It is therefore never printed by accident, as a Token is not. Its text comes
// from AppendHex alone.
type SessionID [16]byte

// ParseSessionID reads 32 lower-case hexadecimal digits, and reports whether b
// is exactly that.
func ParseSessionID(b []byte) (SessionID, bool) {
	id, ok := parseHex(b)
	return SessionID(id), ok
}

// AppendHex appends the ID as it goes over the wire: 32 lower-case hexadecimal
// digits.
func (id SessionID) AppendHex(dst []byte) []byte { return hex.AppendEncode(dst, id[:]) }

// Format prints "redacted", whatever the verb.
func (id SessionID) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) } //nolint:errcheck // fmt.State keeps its own error

// String returns "redacted".
func (id SessionID) String() string { return redacted }

// MarshalText returns "redacted": a session's ID in a log or a report is a leak.
func (id SessionID) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue returns "redacted".
func (id SessionID) LogValue() slog.Value { return slog.StringValue(redacted) }

// A Greeting is what a client says about itself in Hello, which asks for
// session mode.
type Greeting struct {
	// Version is the highest version of session mode that the client speaks, at
	// least 1.
	Version int
	// Name tells operators who this is. CheckName says what it may be.
	Name string
	// Resume is the session to go on with, if Resuming.
	Resume   SessionID
	Resuming bool
	// Attempt counts the connections that the client has tried for this session,
	// this one included, so that the server can tell a hello that was delayed
	// from the latest. 0 is not said; at most MaxID.
	Attempt uint64
	// Process names the client's process as BOOTID:PIDNS:PID, so that a server
	// on the same machine can see it die. It is what was said and not checked,
	// but for being printable ASCII without spaces; empty is none.
	Process string
	// ReleaseOnClose asks the server to release what the session holds when its
	// connection ends, at the risk that the client still believes that it holds.
	ReleaseOnClose bool
}

// CheckName says why a name cannot go into a Greeting, or returns nil: a name
// is 1 to 64 bytes of printable ASCII without spaces. It is ASCII because it is
// for operators' terminals, where other characters can hide what they say.
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("a name must not be empty")
	case len(name) > maxName:
		return fmt.Errorf("a name has at most %d bytes, this one has %d", maxName, len(name))
	case !printable(name):
		return fmt.Errorf("a name must be printable ASCII without spaces, unlike %q", name)
	}
	return nil
}

// printable says whether s is printable ASCII without spaces, as nearly all keys
// are. Both ends check the key of every request, which byte by byte took as long as
// to find it in the table.
func printable[T string | []byte](s T) bool {
	for len(s) >= 8 {
		if !printableWord(uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
			uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56) {
			return false
		}
		s = s[8:]
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// printableWord is printable for eight bytes: the highest bit of each must be 0, and
// stay so when 1 is added and when '!' is taken away. Only a byte for which that is
// wrong carries into the next.
func printableWord(w uint64) bool {
	const each = 0x0101010101010101
	return (w|(w+each)|(w-'!'*each))&(0x80*each) == 0
}

// A Notice is a line of the server that answers nothing. The zero Notice is
// none: the line is an answer.
type Notice uint8

// The notices of session mode.
const (
	// NoticeLost, "lost": the hold of Token on Key ended without the client,
	// for Reason. It comes before every answer made after that.
	NoticeLost Notice = iota + 1
	// NoticeDisplaced, "displaced": another connection has taken the session
	// over, and this one closes.
	NoticeDisplaced
	// NoticeError, "error": the server cannot tell what the client said, or to
	// which request an answer would belong, and closes the connection.
	NoticeError
	// NoticeOther is one that this package does not know, in Answer.Text.
	// Clients ignore it, so that servers can be given more to say.
	NoticeOther
)

var noticeWords = [...]string{NoticeLost: "lost", NoticeDisplaced: "displaced", NoticeError: "error", NoticeOther: "other"}

// String returns the word as it goes over the wire, and "other" for NoticeOther.
func (n Notice) String() string {
	if n == 0 || int(n) >= len(noticeWords) {
		return "invalid"
	}
	return noticeWords[n]
}

// The reasons for which a lease is lost. There may be others: they are one word
// of printable ASCII, at most 64 bytes.
const (
	ReasonExpired  = "expired"  // its TTL passed
	ReasonReleased = "released" // somebody else who knows the token released it
	ReasonRevoked  = "revoked"  // an operator took it away
)
