//go:build linux

package scale

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/distributed-go/distributed"
	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/size"
	_ "github.com/distributed-go/distributed/etcd" // makes etcd:// known
	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/internal/figures"
	"github.com/distributed-go/distributed/internal/leaktest"
	"github.com/distributed-go/distributed/internal/proc"
	"github.com/distributed-go/distributed/internal/servers"
	"github.com/distributed-go/distributed/locker"
)

var (
	idleClients     = size.New("idle-clients", 50, 1000, "idle clients of an etcd; our server has eight times as many")
	idleClientsTime = size.New("idle-clients-seconds", 2, 30, "seconds for which they are watched")
)

func TestMain(m *testing.M) {
	proc.Main(map[string]proc.Role{"ours": servers.Serve, "etcd": etcdRole, "clients": clientsRole})
	leaktest.Main(m)
}

// etcdRole serves etcd from the directory that is its argument.
func etcdRole(c *proc.Child) error {
	cfg := embed.NewConfig()
	if err := c.Args(&cfg.Dir); err != nil {
		return err
	}
	cfg.LogLevel = "panic"
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	here := func() []url.URL { return []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}} }
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = here(), here()
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = here(), here()
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return err
	}
	defer e.Close()
	select {
	case <-e.Server.ReadyNotify():
	case err := <-e.Err():
		return err
	case <-time.After(time.Minute):
		return errors.New("etcd is not ready after a minute")
	}
	return c.Serve(e.Clients[0].Addr().String())
}

// A crowd is clients in one process.
type crowd struct {
	URL string
	N   int
	TTL time.Duration
}

// clientsRole has clients that hold a lock each, and says after what time all did.
func clientsRole(c *proc.Child) error {
	var w crowd
	if err := c.Args(&w); err != nil {
		return err
	}
	began := time.Now()
	errs := make([]error, w.N)
	gate := make(chan struct{}, 50) // those who connect at the same time
	var wg sync.WaitGroup
	for i := range w.N {
		gate <- struct{}{}
		wg.Go(func() {
			defer func() { <-gate }()
			var client *distributed.Client
			client, errs[i] = distributed.Open(w.URL, locker.WithTTL(w.TTL), locker.WithLogger(slog.New(slog.DiscardHandler)))
			if errs[i] == nil {
				_, errs[i] = client.Acquire(context.Background(), fmt.Sprintf("key-of-the-usual-length-%07d", i))
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return c.Serve(time.Since(began).Seconds())
}

// resident is what a process has in memory, in bytes.
func resident(t *testing.T, p *proc.Process) float64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", p.PID()))
	assert.Sure(t, err)
	pages, err := strconv.Atoi(string(bytes.Fields(text)[1]))
	assert.Sure(t, err)
	return float64(pages * os.Getpagesize())
}

// TestMeasureIdleClients has many clients hold a lock each, over a connection of
// their own, and do nothing else.
func TestMeasureIdleClients(t *testing.T) {
	const ttl = 10 * time.Second
	few, idle := idleClients.Get(), time.Duration(idleClientsTime.Get())*time.Second
	table := figures.NewTable("server", "clients", "s until all held", "resident KiB per client, server", "client", "server µs of CPU per client and second", "client")
	for _, s := range []struct {
		name, url string
		n         int
		args      func() string
	}{
		{"ours", "dflockd://%s", 8 * few, func() string { return servers.Locks }},
		{"etcd", "etcd://%s/scale", few, t.TempDir},
	} {
		var addr string
		p := proc.Start(t, s.name, s.args(), &addr)
		before := resident(t, p)
		var took float64
		clients := proc.Start(t, "clients", crowd{fmt.Sprintf(s.url, addr), s.n, ttl}, &took)
		used := func(p *proc.Process) time.Duration {
			d, err := p.CPU(t.Context())
			assert.Sure(t, err)
			return d
		}
		server, client, began := used(p), used(clients), time.Now()
		time.Sleep(idle)
		passed := time.Since(began).Seconds()
		server, client = used(p)-server, used(clients)-client
		each := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(s.n) / passed }
		n := float64(s.n)
		table.Row(s.name, s.n, took, (resident(t, p)-before)/n/1024, resident(t, clients)/n/1024, each(server), each(client))
		if used, err := p.Usage(t.Context(), false); err != nil || used.Sockets < s.n {
			t.Errorf("%s: %d sockets of %d clients, %v", s.name, used.Sockets, s.n, err)
		}
		clients.Kill()
		p.Kill()
	}
	t.Logf("TTL %v, idle %v, %s, load %s", ttl, idle, runtime.Version(), load())
	campaign.Show(t, table)
}

func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(text))[:3], " ")
}
