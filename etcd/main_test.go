package etcd

import (
	"context"
	"net"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/distributed-go/distributed/internal/leaktest"
	"github.com/distributed-go/distributed/locker"
)

func TestMain(m *testing.M) { leaktest.Main(m) }

// A server is an etcd in this process, alone in its cluster.
type server struct {
	t    testing.TB
	addr string // of its clients
}

// startEtcd starts an etcd that is stopped when the test ends.
func startEtcd(t testing.TB) *server {
	t.Helper()
	return startEtcdWith(t, func(cfg *embed.Config) { cfg.UnsafeNoFsync = true })
}

// startEtcdWith starts one with settings of its own.
func startEtcdWith(t testing.TB, set func(*embed.Config)) *server {
	t.Helper()
	cfg := embed.NewConfig()
	cfg.Dir = t.TempDir()
	cfg.LogLevel = "panic"
	cfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(zap.NewNop())
	set(cfg)
	anywhere := []url.URL{{Scheme: "http", Host: "127.0.0.1:0"}}
	clients := slices.Clone(anywhere)
	if !cfg.ClientTLSInfo.Empty() {
		clients[0].Scheme = "https"
	}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = clients, clients
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = anywhere, anywhere
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	e, err := embed.StartEtcd(cfg)
	must(t, err)
	t.Cleanup(e.Close)
	select {
	case <-e.Server.ReadyNotify():
	case err := <-e.Err():
		t.Fatal(err)
	case <-time.After(time.Minute):
		t.Fatal("etcd is not ready after a minute")
	}
	return &server{t: t, addr: e.Clients[0].Addr().String()}
}

// backend returns a Backend that the caller closes.
func (s *server) backend(opts ...Option) *Backend { return dialTo(s.t, s.addr, opts...) }

func config(addr string) clientv3.Config {
	return clientv3.Config{Endpoints: []string{"http://" + addr}}
}

func dialTo(t testing.TB, addr string, opts ...Option) *Backend {
	t.Helper()
	b, err := Dial(config(addr), opts...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// opened returns a Backend that is closed when the test ends.
func (s *server) opened(opts ...Option) *Backend {
	b := s.backend(opts...)
	s.t.Cleanup(func() { b.Close() })
	return b
}

// locker returns a Client that is closed when the test ends.
func (s *server) locker(opts ...locker.Option) *locker.Client {
	c := locker.New(s.backend(), opts...)
	s.t.Cleanup(func() { c.Close() })
	return c
}

// etcdctl returns a client of etcd itself.
func (s *server) etcdctl() *clientv3.Client {
	s.t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{s.addr}, Logger: zap.NewNop()})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	return c
}

// A proxy forwards connections to an address, and can hold back what comes from
// there.
type proxy struct {
	t  testing.TB
	at string
	to string
	wg sync.WaitGroup

	mu     sync.Mutex
	ln     net.Listener  // guarded by mu
	thawed chan struct{} // closed by thaw; nil while nothing is held back; guarded by mu
	conns  map[net.Conn]struct{}
}

func newProxy(t testing.TB, to string) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, at: ln.Addr().String(), to: to, ln: ln, conns: make(map[net.Conn]struct{})}
	p.wg.Go(func() { p.accept(ln) })
	t.Cleanup(func() {
		p.thaw()
		p.down()
		p.wg.Wait()
	})
	return p
}

// down refuses connections, and ends those that there are.
func (p *proxy) down() {
	p.mu.Lock()
	p.ln.Close()
	p.mu.Unlock()
	p.cut()
}

// up takes connections again.
func (p *proxy) up() {
	p.t.Helper()
	ln, err := net.Listen("tcp", p.at)
	must(p.t, err)
	p.mu.Lock()
	p.ln = ln
	p.mu.Unlock()
	p.wg.Go(func() { p.accept(ln) })
}

func (p *proxy) accept(ln net.Listener) {
	for {
		in, err := ln.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.to)
		if err != nil {
			in.Close()
			continue
		}
		p.mu.Lock()
		p.conns[in], p.conns[out] = struct{}{}, struct{}{}
		p.mu.Unlock()
		p.wg.Go(func() { p.forward(out, in, false) })
		p.wg.Go(func() { p.forward(in, out, true) })
	}
}

func (p *proxy) forward(to, from net.Conn, held bool) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if held {
			p.wait()
		}
		if _, failure := to.Write(buf[:n]); err != nil || failure != nil {
			return
		}
	}
}

func (p *proxy) wait() {
	p.mu.Lock()
	thawed := p.thawed
	p.mu.Unlock()
	if thawed != nil {
		<-thawed
	}
}

// freeze holds back what the server says.
func (p *proxy) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.thawed == nil {
		p.thawed = make(chan struct{})
	}
}

// thaw lets it go.
func (p *proxy) thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.thawed != nil {
		close(p.thawed)
		p.thawed = nil
	}
}

// cut ends all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
	clear(p.conns)
}

// must ends the test if there is an error.
func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for: %s", what)
		}
	}
}

// census counts holders and waiters.
func census(t testing.TB, b *Backend) (holders, waiters int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	r, err := b.Inspect(ctx)
	must(t, err)
	for _, k := range r.Keys {
		holders += k.Holders
		waiters += k.Waiters
	}
	return holders, waiters
}
