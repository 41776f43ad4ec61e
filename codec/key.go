package codec

import (
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"
)

// CheckKey says why a key cannot go over the wire, or returns nil: a key is 1
// to 256 bytes of UTF-8 without white space and control characters.
func CheckKey(key string) error {
	switch {
	case key != "" && len(key) <= MaxLine && printable(key):
		return nil
	case key == "":
		return errors.New("a key must not be empty")
	case len(key) > MaxLine:
		return fmt.Errorf("a key has at most %d bytes, this one has %d", MaxLine, len(key))
	case !utf8.ValidString(key):
		return fmt.Errorf("a key must be valid UTF-8, unlike %q", key)
	}
	for i, r := range key {
		if !keyRune(r) {
			return fmt.Errorf("a key must not contain white space or control characters, unlike %q at byte %d", key, i)
		}
	}
	return nil
}

// CheckSecret says why a secret cannot go over the wire, or returns nil: a
// secret is 1 to 65,536 bytes without line feeds, and does not end in a
// carriage return, which the other end would drop. The error does not contain
// the secret.
func CheckSecret(secret []byte) error {
	if len(secret) == 0 {
		return errors.New("a secret must not be empty")
	}
	if len(secret) > MaxSecret {
		return fmt.Errorf("a secret has at most %d bytes, this one has %d", MaxSecret, len(secret))
	}
	for _, c := range secret {
		if c == '\n' {
			return errors.New("a secret must not contain line feeds")
		}
	}
	if secret[len(secret)-1] == '\r' {
		return errors.New("a secret must not end in a carriage return")
	}
	return nil
}

// validKey is CheckKey for the bytes of a line, which is not too long already.
// It is apart from CheckKey because it must neither allocate nor explain.
func validKey(key []byte) bool {
	if len(key) == 0 {
		return false
	}
	if printable(key) {
		return true
	}
	for len(key) > 0 {
		r, size := utf8.DecodeRune(key)
		if r == utf8.RuneError && size == 1 || !keyRune(r) {
			return false
		}
		key = key[size:]
	}
	return true
}

// keyRune holds the one rule that CheckKey and validKey share for characters.
func keyRune(r rune) bool { return !unicode.IsSpace(r) && !unicode.IsControl(r) }
