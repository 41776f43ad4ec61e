package server

import (
	"errors"
	"fmt"
	"math"
	"net"
	"strconv"
	"strings"
	"time"
)

// Settings are what a process needs to run a server: a Config, and what only
// the one who listens needs. Unlike in Config, zero is not a default here: port
// 0 takes a free port. Begin with DefaultSettings.
type Settings struct {
	Config
	// Host and Port say where to listen.
	Host string
	Port int
	// ShutdownTimeout bounds the Shutdown at the end.
	ShutdownTimeout time.Duration
}

// DefaultSettings returns the zero Config, 127.0.0.1, port 6388 and 30 s for
// the shutdown.
func DefaultSettings() Settings {
	return Settings{Host: "127.0.0.1", Port: 6388, ShutdownTimeout: 30 * time.Second}
}

// Address returns host and port as net.Listen takes them.
func (s Settings) Address() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// SettingsFromEnv returns DefaultSettings with what dflockd's environment
// variables, and those for Config.MaxValue, Config.MaxValues, Config.DataDir,
// Config.DataDirMustExist and Config.MaxGrace in the same style, say otherwise, as getenv, such as os.Getenv,
// returns them; empty ones say nothing. Durations are seconds, also with a decimal point, or carry
// a unit ("1500ms"). The error names every variable that cannot be read, and
// its value unless that is a secret.
func SettingsFromEnv(getenv func(string) string) (Settings, error) {
	s := DefaultSettings()
	e := environment{getenv: getenv}
	e.text("DFLOCKD_HOST", &s.Host)
	e.number("DFLOCKD_PORT", &s.Port, math.MaxUint16)
	e.duration("DFLOCKD_DEFAULT_LEASE_TTL_S", &s.DefaultLeaseTTL)
	e.duration("DFLOCKD_LEASE_SWEEP_INTERVAL_S", &s.LeaseSweepInterval)
	e.duration("DFLOCKD_GC_LOOP_SLEEP", &s.GCInterval)
	e.duration("DFLOCKD_GC_MAX_UNUSED_TIME", &s.GCMaxIdle)
	e.number("DFLOCKD_MAX_LOCKS", &s.MaxLocks, math.MaxInt32)
	e.number("DFLOCKD_MAX_CONNECTIONS", &s.MaxConnections, math.MaxInt32)
	e.number("DFLOCKD_MAX_WAITERS", &s.MaxWaiters, math.MaxInt32)
	e.number("DFLOCKD_MAX_VALUE", &s.MaxValue, math.MaxInt32)
	e.number("DFLOCKD_MAX_VALUES", &s.MaxValues, math.MaxInt)
	e.duration("DFLOCKD_READ_TIMEOUT_S", &s.ReadTimeout)
	e.duration("DFLOCKD_WRITE_TIMEOUT_S", &s.WriteTimeout)
	e.duration("DFLOCKD_SHUTDOWN_TIMEOUT_S", &s.ShutdownTimeout)
	e.text("DFLOCKD_TLS_CERT", &s.TLSCert)
	e.text("DFLOCKD_TLS_KEY", &s.TLSKey)
	e.text("DFLOCKD_AUTH_TOKEN", (*string)(&s.AuthToken))
	e.text("DFLOCKD_AUTH_TOKEN_FILE", &s.AuthTokenFile)
	e.text("DFLOCKD_DATA_DIR", &s.DataDir)
	e.boolean("DFLOCKD_DATA_DIR_MUST_EXIST", &s.DataDirMustExist)
	e.duration("DFLOCKD_MAX_GRACE_S", &s.MaxGrace)
	release := true
	e.boolean("DFLOCKD_AUTO_RELEASE_ON_DISCONNECT", &release)
	s.KeepOnDisconnect = !release
	e.boolean("DFLOCKD_DEBUG", &s.Debug)
	return s, errors.Join(e.errs...)
}

// environment reads variables into settings and keeps what went wrong.
type environment struct {
	getenv func(string) string
	errs   []error
}

func (e *environment) text(name string, to *string) {
	if v := e.getenv(name); v != "" {
		*to = v
	}
}

func (e *environment) number(name string, to *int, most int) {
	v := strings.TrimSpace(e.getenv(name))
	if v == "" {
		return
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 0 || n > most {
		e.errs = append(e.errs, fmt.Errorf("server: %s=%q is not a whole number from 0 to %d", name, v, most))
		return
	}
	*to = n
}

func (e *environment) duration(name string, to *time.Duration) {
	v := strings.TrimSpace(e.getenv(name))
	if v == "" {
		return
	}
	d, err := time.ParseDuration(v)
	if err != nil {
		d, err = time.ParseDuration(v + "s")
	}
	if err != nil || d < 0 {
		e.errs = append(e.errs, fmt.Errorf("server: %s=%q is not a number of seconds, 0 or more", name, v))
		return
	}
	*to = d
}

func (e *environment) boolean(name string, to *bool) {
	v := strings.ToLower(strings.TrimSpace(e.getenv(name)))
	switch v {
	case "":
	case "1", "t", "true", "y", "yes", "on":
		*to = true
	case "0", "f", "false", "n", "no", "off":
		*to = false
	default:
		e.errs = append(e.errs, fmt.Errorf("server: %s=%q is neither 1 nor 0", name, v))
	}
}
