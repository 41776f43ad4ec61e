package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/datadir"
	"github.com/distributed-go/distributed/server"
)

func TestDiskFull(t *testing.T) {
	var log bytes.Buffer
	cfg := server.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))}
	onMachine(t, cfg, func(t *testing.T, m *machine) {
		a, b := connect(m.s), connect(m.s)
		a.session(t)
		token := a.framed(t, "1 l|k|- 10")
		base := b.grant(t, "l|base|0")
		m.disk.set(func(d *memDisk) { d.full = true })
		a.expect(t, "2 l|longer|- 50", "2 error")
		a.expect(t, "3 l|longer|- 100", "3 error")
		a.expect(t, "4 n|k|"+token+" 50", "4 ok 10000ms")
		a.expect(t, "5 n|k|"+token+" 100", "5 ok 10000ms")
		a.framed(t, "6 l|same|- 33")
		b.expect(t, "l|longer|0 50", "error")
		b.expect(t, "l|longer|0 100", "error")
		b.expect(t, "n|base|"+base+" 50", "ok 33")
		b.expect(t, "n|base|"+base+" 100", "ok 33")
		b.expect(t, "r|base|"+base, "ok")
		if st := m.s.Status(); st.State != server.StateFailed || st.Serving() || !errors.Is(st.Err, errMemDisk) {
			t.Errorf("status %+v", st)
		}
		granted := 0
		for i := 7; ; i++ {
			if got := a.do(t, fmt.Sprintf("%d l|many%d|- 10", i, i)); strings.HasSuffix(got, " error") {
				break
			}
			granted++
		}
		if granted < 500 || granted > 2000 {
			t.Errorf("%d grants within the ceiling", granted)
		}
		a.expect(t, "99999 r|k|"+token, "99999 ok")
		if err := m.s.Shutdown(t.Context()); !errors.Is(err, errMemDisk) {
			t.Errorf("Shutdown = %v", err)
		}
		m.disk.set(func(d *memDisk) { d.full = false })
		m.crash(true)
		if st := m.s.Status(); st.State != server.StateGrace {
			t.Errorf("status %+v", st)
		}
	})
	if n := strings.Count(log.String(), "takes nothing more"); n != 1 {
		t.Errorf("told %d times: %s", n, &log)
	}
}

func TestSlowDisk(t *testing.T) {
	onMachine(t, server.Config{}, func(t *testing.T, m *machine) {
		a, b := connect(m.s), connect(m.s)
		a.session(t)
		a.framed(t, "1 l|k|- 10")
		hangs := make(chan struct{})
		m.disk.set(func(d *memDisk) { d.hangs = hangs })
		a.ask(t, "2 l|longer|- 20", "3 l|long|- 100", "4 l|same|- 10")
		b.ask(t, "l|base|60 20")
		if got := a.get(t); !strings.HasPrefix(got, "4 ok ") {
			t.Errorf("got %q", got)
		}
		for i := range 10 {
			time.Sleep(2 * time.Second)
			a.expect(t, fmt.Sprintf("%d beat|_|_", 5+i), fmt.Sprintf("%d ok", 5+i))
		}
		b.silent(t)
		m.disk.set(func(d *memDisk) { d.hangs = nil })
		close(hangs)
		got := map[string]bool{a.get(t)[:5]: true, a.get(t)[:5]: true}
		if !got["2 ok "] || !got["3 ok "] {
			t.Errorf("got %v", got)
		}
		b.granted(t, "20")
	})
}

func TestMarkFalls(t *testing.T) {
	onMachine(t, server.Config{}, func(t *testing.T, m *machine) {
		a := connect(m.s)
		a.session(t)
		long := a.framed(t, "1 l|long|- 50")
		a.framed(t, "2 l|k|- 5")
		a.expect(t, "3 r|long|"+long, "3 ok")
		for i := range 50 {
			time.Sleep(1500 * time.Millisecond)
			a.expect(t, fmt.Sprintf("%d beat|_|_", 4+i), fmt.Sprintf("%d ok", 4+i))
		}
		old := m.s
		m.crash(true)
		if st := m.s.Status(); st.GraceEnds > 5*time.Second || st.GraceEnds < 4*time.Second {
			t.Errorf("status %+v", st)
		}
		old.Close()
	})
}

func TestMarkRisesAgain(t *testing.T) {
	onMachine(t, server.Config{}, func(t *testing.T, m *machine) {
		a := connect(m.s)
		a.session(t)
		long := a.framed(t, "1 l|long|- 50")
		a.expect(t, "2 r|long|"+long, "2 ok")
		for i := range 50 {
			time.Sleep(1500 * time.Millisecond)
			a.expect(t, fmt.Sprintf("%d beat|_|_", 3+i), fmt.Sprintf("%d ok", 3+i))
		}
		a.framed(t, "100 l|long|- 50")
		m.crash(true)
		if st := m.s.Status(); st.GraceEnds < 49*time.Second {
			t.Errorf("status %+v", st)
		}
	})
}

// TestTurnsWaitForFences hands a key over more often than there are fences.
func TestTurnsWaitForFences(t *testing.T) {
	onMachine(t, server.Config{}, func(t *testing.T, m *machine) {
		m.span = 4
		m.restart()
		a := connect(m.s)
		a.session(t)
		token := a.framed(t, "1 l|k|- 30")
		for id := 2; id < 60; id++ {
			a.ask(t, fmt.Sprintf("%d l|k|- 30 fences=3", id))
		}
		for id := 2; id < 60; id++ {
			a.ask(t, fmt.Sprintf("%d r|k|%s", 100+id, token))
			for range 2 {
				words := strings.Fields(a.get(t))
				if words[0] == fmt.Sprint(id) && len(words) == 4 {
					token = words[2]
				} else if words[0] != fmt.Sprint(100+id) || words[1] != "ok" {
					t.Fatalf("got %q", words)
				}
			}
		}
	})
}

func TestLongLeaseEndsBeforeItIsWritten(t *testing.T) {
	onMachine(t, server.Config{}, func(t *testing.T, m *machine) {
		a, b := connect(m.s), connect(m.s)
		hangs := make(chan struct{})
		m.disk.set(func(d *memDisk) { d.hangs = hangs })
		a.ask(t, "l|k|0 7200")
		synctest.Wait()
		b.expect(t, "force|k|lock", "ok 1")
		m.disk.set(func(d *memDisk) { d.hangs = nil })
		close(hangs)
		if got := a.get(t); got != "error_lease_expired" {
			t.Errorf("got %q", got)
		}
	})
}

// TestSyncsPerGrant counts what 100,000 grants cost the disk.
func TestSyncsPerGrant(t *testing.T) {
	disk := newMemDisk()
	s := start(t, server.Config{DataDir: "/data"}.WithDisk(datadir.Options{FS: disk}))
	defer s.Close()
	p := connect(s)
	const grants = 100_000
	p.grant(t, "l|first|0")
	var before int
	disk.set(func(d *memDisk) { before = d.syncs })
	const batch = 100
	tokens := make([]string, batch)
	for range grants / batch {
		var asked []string
		for i := range batch {
			asked = append(asked, fmt.Sprintf("l|k%d|0", i))
		}
		go p.send(wire(asked...))
		for i := range tokens {
			tokens[i] = p.granted(t, "33")
		}
		asked = asked[:0]
		for i, token := range tokens {
			asked = append(asked, fmt.Sprintf("r|k%d|%s", i, token))
		}
		go p.send(wire(asked...))
		for range tokens {
			if got := p.get(t); got != "ok" {
				t.Fatal(got)
			}
		}
	}
	disk.set(func(d *memDisk) {
		t.Logf("%d syncs for %d grants", d.syncs-before, grants)
		if d.syncs-before > 1 {
			t.Errorf("%d syncs for %d grants", d.syncs-before, grants)
		}
	})
}

func TestDataDirIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	s := start(t, server.Config{DataDir: dir})
	if _, err := server.New(server.Config{DataDir: dir}); !errors.Is(err, datadir.ErrInUse) || !strings.Contains(err.Error(), "Config.DataDir") {
		t.Errorf("a second server: %v", err)
	}
	if err := s.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
	start(t, server.Config{DataDir: dir}).Close()
	for _, name := range []string{"state-a", "state-b"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("rubbish"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := server.New(server.Config{DataDir: dir}); !errors.Is(err, datadir.ErrDamaged) {
		t.Errorf("a damaged one: %v", err)
	}
}

// TestDataDirMustExist takes directories that nobody has used for volumes that are
// not mounted, and leaves them as they are.
func TestDataDirMustExist(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "data")
	refused := func() {
		t.Helper()
		_, err := server.New(server.Config{DataDir: dir, DataDirMustExist: true})
		if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "mounted") {
			t.Errorf("error is %v", err)
		}
	}
	refused()
	if _, err := os.Stat(dir); err == nil {
		t.Error("the directory was made")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	refused()
	if files, err := os.ReadDir(dir); len(files) != 0 || err != nil {
		t.Errorf("the empty directory has %v, %v", files, err)
	}
	start(t, server.Config{DataDir: dir}).Close()
	start(t, server.Config{DataDir: dir, DataDirMustExist: true}).Close()
}

func TestRepairsAreLogged(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	start(t, server.Config{DataDir: dir}).Close()
	for _, name := range []string{"", "state-a", "state-b", "identity"} {
		if name != "" {
			if err := os.WriteFile(filepath.Join(dir, name), []byte("rubbish"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		var log bytes.Buffer
		start(t, server.Config{DataDir: dir, Logger: slog.New(slog.NewTextHandler(&log, nil))}).Close()
		if s := log.String(); strings.Contains(s, "level=WARN") != (name != "") || !strings.Contains(s, name) {
			t.Errorf("of a damaged %q the log says %s", name, s)
		}
	}
}
