//go:build unix

package servers

import (
	"fmt"
	"log/slog"
	"net"

	"github.com/distributed-go/distributed/internal/echo"
	"github.com/distributed-go/distributed/internal/proc"
	"github.com/distributed-go/distributed/server"
)

// What a child is.
const (
	Echo  = "echo"
	Locks = "locks"
)

// maxLocks is above what is ever held at once.
const maxLocks = 4 << 20

// Serve is the role of a child whose argument is what it is. It serves on a free
// port of this machine, whose address it tells its parent, until the parent
// hangs up.
func Serve(c *proc.Child) error {
	var kind string
	if err := c.Args(&kind); err != nil {
		return err
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	switch kind {
	case Echo:
		s := echo.NewServer(ln)
		defer s.Close()
	case Locks:
		s, err := server.New(server.Config{MaxLocks: maxLocks, Logger: slog.New(slog.DiscardHandler)})
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
