//go:build unix

package faults

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/distributed-go/distributed"
	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/size"
	"github.com/distributed-go/distributed/e2e/internal/witness"
	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/internal/leaktest"
	"github.com/distributed-go/distributed/internal/proc"
	"github.com/distributed-go/distributed/internal/servers"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/server"
)

func TestMain(m *testing.M) {
	proc.Main(map[string]proc.Role{
		"server": serverRole,
		"worker": workerRole,
	})
	leaktest.Main(m)
}

var limit = flag.Duration("limit", 10*time.Minute, "when to give a campaign up")

// noContext is for what nothing ends early.
var noContext = context.Background()

// beside lets a small campaign run beside the others, since all of them mostly
// wait. At full size each has the machine for itself.
func beside(t *testing.T) {
	t.Helper()
	if !size.Full() {
		t.Parallel()
	}
}

// mostlyWaits lets a campaign run beside the others also at full size, since what
// it takes is time and not the machine, and what it measures is no promise of
// milliseconds. They run when those are over that have the machine for themselves.
func mostlyWaits(t *testing.T) {
	t.Helper()
	t.Parallel()
}

// serverArgs say how a server is to be.
type serverArgs struct {
	Addr   string
	Config serverConfig
}

// serverConfig is what of server.Config the campaigns set.
type serverConfig struct {
	KeepOnDisconnect bool
	DataDir          string
	MaxGrace         time.Duration
	SyncsFail        string // the file that makes syncs fail, if that is planted
}

// A lockServer is a lock server in a process of its own.
type lockServer struct {
	*proc.Process
	config serverConfig
	serverReady
}

// serverReady is what a server says of itself when it listens.
type serverReady struct {
	Addr  string
	Began int64 // by monotonic, before it did anything
	Ready int64 // when it listened
}

func startServer(t *testing.T, addr string, c serverConfig) *lockServer {
	t.Helper()
	s, err := launchServer(t.Context(), "", addr, c)
	assert.Sure(t, err)
	t.Cleanup(func() { s.Kill() })
	return s
}

// launchServer returns an error if the server does not start. Space is its network
// namespace, empty for the test's own.
func launchServer(ctx context.Context, space, addr string, c serverConfig) (*lockServer, error) {
	cmd, err := roleIn(space, "server")
	if err != nil {
		return nil, err
	}
	s := &lockServer{config: c}
	s.Process, err = proc.Launch(ctx, cmd, "server", serverArgs{Addr: addr, Config: c}, &s.serverReady)
	return s, err
}

func serverRole(c *proc.Child) error {
	var args serverArgs
	if err := c.Args(&args); err != nil {
		return err
	}
	if err := os.Setenv(syncsFail, args.Config.SyncsFail); err != nil {
		return err
	}
	ready := serverReady{Began: witness.Monotonic()}
	s, err := server.New(server.Config{
		KeepOnDisconnect: args.Config.KeepOnDisconnect,
		DataDir:          args.Config.DataDir,
		MaxGrace:         args.Config.MaxGrace,
		Logger:           slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", args.Addr)
	if err != nil {
		return err
	}
	c.Handle("status", proc.Handle(func(struct{}) (serverStatus, error) { return statusOf(s), nil }))
	c.Handle("limit", proc.Handle(func(struct{}) (struct{}, error) { return struct{}{}, limitWrites() }))
	ready.Addr, ready.Ready = ln.Addr().String(), witness.Monotonic()
	return servers.ServeLocks(c, s, ln, ready)
}

// A serverStatus is what a server says of itself: its state, also over HTTP, and for
// what its disk has failed.
type serverStatus struct {
	State         string
	Health, Ready int
	Failed        string // one of those below, or nothing
}

const failedLeases, failedValues = "leases", "values"

func statusOf(s *server.Server) serverStatus {
	ask := func(path string) int {
		w := httptest.NewRecorder()
		s.Health().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, http.NoBody))
		return w.Code
	}
	st := s.Status()
	is := serverStatus{State: string(st.State), Health: ask("/healthz"), Ready: ask("/readyz")}
	switch {
	case st.Err == nil:
	case strings.Contains(st.Err.Error(), valuesFile):
		is.Failed = failedValues
	default:
		is.Failed = failedLeases
	}
	return is
}

// limitWrites makes every later write of this process to a file fail.
func limitWrites() error {
	signal.Ignore(unix.SIGXFSZ)
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_FSIZE, &lim); err != nil {
		return err
	}
	lim.Cur = 0
	return unix.Setrlimit(unix.RLIMIT_FSIZE, &lim)
}

// urlOf is what workers open for a server at an address. Proof says that the
// server may take the death of their process for the end of what they believe.
func urlOf(addr string, proof bool) string {
	url := "dflockd://" + addr + "?fences=1"
	if !proof {
		url += "&process=0"
	}
	return url
}

// open opens a client that is closed when the test ends.
func open(t *testing.T, url string, ttl time.Duration) *distributed.Client {
	t.Helper()
	c, err := distributed.Open(url, locker.WithTTL(ttl), locker.WithLogger(slog.New(slog.DiscardHandler)))
	assert.Sure(t, err)
	t.Cleanup(func() { _ = c.Close() }) // with the server gone there may be nothing to give back to
	return c
}

// keysOf returns n keys.
func keysOf(prefix string, n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("%s-%d", prefix, i)
	}
	return keys
}

// residue is what is left at a server when all clients are gone: it waits for a
// while, but for less than leases last that just have to run out elsewhere.
func residue(t *testing.T, s *lockServer, before proc.Usage, patience time.Duration) []campaign.Violation {
	t.Helper()
	observer := open(t, urlOf(s.Addr, true), time.Minute)
	var problem string
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) { // real time: another process cleans up
		if problem = leftAt(observer, s, before); problem == "" {
			return nil
		}
		if time.Now().After(deadline) {
			break
		}
	}
	return []campaign.Violation{campaign.Violationf("residue", "%v after the end: %s", patience, problem)}
}

// leftAt says what is left. The observer itself has a connection, and three
// goroutines at the server.
func leftAt(observer *distributed.Client, s *lockServer, before proc.Usage) string {
	ctx, cancel := context.WithTimeout(noContext, 5*time.Second)
	defer cancel()
	r, err := observer.Inspect(ctx)
	if err != nil {
		return err.Error()
	}
	for _, k := range r.Keys {
		if k.Holders+k.Waiters > 0 {
			return fmt.Sprintf("the server reports %d holders and %d waiters of %s", k.Holders, k.Waiters, k.Key)
		}
	}
	const observers = 4
	u, err := s.Usage(ctx, false)
	switch {
	case err != nil:
		return err.Error()
	case u.Goroutines > before.Goroutines+observers || u.Files > before.Files+observers:
		return fmt.Sprintf("the server has %d goroutines and %d files, and had %d and %d before anybody came", u.Goroutines, u.Files, before.Goroutines, before.Files)
	}
	return ""
}

func usage(t *testing.T, s *lockServer) proc.Usage {
	t.Helper()
	u, err := s.Usage(t.Context(), false)
	assert.Sure(t, err)
	return u
}
