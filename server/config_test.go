package server_test

import (
	"bytes"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/distributed-go/distributed/server"
)

func TestNegativeSettingsAreNamed(t *testing.T) {
	fields := 0
	for _, f := range reflect.VisibleFields(reflect.TypeFor[server.Config]()) {
		switch f.Type.Kind() {
		case reflect.Int, reflect.Int64:
		default:
			continue
		}
		fields++
		cfg := server.Config{}
		reflect.ValueOf(&cfg).Elem().FieldByIndex(f.Index).SetInt(-1)
		if _, err := server.New(cfg); err == nil || !strings.Contains(err.Error(), "Config."+f.Name+" is -1") {
			t.Errorf("%s -1: %v", f.Name, err)
		}
	}
	if fields != 12 {
		t.Errorf("%d numbers in Config", fields)
	}
}

func TestSettingsThatCannotBeRight(t *testing.T) {
	dir := t.TempDir()
	cert, key := certificate(t, dir)
	blank := file(t, dir, "blank", " \n")
	good := file(t, dir, "good", "hunter2\n")
	for want, cfg := range map[string]server.Config{
		"DefaultLeaseTTL is 999ms":                {DefaultLeaseTTL: 999 * time.Millisecond},
		"MaxGrace is 999ms":                       {MaxGrace: 999 * time.Millisecond},
		"MaxValue is 33554433":                    {MaxValue: 32<<20 + 1},
		"DataDirMustExist is set without":         {DataDirMustExist: true},
		"AuthToken: a secret must not contain":    {AuthToken: "a\nb"},
		"AuthToken: a secret has at most 65536":   {AuthToken: server.Secret(strings.Repeat("x", 65537))},
		"one of Config.AuthToken and":             {AuthToken: "x", AuthTokenFile: good},
		"AuthTokenFile: open":                     {AuthTokenFile: filepath.Join(dir, "none")},
		"blank: a secret must not be empty":       {AuthTokenFile: blank},
		"TLSCert and Config.TLSKey are needed":    {TLSCert: cert},
		"Config.TLSKey are needed together":       {TLSKey: key},
		"Config.TLSCert and Config.TLSKey: tls:":  {TLSCert: key, TLSKey: cert},
		"Config.TLSCert and Config.TLSKey: open":  {TLSCert: filepath.Join(dir, "none"), TLSKey: key},
		"Config.TLS, or Config.TLSCert and Confi": {TLS: &tls.Config{}, TLSCert: cert, TLSKey: key},
	} {
		if _, err := server.New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %q in it", err, want)
		}
	}
}

func file(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSecretFromAFile(t *testing.T) {
	path := file(t, t.TempDir(), "secret", "  hunter2 \r\n")
	var log bytes.Buffer
	cfg := server.Config{AuthTokenFile: path, Logger: slog.New(slog.NewTextHandler(&log, nil))}
	inVirtualTime(t, cfg, func(t *testing.T, s *server.Server) {
		p := connect(s)
		p.expect(t, "auth|_|hunter2", "ok")
	})
	if log.Len() != 0 {
		t.Errorf("a private file was logged: %s", &log)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := server.New(cfg); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "others can read") || strings.Contains(log.String(), "hunter2") {
		t.Errorf("a public file was logged as %q", &log)
	}
}

func TestSettingsFromEnv(t *testing.T) {
	want := server.Settings{
		Config: server.Config{
			DefaultLeaseTTL: time.Second, LeaseSweepInterval: 2 * time.Second, GCInterval: 3 * time.Second, GCMaxIdle: 4 * time.Second,
			MaxLocks: 5, MaxConnections: 6, MaxWaiters: 7, MaxValue: 100, MaxValues: 2000, ReadTimeout: 8 * time.Second, WriteTimeout: 2500 * time.Millisecond,
			TLSCert: "cert.pem", TLSKey: "key.pem", AuthToken: "hunter2", AuthTokenFile: "secret.txt", KeepOnDisconnect: true, Debug: true,
			DataDir: "/var/lib/locks", DataDirMustExist: true, MaxGrace: 90 * time.Second,
		},
		Host: "::1", Port: 0, ShutdownTimeout: 1500 * time.Millisecond,
	}
	env := map[string]string{
		"DFLOCKD_HOST": "::1", "DFLOCKD_PORT": "0", "DFLOCKD_DEFAULT_LEASE_TTL_S": "1", "DFLOCKD_LEASE_SWEEP_INTERVAL_S": "2",
		"DFLOCKD_GC_LOOP_SLEEP": "3", "DFLOCKD_GC_MAX_UNUSED_TIME": "4", "DFLOCKD_MAX_LOCKS": "5", "DFLOCKD_MAX_CONNECTIONS": "6",
		"DFLOCKD_MAX_WAITERS": "7", "DFLOCKD_MAX_VALUE": "100", "DFLOCKD_MAX_VALUES": "2000", "DFLOCKD_READ_TIMEOUT_S": " 8 ", "DFLOCKD_WRITE_TIMEOUT_S": "2.5", "DFLOCKD_SHUTDOWN_TIMEOUT_S": "1500ms",
		"DFLOCKD_TLS_CERT": "cert.pem", "DFLOCKD_TLS_KEY": "key.pem", "DFLOCKD_AUTH_TOKEN": "hunter2", "DFLOCKD_AUTH_TOKEN_FILE": "secret.txt",
		"DFLOCKD_AUTO_RELEASE_ON_DISCONNECT": "0", "DFLOCKD_DEBUG": "true", "DFLOCKD_DATA_DIR": "/var/lib/locks", "DFLOCKD_DATA_DIR_MUST_EXIST": "1", "DFLOCKD_MAX_GRACE_S": "90",
	}
	asked := map[string]bool{}
	got, err := server.SettingsFromEnv(func(name string) string { asked[name] = true; return env[name] })
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
	if len(asked) != len(env) {
		t.Errorf("asked for %d variables, of which %d are tested", len(asked), len(env))
	}
	if addr := got.Address(); addr != "[::1]:0" {
		t.Errorf("Address = %s", addr)
	}
}

func TestSettingsFromAnEmptyEnv(t *testing.T) {
	got, err := server.SettingsFromEnv(func(string) string { return "" })
	if err != nil || !reflect.DeepEqual(got, server.DefaultSettings()) || got.Address() != "127.0.0.1:6388" || got.ShutdownTimeout != 30*time.Second {
		t.Errorf("got %+v, %v", got, err)
	}
	if !reflect.DeepEqual(got.Config, server.Config{}) {
		t.Errorf("Config is %+v, want its zero", got.Config)
	}
}

func TestSettingsFromABadEnv(t *testing.T) {
	bad := map[string]string{
		"DFLOCKD_PORT": "65536", "DFLOCKD_MAX_LOCKS": "-1", "DFLOCKD_MAX_CONNECTIONS": "many", "DFLOCKD_MAX_WAITERS": "2147483648",
		"DFLOCKD_READ_TIMEOUT_S": "-23", "DFLOCKD_WRITE_TIMEOUT_S": "5 s", "DFLOCKD_DEFAULT_LEASE_TTL_S": "NaN", "DFLOCKD_GC_LOOP_SLEEP": "1e400",
		"DFLOCKD_AUTO_RELEASE_ON_DISCONNECT": "perhaps", "DFLOCKD_DEBUG": "2", "DFLOCKD_AUTH_TOKEN": "hunter2",
	}
	_, err := server.SettingsFromEnv(func(name string) string { return bad[name] })
	for name, value := range bad {
		named := err != nil && strings.Contains(err.Error(), fmt.Sprintf("%s=%q", name, value))
		if named != (name != "DFLOCKD_AUTH_TOKEN") {
			t.Errorf("%s=%s: named in the error is %v\n%v", name, value, named, err)
		}
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	cfg := server.Config{AuthToken: "hunter2"}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		fmt.Fprintf(&out, verb, cfg)
		fmt.Fprintf(&out, verb, cfg.AuthToken)
	}
	text, err := json.Marshal(cfg.AuthToken)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(text)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "secret", cfg.AuthToken)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "secret", cfg.AuthToken)
	out.WriteString(cfg.AuthToken.String())
	if strings.Contains(out.String(), "hunter2") || strings.Contains(out.String(), "68756e") {
		t.Errorf("printed: %s", &out)
	}
}
