package server_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/internal/datadir"
	"github.com/distributed-go/distributed/server"
)

// A machine has a disk and runs one server after the other on it.
type machine struct {
	t    testing.TB
	cfg  server.Config
	disk *memDisk
	wall func() time.Time
	span uint64 // of fences that are reserved at a time
	s    *server.Server
	all  []*server.Server
}

// onMachine runs a test in virtual time with a machine whose server is up.
func onMachine(t *testing.T, cfg server.Config, test func(t *testing.T, m *machine)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := &machine{t: t, cfg: cfg, disk: newMemDisk(), span: 1000}
		defer time.Sleep(time.Minute) // a bubble must not end before its goroutines
		defer func() {
			for _, s := range m.all {
				s.Close()
			}
		}()
		m.boot()
		test(t, m)
	})
}

// boot starts a server on the disk.
func (m *machine) boot() {
	m.t.Helper()
	cfg := m.cfg
	cfg.DataDir = "/data"
	m.s = start(m.t, cfg.WithDisk(datadir.Options{FS: m.disk, Wall: m.wall, Span: m.span}))
	m.all = append(m.all, m.s)
}

// crash has the server die, and starts the next one. Nobody hears anything of the
// old one any more, which is left as it is.
func (m *machine) crash(power bool) {
	m.t.Helper()
	m.disk = m.disk.crash(power)
	m.boot()
}

// restart stops the server in good order, and starts the next one.
func (m *machine) restart() {
	m.t.Helper()
	if err := m.s.Shutdown(m.t.Context()); err != nil {
		m.t.Fatal(err)
	}
	m.boot()
}

// session begins a session and returns its ID and what the server offers.
func (p *peer) session(t testing.TB) (id, offers string) {
	t.Helper()
	words := strings.SplitN(p.do(t, "hello|_|1 me"), " ", 4)
	if len(words) < 3 || words[0] != "ok" {
		t.Fatalf("hello was answered %q", words)
	}
	if len(words) == 4 {
		offers = words[3]
	}
	return words[2], offers
}

// framed asks for a lease in session mode, which must be granted, and returns its
// token.
func (p *peer) framed(t testing.TB, request string) string {
	t.Helper()
	words := strings.Fields(p.do(t, request))
	if len(words) != 4 || words[1] != "ok" {
		t.Fatalf("%s was answered %q", request, words)
	}
	return words[2]
}

func TestCrashWithSessions(t *testing.T) {
	for _, power := range []bool{false, true} {
		onMachine(t, server.Config{}, func(t *testing.T, m *machine) {
			a := connect(m.s)
			id, offers := a.session(t)
			if offers != "durable" {
				t.Errorf("offers %q", offers)
			}
			token := a.framed(t, "1 l|k|- 10")
			share := a.framed(t, "2 sl|s|- 3 2 20")
			gone := a.framed(t, "3 l|gone|- 10")
			time.Sleep(time.Second)
			m.crash(power)
			a, b := connect(m.s), connect(m.s)
			a.expect(t, "hello|_|1 me resume="+id, "error_session claim")
			if _, offers := a.session(t); offers != "durable grace=20000" && offers != "durable grace=19999" {
				t.Errorf("offers %q", offers)
			}
			b.session(t)
			b.expect(t, "1 l|k|0 10", "1 timeout")
			b.ask(t, "2 l|k|- 60", "3 l|gone|- 60", "4 l|new|- 60")
			a.expect(t, "1 claim|k|"+token+" 10 1 1", "1 ok "+token+" 10000ms")
			a.expect(t, "2 claim|s|"+share+" 20 3 2", "2 ok "+share+" 20000ms")
			a.expect(t, "3 claim|k|"+share+" 20 3 2", "3 error")
			a.expect(t, "4 r|gone|"+gone, "4 ok")
			a.expect(t, "5 claim|gone|"+gone+" 10 1 1", "5 error")
			if st := m.s.Status(); st.State != server.StateGrace || !st.Durable || st.Err != nil || st.GraceEnds <= 19*time.Second {
				t.Errorf("status %+v", st)
			}
			began := time.Now()
			for i := range 9 {
				time.Sleep(2 * time.Second)
				a.expect(t, fmt.Sprintf("%d beat|_|_", 6+i), fmt.Sprintf("%d ok", 6+i))
				b.expect(t, fmt.Sprintf("%d beat|_|_", 6+i), fmt.Sprintf("%d ok", 6+i))
			}
			if got := b.get(t)[:5] + b.get(t)[:5]; got != "3 ok 4 ok " && got != "4 ok 3 ok " {
				t.Errorf("got %q", got)
			}
			if took := time.Since(began); took < 19*time.Second || took > 20*time.Second {
				t.Errorf("granted after %v", took)
			}
			if st := m.s.Status(); st.State != server.StateReady {
				t.Errorf("status %+v", st)
			}
			a.expect(t, "20 r|k|"+token, "20 ok")
			if got := b.get(t); !strings.HasPrefix(got, "2 ok ") || got[5:21] <= token[:16] {
				t.Errorf("got %q after the fence %s", got, token[:16])
			}
		})
	}
}

func TestCrashWithTheBaseProtocol(t *testing.T) {
	onMachine(t, server.Config{}, func(t *testing.T, m *machine) {
		a := connect(m.s)
		token := a.grant(t, "l|k|0")
		share := a.grant(t, "sl|k|0 3")
		m.crash(true)
		a, b := connect(m.s), connect(m.s)
		a.expect(t, "n|other|"+token, "error")
		a.expect(t, "n|k|"+token[:31]+"x", "error")
		a.expect(t, "n|k|"+token+" 600", "ok 33") // no longer than the one before can have been
		a.expect(t, "sn|k|"+share, "error")       // nobody can tell its limit
		b.expect(t, "l|k|0", "timeout")
		b.expect(t, "l|free|20", "timeout")
		a.expect(t, "n|k|"+token, "ok 33")
		b.expect(t, "l|free|12", "timeout")
		time.Sleep(time.Second)
		b.grant(t, "l|free|0")
		b.expect(t, "l|k|0", "timeout")
		a.expect(t, "r|k|"+token, "ok")
		b.grant(t, "l|k|0")
		a.expect(t, "n|k|"+token, "error")
	})
}

func TestCleanRestart(t *testing.T) {
	onMachine(t, server.Config{}, func(t *testing.T, m *machine) {
		old, dead := connect(m.s), connect(m.s)
		kept, other := old.grant(t, "l|k|0"), old.grant(t, "sl|s|0 2")
		a, waiter := connect(m.s), connect(m.s)
		id, _ := a.session(t)
		token := a.framed(t, "1 l|mine|- 10")
		waiter.session(t)
		waiter.ask(t, "1 l|mine|- 10")
		dead.ask(t, "l|k|100")
		synctest.Wait()
		done := shutdown(t.Context(), m.s)
		if got := dead.get(t); got != "error_draining" {
			t.Errorf("who waited got %q", got)
		}
		waiter.closed(t)
		a.closed(t)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		m.boot()
		if st := m.s.Status(); st.State != server.StateReady || st.GraceEnds != 0 {
			t.Errorf("status %+v", st)
		}
		a, b := connect(m.s), connect(m.s)
		b.grant(t, "l|free|0")
		b.expect(t, "l|mine|0", "timeout")
		b.expect(t, "l|k|0", "timeout")
		b.expect(t, "sn|s|"+other, "ok 33")
		b.grant(t, "sl|s|0 2")
		b.expect(t, "sl|s|0 2", "timeout")
		a.expect(t, "hello|_|1 me resume="+id, "error_session claim")
		_, offers := a.session(t)
		if offers != "durable" {
			t.Errorf("offers %q", offers)
		}
		a.expect(t, "1 claim|mine|"+token+" 10 1 1", "1 ok "+token+" 10000ms")
		b.expect(t, "n|k|"+kept, "ok 33")
		c := connect(m.s)
		c.expect(t, "hello|_|1 me resume="+id, "error_session") // all is claimed
		b.expect(t, "r|k|"+kept, "ok")
	})
}

func TestShutdownInTheGraceIsNotClean(t *testing.T) {
	onMachine(t, server.Config{}, func(t *testing.T, m *machine) {
		token := connect(m.s).grant(t, "l|k|0")
		m.crash(true)
		time.Sleep(5 * time.Second)
		m.restart()
		if st := m.s.Status(); st.State != server.StateGrace || st.GraceEnds < 32*time.Second {
			t.Errorf("status %+v", st)
		}
		connect(m.s).expect(t, "n|k|"+token, "ok 33")
	})
}

func TestLongLeases(t *testing.T) {
	onMachine(t, server.Config{}, func(t *testing.T, m *machine) {
		a, b := connect(m.s), connect(m.s)
		a.session(t)
		token := a.framed(t, "1 l|k|- 2h")
		released := a.framed(t, "2 l|released|- 2h")
		b.ask(t, "l|base|0 7200", "l|base|2 7200", "sl|slots|0 2 7200")
		base := b.granted(t, "7200")
		if got := b.get(t); got != "timeout" {
			t.Errorf("got %q", got)
		}
		share := b.granted(t, "7200")
		a.expect(t, "3 r|released|"+released, "3 ok")
		time.Sleep(100 * time.Millisecond)
		m.crash(true)
		if st := m.s.Status(); st.State != server.StateReady {
			t.Errorf("with leases that have records alone: %+v", st)
		}
		time.Sleep(100 * time.Minute)
		a, b = connect(m.s), connect(m.s)
		b.grant(t, "l|free|0")
		b.grant(t, "l|released|0")
		b.expect(t, "l|k|0", "timeout")
		b.expect(t, "l|base|0", "timeout")
		b.grant(t, "sl|slots|0 2")
		b.expect(t, "sl|slots|0 2", "timeout")
		a.session(t)
		a.expect(t, "1 claim|k|"+token+" 3h 1 1", "1 ok "+token+" 7200000ms")
		b.expect(t, "n|base|"+base+" 10", "ok 10")
		b.expect(t, "sn|slots|"+share+" 8000", "ok 7200")
		b.expect(t, "sn|slots|"+share+" 8000", "ok 8000")
		b.expect(t, "r|base|"+base, "ok")
		m.crash(true)
		b = connect(m.s)
		b.expect(t, "l|k|0", "timeout")
		time.Sleep(2*time.Hour + time.Minute)
		b = connect(m.s)
		b.grant(t, "l|k|0")
		b.grant(t, "sl|slots|0 2")
		b.expect(t, "sl|slots|0 2", "timeout")
	})
}

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
		b.ask(t, "l|base|0 20")
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

// TestNothingChangesWhileTheLeasesAreWritten stops a server whose disk takes its
// time.
func TestNothingChangesWhileTheLeasesAreWritten(t *testing.T) {
	onMachine(t, server.Config{}, func(t *testing.T, m *machine) {
		a, b, c := connect(m.s), connect(m.s), connect(m.s)
		a.session(t)
		framed := a.framed(t, "1 l|framed|- 30")
		base, forced := b.grant(t, "l|base|0"), b.grant(t, "l|forced|0")
		c.expect(t, "ping|_|_", "ok")
		hangs := make(chan struct{})
		m.disk.set(func(d *memDisk) { d.hangs = hangs })
		done := shutdown(t.Context(), m.s)
		pending(t, done)
		a.send(wire("2 r|framed|" + framed))
		a.closed(t)
		b.send(wire("r|base|" + base))
		b.closed(t)
		c.send(wire("force|forced|lock"))
		c.closed(t)
		m.disk.set(func(d *memDisk) { d.hangs = nil })
		close(hangs)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		m.boot()
		p := connect(m.s)
		for key, token := range map[string]string{"framed": framed, "base": base, "forced": forced} {
			p.expect(t, "l|"+key+"|0", "timeout")
			p.expect(t, "r|"+key+"|"+token, "ok")
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

// TestFencesGrow crashes a server again and again, with a wall clock that goes
// wherever it wants.
func TestFencesGrow(t *testing.T) {
	random := rand.New(rand.NewPCG(4, 2)) //nolint:gosec // it repeats itself on purpose
	cfg := server.Config{MaxGrace: 5 * time.Second, GCMaxIdle: 2 * time.Second}
	onMachine(t, cfg, func(t *testing.T, m *machine) {
		var steps atomic.Int64
		m.wall = func() time.Time { return time.Now().Add(time.Duration(steps.Load())) }
		last := map[string]string{}
		grants, graces := 0, 0
		for range 100 {
			graceEnds := time.Now().Add(m.s.Status().GraceEnds)
			p := connect(m.s)
			p.session(t)
			for id := 1; id < 20+random.IntN(60); id++ {
				key := fmt.Sprint("k", random.IntN(5))
				words := strings.Fields(p.do(t, fmt.Sprintf("%d l|%s|%d %d fences=%d", id, key, random.IntN(3), 1+random.IntN(5), 1+random.IntN(300))))
				if words[1] != "ok" {
					continue
				}
				grants++
				if time.Now().Before(graceEnds) {
					t.Fatalf("granted %v before the grace ends", time.Until(graceEnds))
				}
				if fence := words[2][:16]; fence <= last[key] {
					t.Fatalf("fence %s of %s after %s", fence, key, last[key])
				}
				last[key] = words[2][:16]
			}
			steps.Add(random.Int64N(int64(100*time.Hour)) - int64(60*time.Hour))
			if random.IntN(4) == 0 {
				m.restart()
			} else {
				m.crash(random.IntN(2) == 0)
				graces++
			}
		}
		if grants < 200 || graces < 20 {
			t.Errorf("%d grants, %d crashes", grants, graces)
		}
		t.Logf("%d grants, %d crashes", grants, graces)
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
