package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/distributed-go/distributed/internal/measure"
	"github.com/distributed-go/distributed/internal/proc"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/client/v3/concurrency"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
)

// etcdRole serves etcd from the directory that is its argument.
func etcdRole(c *proc.Child) error {
	var dir string
	if err := c.Args(&dir); err != nil {
		return err
	}
	cfg, err := etcdConfig(dir)
	if err != nil {
		return err
	}
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

func etcdConfig(dir string) (*embed.Config, error) {
	cfg := embed.NewConfig()
	cfg.Dir = dir
	cfg.LogLevel = "error"
	var urls [2]url.URL
	for i := range urls {
		addr, err := freeAddr()
		if err != nil {
			return nil, err
		}
		urls[i] = url.URL{Scheme: "http", Host: addr}
	}
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = urls[:1], urls[:1]
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = urls[1:], urls[1:]
	cfg.InitialCluster = cfg.InitialClusterFromName(cfg.Name)
	return cfg, nil
}

// freeAddr is an address of this machine that nobody listens on, just now.
func freeAddr() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}

func serveEtcd(ctx context.Context, dir string) (*backend, error) {
	if memory, err := os.MkdirTemp("/dev/shm", "rivals-etcd-"); err == nil {
		b, err := child(ctx, "etcd", memory)
		if err != nil {
			return nil, errors.Join(err, os.RemoveAll(memory))
		}
		kill := b.kill
		b.kill = func() { kill(); _ = os.RemoveAll(memory) }
		return b, nil
	}
	return child(ctx, "etcd", dir)
}

// etcd is a client with a session that those share who want different keys.
type etcd struct {
	client *clientv3.Client
	shared *concurrency.Session

	mu  sync.Mutex
	own []*concurrency.Session // guarded by mu
}

func dialEtcd(addr string) (rival, error) {
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{addr}, DialTimeout: 10 * time.Second, Logger: zap.NewNop()})
	if err != nil {
		return nil, err
	}
	e := &etcd{client: c}
	if e.shared, err = e.session(); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return e, nil
}

func (e *etcd) session() (*concurrency.Session, error) {
	return concurrency.NewSession(e.client, concurrency.WithTTL(int(ttl/time.Second)))
}

func (e *etcd) mutex(key string, contended bool) (measure.Lock, error) {
	if !contended {
		return concurrency.NewMutex(e.shared, key), nil
	}
	s, err := e.session()
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.own = append(e.own, s)
	return concurrency.NewMutex(s, key), nil
}

func (e *etcd) hold(ctx context.Context, key string) (holding, error) {
	m := concurrency.NewMutex(e.shared, key)
	return etcdHold{m, e.shared}, m.Lock(ctx)
}

func (e *etcd) close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	var errs []error
	for _, s := range append(e.own, e.shared) {
		errs = append(errs, s.Close())
	}
	if err := errors.Join(append(errs, e.client.Close())...); err != nil {
		return fmt.Errorf("close: %w", err)
	}
	return nil
}

type etcdHold struct {
	*concurrency.Mutex
	session *concurrency.Session
}

func (h etcdHold) release(ctx context.Context) error { return h.Unlock(ctx) }
func (h etcdHold) lost() <-chan struct{}             { return h.session.Done() }
