package locker

import (
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"time"
	"unicode"
	"unicode/utf8"
)

// An Option changes how a Client acquires and keeps leases. Given to New (or
// Open) it sets the default of everything that the Client does, given to a
// primitive it holds for that one. Bad values are errors that match ErrInvalid,
// returned by the first acquisition; nothing is sent.
type Option func(*settings)

// settings are what options set.
type settings struct {
	client *Client // whose they are; not an option
	ttl    time.Duration
	wait   time.Duration
	terms  terms
	trace  *Trace
	logger *slog.Logger
	clock  clock
	wary   clock // clock, with noticeSleep before
	dial   Dial
}

// A Dial is what an Opener needs beyond the URL to reach a backend: what must
// not stand in a URL. It is not printed by accident: package fmt, log/slog and
// encoding/json show it as "redacted".
type Dial struct {
	// Secret authenticates the client; empty for none.
	Secret string
	// TLS is the configuration for schemes that use TLS; nil for the
	// system's roots.
	TLS *tls.Config
}

// Format prints "redacted", whatever the verb.
func (d Dial) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) } //nolint:errcheck // fmt.State keeps its own error

// MarshalText returns "redacted".
func (d Dial) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue returns "redacted".
func (d Dial) LogValue() slog.Value { return slog.StringValue(redacted) }

func defaults() settings {
	now, wary := newClocks()
	return settings{terms: terms{ratio: defaultRenewRatio}, logger: slog.Default(), clock: now, wary: wary, trace: &Trace{}}
}

func (s settings) with(opts []Option) settings {
	for _, o := range opts {
		o(&s)
	}
	return s
}

// kept are the settings without what only Open needs: a secret that is not
// there cannot be dumped.
func (s settings) kept() settings {
	s.dial = Dial{}
	return s
}

// WithTTL sets the lease: after this long without a renewal the backend gives
// the key to the next. The default, 0, leaves it to the backend. Shorter means
// a faster take-over from a dead holder, and less patience with a slow network.
// The base protocol of dflockd rounds it up to whole seconds.
func WithTTL(d time.Duration) Option { return func(s *settings) { s.ttl = d } }

// WithWait bounds the wait of each acquisition, beside its context: when it is
// over the error matches ErrLocked, or ErrUnavailable if the backend could not
// be reached. The default, 0, waits until the context ends. The Lock of a Mutex
// waits for as long as it takes all the same.
func WithWait(d time.Duration) Option { return func(s *settings) { s.wait = d } }

// WithMaxHold bounds a whole hold, over all its renewals: a worker that hangs
// does not keep the key for ever. When it is over the lease is lost with
// ErrMaxHold and released. The default, 0, does not bound it.
func WithMaxHold(d time.Duration) Option { return func(s *settings) { s.terms.maxHold = d } }

// WithStopMargin sets how long before the deadline the contexts of
// Lease.Context are cancelled: the time that work needs to end. The default, 0,
// is a sixth of the TTL; more than half of it is an error.
func WithStopMargin(d time.Duration) Option { return func(s *settings) { s.terms.margin = d } }

// WithRenewRatio sets the part of the TTL that passes before a lease is first
// renewed, from 0.01, because less would only keep the server busy, to 0.5. The
// default is a third, which leaves time for four attempts.
func WithRenewRatio(r float64) Option { return func(s *settings) { s.terms.ratio = r } }

// WithTrace calls the functions of t on what happens to acquisitions and
// leases. A nil t removes the one set before.
func WithTrace(t *Trace) Option {
	return func(s *settings) {
		if t == nil {
			t = &Trace{}
		}
		s.trace = t
	}
}

// WithLogger sets where the Client logs outages that it rides out, and losses
// that nobody listens for. The default, and what nil stands for, is
// slog.Default when the Client is made.
func WithLogger(l *slog.Logger) Option {
	return func(s *settings) {
		if l == nil {
			l = slog.Default()
		}
		s.logger = l
	}
}

// WithSecret sets the secret that Open authenticates with. It never goes into
// the URL, where logs and process lists would show it. New ignores it: its
// backend is already configured.
func WithSecret(secret string) Option { return func(s *settings) { s.dial.Secret = secret } }

// WithTLS sets the TLS configuration that Open uses for schemes with TLS. New
// ignores it: its backend is already configured.
func WithTLS(c *tls.Config) Option { return func(s *settings) { s.dial.TLS = c } }

// withClock replaces the clock, for tests.
func withClock(c clock) Option { return func(s *settings) { s.clock, s.wary = c, waryOf(c) } }

// check returns what is wrong with the settings.
func (s *settings) check() error {
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"WithTTL", s.ttl}, {"WithWait", s.wait}, {"WithMaxHold", s.terms.maxHold}, {"WithStopMargin", s.terms.margin},
	} {
		if d.value < 0 {
			return fmt.Errorf("%w: %s(%v): must not be negative", ErrInvalid, d.name, d.value)
		}
	}
	if s.ttl > 0 && s.terms.margin > s.ttl/2 {
		return fmt.Errorf("%w: WithStopMargin(%v): must be at most half the TTL of %v", ErrInvalid, s.terms.margin, s.ttl)
	}
	if !(s.terms.ratio >= 0.01 && s.terms.ratio <= 0.5) { // also refuses NaN
		return fmt.Errorf("%w: WithRenewRatio(%v): must be from 0.01 to 0.5", ErrInvalid, s.terms.ratio)
	}
	return nil
}

// MaxKey is the length of the longest key in bytes.
const MaxKey = 256

// CheckKey returns why a key is not one, matching ErrInvalid: it must have 1 to
// 256 bytes of UTF-8 without white space or control characters.
func CheckKey(key string) error {
	switch {
	case key == "":
		return fmt.Errorf("%w: key is empty", ErrInvalid)
	case len(key) > MaxKey:
		return fmt.Errorf("%w: key of %d bytes: must have at most %d (hash what is longer)", ErrInvalid, len(key), MaxKey)
	case !utf8.ValidString(key):
		return fmt.Errorf("%w: key %q: must be UTF-8", ErrInvalid, key)
	}
	for _, r := range key {
		if unicode.IsSpace(r) || unicode.IsControl(r) {
			return fmt.Errorf("%w: key %q: must not contain white space or control characters (here %q)", ErrInvalid, key, r)
		}
	}
	return nil
}

// check returns what is wrong with a request.
func (r *Request) check() error {
	if err := CheckKey(r.Key); err != nil {
		return err
	}
	switch {
	case r.Kind > Counting:
		return fmt.Errorf("%w: kind %d of %q: must be Exclusive or Counting", ErrInvalid, uint8(r.Kind), r.Key)
	case r.Limit < 1:
		return fmt.Errorf("%w: limit %d of %q: must be at least 1", ErrInvalid, r.Limit, r.Key)
	case r.Weight < 1:
		return fmt.Errorf("%w: weight %d of %q: must be at least 1", ErrInvalid, r.Weight, r.Key)
	case r.Weight > r.Limit:
		return fmt.Errorf("%w: weight %d of %q: must be at most the limit of %d", ErrInvalid, r.Weight, r.Key, r.Limit)
	case r.Kind == Exclusive && r.Limit != 1:
		return fmt.Errorf("%w: limit %d of the lock %q: a lock has 1", ErrInvalid, r.Limit, r.Key)
	case r.Fences < 0 || r.Fences > MaxFences:
		return fmt.Errorf("%w: %d fences of %q: must be from 0 to %d", ErrInvalid, r.Fences, r.Key, MaxFences)
	case r.Fences > 1 && r.Weight < r.Limit:
		return fmt.Errorf("%w: %d fences of %q: holders that share a key have none; take all of the limit of %d", ErrInvalid, r.Fences, r.Key, r.Limit)
	}
	return nil
}
