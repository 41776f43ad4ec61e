//go:build unix

package bench

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"slices"
	"time"

	"github.com/distributed-go/distributed"
	"github.com/distributed-go/distributed/internal/echo"
	"github.com/distributed-go/distributed/internal/measure"
	"github.com/distributed-go/distributed/internal/proc"
	"github.com/distributed-go/distributed/internal/servers"
)

// A stage is what is measured and what it is measured by, each server in a
// process of its own.
type stage struct {
	Options
	own    *proc.Process // the lock server; nil if it is not ours
	addr   string        // of own
	echoes [2]*yard      // the yardstick and its second copy
	client *distributed.Client

	steps, done int // of the progress
	what        string
	cleanup     []func()
}

// probeTimeout is how long servers may take to grant a lock that is free.
const probeTimeout = 5 * time.Second

// A yard is a bare echo.
type yard struct {
	server *proc.Process
	client *echo.Client
}

// open starts what is needed. The caller closes the stage in either case.
func (s *stage) open(ctx context.Context) error {
	for i := range s.echoes {
		p, addr, err := s.start(ctx, servers.Echo)
		if err != nil {
			return err
		}
		s.cleanup = append(s.cleanup, p.Kill)
		c, err := echo.Dial(addr)
		if err != nil {
			return err
		}
		s.cleanup = append(s.cleanup, c.Close)
		s.echoes[i] = &yard{server: p, client: c}
	}
	if s.URL == "" {
		p, addr, err := s.start(ctx, servers.Locks)
		if err != nil {
			return err
		}
		s.cleanup = append(s.cleanup, p.Kill)
		s.own, s.addr, s.URL = p, addr, "dflockd://"+addr+"?fences=1"
	}
	client, err := s.Open(s.URL)
	if err != nil {
		return err
	}
	s.client = client
	s.closeLater(client)
	// Locks are measured without a context; those that hang end like this.
	stop := context.AfterFunc(ctx, func() { _ = client.Close() })
	s.cleanup = append(s.cleanup, func() { stop() })
	return s.probe(ctx)
}

// ownCPU is how to ask for the processor time of the lock server, nil if it is
// not ours.
func (s *stage) ownCPU() func(context.Context) (time.Duration, error) {
	if s.own == nil {
		return nil
	}
	return s.own.CPU
}

// probe sees whether the servers can be used at all: who waits rides out
// outages for as long as they last.
func (s *stage) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	l, err := s.client.TryAcquire(ctx, key("probe", 0))
	if err != nil {
		return err
	}
	return l.Release(ctx)
}

// closeLater closes something when the stage is closed.
func (s *stage) closeLater(c io.Closer) {
	s.cleanup = append(s.cleanup, func() { _ = c.Close() }) // nothing depends on it any more
}

func (s *stage) close() {
	for _, f := range slices.Backward(s.cleanup) {
		f()
	}
}

// step says what is done now.
func (s *stage) step() {
	s.done++
	s.Progress(min(float64(s.done)/float64(max(s.steps, 1)), 1), s.what)
}

// key is a name that nobody else uses, of about the length that names have.
func key(what string, i int) string {
	return fmt.Sprintf("dlock-bench-%s-of-the-usual-length-%02d", what, i)
}

// server is what a user may know of where the servers are: a URL has no secret.
func (s *stage) server() string {
	if s.own != nil {
		return ""
	}
	if u, err := url.Parse(s.URL); err == nil {
		return u.Redacted()
	}
	return s.URL
}

// turns has contestants take turns.
func (s *stage) turns(ctx context.Context, rounds int, what string, cs ...*measure.Contestant) error {
	s.what = what
	return measure.InTurns(ctx, rounds, cs, s.step)
}
