//go:build linux

package etcdcluster

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"

	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/internal/proc"
)

// members is how many a cluster has: the loss of one is survived.
const members = 3

// A cluster is one of etcd, each member a process of its own. Its methods are
// called by one goroutine, but for admin's clients.
type cluster struct {
	t       testing.TB
	ctx     context.Context
	network *network
	args    [members]memberArgs
	running [members]*proc.Process    // nil while it was killed
	admin   [members]*clientv3.Client // around the gates
	urls    [members]string           // of clients, at the gates
}

// newCluster starts one that is killed when the test ends.
func newCluster(t testing.TB, ctx context.Context) *cluster {
	t.Helper()
	c := &cluster{t: t, ctx: ctx, network: newNetwork(t)}
	assert.Sure(t, c.plan(t.TempDir()))
	t.Cleanup(func() { c.all(c.kill) })
	c.all(func(i int) {
		if err := c.start(i); err != nil {
			t.Error(err)
		}
	})
	for i := range members {
		var err error
		c.admin[i], err = clientv3.New(clientv3.Config{Endpoints: []string{"http://" + c.args[i].ListenClients}, Logger: zap.NewNop(), DialTimeout: time.Second})
		assert.Sure(t, err)
		t.Cleanup(func() { c.admin[i].Close() })
	}
	if _, err := c.leader(time.Minute); err != nil {
		t.Fatal(err)
	}
	return c
}

// plan chooses addresses: of a network of this cluster's own on the loopback
// interface, so that a member that starts again finds its ports free.
func (c *cluster) plan(dir string) error {
	subnet := fmt.Sprintf("127.%d.%d.", 16+rand.IntN(200), rand.IntN(250))
	var all []string
	for i := range members {
		ip := fmt.Sprint(subnet, 1+i)
		a := memberArgs{
			Name: fmt.Sprintf("m%d", i), Dir: filepath.Join(dir, fmt.Sprintf("m%d", i)),
			Peers: ip + ":2380", Clients: ip + ":2379", ListenPeers: ip + ":3380", ListenClients: ip + ":3379",
		}
		if err := c.network.gate(a.Peers, a.ListenPeers, peers, i, 0); err != nil {
			return err
		}
		if err := c.network.gate(a.Clients, a.ListenClients, clients, i, 0); err != nil {
			return err
		}
		all = append(all, a.Name+"=http://"+a.Peers)
		c.args[i], c.urls[i] = a, a.Clients
	}
	for i := range c.args {
		c.args[i].Cluster = strings.Join(all, ",")
	}
	return nil
}

// all does something for each member at the same time.
func (c *cluster) all(f func(i int)) {
	var wg sync.WaitGroup
	for i := range members {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

// start starts a member, for the first time or again.
func (c *cluster) start(i int) error {
	cmd, err := proc.InRole("member")
	if err != nil {
		return err
	}
	cmd.Env = append(cmd.Env, "GOMAXPROCS=2")
	p, err := proc.Launch(c.ctx, cmd, c.args[i].Name, c.args[i], nil)
	if err != nil {
		return err
	}
	c.running[i] = p
	c.network.is(i, p.PID())
	return nil
}

// kill kills a member with SIGKILL.
func (c *cluster) kill(i int) {
	if p := c.running[i]; p != nil {
		p.Kill()
		c.running[i] = nil
	}
}

// freeze stops a member with SIGSTOP, and thaw lets it go on.
func (c *cluster) freeze(i int) error { return c.running[i].Freeze() }
func (c *cluster) thaw(i int) error   { return c.running[i].Signal(syscall.SIGCONT) }

// cutOff cuts a member off from the others, and from clients too if that is
// wanted.
func (c *cluster) cutOff(i int, how cutting, fromClients bool) {
	for other := range members {
		if other != i {
			c.network.cut(i, other, how)
		}
	}
	if fromClients {
		c.network.cut(clients, i, how)
	}
}

// heal ends all cuts.
func (c *cluster) heal() {
	for i := range members {
		c.cutOff(i, carried, true)
	}
}

// errNoLeader says that a cluster that should have had a leader had none.
var errNoLeader = errors.New("the cluster has no leader that all members know")

// leader waits until all members agree on a leader, for a while.
func (c *cluster) leader(patience time.Duration) (leader int, err error) {
	for end := time.Now().Add(patience); time.Now().Before(end); {
		if leader, ok := c.agreed(); ok {
			return leader, nil
		}
		if !pause(c.ctx, 20*time.Millisecond) {
			break
		}
	}
	return 0, errNoLeader
}

func (c *cluster) agreed() (leader int, ok bool) {
	var leaders [members]uint64
	ids := make(map[uint64]int)
	var mu sync.Mutex
	c.all(func(i int) {
		ctx, cancel := context.WithTimeout(c.ctx, time.Second)
		defer cancel()
		r, err := c.admin[i].Status(ctx, c.admin[i].Endpoints()[0])
		if err != nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		leaders[i] = r.Leader
		ids[r.Header.MemberId] = i
	})
	leader, known := ids[leaders[0]]
	return leader, known && len(ids) == members && leaders[0] == leaders[1] && leaders[1] == leaders[2]
}

// move gives the leadership to another member.
func (c *cluster) move(from, to int) error {
	ctx, cancel := context.WithTimeout(c.ctx, 5*time.Second)
	defer cancel()
	r, err := c.admin[to].Status(ctx, c.admin[to].Endpoints()[0])
	if err != nil {
		return err
	}
	_, err = c.admin[from].MoveLeader(ctx, r.Header.MemberId)
	return err
}

// url is what clients open, with some of the members, or all without any.
func (c *cluster) url(some ...int) string {
	hosts := c.urls[:]
	if len(some) > 0 {
		hosts = nil
		for _, i := range some {
			hosts = append(hosts, c.urls[i])
		}
	}
	return urlOf(hosts)
}

func urlOf(hosts []string) string { return "etcd://" + strings.Join(hosts, ",") + "/" + prefix }

// compact lets etcd forget what is over, so that a watch that was broken has missed
// it for good. Without a quorum it cannot, and does not.
func (c *cluster) compact() {
	for _, admin := range c.admin {
		ctx, cancel := context.WithTimeout(c.ctx, time.Second)
		r, err := admin.Get(ctx, prefix)
		if err == nil {
			_, err = admin.Compact(ctx, r.Header.Revision)
		}
		cancel()
		if err == nil {
			return
		}
	}
}

// prefix is that of all keys.
const prefix = "faults"

// left counts keys below the prefix, and leases.
func (c *cluster) left() (keys []string, leases int, err error) {
	ctx, cancel := context.WithTimeout(c.ctx, 5*time.Second)
	defer cancel()
	r, err := c.admin[0].Get(ctx, prefix+"/", clientv3.WithPrefix(), clientv3.WithKeysOnly())
	if err != nil {
		return nil, 0, err
	}
	for _, kv := range r.Kvs {
		keys = append(keys, string(kv.Key))
	}
	l, err := c.admin[0].Leases(ctx)
	if err != nil {
		return keys, 0, err
	}
	return keys, len(l.Leases), nil
}
