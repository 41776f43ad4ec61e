package codec

import (
	"fmt"
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

var statusWords = [...]string{
	OK: "ok", Acquired: "acquired", Queued: "queued", Timeout: "timeout", Failed: "error", ErrAuth: "error_auth",
	MaxLocks: "error_max_locks", MaxWaiters: "error_max_waiters", LimitMismatch: "error_limit_mismatch",
	AlreadyQueued: "error_already_enqueued", NotQueued: "error_not_enqueued", LeaseExpired: "error_lease_expired",
	Draining: "error_draining",
}

// String returns the word as it goes over the wire.
func (s Status) String() string {
	if s == 0 || int(s) >= len(statusWords) {
		return "invalid"
	}
	return statusWords[s]
}

// An Answer is one answer of the base protocol. The forms that exist are a
// status alone, "ok REMAINING", "ok TOKEN TTL", "acquired TOKEN TTL" and
// "ok {json}".
type Answer struct {
	Status Status
	// Token names the hold that was granted, if HasToken.
	Token    Token
	HasToken bool
	// TTL is the lease that was granted, or what is left of it after Renew, if
	// HasTTL. It is written in whole seconds, rounded down: a server must not
	// promise more than it keeps.
	TTL    time.Duration
	HasTTL bool
	// JSON is the report that Stats asked for: a copy, not part of a buffer.
	JSON []byte
	// Text is an error that this package has no Status for, such as
	// "error_not_leader", beside the Status Failed. AppendAnswer ignores it.
	Text string
}

// Format prints the answer without its token, whatever the verb.
func (a Answer) Format(f fmt.State, _ rune) {
	fmt.Fprint(f, a.Status.String()) //nolint:errcheck // fmt.State keeps its own error
	if a.HasToken {
		fmt.Fprint(f, " ", a.Token) //nolint:errcheck // as above
	}
	if a.HasTTL {
		fmt.Fprint(f, " ", a.TTL) //nolint:errcheck // as above
	}
	if a.JSON != nil {
		fmt.Fprintf(f, " and %d bytes of JSON", len(a.JSON)) //nolint:errcheck // as above
	}
	if a.Text != "" {
		fmt.Fprintf(f, " %q", a.Text) //nolint:errcheck // as above
	}
}

// AppendAnswer appends the answer's line to dst. A negative TTL counts as zero.
func AppendAnswer(dst []byte, a *Answer) []byte {
	dst = append(dst, a.Status.String()...)
	switch {
	case a.JSON != nil:
		dst = append(append(dst, ' '), a.JSON...)
	case a.HasToken:
		dst = a.Token.AppendHex(append(dst, ' '))
		fallthrough
	case a.HasTTL:
		dst = strconv.AppendInt(append(dst, ' '), max(int64(a.TTL/time.Second), 0), 10)
	}
	return append(dst, '\n')
}
