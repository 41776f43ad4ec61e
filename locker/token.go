package locker

import (
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
)

// A Token names one hold to its backend, and is all that is needed to release
// it: whoever knows it can. It is therefore never printed by accident: package
// fmt, log/slog and encoding/json show it as "redacted"; call Hex for its text.
type Token [16]byte

// ParseToken reads the 32 hexadecimal digits that Hex writes.
func ParseToken(s string) (Token, error) {
	var t Token
	if len(s) != hex.EncodedLen(len(t)) {
		return t, fmt.Errorf("distributed: a token has %d hexadecimal digits, not %d bytes", hex.EncodedLen(len(t)), len(s))
	}
	if _, err := hex.Decode(t[:], []byte(s)); err != nil {
		return Token{}, fmt.Errorf("distributed: a token has hexadecimal digits only: %w", err)
	}
	return t, nil
}

const redacted = "redacted"

// Hex returns the token as it goes over the wire: 32 lower-case hexadecimal
// digits.
func (t Token) Hex() string { return hex.EncodeToString(t[:]) }

// Format prints "redacted", whatever the verb.
func (t Token) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) } //nolint:errcheck // fmt.State keeps its own error

// String returns "redacted".
func (t Token) String() string { return redacted }

// MarshalText returns "redacted": a token in a log or a report is a leak.
func (t Token) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue returns "redacted".
func (t Token) LogValue() slog.Value { return slog.StringValue(redacted) }
