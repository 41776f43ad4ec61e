package server_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

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
