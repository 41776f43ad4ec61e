package dflockd

import (
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/shard"
)

func init() {
	locker.Register("dflockd", open)
	locker.Register("dflockds", open)
}

// open makes a Backend of a URL such as
//
//	dflockd://h1:6388,h2:6388?ttl=10s&fences=1
//
// for locker.Open. The package's comment lists its parameters. Secrets and
// certificates come in d. Like New it does no I/O, and its errors match
// locker.ErrInvalid.
func open(u locker.URL, d locker.Dial) (locker.Backend, []locker.Option, error) {
	if u.Path != "" {
		return nil, nil, fmt.Errorf("%w: path %q: want none", locker.ErrInvalid, u.Path)
	}
	opts, ttl, err := options(u.Query)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", locker.ErrInvalid, err)
	}
	if u.Scheme == "dflockds" {
		opts = append(opts, WithTLS(d.TLS))
	}
	if d.Secret != "" {
		opts = append(opts, WithSecret(d.Secret))
	}
	servers := u.Hosts
	if len(servers) == 0 {
		servers = []string{"127.0.0.1"}
	}
	b, err := New(servers, opts...)
	if err != nil {
		return nil, nil, err
	}
	return b, []locker.Option{locker.WithTTL(ttl)}, nil
}

// options reads the parameters of a URL. The TTL is the Client's and not the
// backend's business; it is 0 if there is none.
func options(query url.Values) (opts []Option, ttl time.Duration, err error) {
	for name, values := range query {
		set, ok := parameters[name]
		if !ok {
			return nil, 0, fmt.Errorf("unknown parameter %q, want one of %s", name, strings.Join(parameterNames(), ", "))
		}
		if len(values) > 1 {
			return nil, 0, fmt.Errorf("parameter %q is given %d times", name, len(values))
		}
		opt, err := set(values[0], &ttl)
		if err != nil {
			return nil, 0, fmt.Errorf("%s=%s: %w", name, values[0], err)
		}
		opts = append(opts, opt)
	}
	return opts, ttl, nil
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
	"name": func(v string, _ *time.Duration) (Option, error) {
		return WithName(v), codec.CheckName(v)
	},
	"session":            flag(func(c *config, on bool) { c.base = !on }),
	"process":            flag(func(c *config, on bool) { c.noProcess = !on }),
	"release-on-close":   flag(func(c *config, on bool) { c.releaseOnClose = on }),
	"fences":             flag(func(c *config, on bool) { c.fences = on }),
	"insecure-secret":    flag(func(c *config, on bool) { c.insecureSecret = on }),
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
