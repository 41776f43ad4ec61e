package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/distributed-go/distributed/server"
	"github.com/spf13/pflag"
)

// settingsOf returns what serve would run with.
func settingsOf(t *testing.T, env []string, args ...string) (server.Settings, error) {
	t.Helper()
	a := &app{env: env}
	var s serveFlags
	s.settings, s.err = server.SettingsFromEnv(a.getenv)
	f := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	s.add(f)
	if err := f.Parse(args); err != nil {
		return server.Settings{}, err
	}
	err := s.resolve(f)
	return s.settings, err
}

func TestServeFlagsWinOverTheEnvironment(t *testing.T) {
	for _, c := range []struct {
		env, args []string
		want      func(*server.Settings)
	}{
		{nil, nil, func(*server.Settings) {}},
		{[]string{"DFLOCKD_HOST=0.0.0.0", "DFLOCKD_PORT=7000"}, nil, func(s *server.Settings) { s.Host, s.Port = "0.0.0.0", 7000 }},
		{[]string{"DFLOCKD_PORT=7000"}, []string{"--port", "0"}, func(s *server.Settings) { s.Port = 0 }},
		{[]string{"DFLOCKD_DEFAULT_LEASE_TTL_S=20"}, nil, func(s *server.Settings) { s.DefaultLeaseTTL = 20 * time.Second }},
		{[]string{"DFLOCKD_DEFAULT_LEASE_TTL_S=20"}, []string{"--default-lease-ttl", "10"}, func(s *server.Settings) { s.DefaultLeaseTTL = 10 * time.Second }},
		{nil, []string{"--lease-sweep-interval=0.5", "--gc-interval=1500ms", "--gc-max-idle=2m"}, func(s *server.Settings) {
			s.LeaseSweepInterval, s.GCInterval, s.GCMaxIdle = 500*time.Millisecond, 1500*time.Millisecond, 2*time.Minute
		}},
		{[]string{"DFLOCKD_MAX_LOCKS=5", "DFLOCKD_MAX_CONNECTIONS=6", "DFLOCKD_MAX_WAITERS=7"}, []string{"--max-connections=9"}, func(s *server.Settings) {
			s.MaxLocks, s.MaxConnections, s.MaxWaiters = 5, 9, 7
		}},
		{nil, []string{"--max-locks=5", "--max-waiters=7"}, func(s *server.Settings) { s.MaxLocks, s.MaxWaiters = 5, 7 }},
		{nil, []string{"--read-timeout=3", "--write-timeout=4", "--shutdown-timeout=0"}, func(s *server.Settings) {
			s.ReadTimeout, s.WriteTimeout, s.ShutdownTimeout = 3*time.Second, 4*time.Second, 0
		}},
		{[]string{"DFLOCKD_TLS_CERT=c", "DFLOCKD_TLS_KEY=k"}, []string{"--tls-key=other"}, func(s *server.Settings) { s.TLSCert, s.TLSKey = "c", "other" }},
		{[]string{"DFLOCKD_AUTH_TOKEN=one"}, nil, func(s *server.Settings) { s.AuthToken = "one" }},
		{[]string{"DFLOCKD_AUTH_TOKEN=one"}, []string{"--auth-token=two"}, func(s *server.Settings) { s.AuthToken = "two" }},
		{[]string{"DFLOCKD_AUTH_TOKEN=one"}, []string{"--auth-token-file=f"}, func(s *server.Settings) { s.AuthTokenFile = "f" }},
		{[]string{"DFLOCKD_AUTH_TOKEN_FILE=f"}, []string{"--auth-token=two"}, func(s *server.Settings) { s.AuthToken = "two" }},
		{[]string{"DFLOCKD_AUTO_RELEASE_ON_DISCONNECT=0"}, nil, func(s *server.Settings) { s.KeepOnDisconnect = true }},
		{[]string{"DFLOCKD_AUTO_RELEASE_ON_DISCONNECT=0"}, []string{"--auto-release-on-disconnect"}, func(*server.Settings) {}},
		{nil, []string{"--no-auto-release-on-disconnect"}, func(s *server.Settings) { s.KeepOnDisconnect = true }},
		{[]string{"DFLOCKD_DEBUG=1"}, nil, func(s *server.Settings) { s.Debug = true }},
		{[]string{"DFLOCKD_DEBUG=1"}, []string{"--debug=false"}, func(*server.Settings) {}},
	} {
		want := server.DefaultSettings()
		c.want(&want)
		if got, err := settingsOf(t, c.env, c.args...); err != nil || got != want {
			t.Errorf("%q with %q: %+v, %v\nwant %+v", c.args, c.env, got, err, want)
		}
	}
}

// Every setting of dflockd has its flag, under dflockd's name.
func TestServeHasAllFlags(t *testing.T) {
	f := pflag.NewFlagSet("serve", pflag.ContinueOnError)
	new(serveFlags).add(f)
	for name := range strings.FieldsSeq(`host port default-lease-ttl lease-sweep-interval gc-interval gc-max-idle max-locks
		max-connections max-waiters read-timeout write-timeout shutdown-timeout tls-cert tls-key auth-token auth-token-file
		auto-release-on-disconnect no-auto-release-on-disconnect debug`) {
		if f.Lookup(name) == nil {
			t.Errorf("no flag --%s", name)
		}
	}
}

func TestServeRefusesBadUsage(t *testing.T) {
	for _, c := range []struct {
		env  string
		args []string
		says string
	}{
		{"", []string{"--port", "65536"}, "65536"},
		{"", []string{"--port", "-1"}, "-1"},
		{"", []string{"--port", "many"}, "many"},
		{"DFLOCKD_PORT=many", nil, "DFLOCKD_PORT"},
		{"", []string{"--default-lease-ttl", "-1"}, "want a number of seconds"},
		{"", []string{"--default-lease-ttl", "soon"}, "want a number of seconds"},
		{"", []string{"--default-lease-ttl", "0.5"}, "--default-lease-ttl is 500ms and must be at least 1s"},
		{"", []string{"--max-locks", "-1"}, "--max-locks is -1 and must not be negative"},
		{"", []string{"--auto-release-on-disconnect", "--no-auto-release-on-disconnect"}, "exclude each other"},
		{"", []string{"--auth-token", "a", "--auth-token-file", "b"}, "set one of --auth-token and --auth-token-file, not both"},
		{"", []string{"--auth-token-file", "/no/such/file"}, "/no/such/file"},
		{"", []string{"--tls-cert", "cert.pem"}, "--tls-cert and --tls-key are needed together"},
		{"", []string{"extra"}, "extra"},
	} {
		out := call(t, toolEnv(c.env), append([]string{"serve"}, c.args...)...)
		if out.code != exitUsage || !strings.Contains(out.stderr, c.says) || out.stdout != "" {
			t.Errorf("serve %q with %q: %+v, want code 125 and %q", c.args, c.env, out, c.says)
		}
	}
}

func TestServeSaysWhereItListens(t *testing.T) {
	p := start(t, toolEnv("DFLOCKD_PORT=1"), "serve", "--port", "0")
	var port int
	line := p.line()
	if _, err := fmt.Sscanf(line, "listening on dflockd://127.0.0.1:%d", &port); err != nil || port <= 1 {
		t.Fatalf("printed %q, %v", line, err)
	}
	start(t, toolEnv(), runSh(strings.TrimPrefix(line, "listening on "), "exit 3", "key")...).want(3)
	p.kill(syscall.SIGTERM)
	p.want(0)
}

func TestServeOnATakenPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	if out := call(t, toolEnv(), "serve", "--port", port); out.code != exitFailed || !strings.Contains(out.stderr, "in use") {
		t.Errorf("%+v, want code 1 and why", out)
	}
}

func TestServeDrains(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		url, srv := spawn(t)
		p := start(t, toolEnv(), runSh(url, "echo holds; read line; exit 3", "key")...)
		p.expect("holds")
		srv.kill(sig)
		eventually(t, "draining", func() bool { // it does not hear the signal at once
			q := start(t, toolEnv(), runSh(url, "exit 0", "-n", "key")...)
			return q.wait() == exitUsage && (strings.Contains(q.stderr.String(), "draining") || strings.Contains(q.stderr.String(), "refused"))
		})
		fmt.Fprintln(p.stdin, "go on") // it was not hurt
		p.want(3)
		srv.want(0)
	}
}

func TestServeEndsAtOnceAtASecondSignal(t *testing.T) {
	url, srv := spawn(t, "--shutdown-timeout", "1000")
	p := start(t, toolEnv(), runSh(url, "echo holds; exec sleep 1000", "--ttl", "2s", "key")...)
	p.expect("holds")
	srv.kill(syscall.SIGTERM)
	srv.kill(syscall.SIGINT)
	if says := srv.want(0); !strings.Contains(says, "stopped with locks held") {
		t.Errorf("says %q", says)
	}
	p.want(exitLost)
}

func TestServeEndsAfterTheShutdownTimeout(t *testing.T) {
	url, srv := spawn(t, "--shutdown-timeout", "0.1")
	p := start(t, toolEnv(), runSh(url, "echo holds; exec sleep 1000", "--ttl", "2s", "key")...)
	p.expect("holds")
	srv.kill(syscall.SIGTERM)
	srv.want(0)
	p.want(exitLost)
}

func TestServeHelpShowsNoSecret(t *testing.T) {
	out := call(t, toolEnv("DFLOCKD_AUTH_TOKEN=hunter2", "DFLOCKD_PORT=7001"), "serve", "--help")
	if out.code != 0 || strings.Contains(out.stdout+out.stderr, "hunter2") || !strings.Contains(out.stdout, "7001") {
		t.Errorf("%+v", out)
	}
}

func TestServeKeepsOnDisconnect(t *testing.T) {
	url, _ := spawn(t, "--no-auto-release-on-disconnect", "--default-lease-ttl", "60")
	p := start(t, toolEnv(), runSh(url, "echo holds; exec sleep 1000", "--ttl", "2s", "key")...)
	p.expect("holds")
	p.kill(syscall.SIGKILL)
	p.wait()
	start(t, toolEnv(), runSh(url, "exit 0", "-w", "300ms", "key")...).want(1)
}

// writeFile writes a file of the test and returns its path.
func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
