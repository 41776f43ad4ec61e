//go:build linux

package etcdcluster

import (
	"errors"
	"net/url"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"github.com/distributed-go/distributed/internal/proc"
)

// memberArgs say how a member is to be. It listens where nobody but its gates
// connects to, and says that it is where the gates are.
type memberArgs struct {
	Name, Dir              string
	ListenPeers, Peers     string
	ListenClients, Clients string
	Cluster                string // NAME=PEERS,...
}

// memberRole is a member of the cluster. Nothing is synced to the disk: it is
// processes that are killed here and not the machine.
func memberRole(c *proc.Child) error {
	var args memberArgs
	if err := c.Args(&args); err != nil {
		return err
	}
	cfg := embed.NewConfig()
	cfg.Name, cfg.Dir, cfg.InitialCluster = args.Name, args.Dir, args.Cluster
	cfg.LogLevel, cfg.ZapLoggerBuilder = "panic", embed.NewZapLoggerBuilder(zap.NewNop())
	cfg.UnsafeNoFsync = true
	var problems []error
	at := func(addr string) []url.URL {
		u, err := url.Parse("http://" + addr)
		if err != nil {
			problems = append(problems, err)
			return nil
		}
		return []url.URL{*u}
	}
	cfg.ListenPeerUrls, cfg.AdvertisePeerUrls = at(args.ListenPeers), at(args.Peers)
	cfg.ListenClientUrls, cfg.AdvertiseClientUrls = at(args.ListenClients), at(args.Clients)
	if err := errors.Join(problems...); err != nil {
		return err
	}
	e, err := embed.StartEtcd(cfg)
	if err != nil {
		return err
	}
	defer e.Close()
	return c.Serve(nil)
}
