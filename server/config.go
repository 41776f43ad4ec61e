package server

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/internal/datadir"
)

// A Config says how a server behaves. The zero Config is ready to use and
// behaves as dflockd does by default, but for MaxLocks. The fields have the
// names of dflockd's flags; a negative number or duration is an error of New.
type Config struct {
	// DefaultLeaseTTL is the lease of those who ask for none, also in
	// renewals: at least a second. 0 is 33 s.
	DefaultLeaseTTL time.Duration
	// LeaseSweepInterval is the longest time between two looks for leases that
	// ran out. There is a timer for each anyway, so it only matters where
	// timers fail. 0 is 1 s.
	LeaseSweepInterval time.Duration
	// GCInterval is the least time between two prunings of idle keys. 0 is 5 s.
	GCInterval time.Duration
	// GCMaxIdle is how long a key that nobody holds is remembered, and with it
	// the limit of a semaphore. 0 is 60 s.
	GCMaxIdle time.Duration

	// MaxLocks caps the keys, locks and semaphores together. Idle keys count,
	// but make room before anybody is refused. 0 is 1,048,576: dflockd's 1,024
	// protected an older implementation, and is used up by 18 new keys a
	// second; here a million keys cost about 250 MB.
	MaxLocks int
	// MaxConnections caps the connections; those beyond it are closed at once.
	// 0 is no cap.
	MaxConnections int
	// MaxWaiters caps the queue of each key. 0 is no cap.
	MaxWaiters int
	// MaxValue caps the bytes of what a holder puts under a key: at most 32 MiB. 0
	// is 64 KiB. A value goes to all who wait for it, so it should be small.
	MaxValue int
	// MaxValues caps the bytes of all values: their data, their keys, and 192 for
	// each, all of which is memory. 0 is 256 MiB. What does not fit is refused.
	MaxValues int

	// ReadTimeout is how long a client may take for one whole request, idle
	// time before it included: then it is answered "error" and its connection
	// closed. It does not run while a request waits for its lock. It is also
	// the time that a TLS handshake may take. 0 is 23 s.
	ReadTimeout time.Duration
	// WriteTimeout is how long the next 16 KiB of answers may take to be sent:
	// then the connection is closed. 0 is 5 s.
	WriteTimeout time.Duration

	// TLSCert and TLSKey are files with a certificate and its key, in PEM.
	// With them, connections speak TLS 1.2 or later.
	TLSCert, TLSKey string
	// TLS is for those who embed the server and need more of TLS than two
	// files. It excludes TLSCert and TLSKey. The server does not change it.
	TLS *tls.Config

	// AuthToken is the secret that clients must show before anything else.
	// Empty is none.
	AuthToken Secret
	// AuthTokenFile is a file with that secret; white space around it is not
	// part of it. It excludes AuthToken.
	AuthTokenFile string

	// KeepOnDisconnect is --no-auto-release-on-disconnect: what a connection
	// holds survives its end, and runs out by its TTL. Its places in queues
	// are given up either way.
	KeepOnDisconnect bool

	// IgnoreProcesses makes no use of it that clients of this machine say which
	// process they are: what a session holds then runs out by its TTL also when
	// that process is seen to die. It is for where that proof is none, because
	// clients name processes whose children do the work.
	IgnoreProcesses bool

	// DataDir is a directory in which the server keeps what a restart needs, so
	// that it loses no lock and gives none twice. It is made if its parent is
	// there, and belongs to one server at a time. New fails if it was damaged. A
	// server with one must be ended by Shutdown or Close. Empty is none: a restart
	// then loses all leases, and fences grow by the wall clock.
	DataDir string
	// DataDirMustExist makes New fail unless a server was started on DataDir
	// before. It is for volumes: one that is not mounted looks like a first use,
	// and a server that then begins anew gives what is still held a second time.
	// The very first start must go without it. Without DataDir it is an error.
	DataDirMustExist bool
	// MaxGrace is the longest that a server with a DataDir grants nothing after an
	// unclean stop: leases with a longer TTL cost a write each, and after such a
	// stop keep only their own key from others. At least a second; 0 is 60 s.
	MaxGrace time.Duration

	disk *datadir.Options // what tests own of the data directory

	// Debug logs every connection, every lease that ran out and every place that
	// a silent session lost, at level debug; Logger must let that level through.
	Debug bool
	// Logger gets what operators should know. Nil is slog.Default().
	Logger *slog.Logger
}

// A Secret is a string that is not printed by accident: packages fmt, log/slog
// and encoding/json show it as "redacted".
type Secret string

const redacted = "redacted"

// Format prints "redacted", whatever the verb.
func (Secret) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) } //nolint:errcheck // fmt.State keeps its own error

// String returns "redacted".
func (Secret) String() string { return redacted }

// MarshalText returns "redacted".
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// LogValue returns "redacted".
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// The defaults of Config.
const (
	defaultLeaseTTL      = 33 * time.Second
	defaultSweepInterval = time.Second
	defaultGCInterval    = 5 * time.Second
	defaultGCMaxIdle     = time.Minute
	defaultMaxLocks      = 1 << 20
	defaultReadTimeout   = 23 * time.Second
	defaultWriteTimeout  = 5 * time.Second
	defaultMaxGrace      = time.Minute
	defaultMaxValue      = codec.DefaultValue
	defaultMaxValues     = 256 << 20
)

// withDefaults returns the config with every default filled in, or an error
// that names each field that cannot be right.
func (c Config) withDefaults() (Config, error) {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	err := errors.Join(
		fillDefault("DefaultLeaseTTL", &c.DefaultLeaseTTL, defaultLeaseTTL),
		fillDefault("LeaseSweepInterval", &c.LeaseSweepInterval, defaultSweepInterval),
		fillDefault("GCInterval", &c.GCInterval, defaultGCInterval),
		fillDefault("GCMaxIdle", &c.GCMaxIdle, defaultGCMaxIdle),
		fillDefault("MaxLocks", &c.MaxLocks, defaultMaxLocks),
		fillDefault("MaxConnections", &c.MaxConnections, 0),
		fillDefault("MaxWaiters", &c.MaxWaiters, 0),
		fillDefault("MaxValue", &c.MaxValue, defaultMaxValue),
		fillDefault("MaxValues", &c.MaxValues, defaultMaxValues),
		fillDefault("ReadTimeout", &c.ReadTimeout, defaultReadTimeout),
		fillDefault("WriteTimeout", &c.WriteTimeout, defaultWriteTimeout),
		fillDefault("MaxGrace", &c.MaxGrace, defaultMaxGrace),
	)
	if err == nil && c.DataDirMustExist && c.DataDir == "" {
		err = errors.New("server: Config.DataDirMustExist is set without Config.DataDir: name the directory that must exist")
	}
	if err == nil && c.MaxValue > codec.MaxValue {
		err = fmt.Errorf("server: Config.MaxValue is %d and must be at most %d: what is larger belongs in a store of its own", c.MaxValue, codec.MaxValue)
	}
	if err == nil && c.MaxGrace < time.Second {
		err = fmt.Errorf("server: Config.MaxGrace is %v and must be at least 1s: every lease with a longer TTL costs a write", c.MaxGrace)
	}
	if err == nil && c.DefaultLeaseTTL < time.Second {
		err = fmt.Errorf("server: Config.DefaultLeaseTTL is %v and must be at least 1s: the protocol knows whole seconds", c.DefaultLeaseTTL)
	}
	return c, err
}

func fillDefault[T int | time.Duration](field string, value *T, otherwise T) error {
	if *value < 0 {
		return fmt.Errorf("server: Config.%s is %v and must not be negative; 0 is its default", field, *value)
	}
	if *value == 0 {
		*value = otherwise
	}
	return nil
}

// loadSecret returns the secret of the config, empty if it has none.
func (c Config) loadSecret() ([]byte, error) {
	if c.AuthTokenFile == "" {
		if c.AuthToken == "" {
			return nil, nil
		}
		if err := codec.CheckSecret([]byte(c.AuthToken)); err != nil {
			return nil, fmt.Errorf("server: Config.AuthToken: %w", err)
		}
		return []byte(c.AuthToken), nil
	}
	if c.AuthToken != "" {
		return nil, errors.New("server: set one of Config.AuthToken and Config.AuthTokenFile, not both")
	}
	text, err := os.ReadFile(c.AuthTokenFile)
	if err != nil {
		return nil, fmt.Errorf("server: Config.AuthTokenFile: %w", err)
	}
	secret := []byte(strings.TrimSpace(string(text)))
	if err := codec.CheckSecret(secret); err != nil {
		// A file that was left empty must not open the server to everybody.
		return nil, fmt.Errorf("server: Config.AuthTokenFile %s: %w", c.AuthTokenFile, err)
	}
	if info, err := os.Stat(c.AuthTokenFile); err == nil && info.Mode().Perm()&0o077 != 0 {
		c.Logger.Warn("others can read the file with the secret", "file", c.AuthTokenFile, "mode", info.Mode().Perm().String())
	}
	return secret, nil
}

// loadTLS returns the TLS settings of the config, nil if it has none.
func (c Config) loadTLS() (*tls.Config, error) {
	switch {
	case c.TLS != nil && (c.TLSCert != "" || c.TLSKey != ""):
		return nil, errors.New("server: set Config.TLS, or Config.TLSCert and Config.TLSKey, not both")
	case c.TLS != nil:
		return c.TLS.Clone(), nil
	case c.TLSCert == "" && c.TLSKey == "":
		return nil, nil
	case c.TLSCert == "" || c.TLSKey == "":
		return nil, errors.New("server: Config.TLSCert and Config.TLSKey are needed together")
	}
	pair, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("server: Config.TLSCert and Config.TLSKey: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, nil
}
