//go:build linux

package etcdcluster

import (
	"context"
	"flag"
	"testing"
	"time"

	_ "github.com/distributed-go/distributed/etcd"
	"github.com/distributed-go/distributed/internal/leaktest"
	"github.com/distributed-go/distributed/internal/proc"
)

func TestMain(m *testing.M) {
	proc.Main(map[string]proc.Role{
		"member": memberRole,
		"worker": workerRole,
	})
	leaktest.Main(m)
}

var limit = flag.Duration("limit", 40*time.Minute, "when to give a campaign up")

// noContext is for what nothing ends early.
var noContext = context.Background()

// pause waits in real time, as all here does: other processes go on. It is false
// if ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-ctx.Done():
		return false
	}
}
