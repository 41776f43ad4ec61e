//go:build unix

package etcdtool

import (
	"bytes"
	"context"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/internal/leaktest"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// dlock is the tool, which TestTool has built.
var dlock string

// TestTool is all tests of the tool, which is built once for them.
func TestTool(t *testing.T) {
	dlock = filepath.Join(t.TempDir(), "dlock")
	if out, err := exec.Command("go", "build", "-o", dlock, "github.com/distributed-go/distributed/cmd/dlock").CombinedOutput(); err != nil {
		t.Fatalf("building dlock: %v\n%s", err, out)
	}
	for name, test := range map[string]func(*testing.T){
		"run": testRun, "stats": testStats, "force": testForce, "once": testOnce, "bench": testBench, "demo": testDemo,
		"password": testPassword, "TLS": testTLS, "nobody there": testNobodyThere,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // they mostly wait, each for an etcd of its own
			test(t)
		})
	}
}

// An etcd is one in this process, alone in its cluster.
type etcd struct {
	t   *testing.T
	dir string
	url string // with a prefix
	// stop ends it, before the test does.
	stop func()
	*embed.Etcd
}

// start starts an etcd that is stopped when the test ends.
func start(t *testing.T, set func(*embed.Config)) *etcd {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Dir = t.TempDir()
	cfg.LogLevel = "panic"
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	cfg.UnsafeNoFsync = true
	cfg.BcryptCost = 4 // the least: each process of the demo shows the password
	here := func() []url.URL { return []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}} }
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = here(), here()
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = here(), here()
	set(cfg)
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	e, err := embed.StartEtcd(cfg)
	assert.Sure(t, err)
	stop := sync.OnceFunc(e.Close)
	t.Cleanup(stop)
	select {
	case <-e.Server.ReadyNotify():
	case err := <-e.Err():
		t.Fatal(err)
	case <-time.After(time.Minute):
		t.Fatal("etcd is not ready after a minute")
	}
	scheme := "etcd://"
	if cfg.ClientAutoTLS {
		scheme = "etcds://"
	}
	return &etcd{t: t, dir: cfg.Dir, url: scheme + e.Clients[0].Addr().String() + "/tool", stop: stop, Etcd: e}
}

func plain(*embed.Config) {}

// ctl returns a client of etcd itself, of a user if there is one.
func (e *etcd) ctl(user, password string) *clientv3.Client {
	e.t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{e.Clients[0].Addr().String()}, Username: user, Password: password, Logger: zap.NewNop()})
	assert.Sure(e.t, err)
	e.t.Cleanup(func() { c.Close() })
	return c
}

// An outcome is what a run of the tool came to.
type outcome struct {
	stdout, stderr string
	code           int
}

// runTimeout ends a run that hangs; the demo ends by itself before, and says why.
const runTimeout = 6 * time.Minute

// run runs the tool with the URL of the etcd in its environment. It may be called
// from any goroutine.
func (e *etcd) run(env []string, args ...string) outcome {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), runTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, dlock, args...)
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "DISTRIBUTED_") && !strings.HasPrefix(v, "DFLOCKD_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(append(cmd.Env, "DISTRIBUTED_URL="+e.url, "DLOCK="+dlock), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		e.t.Errorf("dlock %q: %v", args, err)
		return outcome{code: -1}
	}
	if ctx.Err() != nil {
		e.t.Errorf("dlock %q did not end", args)
	}
	return outcome{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode()}
}

// want fails unless a run ended with the code, and said something on stdout and
// stderr.
func (o outcome) want(t *testing.T, code int, stdout, stderr string) {
	t.Helper()
	if o.code != code || !strings.Contains(o.stdout, stdout) || !strings.Contains(o.stderr, stderr) {
		t.Errorf("%+v, want code %d, %q on stdout and %q on stderr", o, code, stdout, stderr)
	}
}
