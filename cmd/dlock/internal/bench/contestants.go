//go:build unix

package bench

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/distributed-go/distributed"
	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/internal/measure"
)

// roundTrips is what a pair of the yardstick is: as many round trips as a lock
// and an unlock need.
func (y *yard) roundTrips(context.Context) error {
	if err := y.client.RoundTrip(); err != nil {
		return err
	}
	return y.client.RoundTrip()
}

// yards are the yardstick and its second copy, with so many goroutines.
func (s *stage) yards(goroutines int, timed bool) []*measure.Contestant {
	cs := make([]*measure.Contestant, len(s.echoes))
	for i, y := range s.echoes {
		pairs := make([]measure.Pair, goroutines)
		for g := range pairs {
			pairs[g] = y.roundTrips
		}
		cs[i] = &measure.Contestant{Name: [...]string{"echo", "echo, second copy"}[i], ServerCPU: y.server.CPU, Turn: s.turn(pairs, timed)}
	}
	return cs
}

// turn is a timed block of pairs that goroutines make, or one of onePairs by the
// first.
func (s *stage) turn(pairs []measure.Pair, timed bool) func(context.Context) (measure.Block, error) {
	return func(ctx context.Context) (measure.Block, error) {
		if timed {
			return measure.Many(ctx, s.Block, pairs)
		}
		return measure.One(ctx, onePairs, pairs[0])
	}
}

// mutexes is a Mutex with a key of its own for each goroutine.
func (s *stage) mutexes(goroutines int, timed bool) *measure.Contestant {
	pairs := make([]measure.Pair, goroutines)
	for g := range pairs {
		m := distributed.NewMutex(s.client, key("own", g))
		var inside atomic.Int32
		pairs[g] = func(context.Context) error {
			// As Lock, but for an error where that would panic.
			if err := m.LockContext(context.Background()); err != nil {
				return err
			}
			n := inside.Add(1)
			inside.Add(-1)
			m.Unlock()
			if n != 1 {
				return fmt.Errorf("%d held the lock", n)
			}
			return nil
		}
	}
	return &measure.Contestant{Name: "Mutex", ServerCPU: s.ownCPU(), Turn: s.turn(pairs, timed)}
}

// baseline is dflockd's protocol spoken by hand, with a connection for each
// goroutine, as its own clients do at best.
//
// The caller calls hangUp at the end: idle connections are not silent ones.
func (s *stage) baseline(goroutines int) (c *measure.Contestant, hangUp func(), err error) {
	pairs := make([]measure.Pair, goroutines)
	var conns []*baseConn
	hangUp = func() {
		for _, c := range conns {
			_ = c.Close() // nothing depends on it any more
		}
	}
	for g := range pairs {
		conn, err := dialBase(s.addr)
		if err != nil {
			hangUp()
			return nil, nil, err
		}
		conns = append(conns, conn)
		name := []byte(key("base", g))
		pairs[g] = func(context.Context) error {
			token, err := conn.do(&codec.Request{Command: codec.Lock, Key: name, Timeout: longWait})
			if err != nil {
				return err
			}
			_, err = conn.do(&codec.Request{Command: codec.Release, Key: name, Token: token})
			return err
		}
	}
	return &measure.Contestant{Name: "dflockd, a connection each", ServerCPU: s.ownCPU(), Turn: s.turn(pairs, true)}, hangUp, nil
}
