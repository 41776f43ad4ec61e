package dflockd

import (
	"context"
	"errors"
	"fmt"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/locker"
)

// Force ends the leases that are held on a key; see locker.Forcer. The error
// matches errors.ErrUnsupported where the server refuses, as all but this
// project's do. Where the connection breaks meanwhile, nobody knows whether it
// was done: it is not repeated, because it would hit the next holder.
func (b *Backend) Force(ctx context.Context, kind locker.Kind, key string) (int, error) {
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	s, err := b.serverOfKey(key)
	if err != nil {
		return 0, err
	}
	for {
		x, err := s.way(ctx)
		switch {
		case err != nil:
			return 0, err
		case x == nil:
			return s.forceBase(ctx, kind, key)
		}
		n, err := x.force(ctx, kind, key)
		if err != errTooLate {
			return n, refusedForce(s, err)
		}
	}
}

// forceBase asks over a connection of its own, as inspectBase does, and for the
// same reason. The connection is fresh: to find that it is not is to have asked.
func (s *server) forceBase(ctx context.Context, kind locker.Kind, key string) (int, error) {
	c, err := s.checkout(ctx, true)
	if err != nil {
		return 0, err
	}
	a, err := c.roundTrip(ctx, &request{command: codec.Force, kind: kind, key: key}, nil)
	switch {
	case err != nil:
		c.cancel()
		return 0, err
	case a.Status == codec.OK:
		s.put(c)
		return a.Count, nil
	}
	s.put(c)
	return 0, refusedForce(s, refusal(new(locker.Request), &a))
}

// refusedForce says what a bare refusal means here.
func refusedForce(s *server, err error) error {
	if errors.Is(err, ErrRefused) {
		return fmt.Errorf("%w by %v, as by all servers but this project's: %w", errors.ErrUnsupported, s.addr, err)
	}
	return err
}
