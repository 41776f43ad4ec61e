package dflockd

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/internal/identity"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/shard"
)

const (
	// DefaultKeepalive is how long a connection that something depends on may
	// be silent: a third of the 23 s after which servers close it.
	DefaultKeepalive = 7 * time.Second

	// dialTimeout bounds connecting, the TLS handshake and authentication
	// together.
	dialTimeout = 5 * time.Second

	// requestTimeout bounds every request that does not wait, if its context
	// does not end before.
	requestTimeout = 5 * time.Second

	// lingerTimeout is how long a connection whose wait was cancelled stays
	// open for the server's last word.
	lingerTimeout = 5 * time.Second

	// longestWait is what a wait without an end asks for; the request is sent
	// again when it is over. Every server takes a day. What would be lost by
	// it is the place in the queue, once a day.
	longestWait = 24 * time.Hour

	// maxIdle is how many connections of a server are kept for later waits.
	maxIdle = 64
)

// A DialFunc connects to a server, whose address is host:port.
type DialFunc func(ctx context.Context, addr string) (net.Conn, error)

// An Option changes how New makes a Backend.
type Option func(*config)

// config is what the options set. It is not changed after New.
type config struct {
	secret         []byte
	insecureSecret bool
	tls            *tls.Config // nil: plaintext
	shard          shard.Func
	dial           DialFunc
	maxConns       int
	fences         bool
	keep           bool
	keepalive      time.Duration
	base           bool
	name           string // of this process, in session mode
	noProcess      bool
	releaseOnClose bool
}

// WithSecret authenticates every connection with the server's secret. Over a
// plaintext connection to another machine New refuses it, unless
// WithInsecureSecret says otherwise. The default, an empty secret, sends none.
func WithSecret(secret string) Option {
	return func(c *config) { c.secret = []byte(secret) }
}

// WithInsecureSecret allows to send the secret over a plaintext connection to
// another machine, where everybody on the way can read it. It is for networks
// that are encrypted below.
func WithInsecureSecret() Option {
	return func(c *config) { c.insecureSecret = true }
}

// WithTLS encrypts the connections. The configuration is copied; where its
// ServerName is empty it becomes the host of each server. Nil is the default
// configuration of package crypto/tls.
func WithTLS(cfg *tls.Config) Option {
	return func(c *config) {
		if c.tls = cfg.Clone(); cfg == nil {
			c.tls = new(tls.Config)
		}
	}
}

// WithShard sets the function from keys to servers. The default, also for nil,
// is shard.CRC32. All clients of a key must agree on it.
func WithShard(f shard.Func) Option {
	return func(c *config) { c.shard = f }
}

// WithDialer replaces the way to a server, for example through a tunnel. TLS
// and authentication are done on the connection that it returns. The default
// dials TCP. A context that ends is to end the dialling.
func WithDialer(dial DialFunc) Option {
	return func(c *config) { c.dial = dial }
}

// WithMaxConns caps the connections to each server: the shared one and n-1 for
// waits, places in queues and what they were granted. Where another one would
// be needed the request fails at once with locker.ErrTooManyConns; to let it
// queue for a connection instead could deadlock, as the holders that it waits
// for may need one too. The default 0 sets no cap; 1 would forbid to wait.
func WithMaxConns(n int) Option {
	return func(c *config) { c.maxConns = n }
}

// WithFences says that the first half of the servers' tokens is a fence, as it
// is for dflockd from 2.1 and for this project's server. Older servers' tokens
// are random throughout, and nothing on the wire tells the two apart, so that
// the default is to report no fences.
func WithFences() Option {
	return func(c *config) { c.fences = true }
}

// WithKeepOnDisconnect says that the servers were started with
// --no-auto-release-on-disconnect: a lease survives the connection that it was
// granted on, and is renewed and released over any other. Set it only if that
// is so: otherwise a lease whose connection broke would be believed in until
// its next renewal.
func WithKeepOnDisconnect() Option {
	return func(c *config) { c.keep = true }
}

// WithKeepalive sets how long a connection that something depends on may be
// silent. It must be well below the servers' read timeout. The default, also
// for 0, is DefaultKeepalive, which suits their default of 23 s. Connections
// that nothing depends on are closed after twice that time and a second.
func WithKeepalive(d time.Duration) Option {
	return func(c *config) { c.keepalive = d }
}

// WithBaseProtocol makes the backend speak dflockd's base protocol, also to
// servers that know session mode. By default it asks each server.
func WithBaseProtocol() Option {
	return func(c *config) { c.base = true }
}

// WithName sets what the process is called in session mode: who holds a key is
// shown to operators, and to those who try to get it. It is 1 to 64 bytes of
// printable ASCII without spaces. The default is host/pid/program.
func WithName(name string) Option {
	return func(c *config) { c.name = name }
}

// WithoutProcess keeps the process to itself. By default, in session mode with a
// server on the same machine, it says which one it is, so that the server can
// see it die, and then releases what it held at once instead of when its leases
// have run out. A program whose children do the work that a lock protects, and
// may outlive it, must not say that.
func WithoutProcess() Option {
	return func(c *config) { c.noProcess = true }
}

// WithReleaseOnClose lets servers release what this process holds as soon as
// its connection ends, in session mode, instead of when the leases have run
// out. That hands over quickly when a machine dies; but where only the
// connection died, the next holder begins while this one still believes.
func WithReleaseOnClose() Option {
	return func(c *config) { c.releaseOnClose = true }
}

// configure applies the options and checks them against the servers.
func configure(servers []address, opts []Option) (config, error) {
	var c config
	for _, opt := range opts {
		opt(&c)
	}
	var errs []error
	refuse := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	switch {
	case c.keepalive < 0:
		refuse("keepalive %v is negative", c.keepalive)
	case c.keepalive > 0 && c.keepalive < 10*time.Millisecond:
		refuse("keepalive %v is below 10ms", c.keepalive)
	}
	if c.name != "" {
		if err := codec.CheckName(c.name); err != nil {
			errs = append(errs, err)
		}
	}
	if c.maxConns < 0 || c.maxConns == 1 {
		refuse("maximum of %d connections: want at least 2, or 0 for no cap", c.maxConns)
	}
	if len(c.secret) > 0 {
		if err := codec.CheckSecret(c.secret); err != nil {
			errs = append(errs, err)
		}
		for _, a := range servers {
			if c.tls == nil && !c.insecureSecret && !a.local() {
				refuse("secret over a plaintext connection to %v: use TLS, or WithInsecureSecret if the network is encrypted", a)
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return config{}, fmt.Errorf("%w: %w", locker.ErrInvalid, err)
	}
	c.setDefaults()
	return c, nil
}

func (c *config) setDefaults() {
	if c.keepalive == 0 {
		c.keepalive = DefaultKeepalive
	}
	if c.name == "" {
		c.name = identity.Default()
	}
	if c.dial == nil {
		// Keep-alive probes of TCP tell of a dead machine or network within
		// half a minute, for waits, which have no other way to know.
		d := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}}
		c.dial = func(ctx context.Context, addr string) (net.Conn, error) { return d.DialContext(ctx, "tcp", addr) }
	}
}

// tick is how often connections are looked after. A connection is kept alive
// up to a tick early.
func (c *config) tick() time.Duration { return min(500*time.Millisecond, c.keepalive/4) }

// idle is when a connection that nothing depends on is closed.
func (c *config) idle() time.Duration { return 2*c.keepalive + time.Second }

// ticks is the number of ticks within which at least d passes.
func (c *config) ticks(d time.Duration) int64 {
	t := c.tick()
	return int64((d+t-1)/t) + 1
}
