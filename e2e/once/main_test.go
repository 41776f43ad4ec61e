//go:build unix

package once

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"testing"
	"time"

	"github.com/distributed-go/distributed/e2e/internal/witness"
	"github.com/distributed-go/distributed/internal/echo"
	"github.com/distributed-go/distributed/internal/figures"
	"github.com/distributed-go/distributed/internal/leaktest"
	"github.com/distributed-go/distributed/internal/proc"
	"github.com/distributed-go/distributed/server"
)

func TestMain(m *testing.M) {
	proc.Main(map[string]proc.Role{
		"server": serverRole,
		"worker": workerRole,
		"group":  groupRole,
		"crowd":  crowdRole,
		"speed":  speedRole,
		"echo":   echoRole,
	})
	leaktest.Main(m)
}

var (
	only  = flag.String("only", "", "run the mutants whose names this regular expression matches")
	limit = flag.Duration("limit", time.Minute, "when what should have come is taken for stuck")
	seed  = flag.Uint64("seed", 0, "what everything random follows from, but for what the machine does; 0 is a new one each time")
)

const (
	processes  = 8
	goroutines = 200
)

// newRandom returns the campaign's source of everything random, and says how to
// repeat it when the test has failed.
func newRandom(t *testing.T) *rand.Rand {
	t.Helper()
	n := *seed
	if n == 0 {
		n = rand.Uint64()
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("repeat with -run '%s' -seed %d", t.Name(), n)
		}
	})
	return rand.New(rand.NewPCG(n, 0))
}

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
	must(t, err)
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
	served := make(chan error, 1)
	go func() { served <- s.Serve(ln) }()
	if err := c.Serve(ln.Addr().String()); err != nil {
		return err
	}
	if err := s.Close(); err != nil {
		return err
	}
	<-served
	return nil
}

func echoRole(c *proc.Child) error {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := echo.NewServer(ln)
	defer s.Close()
	return c.Serve(ln.Addr().String())
}

// touch makes a file that somebody waits for.
func touch(path string) error { return os.WriteFile(path, nil, 0o600) }

// A violation is something that must not be. Its kind is one word.
type violation struct{ kind, text string }

func (v violation) String() string { return "violation " + v.kind + ": " + v.text }

// report prints violations, a few of each kind in full: the list of planted bugs
// reads these lines.
func report(t *testing.T, found []violation) {
	t.Helper()
	const shown = 5
	counts := make(map[string]int)
	for _, v := range found {
		if counts[v.kind]++; counts[v.kind] <= shown {
			t.Error(v)
		}
	}
	for kind, n := range counts {
		if n > shown {
			t.Errorf("violation %s: %d in all", kind, n)
		}
	}
}

func violationf(kind, format string, args ...any) violation {
	return violation{kind, fmt.Sprintf(format, args...)}
}

// must ends the test if there is an error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// show prints a table of figures.
func show(t *testing.T, table *figures.Table) {
	t.Helper()
	t.Logf("\n\n%s\n", table)
}
