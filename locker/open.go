package locker

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"
)

// A URL names a backend: SCHEME://HOST[,HOST...][/PATH][?QUERY]. It is not a
// net/url.URL, which refuses several hosts with ports. Printed, it is String.
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

// String returns the URL without its query, where people put secrets although
// they should not.
func (u URL) String() string {
	s := u.Scheme + "://" + strings.Join(u.Hosts, ",")
	if u.Path != "" {
		s += "/" + u.Path
	}
	return s
}

// ParseURL reads a URL. The error matches ErrInvalid. Secrets have no place in
// a URL, where logs and process lists would show them: user information is
// refused, and no error repeats what may be some.
func ParseURL(s string) (URL, error) {
	scheme, rest, ok := strings.Cut(s, "://")
	if !ok || !isScheme(scheme) {
		return URL{}, badURL("must be SCHEME://HOST[,HOST...][/PATH][?NAME=VALUE...]")
	}
	rest, query, _ := strings.Cut(rest, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		return URL{}, badURL("query: %w", err)
	}
	if strings.Contains(rest, "@") || slices.ContainsFunc(slices.Collect(maps.Keys(values)), func(name string) bool { return strings.Contains(name, "@") }) {
		return URL{}, badURL("%s://: must not hold a secret, nor an @, which looks like one: give it as an option or in the environment", scheme)
	}
	if i := strings.IndexFunc(rest, func(r rune) bool { return r == '#' || unicode.IsSpace(r) || unicode.IsControl(r) }); i >= 0 {
		return URL{}, badURL("%s://%s: must not contain a # or white space", scheme, strconv.Quote(rest[:i]))
	}
	hosts, path, _ := strings.Cut(rest, "/")
	u := URL{Scheme: scheme, Path: path, Query: values}
	if hosts != "" {
		u.Hosts = strings.Split(hosts, ",")
	}
	if slices.Contains(u.Hosts, "") {
		return URL{}, badURL("%s: a host is empty", u)
	}
	return u, nil
}

func badURL(format string, args ...any) error {
	return fmt.Errorf("%w: URL: "+format, append([]any{ErrInvalid}, args...)...)
}

// isScheme says whether s is a letter and then letters, digits, "+", "-" and ".".
func isScheme(s string) bool {
	for i, c := range []byte(s) {
		letter := 'a' <= c|0x20 && c|0x20 <= 'z'
		if !letter && (i == 0 || !strings.ContainsRune("+-.0123456789", rune(c))) {
			return false
		}
	}
	return s != ""
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
// are initialised. It panics if the scheme is none, or taken, or o is nil.
func Register(scheme string, o Opener) {
	if !isScheme(scheme) || o == nil {
		panic("distributed: scheme " + strconv.Quote(scheme) + " registered without a name or an Opener")
	}
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
// be known. So are options that can never be right.
func Open(rawURL string, opts ...Option) (*Client, error) {
	u, err := ParseURL(rawURL)
	if err != nil {
		return nil, fmt.Errorf("distributed: open: %w", err)
	}
	c, err := u.open(opts)
	if err != nil {
		return nil, fmt.Errorf("distributed: open %q: %w", u.String(), err)
	}
	return c, nil
}

func (u URL) open(opts []Option) (*Client, error) {
	openers.mu.Lock()
	open, ok := openers.byScheme[u.Scheme]
	known := slices.Sorted(maps.Keys(openers.byScheme))
	openers.mu.Unlock()
	if !ok {
		return nil, fmt.Errorf("%w: scheme %q is not one of %s, whose packages this program imports", ErrInvalid, u.Scheme, strings.Join(known, ", "))
	}
	b, fromURL, err := open(u, defaults().with(opts).dial)
	if err != nil {
		return nil, err
	}
	all := slices.Concat(fromURL, opts)
	s := defaults().with(all)
	if err := s.check(); err != nil {
		return nil, errors.Join(err, b.Close())
	}
	return New(b, all...), nil
}
