package etcd

import (
	"context"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/locker"
)

// startEtcdWithUsers starts an etcd with a user app, whose password is secret, and who
// may read and write below app/. The client is of one who may do everything.
func startEtcdWithUsers(t *testing.T, set func(*embed.Config)) (*server, *clientv3.Client) {
	t.Helper()
	s := startEtcdWith(t, func(cfg *embed.Config) {
		cfg.UnsafeNoFsync = true
		cfg.BcryptCost = 4 // the least: it takes seconds with the race detector otherwise
		set(cfg)
	})
	ctl, ctx := s.etcdctl(), t.Context()
	for _, f := range []func() error{
		func() error { _, err := ctl.RoleAdd(ctx, "root"); return err },
		func() error { _, err := ctl.UserAdd(ctx, "root", "secret"); return err },
		func() error { _, err := ctl.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := ctl.RoleAdd(ctx, "app"); return err },
		func() error {
			_, err := ctl.RoleGrantPermission(ctx, "app", "app/", "app0", clientv3.PermissionType(clientv3.PermReadWrite))
			return err
		},
		func() error { _, err := ctl.UserAdd(ctx, "app", "secret"); return err },
		func() error { _, err := ctl.UserGrantRole(ctx, "app", "app"); return err },
		func() error { _, err := ctl.AuthEnable(ctx); return err },
	} {
		must(t, f())
	}
	cfg := config(s.addr)
	cfg.Username, cfg.Password, cfg.Logger = "root", "secret", zap.NewNop()
	root, err := clientv3.New(cfg)
	must(t, err)
	t.Cleanup(func() { root.Close() })
	return s, root
}

// openApp opens a URL below app/, at an address.
func openApp(t *testing.T, addr, path, secret string) *locker.Client {
	t.Helper()
	c, err := locker.Open("etcd://"+addr+path, silent, locker.WithSecret(secret))
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// TestAuth: users and their rights.
func TestAuth(t *testing.T) {
	s, _ := startEtcdWithUsers(t, func(*embed.Config) {})
	acquire := func(path, secret string) error {
		c := openApp(t, s.addr, path, secret)
		l, err := c.TryAcquire(t.Context(), "k")
		if err == nil {
			err = l.Release(t.Context())
		}
		return err
	}
	must(t, acquire("/app", "app:secret"))
	must(t, acquire("/app?user=app", "secret"))
	assert.Matches(t, acquire("/app", ""), locker.ErrAuth)
	assert.Matches(t, acquire("/app", "app:wrong"), locker.ErrAuth)
	assert.Matches(t, acquire("/other", "app:secret"), locker.ErrAuth)
}

// TestTokensRunOut under who holds, who waits, and who asks anew.
func TestTokensRunOut(t *testing.T) {
	t.Parallel()
	s, _ := startEtcdWithUsers(t, func(cfg *embed.Config) { cfg.AuthTokenTTL = 1 })
	holder, waiter := openApp(t, s.addr, "/app?ttl=9s", "app:secret"), openApp(t, s.addr, "/app?ttl=9s", "app:secret")
	l, err := holder.Acquire(t.Context(), "k")
	must(t, err)
	waited := make(chan error, 1)
	go func() {
		l, err := waiter.Acquire(t.Context(), "k")
		if err == nil {
			err = l.Release(t.Context())
		}
		waited <- err
	}()
	time.Sleep(10 * time.Second) // they must outlive the lease; tokens that are not used end much earlier
	must(t, l.Check())
	other, err := holder.Acquire(t.Context(), "other")
	must(t, err)
	must(t, other.Release(t.Context()))
	must(t, l.Release(t.Context()))
	must(t, <-waited)
}

// TestRenewalsNeedNoNewToken: each would cost etcd an entry of its log, and a hash.
func TestRenewalsNeedNoNewToken(t *testing.T) {
	s, root := startEtcdWithUsers(t, func(*embed.Config) {})
	entries := func() uint64 {
		r, err := root.Status(t.Context(), "http://"+s.addr)
		must(t, err)
		return r.RaftIndex
	}
	c := openApp(t, s.addr, "/app?ttl=2s", "app:secret")
	l, err := c.Acquire(t.Context(), "k")
	must(t, err)
	b := c.Backend().(*Backend)
	renewals := 0
	renewed := func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		last := b.leases[2*time.Second].since.Load()
		return time.Duration(last) > b.now()-50*time.Millisecond
	}
	eventually(t, "the first renewal", renewed)
	before := entries()
	for ; renewals < 8; renewals++ {
		eventually(t, "the next", func() bool { return !renewed() })
		eventually(t, "renewal", renewed)
	}
	if n := entries() - before; n >= uint64(renewals) {
		t.Errorf("%d entries in etcd's log for %d renewals", n, renewals)
	}
	must(t, l.Check())
	must(t, l.Release(t.Context()))
}

// TestDeniedWaitersAreTold: who waits would wait for ever once etcd takes the password
// no more, or the right.
func TestDeniedWaitersAreTold(t *testing.T) {
	for name, deny := range map[string]func(context.Context, *clientv3.Client) error{
		"password": func(ctx context.Context, root *clientv3.Client) error {
			_, err := root.UserChangePassword(ctx, "app", "another")
			return err
		},
		"permission": func(ctx context.Context, root *clientv3.Client) error {
			_, err := root.RoleRevokePermission(ctx, "app", "app/", "app0")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, root := startEtcdWithUsers(t, func(*embed.Config) {})
			p := newProxy(t, s.addr)
			holder, waiter := openApp(t, s.addr, "/app", "app:secret"), openApp(t, p.at, "/app?ttl=3s", "app:secret")
			_, err := holder.Acquire(t.Context(), "k")
			must(t, err)
			waited := make(chan error, 1)
			go func() {
				_, err := waiter.Acquire(t.Context(), "k")
				waited <- err
			}()
			eventually(t, "the waiter's watch", func() bool {
				b := waiter.Backend().(*Backend)
				b.mu.Lock()
				defer b.mu.Unlock()
				return b.hub.from > 0
			})
			must(t, deny(t.Context(), root))
			p.cut() // the watch that there is goes on otherwise
			assert.Matches(t, <-waited, locker.ErrAuth)
		})
	}
}
