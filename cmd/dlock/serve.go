package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/distributed-go/distributed/server"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const serveHelp = `Serve is a lock server. It speaks dflockd's protocol, so it serves the clients of
dflockd in every language, and takes dflockd's flags and environment variables;
a flag wins over its variable.

When it is ready it prints one line to stdout, "listening on dflockd://HOST:PORT",
which is also the URL for --server on the same machine. What happens later goes
to stderr.

SIGTERM, SIGINT and SIGHUP drain it: it grants nothing more and ends when nothing
is held, or after --shutdown-timeout, or at once at a second signal.

With --data-dir a restart loses no lock and gives none twice. A signal then ends
it at once: what is held is written there, and the next server goes on with it;
if the disk hangs, --shutdown-timeout and a second signal end it all the same.
After a crash the next one grants nothing until all who held had the time to come
back and say so, --max-grace at most. Without it a restart forgets all locks, and
numbers its fences from the wall clock on.

With --http it answers GET /healthz, 200 while it runs, and GET /readyz, 200 while
clients should be sent to it, with what it does as text: ready, grace, stalled,
draining or failed.

Times are in seconds, or have a unit, as in 1500ms; 0 is the default, but for
--shutdown-timeout.

Exit code: 0 after a drain, whether it was finished or not; 1 if it cannot
listen or serve; 125 on bad usage, or if the data directory cannot be used.`

// serveFlags are the flags of serve.
type serveFlags struct {
	settings server.Settings
	err      error // what the environment says wrong
	release  bool
	keep     bool
	http     string
}

func (a *app) serveCommand() *cobra.Command {
	var s serveFlags
	// What the environment says is the default of the flags.
	s.settings, s.err = server.SettingsFromEnv(a.getenv)
	cmd := &cobra.Command{
		Use:     "serve",
		Short:   "Run a lock server",
		Long:    serveHelp,
		Example: examples("dlock serve", "dlock serve --host 0.0.0.0 --tls-cert cert.pem --tls-key key.pem --auth-token-file secret"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.resolve(cmd.Flags()); err != nil {
				return usagef("%w", err)
			}
			return a.serve(cmd.Context(), s.settings, s.http)
		},
	}
	s.add(cmd.Flags())
	return cmd
}

// add adds the flags, each bound to its setting.
func (s *serveFlags) add(f *pflag.FlagSet) {
	c := &s.settings
	f.StringVar(&c.Host, "host", c.Host, "address to listen on (DFLOCKD_HOST)")
	f.IntVar(&c.Port, "port", c.Port, "port to listen on; 0 takes a free one (DFLOCKD_PORT)")
	f.Var((*seconds)(&c.DefaultLeaseTTL), "default-lease-ttl", "lease of those who ask for none; default 33 (DFLOCKD_DEFAULT_LEASE_TTL_S)")
	f.Var((*seconds)(&c.LeaseSweepInterval), "lease-sweep-interval", "longest time between two looks for leases that ran out; default 1 (DFLOCKD_LEASE_SWEEP_INTERVAL_S)")
	f.Var((*seconds)(&c.GCInterval), "gc-interval", "least time between two prunings of idle keys; default 5 (DFLOCKD_GC_LOOP_SLEEP)")
	f.Var((*seconds)(&c.GCMaxIdle), "gc-max-idle", "how long an idle key is remembered; default 60 (DFLOCKD_GC_MAX_UNUSED_TIME)")
	f.IntVar(&c.MaxLocks, "max-locks", c.MaxLocks, "most keys; default 1048576, where dflockd has 1024 (DFLOCKD_MAX_LOCKS)")
	f.IntVar(&c.MaxConnections, "max-connections", c.MaxConnections, "most connections; default 0, no cap (DFLOCKD_MAX_CONNECTIONS)")
	f.IntVar(&c.MaxWaiters, "max-waiters", c.MaxWaiters, "most waiters of a key; default 0, no cap (DFLOCKD_MAX_WAITERS)")
	f.IntVar(&c.MaxValue, "max-value", c.MaxValue, "most bytes of a value; default 65536 (DFLOCKD_MAX_VALUE)")
	f.IntVar(&c.MaxValues, "max-values", c.MaxValues, "most bytes of all values, kept in memory; default 268435456 (DFLOCKD_MAX_VALUES)")
	f.Var((*seconds)(&c.ReadTimeout), "read-timeout", "how long a client may be silent; default 23 (DFLOCKD_READ_TIMEOUT_S)")
	f.Var((*seconds)(&c.WriteTimeout), "write-timeout", "how long a client may refuse to read; default 5 (DFLOCKD_WRITE_TIMEOUT_S)")
	f.Var((*seconds)(&c.ShutdownTimeout), "shutdown-timeout", "longest drain (DFLOCKD_SHUTDOWN_TIMEOUT_S)")
	f.StringVar(&c.TLSCert, "tls-cert", c.TLSCert, "`FILE` with the server's certificate; turns TLS on (DFLOCKD_TLS_CERT)")
	f.StringVar(&c.TLSKey, "tls-key", c.TLSKey, "`FILE` with its private key (DFLOCKD_TLS_KEY)")
	f.Var((*secret)(&c.AuthToken), "auth-token", "secret that clients must know; arguments are public, prefer the next (DFLOCKD_AUTH_TOKEN)")
	f.StringVar(&c.AuthTokenFile, "auth-token-file", c.AuthTokenFile, "`FILE` with that secret (DFLOCKD_AUTH_TOKEN_FILE)")
	f.BoolVar(&s.release, "auto-release-on-disconnect", !c.KeepOnDisconnect, "release what a connection holds when it ends (DFLOCKD_AUTO_RELEASE_ON_DISCONNECT)")
	f.BoolVar(&s.keep, "no-auto-release-on-disconnect", false, "let it run out instead")
	f.BoolVar(&c.IgnoreProcesses, "ignore-processes", c.IgnoreProcesses, "let what a dead process of this machine held run out, too")
	f.StringVar(&c.DataDir, "data-dir", c.DataDir, "`DIR` to keep what a restart needs; none by default (DFLOCKD_DATA_DIR)")
	f.BoolVar(&c.DataDirMustExist, "data-dir-must-exist", c.DataDirMustExist, "fail if DIR was never used: its volume is not mounted (DFLOCKD_DATA_DIR_MUST_EXIST)")
	f.Var((*seconds)(&c.MaxGrace), "max-grace", "longest time after a crash in which nothing is granted; a longer lease costs a write, and there are 16384 at most; default 60 (DFLOCKD_MAX_GRACE_S)")
	f.StringVar(&s.http, "http", "", "`ADDRESS` for /healthz and /readyz, as in 127.0.0.1:8080; none by default")
	f.BoolVar(&c.Debug, "debug", c.Debug, "log every connection (DFLOCKD_DEBUG)")
}

// resolve settles what flags and environment say between them.
func (s *serveFlags) resolve(f *pflag.FlagSet) error {
	if s.err != nil {
		return s.err
	}
	if f.Changed("no-auto-release-on-disconnect") && f.Changed("auto-release-on-disconnect") {
		return errors.New("--auto-release-on-disconnect and --no-auto-release-on-disconnect exclude each other")
	}
	s.settings.KeepOnDisconnect = !s.release || s.keep
	// A secret of the command line replaces one of the environment, in
	// whichever form that was.
	switch token, file := f.Changed("auth-token"), f.Changed("auth-token-file"); {
	case token && !file:
		s.settings.AuthTokenFile = ""
	case file && !token:
		s.settings.AuthToken = ""
	}
	if f.Changed("data-dir") && s.settings.DataDir == "" {
		return errors.New("--data-dir is empty: leave it out to keep nothing over a restart")
	}
	if p := s.settings.Port; p < 0 || p > 65535 {
		return fmt.Errorf("--port %d: want 0 to 65535", p)
	}
	return nil
}

// field is how the server names a setting in its errors.
var field = regexp.MustCompile(`(server: )?Config\.(\w+)`)

// withFlagNames makes flags of the settings that an error names.
func withFlagNames(text string) string {
	var flags pflag.FlagSet
	new(serveFlags).add(&flags)
	names := make(map[string]string)
	flags.VisitAll(func(f *pflag.Flag) { names[strings.ReplaceAll(f.Name, "-", "")] = "--" + f.Name })
	return field.ReplaceAllStringFunc(text, func(named string) string {
		_, name, _ := strings.Cut(named, "Config.")
		return cmp.Or(names[strings.ToLower(name)], named)
	})
}

// serve serves until a signal or the end of ctx, and drains.
func (a *app) serve(ctx context.Context, s server.Settings, health string) error {
	level := slog.LevelInfo
	if s.Debug {
		level = slog.LevelDebug
	}
	s.Logger = slog.New(slog.NewTextHandler(a.stderr, &slog.HandlerOptions{Level: level}))
	// Before the data directory is opened: to open it ends the clean stop before.
	l, healthListener, err := listenBoth(s.Address(), health)
	if err != nil {
		return failf(exitFailed, "%w", err)
	}
	srv, err := server.New(s.Config)
	if err != nil {
		closeAll(l, healthListener)
		return refusedSettings(err)
	}
	signals := make(chan os.Signal, 2)
	listen(signals, ending...)
	defer signal.Stop(signals)
	defer a.serveHealth(srv, healthListener)()
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	fmt.Fprintf(a.stdout, "listening on %s://%s\n", scheme(s), l.Addr())
	select {
	case err := <-served:
		srv.Close()
		return failf(exitFailed, "%w", err)
	case <-ctx.Done():
	case <-signals:
	}
	a.drain(srv, s.ShutdownTimeout, signals)
	<-served
	return nil
}

// listenBoth listens for clients, and for those who watch the server if an address
// is given for them; else that listener is nil.
func listenBoth(addr, health string) (l, h net.Listener, err error) {
	if l, err = net.Listen("tcp", addr); err != nil || health == "" {
		return l, nil, err
	}
	if h, err = net.Listen("tcp", health); err != nil {
		closeAll(l)
		return nil, nil, err
	}
	return l, h, nil
}

func closeAll(all ...net.Listener) {
	for _, l := range all {
		if l != nil {
			l.Close()
		}
	}
}

// refusedSettings is the error of a server that cannot be made. One that comes of
// something else than the settings, a file or a directory, is none of usage.
func refusedSettings(err error) error {
	text := withFlagNames(err.Error())
	if errors.Unwrap(err) != nil {
		return failf(exitUsage, "%s", text)
	}
	return usagef("%s", text)
}

// serveHealth answers over HTTP how the server is, if there is a listener, until
// stop is called: also during the drain.
func (a *app) serveHealth(srv *server.Server, l net.Listener) (stop func()) {
	if l == nil {
		return func() {}
	}
	hs := &http.Server{Handler: srv.Health(), ReadTimeout: healthTimeout, WriteTimeout: healthTimeout}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := hs.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			a.note("health is not served any more: %v", err)
		}
	}()
	a.note("health on http://%s/readyz", l.Addr())
	return func() { hs.Close(); <-done }
}

// healthTimeout bounds one request about the server's health.
const healthTimeout = 5 * time.Second

func scheme(s server.Settings) string {
	if s.TLSCert != "" {
		return "dflockds"
	}
	return "dflockd"
}

// drain ends the server, at once if another signal comes.
func (a *app) drain(srv *server.Server, timeout time.Duration, signals <-chan os.Signal) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- srv.Shutdown(ctx) }()
	for {
		select {
		case err := <-done:
			if err != nil {
				a.note("stopped with locks held: %v", err)
			}
			return
		case <-signals:
			cancel()
			signals = nil
		}
	}
}

// seconds is a flag in seconds, or with a unit, as dflockd's are.
type seconds time.Duration

// String shows seconds without a unit; 0, which is the default, shows nothing.
func (s *seconds) String() string {
	if *s == 0 {
		return ""
	}
	return strconv.FormatFloat(time.Duration(*s).Seconds(), 'f', -1, 64)
}

// Set reads a flag.
func (s *seconds) Set(text string) error {
	d, err := time.ParseDuration(text)
	if err != nil {
		d, err = time.ParseDuration(text + "s")
	}
	if err != nil || d < 0 {
		return errors.New("want a number of seconds from 0 to 9223372036, or a time with a unit as in 1500ms")
	}
	*s = seconds(d)
	return nil
}

// Type names the value in help texts.
func (s *seconds) Type() string { return "seconds" }

// secret is a flag that no help text or error shows.
type secret server.Secret

// String shows nothing.
func (s *secret) String() string { return "" }

// Set reads a flag.
func (s *secret) Set(text string) error {
	*s = secret(text)
	return nil
}

// Type names the value in help texts.
func (s *secret) Type() string { return "secret" }
