package once

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/distributed-go/distributed/locker"
)

// maxFingerprint is the length of the longest fingerprint in bytes.
const maxFingerprint = 1024

// An Option changes a Once, a Value or a Group. One that the type does not have,
// or whose value is bad, is an error that matches locker.ErrInvalid, returned by
// the first use.
type Option func(*settings)

// settings are what options set.
type settings struct {
	given []string // the names of the options
	bad   error    // what was wrong with one

	lease       []locker.Option
	expiry      time.Duration
	fingerprint string
	volatile    bool
	fresh       time.Duration
	store       Store // nil for the backend's values
	encoding    Encoding
}

func newSettings(opts []Option, known ...string) (settings, error) {
	s := settings{encoding: JSON}
	for _, o := range opts {
		o(&s)
	}
	for _, name := range s.given {
		if !slices.Contains(known, name) {
			return s, fmt.Errorf("%w: %s is not an option of this type", locker.ErrInvalid, name)
		}
	}
	return s, s.bad
}

func (s *settings) set(name string, ok bool, must string) {
	s.given = append(s.given, name)
	if !ok && s.bad == nil {
		s.bad = fmt.Errorf("%w: %s: must %s", locker.ErrInvalid, name, must)
	}
}

// WithExpiry lets what is done count for d, from the moment that it was done:
// then the next one runs. It is for work that is done once a day. It also accepts
// a server that forgets what is done when it restarts. The default, 0, is for
// ever.
func WithExpiry(d time.Duration) Option {
	return func(s *settings) {
		s.set("WithExpiry", d >= 0, "not be negative")
		s.expiry = d
	}
}

// WithFingerprint says what the function works on, such as the hash of its input:
// where it was done with another fingerprint Do and Get fail with a
// *FingerprintError, and do nothing. It has at most 1 KiB of UTF-8: write the sum of
// a hash in hex.
func WithFingerprint(f string) Option {
	return func(s *settings) {
		s.set("WithFingerprint", len(f) <= maxFingerprint && utf8.ValidString(f),
			fmt.Sprintf("have at most %d bytes of UTF-8: write the hash of other things in hex", maxFingerprint))
		s.fingerprint = f
	}
}

// WithVolatile accepts a server that forgets what is done when it restarts: the
// function may run again then.
func WithVolatile() Option {
	return func(s *settings) {
		s.set("WithVolatile", true, "")
		s.volatile = true
	}
}

// WithMarker keeps what is done in a Store of the caller's, and not in the
// backend, of which a Once then needs a lock only. It decides by itself how long
// it remembers, so nobody asks the server.
func WithMarker(m Store) Option {
	return func(s *settings) {
		s.set("WithMarker", m != nil, "not be nil")
		s.store = m
	}
}

// WithResults hands results of a Group over by a Store of the caller's, and not by
// the backend, of which the Group then needs a lock only. Those who wait take the
// lock one after another, each to find the result there.
func WithResults(r Store) Option {
	return func(s *settings) {
		s.set("WithResults", r != nil, "not be nil")
		s.store = r
	}
}

// WithFresh lets callers of a Group have a result that is younger than d, instead
// of a call of their own. Errors are never kept. The default, 0, shares with those
// only who came while the call was under way.
func WithFresh(d time.Duration) Option {
	return func(s *settings) {
		s.set("WithFresh", d >= 0, "not be negative")
		s.fresh = d
	}
}

// WithEncoding sets how what functions return becomes bytes. The default is JSON.
func WithEncoding(e Encoding) Option {
	return func(s *settings) {
		s.set("WithEncoding", e != nil, "not be nil")
		s.encoding = e
	}
}

// WithLease sets options of the leases that functions run under, such as
// locker.WithTTL: how soon another one runs after a crash. Locker.WithWait bounds
// the wait of each caller for others, not the function.
func WithLease(opts ...locker.Option) Option {
	return func(s *settings) {
		s.set("WithLease", true, "")
		s.lease = append(s.lease, opts...)
	}
}

// An Encoding turns what functions return into bytes and back. It is safe for
// concurrent use.
type Encoding interface {
	Marshal(v any) ([]byte, error)
	// Unmarshal decodes data into v, which is a pointer.
	Unmarshal(data []byte, v any) error
}

// JSON is the Encoding of package encoding/json.
var JSON Encoding = jsonEncoding{}

type jsonEncoding struct{}

func (jsonEncoding) Marshal(v any) ([]byte, error)      { return json.Marshal(v) }
func (jsonEncoding) Unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }
