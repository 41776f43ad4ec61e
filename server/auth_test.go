package server_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/server"
)

func TestNothingButTheSecretIsAccepted(t *testing.T) {
	for _, first := range []string{
		"l|k|0", "r|k|x", "ping|_|_", "stats|_|_", "e|k|", "w|k|0", "zz|k|0", "||", "auth|_|", "auth|_|hunter", "auth|_|hunter22", "auth|_|hunter2 ", "auth|_| hunter2",
		"auth|_|Hunter2", "auth|_|" + strings.Repeat("x", 4096), "auth|_|" + strings.Repeat("x", 65536), "AUTH|_|hunter2", "auth|_|hunter\x002", "hello|_|1 me",
	} {
		inVirtualTime(t, server.Config{AuthToken: "hunter2"}, func(t *testing.T, s *server.Server) {
			p := connect(s)
			began := time.Now()
			// What follows must not be looked at.
			go p.send(wire(first, "auth|_|hunter2", "l|k|0"))
			if got := p.get(t); got != "error_auth" {
				t.Errorf("%.20q was answered %q", first, got)
			}
			if took := time.Since(began); took != 100*time.Millisecond {
				t.Errorf("%.20q was answered after %v", first, took)
			}
			p.closed(t)
			empty(t, s)
		})
	}
}

func TestSecretOverItsCap(t *testing.T) {
	inVirtualTime(t, server.Config{AuthToken: "hunter2"}, func(t *testing.T, s *server.Server) {
		p := connect(s)
		go p.send("auth\n_\n" + strings.Repeat("x", 65537))
		if got := p.get(t); got != "error" {
			t.Errorf("got %q", got)
		}
		p.closed(t)
	})
}

func TestAuthenticated(t *testing.T) {
	secret := strings.Repeat("ü \t", 1<<14)
	for _, secret := range []string{"x", "hunter2", " spaces ", secret} {
		inVirtualTime(t, server.Config{AuthToken: server.Secret(secret)}, func(t *testing.T, s *server.Server) {
			p := connect(s)
			began := time.Now()
			p.expect(t, "auth|_|"+secret, "ok")
			p.grant(t, "l|k|0")
			p.expect(t, "auth|_|"+secret, "error")
			p.expect(t, "ping|_|_", "ok")
			if took := time.Since(began); took != 0 {
				t.Errorf("took %v", took)
			}
		})
	}
}

func TestSecretInTheFirstWriteWithMore(t *testing.T) {
	inVirtualTime(t, server.Config{AuthToken: "hunter2"}, func(t *testing.T, s *server.Server) {
		p := connect(s)
		p.ask(t, "auth|_|hunter2", "l|k|0")
		if got := p.get(t); got != "ok" {
			t.Errorf("got %q", got)
		}
		p.granted(t, "33")
	})
}

func TestAuthenticationHasADeadline(t *testing.T) {
	inVirtualTime(t, server.Config{AuthToken: "hunter2", ReadTimeout: 5 * time.Second}, func(t *testing.T, s *server.Server) {
		p := connect(s)
		began := time.Now()
		p.ask(t, "auth")
		if got := p.get(t); got != "error" {
			t.Errorf("got %q", got)
		}
		p.closed(t)
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("closed after %v", took)
		}
	})
}

func TestTheRefusedKeepNobodyOut(t *testing.T) {
	inVirtualTime(t, server.Config{AuthToken: "hunter2", MaxConnections: 1}, func(t *testing.T, s *server.Server) {
		for range 10 {
			bad := connect(s)
			bad.ask(t, "auth|_|wrong")
			synctest.Wait()
			good := connect(s)
			good.expect(t, "auth|_|hunter2", "ok")
			good.nc.Close()
			synctest.Wait()
			bad.nc.Close()
		}
	})
}

func TestCloseDuringThePenalty(t *testing.T) {
	inVirtualTime(t, server.Config{AuthToken: "hunter2"}, func(t *testing.T, s *server.Server) {
		p := connect(s)
		p.ask(t, "auth|_|wrong")
		synctest.Wait()
		began := time.Now()
		s.Close()
		if took := time.Since(began); took != 0 {
			t.Errorf("Close took %v", took)
		}
	})
}

func TestLogsTellNoSecrets(t *testing.T) {
	var log bytes.Buffer
	cfg := server.Config{
		AuthToken: "hunter2", Debug: true,
		Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	var token string
	inVirtualTime(t, cfg, func(t *testing.T, s *server.Server) {
		p, q := connect(s), connect(s)
		p.expect(t, "auth|_|hunter2", "ok")
		p.ask(t, "l|key\"\x1b|0 1")
		if got := p.get(t); got != "error" {
			t.Errorf("a control byte in a key: %q", got)
		}
		p.ask(t, `l|ke"y|0 1`)
		token = p.granted(t, "1")
		q.expect(t, "auth|_|hunter3", "error_auth")
		time.Sleep(2 * time.Second)
		p.nc.Close()
		synctest.Wait()
	})
	text := log.String()
	for _, want := range []string{"connection opened", "connection closed", "lease expired", `key="ke\"y"`, "authentication refused"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not in the log:\n%s", want, text)
		}
	}
	for _, leak := range []string{"hunter", token, token[16:]} {
		if strings.Contains(text, leak) {
			t.Errorf("%q is in the log:\n%s", leak, text)
		}
	}
}
