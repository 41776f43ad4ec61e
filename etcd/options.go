package etcd

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/distributed-go/distributed/internal/identity"
	"github.com/distributed-go/distributed/locker"
)

// An Option changes how New and Dial make a Backend.
type Option func(*settings)

// settings are what options set.
type settings struct{ prefix, name string }

// WithPrefix sets what all keys in etcd begin with. A slash is appended if there is
// none at the end. The default is DefaultPrefix. Clients that are to exclude each
// other agree on it. Prefixes of which one begins with the other, as app/ and app/prod/,
// are kept apart, but for app/l/, app/s/, app/v/ and app/x/, where app/ has its own keys.
func WithPrefix(prefix string) Option { return func(s *settings) { s.prefix = prefix } }

// WithName sets what the process calls itself, which those see who ask for the key
// that it holds: 1 to 64 bytes of printable ASCII without spaces. The default is
// host/pid/program.
func WithName(name string) Option { return func(s *settings) { s.name = name } }

// configure applies the options and checks them.
func configure(opts []Option) (settings, error) {
	s := settings{prefix: DefaultPrefix, name: identity.Default()}
	for _, o := range opts {
		o(&s)
	}
	if !strings.HasSuffix(s.prefix, "/") {
		s.prefix += "/"
	}
	bad := func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }
	switch {
	case len(s.prefix) > locker.MaxKey || !utf8.ValidString(s.prefix) || strings.ContainsFunc(s.prefix, bad):
		return s, fmt.Errorf("%w: prefix %q: must be at most %d bytes of UTF-8 without white space or control characters", locker.ErrInvalid, s.prefix, locker.MaxKey)
	case !identity.Fits(s.name):
		return s, fmt.Errorf("%w: name %q: must be 1 to %d bytes of printable ASCII without spaces", locker.ErrInvalid, s.name, identity.MaxName)
	}
	return s, nil
}

const (
	// dialTimeout bounds connecting, and asking for a token.
	dialTimeout = 5 * time.Second

	// keepAliveTime and keepAliveTimeout are how soon a connection is given up to a
	// member that does not answer: as often as etcd allows to be asked.
	keepAliveTime    = 5 * time.Second
	keepAliveTimeout = 3 * time.Second
)

// withDefaults is a client's configuration with what a caller left open.
func withDefaults(cfg clientv3.Config, life context.Context) *clientv3.Config {
	if cfg.Context == nil {
		cfg.Context = life
	}
	if cfg.DialTimeout == 0 {
		cfg.DialTimeout = dialTimeout
	}
	if cfg.DialKeepAliveTime == 0 {
		cfg.DialKeepAliveTime, cfg.DialKeepAliveTimeout = keepAliveTime, keepAliveTimeout
	}
	if cfg.Logger == nil && cfg.LogConfig == nil {
		cfg.Logger = zap.NewNop() // what goes wrong is returned
	}
	return &cfg
}

// nameOf is how a Backend names itself.
func nameOf(endpoints []string, prefix string) string {
	return "etcd://" + strings.Join(hostsOf(endpoints), ",") + "/" + strings.TrimSuffix(prefix, "/")
}

// hostsOf are endpoints without their schemes.
func hostsOf(endpoints []string) []string {
	hosts := make([]string, len(endpoints))
	for i, e := range endpoints {
		_, host, found := strings.Cut(e, "://")
		if !found {
			host = e
		}
		hosts[i] = host
	}
	return hosts
}

func init() {
	locker.Register("etcd", open)
	locker.Register("etcds", open)
}

// defaultPort is that of etcd's clients.
const defaultPort = "2379"

// open makes a Backend of a URL; the package's comment says of which.
func open(u locker.URL, d locker.Dial) (locker.Backend, []locker.Option, error) {
	p, err := parameters(u.Query)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", locker.ErrInvalid, err)
	}
	secure := u.Scheme == "etcds"
	cfg := clientv3.Config{}
	if secure {
		if cfg.TLS = d.TLS.Clone(); cfg.TLS == nil {
			cfg.TLS = systemTLS()
		}
	}
	remote, err := endpoints(&cfg, u.Hosts, secure)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", locker.ErrInvalid, err)
	}
	if cfg.Username, cfg.Password, err = credentials(p.user, d.Secret); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", locker.ErrInvalid, err)
	}
	if cfg.Username != "" && !secure && remote && !p.insecureSecret {
		return nil, nil, fmt.Errorf("%w: secret over a plaintext connection to another machine: use etcds://, or insecure-secret=1 if the network is encrypted", locker.ErrInvalid)
	}
	var opts []Option
	if u.Path != "" {
		opts = append(opts, WithPrefix(u.Path))
	}
	if p.name != "" {
		opts = append(opts, WithName(p.name))
	}
	b, err := Dial(cfg, opts...)
	if err != nil {
		return nil, nil, err
	}
	return b, []locker.Option{locker.WithTTL(p.ttl)}, nil
}

// endpoints sets the servers, and says whether one of them is another machine.
func endpoints(cfg *clientv3.Config, hosts []string, secure bool) (remote bool, err error) {
	scheme := "http://"
	if secure {
		scheme = "https://"
	}
	if len(hosts) == 0 {
		hosts = []string{"127.0.0.1"}
	}
	for _, h := range hosts {
		host, port, err := net.SplitHostPort(h)
		if err != nil {
			host, port = strings.TrimSuffix(strings.TrimPrefix(h, "["), "]"), defaultPort
		}
		if host == "" || strings.Contains(host, ":") && net.ParseIP(host) == nil {
			return false, fmt.Errorf("host %q: want HOST, HOST:PORT or [IP6]:PORT", h)
		}
		ip := net.ParseIP(host)
		remote = remote || host != "localhost" && (ip == nil || !ip.IsLoopback())
		cfg.Endpoints = append(cfg.Endpoints, scheme+net.JoinHostPort(host, port))
	}
	return remote, nil
}

// credentials reads a secret.
func credentials(user, secret string) (name, password string, err error) {
	switch {
	case secret == "" && user != "":
		return "", "", fmt.Errorf("user=%s: want a secret, which is the password", user)
	case secret == "" || user != "":
		return user, secret, nil
	}
	name, password, found := strings.Cut(secret, ":")
	if !found || name == "" || password == "" {
		return "", "", fmt.Errorf("secret: want USER:PASSWORD, or the parameter user for one that is a password")
	}
	return name, password, nil
}

// params are the parameters of a URL.
type params struct {
	ttl            time.Duration
	name, user     string
	insecureSecret bool
}

func parameters(query url.Values) (p params, err error) {
	for name, values := range query {
		if len(values) != 1 {
			return p, fmt.Errorf("parameter %q is given %d times", name, len(values))
		}
		v := values[0]
		switch name {
		case "ttl":
			if p.ttl, err = time.ParseDuration(v); err != nil || p.ttl <= 0 {
				return p, fmt.Errorf("ttl=%s: want a positive duration with a unit, such as 10s", v)
			}
		case "name":
			p.name = v
		case "user":
			p.user = v
		case "insecure-secret":
			if p.insecureSecret = v == "1"; v != "1" && v != "0" {
				return p, fmt.Errorf("insecure-secret=%s: want 1 or 0", v)
			}
		default:
			return p, fmt.Errorf("unknown parameter %q, want one of insecure-secret, name, ttl, user", name)
		}
	}
	return p, nil
}
