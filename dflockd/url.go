package dflockd

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/shard"
)

// FromURL makes a Backend of a URL such as
//
//	dflockd://h1:6388,h2:6388?ttl=10s&fences=1
//
// The scheme is dflockd for plaintext and dflockds for TLS. Several servers
// share the keys between them; a missing port is DefaultPort. The parameters
// are
//
//	fences=1               WithFences
//	keepalive=5s           WithKeepalive
//	keep-on-disconnect=1   WithKeepOnDisconnect
//	max-conns=100          WithMaxConns
//	shard=rendezvous       WithShard: crc32 (the default) or rendezvous
//	ttl=10s                the lease to ask for
//
// The TTL is not the backend's business: FromURL returns it for
// locker.WithTTL; it is 0 if the URL has none. Secrets and certificates never
// belong into a URL, so userinfo in it is an error; the options carry them,
// and win over the URL where both say something. Like New it does no I/O, and
// its errors match locker.ErrInvalid.
func FromURL(rawURL string, opts ...Option) (b *Backend, ttl time.Duration, err error) {
	servers, fromURL, ttl, err := parseURL(rawURL)
	if err != nil {
		return nil, 0, fmt.Errorf("distributed: %w: %w", locker.ErrInvalid, err)
	}
	b, err = New(servers, append(fromURL, opts...)...)
	return b, ttl, err
}

// parseURL takes a URL apart by hand: net/url refuses a host with several
// colons in it.
func parseURL(rawURL string) (servers []string, opts []Option, ttl time.Duration, err error) {
	scheme, rest, ok := strings.Cut(rawURL, "://")
	if strings.Contains(rawURL, "@") {
		// Not even quoted: what stands before the @ is a secret.
		return nil, nil, 0, fmt.Errorf("URL with an @ in it: user names and secrets do not belong into a URL, use WithSecret")
	}
	switch {
	case ok && scheme == "dflockd":
	case ok && scheme == "dflockds":
		opts = append(opts, WithTLS(nil))
	default:
		return nil, nil, 0, fmt.Errorf("URL %q: want dflockd://host:port or dflockds://host:port", rawURL)
	}
	hosts, query, _ := strings.Cut(rest, "?")
	if hosts = strings.TrimSuffix(hosts, "/"); strings.ContainsAny(hosts+query, "/#") {
		return nil, nil, 0, fmt.Errorf("URL %q: want no path and no fragment", rawURL)
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, nil, 0, fmt.Errorf("URL %q: %w", rawURL, err)
	}
	for name, v := range values {
		set, ok := parameters[name]
		if !ok {
			return nil, nil, 0, fmt.Errorf("URL %q: unknown parameter %q, want one of %s", rawURL, name, strings.Join(parameterNames(), ", "))
		}
		if len(v) > 1 {
			return nil, nil, 0, fmt.Errorf("URL %q: parameter %q is given %d times", rawURL, name, len(v))
		}
		opt, err := set(v[0], &ttl)
		if err != nil {
			return nil, nil, 0, fmt.Errorf("URL %q: %s=%s: %w", rawURL, name, v[0], err)
		}
		opts = append(opts, opt)
	}
	return strings.Split(hosts, ","), opts, ttl, nil
}

// parameters turns the parameters of a URL into options.
var parameters = map[string]func(value string, ttl *time.Duration) (Option, error){
	"ttl": func(v string, ttl *time.Duration) (Option, error) {
		var err error
		*ttl, err = duration(v)
		return func(*config) {}, err
	},
	"keepalive": func(v string, _ *time.Duration) (Option, error) {
		d, err := duration(v)
		return WithKeepalive(d), err
	},
	"max-conns": func(v string, _ *time.Duration) (Option, error) {
		n, err := strconv.Atoi(v)
		if err != nil {
			err = fmt.Errorf("want a whole number")
		}
		return WithMaxConns(n), err
	},
	"shard": func(v string, _ *time.Duration) (Option, error) {
		f, ok := map[string]shard.Func{"crc32": shard.CRC32, "rendezvous": shard.Rendezvous}[v]
		if !ok {
			return nil, fmt.Errorf("want crc32 or rendezvous")
		}
		return WithShard(f), nil
	},
	"fences":             flag(func(c *config, on bool) { c.fences = on }),
	"keep-on-disconnect": flag(func(c *config, on bool) { c.keep = on }),
}

func parameterNames() []string {
	names := make([]string, 0, len(parameters))
	for name := range parameters {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// duration reads a positive duration with a unit, as in "10s": a bare number
// is refused, because nobody remembers of what.
func duration(v string) (time.Duration, error) {
	d, err := time.ParseDuration(v)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("want a positive duration with a unit, such as 10s")
	}
	return d, nil
}

func flag(set func(*config, bool)) func(string, *time.Duration) (Option, error) {
	return func(v string, _ *time.Duration) (Option, error) {
		on, err := strconv.ParseBool(v)
		if err != nil {
			return nil, fmt.Errorf("want 1 or 0")
		}
		return func(c *config) { set(c, on) }, nil
	}
}
