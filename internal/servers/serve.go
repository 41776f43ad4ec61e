//go:build unix

package servers

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"

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
	switch kind {
	case Echo:
		return ServeEcho(c)
	case Locks:
		s, err := server.New(server.Config{MaxLocks: maxLocks, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			return err
		}
		ln, err := listen()
		if err != nil {
			return err
		}
		return ServeLocks(c, s, ln, ln.Addr().String())
	}
	return fmt.Errorf("no kind of server is called %q", kind)
}

// ServeEcho is the role of a child that is an echo on a free port of this machine,
// whose address it tells its parent, until the parent hangs up.
func ServeEcho(c *proc.Child) error {
	ln, err := listen()
	if err != nil {
		return err
	}
	s := echo.NewServer(ln)
	defer s.Close()
	return c.Serve(ln.Addr().String())
}

// ServeLocks serves as a child from a lock server until the parent hangs up, and
// closes the server. Ready is what the parent is told first, such as the address;
// clients may come before that. The parent's hanging up is no error.
func ServeLocks(c *proc.Child, s *server.Server, ln net.Listener, ready any) error {
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(ln) }) // until Close; whoever cannot reach it before says so
	defer serving.Wait()
	return errors.Join(c.Serve(ready), s.Close())
}

// listen listens on a free port of this machine.
func listen() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }
