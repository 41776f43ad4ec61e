package codec

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
)

// tokenDigits is the length of a token on the wire.
const tokenDigits = 32

// A Token names one hold, and whoever knows it can renew and release that
// hold. It is therefore never printed by accident: packages fmt, log/slog and
// encoding/json show it as "redacted". Its text comes from AppendHex alone.
type Token [16]byte

// ParseToken reads 32 lower-case hexadecimal digits, and reports whether b is
// exactly that. Upper case is refused, because a token has one spelling.
func ParseToken(b []byte) (Token, bool) {
	t, ok := parseHex(b)
	return Token(t), ok
}

// parseHex is not encoding/hex, which takes upper case too, and must be asked
// for the length apart.
func parseHex(b []byte) (id [16]byte, ok bool) {
	if len(b) != tokenDigits {
		return id, false
	}
	for i := range id {
		hi, lo := hexValue[b[2*i]], hexValue[b[2*i+1]]
		if hi|lo > 0xf {
			return [16]byte{}, false
		}
		id[i] = hi<<4 | lo
	}
	return id, true
}

// hexValue maps a lower-case hexadecimal digit to its value, and every other
// byte to 0xff.
var hexValue = func() (values [256]byte) {
	for i := range values {
		values[i] = 0xff
	}
	for i, digit := range []byte("0123456789abcdef") {
		values[digit] = byte(i)
	}
	return values
}()

// AppendHex appends the token as it goes over the wire: 32 lower-case
// hexadecimal digits.
func (t Token) AppendHex(dst []byte) []byte { return hex.AppendEncode(dst, t[:]) }

// Fence returns the first half of the token as a big-endian number. It means
// something only where the server puts a fence there: ours does, and dflockd
// from 2.1.
func (t Token) Fence() uint64 { return binary.BigEndian.Uint64(t[:8]) }

const redacted = "redacted"

// Format prints "redacted", whatever the verb.
func (t Token) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) } //nolint:errcheck // fmt.State keeps its own error

// String returns "redacted".
func (t Token) String() string { return redacted }

// MarshalText returns "redacted": a token in a log or a report is a leak.
func (t Token) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue returns "redacted".
func (t Token) LogValue() slog.Value { return slog.StringValue(redacted) }
