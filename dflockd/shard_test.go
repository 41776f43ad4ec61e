package dflockd

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/distributed-go/distributed/internal/stocktest"
	"github.com/distributed-go/distributed/locker"
	"github.com/distributed-go/distributed/shard"
)

var three = []string{"h1", "h2:6388", "[::1]"}

// shardBubble runs a test in virtual time with three stock servers.
func shardBubble(t *testing.T, f func(*testing.T, *Backend, []*stocktest.Server, *network), opts ...Option) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork()
		defer n.wg.Wait()
		var servers []*stocktest.Server
		for _, addr := range []string{"h1:6388", "h2:6388", "[::1]:6388"} {
			s := stocktest.New(stocktest.Config{})
			defer s.Close()
			n.listen(addr, s.ServeConn)
			servers = append(servers, s)
		}
		b := newBackend(t, three, append([]Option{WithDialer(n.dial)}, opts...)...)
		defer b.Close()
		f(t, b, servers, n)
	})
}

func TestKeysGoToTheirServers(t *testing.T) {
	for name, f := range map[string]shard.Func{"crc32": nil, "rendezvous": shard.Rendezvous} {
		t.Run(name, func(t *testing.T) {
			shardBubble(t, func(t *testing.T, b *Backend, servers []*stocktest.Server, _ *network) {
				if want := "dflockd://h1:6388,h2:6388,[::1]:6388"; b.String() != want {
					t.Errorf("name %s, want %s", b, want)
				}
				want := make([]int, len(servers))
				held := make(map[string]locker.Grant)
				for i := range 60 {
					key := fmt.Sprint("key", i)
					held[key] = mustAcquire(t, b, lock(key))
					owner, err := shard.Pick(f, key, len(servers))
					if err != nil {
						t.Fatal(err)
					}
					want[owner]++
				}
				for i, s := range servers {
					if conns, held, _ := s.Counts(); held != want[i] || conns != 1 {
						t.Errorf("server %d: %d connections, %d held, want 1 and %d", i, conns, held, want[i])
					}
				}
				renewals := make([]locker.Renewal, 0, len(held))
				for key, g := range held {
					renewals = append(renewals, locker.Renewal{Hold: hold(key, g), TTL: time.Minute, Attempt: 1})
				}
				b.Renew(context.Background(), renewals)
				for _, r := range renewals {
					if r.Err != nil || r.Granted != time.Minute {
						t.Errorf("%s: renewed for %v, %v", r.Key, r.Granted, r.Err)
					}
					mustRelease(t, b, r.Hold)
				}
			}, WithShard(f))
		})
	}
}

func TestAShardFunctionThatIsWrong(t *testing.T) {
	n := newNetwork()
	b := newBackend(t, three, WithDialer(n.dial), WithShard(func(string, int) int { return 3 }))
	defer b.Close()
	_, err := b.Acquire(context.Background(), lock("k"))
	wantErr(t, err, shard.ErrRange)
	wantErr(t, err, locker.ErrInvalid)
	_, err = b.Enqueue(context.Background(), lock("k"))
	wantErr(t, err, shard.ErrRange)
	wantErr(t, b.Release(context.Background(), locker.Hold{Key: "k"}), shard.ErrRange)
	wantErr(t, renewOnce(b, locker.Hold{Key: "k"}, time.Second, 1).Err, shard.ErrRange)
}

// A server that does not answer must not delay the renewals of others' keys.
func TestAServerThatIsDownCostsOnlyItsOwnKeys(t *testing.T) {
	shardBubble(t, func(t *testing.T, b *Backend, servers []*stocktest.Server, n *network) {
		held := make([]locker.Grant, 3)
		keys := []string{"a", "invoices", "my-key"}
		for i, key := range keys {
			held[i] = mustAcquire(t, b, lock(key))
		}
		down, err := shard.Pick(nil, keys[2], 3)
		if err != nil || down != 2 {
			t.Fatalf("my-key is on server %d, %v", down, err)
		}
		servers[down].Close()
		n.listen("[::1]:6388", nil)
		synctest.Wait()
		for i, g := range held {
			if lost := g.Session.Err() != nil; lost != (i == 2) {
				t.Errorf("%s: lost %v", keys[i], lost)
			}
		}
		_, err = b.Acquire(context.Background(), lock("my-key"))
		wantErr(t, err, locker.ErrUnavailable)
		for i, key := range keys[:2] {
			if r := renewOnce(b, hold(key, held[i]), time.Minute, 1); r.Err != nil {
				t.Errorf("%s: %v", key, r.Err)
			}
		}
	})
}
