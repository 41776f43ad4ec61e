package dflockd

import (
	"fmt"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/internal/session"
	"github.com/distributed-go/distributed/locker"
)

// A grant is a hold that the conversation keeps alive: a locker.Kept. It is all
// that the backend has of a hold, and its 80 bytes are a size class.
type grant struct {
	// Hold's Tag is nil at first, then the locker.Loser to be told, and gone
	// once it is too late for one.
	session.Hold
	x *conversation
}

// gone is the Tag of a hold that was lost.
type gone struct{ cause error }

var _ locker.Named = (*grant)(nil)

// Key implements locker.Named.
func (g *grant) Key() string { return g.Hold.Key }

// Since implements locker.Kept.
func (g *grant) Since() time.Duration {
	g.x.mu.Lock()
	defer g.x.mu.Unlock()
	return g.x.client.Since(&g.Hold)
}

// Bind implements locker.Kept.
func (g *grant) Bind(l locker.Loser) error {
	g.x.mu.Lock()
	defer g.x.mu.Unlock()
	if gone, ok := g.Tag.(gone); ok {
		return gone.cause
	}
	if !g.Held() {
		return fmt.Errorf("%w: it was released before", locker.ErrNotHeld)
	}
	g.Tag = l
	return nil
}

// A loss is somebody to be told, once the mutex is free.
type loss struct {
	loser locker.Loser
	cause error
}

// lossOf returns what a hold was lost by.
func (x *conversation) lossOf(reason string) error {
	switch reason {
	case codec.ReasonExpired:
		return fmt.Errorf("%w: its lease ran out at %v", locker.ErrLost, x.srv.addr)
	case codec.ReasonReleased:
		return fmt.Errorf("%w: somebody else released it at %v", locker.ErrLost, x.srv.addr)
	case codec.ReasonRevoked:
		return fmt.Errorf("%w at %v", locker.ErrRevoked, x.srv.addr)
	}
	return fmt.Errorf("%w: %w", locker.ErrLost, x.endOf(reason))
}

// The reasons for which a conversation ends from this side.
const (
	reasonClosed = "closed"
	reasonIdle   = "idle"
)

// endOf returns what the conversation ended by.
func (x *conversation) endOf(reason string) error {
	switch reason {
	case reasonClosed, session.ReasonBye:
		return locker.ErrClosed
	case session.ReasonGone:
		return fmt.Errorf("%w: the session has ended: %v does not know it (any more)", locker.ErrUnavailable, x.srv.addr)
	case session.ReasonDisplaced:
		return fmt.Errorf("%w: the session has ended: another connection to %v took it over", locker.ErrUnavailable, x.srv.addr)
	}
	return fmt.Errorf("%w: the session with %v has ended: %s", locker.ErrUnavailable, x.srv.addr, reason)
}
