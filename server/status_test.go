package server_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/server"
)

func TestPause(t *testing.T) {
	var log bytes.Buffer
	cfg := server.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}
	inVirtualTime(t, cfg, func(t *testing.T, s *server.Server) {
		a, b := connect(s), connect(s)
		a.ask(t, "l|k|0 10")
		token := a.granted(t, "10")
		b.ask(t, "l|k|30")
		time.Sleep(9100 * time.Millisecond) // no look at the clock is due just now
		s.Pause(10 * time.Second)
		a.expect(t, "ping|_|_", "ok")
		time.Sleep(800 * time.Millisecond)
		a.expect(t, "n|k|"+token+" 10", "ok 10")
		began := time.Now()
		b.granted(t, "33")
		if took := time.Since(began); took < 10*time.Second || took > 10*time.Second+100*time.Millisecond {
			t.Errorf("handed over after %v", took)
		}
	})
	if n := strings.Count(log.String(), "paused"); n != 1 {
		t.Errorf("told %d times: %s", n, &log)
	}
}

func TestHealth(t *testing.T) {
	onMachine(t, server.Config{}, func(t *testing.T, m *machine) {
		check := func(path string, code int, text string) {
			t.Helper()
			w := httptest.NewRecorder()
			m.s.Health().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
			if w.Code != code || !strings.HasPrefix(w.Body.String(), text) {
				t.Errorf("%s: %d %q, want %d %q", path, w.Code, w.Body, code, text)
			}
		}
		check("/healthz", 200, "ready\n")
		check("/readyz", 200, "ready\n")
		check("/", 404, "")
		p := connect(m.s)
		p.grant(t, "l|k|0")
		m.crash(true)
		check("/readyz", 200, "grace, for another ")
		report, err := codec.ParseStats([]byte(strings.TrimPrefix(connect(m.s).do(t, "stats|_|_"), "ok ")))
		if err != nil || report.State != "grace" || report.GraceEndsS < 32 || report.GraceEndsS > 33 {
			t.Errorf("stats: %+v, %v", report, err)
		}
		m.disk.set(func(d *memDisk) { d.full = true })
		connect(m.s).expect(t, "l|k|0 50", "error")
		check("/readyz", 503, "failed: ")
		check("/healthz", 200, "failed: ")
		if err := m.s.Shutdown(t.Context()); err == nil {
			t.Error("Shutdown with a full disk says nothing")
		}
		check("/readyz", 503, "draining\n")
	})
}
