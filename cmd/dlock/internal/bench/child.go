//go:build unix

package bench

import (
	"context"

	"github.com/distributed-go/distributed/internal/proc"
	"github.com/distributed-go/distributed/internal/servers"
)

// Child is what a child does: it serves until its parent hangs up. It returns
// the code to exit with.
func Child() int { return proc.Be("bench server", servers.Serve) }

// start starts a server of a kind and returns it with its address.
func (o *Options) start(ctx context.Context, kind string) (p *proc.Process, addr string, err error) {
	p, err = proc.Launch(ctx, o.Launch(), kind+" server", kind, &addr)
	return p, addr, err
}
