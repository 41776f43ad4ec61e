//go:build unix

package bench

import (
	"context"
	"fmt"
	"log/slog"
	"net"

	"github.com/distributed-go/distributed/internal/echo"
	"github.com/distributed-go/distributed/internal/proc"
	"github.com/distributed-go/distributed/server"
)

// What a child is.
const (
	echoServer = "echo"
	lockServer = "locks"
)

// Child is what a child does: it serves on a free port of this machine until its
// parent hangs up. It returns the code to exit with.
func Child() int { return proc.Be("bench server", serve) }

func serve(c *proc.Child) error {
	var kind string
	if err := c.Args(&kind); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	switch kind {
	case echoServer:
		s := echo.NewServer(ln)
		defer s.Close()
	case lockServer:
		// A million locks and then some, as few of them idle as dflockd has.
		s, err := server.New(server.Config{MaxLocks: 4 << 20, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			return err
		}
		served := make(chan error, 1)
		go func() { served <- s.Serve(ln) }()
		defer func() {
			s.Close()
			<-served
		}()
	default:
		return fmt.Errorf("no kind of server is called %q", kind)
	}
	return c.Serve(ln.Addr().String())
}

// start starts a child and returns it with its address.
func (o *Options) start(ctx context.Context, kind string) (p *proc.Process, addr string, err error) {
	p, err = proc.Launch(ctx, o.Launch(), kind+" server", kind, &addr)
	return p, addr, err
}
