//go:build unix

package once

import (
	"context"
	"flag"
	"log/slog"
	"net"
	"os"
	"testing"
	"time"

	"github.com/distributed-go/distributed/e2e/internal/witness"
	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/internal/leaktest"
	"github.com/distributed-go/distributed/internal/proc"
	"github.com/distributed-go/distributed/internal/servers"
	"github.com/distributed-go/distributed/server"
)

func TestMain(m *testing.M) {
	proc.Main(map[string]proc.Role{
		"server": serverRole,
		"worker": workerRole,
		"group":  groupRole,
		"crowd":  crowdRole,
		"speed":  speedRole,
		"echo":   servers.ServeEcho,
	})
	leaktest.Main(m)
}

var limit = flag.Duration("limit", time.Minute, "when what should have come is taken for stuck")

const (
	processes  = 8
	goroutines = 200
)

// monotonic reads the clock that all processes of a machine share.
func monotonic() int64 { return witness.Monotonic() }

// A lockServer is a lock server in a process of its own.
type lockServer struct {
	*proc.Process
	args serverArgs // with the address that it has
}

type serverArgs struct {
	Addr    string
	DataDir string // none if empty
}

// startServer starts a server on a free port, which is killed when the test ends.
func startServer(t *testing.T, dataDir string) *lockServer {
	t.Helper()
	s, err := launchServer(t.Context(), serverArgs{Addr: "127.0.0.1:0", DataDir: dataDir})
	assert.Sure(t, err)
	t.Cleanup(func() { s.Kill() })
	return s
}

func launchServer(ctx context.Context, args serverArgs) (*lockServer, error) {
	cmd, err := proc.InRole("server")
	if err != nil {
		return nil, err
	}
	s := &lockServer{args: args}
	s.Process, err = proc.Launch(ctx, cmd, "server", args, &s.args.Addr)
	return s, err
}

func serverRole(c *proc.Child) error {
	var args serverArgs
	if err := c.Args(&args); err != nil {
		return err
	}
	s, err := server.New(server.Config{DataDir: args.DataDir, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	ln, err := net.Listen("tcp", args.Addr)
	if err != nil {
		return err
	}
	return servers.ServeLocks(c, s, ln, ln.Addr().String())
}

// touch makes a file that somebody waits for.
func touch(path string) error { return os.WriteFile(path, nil, 0o600) }
