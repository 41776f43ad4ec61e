package locker

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// A URL names a backend: SCHEME://HOST[,HOST...][/PATH][?QUERY]. It is not a
// net/url.URL, which refuses several hosts with ports.
type URL struct {
	// Scheme chooses the backend, for example "dflockd".
	Scheme string
	// Hosts are the servers, each "host", "host:port" or "[ip6]:port"; none
	// stands for the backend's default.
	Hosts []string
	// Path comes after the hosts, without its leading slash.
	Path string
	// Query holds the parameters.
	Query url.Values
}

// ParseURL reads a URL. The error matches ErrInvalid. Secrets have no place in
// a URL, where logs and process lists would show them: user information is
// refused.
func ParseURL(s string) (URL, error) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok || scheme == "" {
		return URL{}, fmt.Errorf("%w: URL %q: must be SCHEME://HOST[,HOST...][?NAME=VALUE...]", ErrInvalid, s)
	}
	rest, query, _ := strings.Cut(rest, "?")
	hosts, path, _ := strings.Cut(rest, "/")
	if i := strings.LastIndexByte(hosts, '@'); i >= 0 {
		return URL{}, fmt.Errorf("%w: URL %s://...@%s: must not hold a secret, give that as an option or in the environment",
			ErrInvalid, scheme, hosts[i+1:])
	}
	u := URL{Scheme: scheme, Path: path}
	if hosts != "" {
		u.Hosts = strings.Split(hosts, ",")
		if slices.Contains(u.Hosts, "") {
			return URL{}, fmt.Errorf("%w: URL %q: a host is empty", ErrInvalid, s)
		}
	}
	var err error
	if u.Query, err = url.ParseQuery(query); err != nil {
		return URL{}, fmt.Errorf("%w: URL %q: %w", ErrInvalid, s, err)
	}
	return u, nil
}

// An Opener makes a backend of a URL, without I/O, and may return options that
// the URL sets, such as its ttl. What must not stand in a URL comes in d. Its
// errors should match ErrInvalid.
type Opener func(u URL, d Dial) (Backend, []Option, error)

// openers are the schemes that Open knows.
var openers = struct {
	mu       sync.Mutex
	byScheme map[string]Opener // guarded by mu
}{byScheme: make(map[string]Opener)}

// Register makes a scheme known to Open. Packages of backends call it when they
// are initialised. It panics if the scheme is taken.
func Register(scheme string, o Opener) {
	openers.mu.Lock()
	defer openers.mu.Unlock()
	if _, taken := openers.byScheme[scheme]; taken {
		panic("distributed: scheme " + scheme + " registered twice")
	}
	openers.byScheme[scheme] = o
}

// Open returns a Client of the backend that the URL names, without I/O: a
// server that cannot be reached shows when something is acquired. Options given
// here win over those in the URL. An unknown scheme is an error that matches
// ErrInvalid and lists the known ones; a backend's package must be imported to
// be known.
func Open(rawURL string, opts ...Option) (*Client, error) {
	u, err := ParseURL(rawURL)
	if err != nil {
		return nil, fmt.Errorf("distributed: open: %w", err)
	}
	openers.mu.Lock()
	open, ok := openers.byScheme[u.Scheme]
	known := slices.Sorted(maps.Keys(openers.byScheme))
	openers.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("distributed: open %q: %w: scheme %q is not one of %s",
			rawURL, ErrInvalid, u.Scheme, strings.Join(known, ", "))
	}
	s := defaults().with(opts)
	if err := s.check(); err != nil {
		return nil, fmt.Errorf("distributed: open %q: %w", rawURL, err)
	}
	b, fromURL, err := open(u, s.dial)
	if err != nil {
		return nil, fmt.Errorf("distributed: open %q: %w", rawURL, err)
	}
	return New(b, append(fromURL, opts...)...), nil
}
