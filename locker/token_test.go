package locker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
)

var secretToken = locker.Token{0xde, 0xad, 0xbe, 0xef, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 250}

// leaks returns what of the secret token, or of a secret text, a text shows. The
// signs are long: a single byte of the token may stand in any pointer.
func leaks(s string) string {
	s = strings.ToLower(s)
	for _, sign := range []string{"deadbeef", "222 173", "222, 173", "222,173", "de, 0xad", "0xde", "de ad be", "hunter2", fmt.Sprintf("%x", "hunter2"), "3q2+7w", "\xde\xad", `\xde`, "11011110 10101101", "336 255 276", "hunter"} {
		if strings.Contains(s, sign) {
			return sign
		}
	}
	return ""
}

// TestSecretsAreNotPrinted: neither tokens nor what Open was given, whatever
// holds them and however it is printed.
func TestSecretsAreNotPrinted(t *testing.T) {
	f := newFake()
	f.acquire = func(ctx context.Context, req locker.Request) (locker.Grant, error) {
		return locker.Grant{Token: secretToken, TTL: req.TTL}, nil
	}
	c := newClient(t, f, locker.WithSecret("hunter2"))
	l := acquire(t, c, "k")
	assert.Exactly(t, "token", l.Token(), secretToken)
	token := secretToken
	for name, v := range map[string]any{
		"Token":       token,
		"*Token":      &token,
		"[]Token":     []locker.Token{token},
		"map":         map[locker.Token]int{token: 1},
		"Grant":       locker.Grant{Token: token},
		"*Hold":       &locker.Hold{Key: "k", Token: token},
		"Renewal":     locker.Renewal{Hold: locker.Hold{Token: token}},
		"*Lease":      l,
		"*Acquirer":   acquirer(t, c, "k"),
		"Dial":        locker.Dial{Secret: "hunter2"},
		"*Dial":       &locker.Dial{Secret: "hunter2"},
		"error":       l.Check(),
		"interface{}": any(token),
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%x", "%X", "% x", "%#x", "%q", "%d", "%o", "%b", "%c", "%U", "%t", "%e"} {
			if s := fmt.Sprintf(verb, v); leaks(s) != "" {
				t.Errorf("%s of %s prints %s in %s", verb, name, leaks(s), s)
			}
		}
		if s := fmt.Sprint(v) + fmt.Sprintln(v); leaks(s) != "" {
			t.Errorf("Sprint of %s prints %s in %s", name, leaks(s), s)
		}
		b, err := json.Marshal(v)
		if err == nil && leaks(string(b)) != "" {
			t.Errorf("JSON of %s shows %s in %s", name, leaks(string(b)), b)
		}
		var buf bytes.Buffer
		slog.New(slog.NewTextHandler(&buf, nil)).Info("text", "v", v)
		slog.New(slog.NewJSONHandler(&buf, nil)).Info("json", "v", v)
		if s := buf.String(); leaks(s) != "" {
			t.Errorf("slog of %s shows %s in %s", name, leaks(s), s)
		}
	}
	assert.Matches(t, l.Release(t.Context()), locker.ErrNotHeld) // it does not know that token
}

// TestClientKeepsNoSecret: what only Open needs is not kept where a dump of the
// Client would show it.
func TestClientKeepsNoSecret(t *testing.T) {
	c := newClient(t, new(granter), locker.WithSecret("hunter2"))
	for _, verb := range []string{"%v", "%+v", "%#v"} {
		if s := fmt.Sprintf(verb, c); leaks(s) != "" {
			t.Errorf("%s prints %s in %s", verb, leaks(s), s)
		}
		if s := fmt.Sprintf(verb, acquirer(t, c, "k", locker.WithSecret("hunter2"))); leaks(s) != "" {
			t.Errorf("%s prints %s in %s", verb, leaks(s), s)
		}
	}
}

// TestTokenText: Hex and ParseToken are each other's inverse, and what is no
// token is refused.
func TestTokenText(t *testing.T) {
	const text = "deadbeef0405060708090a0b0c0d0efa"
	assert.Exactly(t, "hex", secretToken.Hex(), text)
	got, err := locker.ParseToken(text)
	assert.Sure(t, err)
	assert.Exactly(t, "token", got, secretToken)
	assert.Exactly(t, "string", secretToken.String(), "redacted")
	for _, bad := range []string{"", "deadbeef", text + "0", text[1:], text[:31] + "g", text[:30] + "\n0", strings.Repeat("é", 16), "0x" + text[2:]} {
		got, err := locker.ParseToken(bad)
		if err == nil || got != (locker.Token{}) {
			t.Errorf("ParseToken(%q) = %s, %v", bad, got.Hex(), err)
		}
	}
}

// TestLeaseIsPrintedAsItsKey, with what may be known of it.
func TestLeaseIsPrintedAsItsKey(t *testing.T) {
	l := acquire(t, newClient(t, newFake()), "k")
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x"} {
		assert.Exactly(t, verb, fmt.Sprintf(verb, l), `lease of "k" on fake://`)
	}
	assert.Sure(t, l.Release(t.Context()))
}

func FuzzParseToken(f *testing.F) {
	f.Add("deadbeef0405060708090a0b0c0d0efa")
	f.Add("DEADBEEF0405060708090A0B0C0D0EFA")
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		token, err := locker.ParseToken(s)
		if err == nil && token.Hex() != strings.ToLower(s) {
			t.Errorf("ParseToken(%q).Hex() = %s", s, token.Hex())
		}
	})
}
