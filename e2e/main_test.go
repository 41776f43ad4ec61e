//go:build unix

package e2e

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/distributed-go/distributed"
	"github.com/distributed-go/distributed/internal/leaktest"
	"github.com/distributed-go/distributed/internal/proc"
	"github.com/distributed-go/distributed/internal/servers"
	"github.com/distributed-go/distributed/internal/stocktest"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/server"
)

func TestMain(m *testing.M) {
	proc.Main(map[string]proc.Role{
		"server":    serverRole,
		"stock":     stockRole,
		"echo":      servers.ServeEcho,
		"canceller": cancellerRole,
		"believer":  believerRole,
		"crowd":     crowdRole,
		"holder":    holderRole,
		"keeper":    keeperRole,
		"worker":    workerRole,
	})
	leaktest.Main(m)
}

// A lockServer is a lock server in a process of its own.
type lockServer struct {
	*proc.Process
	addr string
}

// startServer starts a server of this project, in its own settings.
func startServer(t testing.TB) *lockServer {
	t.Helper()
	return startServerAt(t, "127.0.0.1:0")
}

// startServerAt starts one at an address.
func startServerAt(t testing.TB, addr string) *lockServer {
	t.Helper()
	s := new(lockServer)
	s.Process = proc.Start(t, "server", addr, &s.addr)
	return s
}

// startStock starts a server with the manners of the oldest dflockd.
func startStock(t testing.TB) *lockServer {
	t.Helper()
	s := new(lockServer)
	s.Process = proc.Start(t, "stock", nil, &s.addr)
	return s
}

func serverRole(c *proc.Child) error {
	s, err := server.New(server.Config{})
	if err != nil {
		return err
	}
	var addr string
	if err := c.Args(&addr); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return err
	}
	return servers.ServeLocks(c, s, ln, ln.Addr().String())
}

func stockRole(c *proc.Child) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := stocktest.New(stocktest.Config{})
	go s.Serve(ln)
	defer s.Close()
	return c.Serve(ln.Addr().String())
}

// url is what clients of a server of this project open.
func (s *lockServer) url() string { return "dflockd://" + s.addr + "?fences=1" }

// baseURL is what those open that are to speak the base protocol with it.
func (s *lockServer) baseURL() string { return s.url() + "&session=0" }

// open opens a client that is closed when the test ends, and silent: what goes
// wrong here is meant to.
func open(t testing.TB, url string, opts ...locker.Option) *distributed.Client {
	t.Helper()
	c, err := distributed.Open(url, append(opts, locker.WithLogger(slog.New(slog.DiscardHandler)))...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return c
}

// usage asks a process what it uses.
func usage(t testing.TB, p *proc.Process, collect bool) proc.Usage {
	t.Helper()
	u, err := p.Usage(t.Context(), collect)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// busy counts what a server's report shows as held and as waited for.
func busy(ctx context.Context, c *distributed.Client) (holders, waiters int, err error) {
	r, err := c.Inspect(ctx)
	if err != nil {
		return 0, 0, err
	}
	for _, k := range r.Keys {
		holders += k.Holders
		waiters += k.Waiters
	}
	return holders, waiters, nil
}

// eventually polls until f says that all is well, and fails the test with what
// it says instead after the time given. Real time: other processes work on it.
func eventually(t testing.TB, within time.Duration, f func() (problem string)) time.Duration {
	t.Helper()
	began := time.Now()
	for {
		problem := f()
		took := time.Since(began)
		if problem == "" {
			return took
		}
		if took > within {
			t.Fatalf("%v later still: %s", within, problem)
		}
		time.Sleep(2 * time.Millisecond)
	}
}
