package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"os"
	"strings"

	"github.com/distributed-go/distributed"
	_ "github.com/distributed-go/distributed/etcd" // makes etcd:// and etcds:// known
	"github.com/distributed-go/distributed/locker"
	"github.com/spf13/pflag"
)

// envURL is the environment variable that stands in for --server.
const envURL = "DISTRIBUTED_URL"

// secretVars are the environment variables with the servers' secret, and with
// the name of a file that has it: the library's own, then those of a lock server
// on the same machine, which are not for an etcd. A secret has no flag: every user
// of a machine can read the arguments of every process.
var secretVars = []struct {
	text, file string
	dflockd    bool // for dflockd:// alone
}{
	{"DISTRIBUTED_SECRET", "DISTRIBUTED_SECRET_FILE", false},
	{"DFLOCKD_AUTH_TOKEN", "DFLOCKD_AUTH_TOKEN_FILE", true},
}

// connection is how to reach the servers.
type connection struct {
	url           string
	authTokenFile string
	ca, cert, key string
}

// addFlags adds the flags of verbs that talk to servers.
func (c *connection) addFlags(a *app, f *pflag.FlagSet) {
	url := a.getenv(envURL)
	if url == "" {
		url = distributed.DefaultURL
	}
	f.StringVarP(&c.url, "server", "s", url, "`URL` of the servers, as in dflockd://h1:6388,h2:6388 or etcd://h1:2379,h2:2379/PREFIX (environment: "+envURL+")")
	f.StringVar(&c.authTokenFile, "auth-token-file", "", "`FILE` with the servers' secret, which of an etcd is USER:PASSWORD (environment: "+secretNames()+")")
	f.StringVar(&c.ca, "ca", "", "`FILE` with the certificates to trust, with dflockds:// or etcds:// (default: the system's)")
	f.StringVar(&c.cert, "cert", "", "`FILE` with the certificate to show to the servers, with dflockds:// or etcds://")
	f.StringVar(&c.key, "key", "", "`FILE` with the certificate's private key")
}

// open returns a client. It does no I/O but reading files. Every error is one
// of usage.
func (c *connection) open(a *app, opts ...locker.Option) (*distributed.Client, error) {
	if strings.HasPrefix(c.url, "memory:") {
		return nil, usagef("server %q: locks in this process exclude nobody else; want a URL such as %s", c.url, distributed.DefaultURL)
	}
	secret, err := c.secret(a)
	if err != nil {
		return nil, usagef("%w", err)
	}
	conf, err := c.tlsConfig()
	if err != nil {
		return nil, usagef("%w", err)
	}
	opts = append(opts, locker.WithSecret(secret), locker.WithLogger(slog.New(slog.DiscardHandler)))
	if conf != nil {
		opts = append(opts, locker.WithTLS(conf))
	}
	client, err := distributed.Open(c.url, opts...)
	if err != nil {
		return nil, usagef("%w", err)
	}
	return client, nil
}

// opener is open for other URLs of the same servers.
func (c *connection) opener(a *app) func(url string, opts ...distributed.Option) (*distributed.Client, error) {
	return func(url string, opts ...distributed.Option) (*distributed.Client, error) {
		there := *c
		there.url = url
		return there.open(a, opts...)
	}
}

// files are the flags that say where secrets and certificates are, for a child.
func (c *connection) files() (args []string) {
	for _, f := range []struct{ name, value string }{{"auth-token-file", c.authTokenFile}, {"ca", c.ca}, {"cert", c.cert}, {"key", c.key}} {
		if f.value != "" {
			args = append(args, "--"+f.name+"="+f.value)
		}
	}
	return args
}

// etcd says whether the servers are an etcd.
func (c *connection) etcd() bool {
	return strings.HasPrefix(c.url, "etcd:") || strings.HasPrefix(c.url, "etcds:")
}

// anonymous keeps the servers from watching this process: they would release
// what it holds as soon as it dies, and what dlock runs may live on for a moment.
// Who says process= in the URL knows better.
func (c *connection) anonymous() {
	if !strings.HasPrefix(c.url, "dflockd") || strings.Contains(c.url, "process=") {
		return
	}
	before, query, _ := strings.Cut(c.url, "?")
	c.url = before + "?process=0"
	if query != "" {
		c.url += "&" + query
	}
}

func secretNames() string {
	var names []string
	for _, v := range secretVars {
		names = append(names, v.text, v.file)
	}
	return strings.Join(names, ", ")
}

// secret returns the servers' secret, or "". A flag wins over the environment.
func (c *connection) secret(a *app) (string, error) {
	if c.authTokenFile != "" {
		return readSecret(c.authTokenFile)
	}
	for _, v := range secretVars {
		if v.dflockd && c.etcd() {
			continue
		}
		if s := a.getenv(v.text); s != "" {
			return s, nil
		}
		if file := a.getenv(v.file); file != "" {
			return readSecret(file)
		}
	}
	return "", nil
}

func readSecret(file string) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	secret := strings.TrimRight(string(text), "\r\n")
	if secret == "" {
		return "", errors.New("file with the secret is empty: " + file)
	}
	return secret, nil
}

// tlsConfig returns nil if no flag asks for anything.
func (c *connection) tlsConfig() (*tls.Config, error) {
	if c.ca == "" && c.cert == "" && c.key == "" {
		return nil, nil
	}
	if !strings.HasPrefix(c.url, "dflockds:") && !strings.HasPrefix(c.url, "etcds:") {
		return nil, usagef("--ca, --cert and --key need a URL with TLS, as in dflockds://host:6388 or etcds://host:2379, not %q", c.url)
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.ca != "" {
		pem, err := os.ReadFile(c.ca)
		if err != nil {
			return nil, err
		}
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM(pem) {
			return nil, errors.New("no certificate in " + c.ca)
		}
	}
	if (c.cert == "") != (c.key == "") {
		return nil, errors.New("--cert and --key go together")
	}
	if c.cert != "" {
		pair, err := tls.LoadX509KeyPair(c.cert, c.key)
		if err != nil {
			return nil, err
		}
		conf.Certificates = []tls.Certificate{pair}
	}
	return conf, nil
}
