//go:build unix

package faults

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/distributed-go/distributed"
	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/locker"
)

const (
	putterLanes = 4
	putterKeys  = 4 // of each lane
	// putterPause is the longest random time before a put.
	putterPause = 40 * time.Millisecond
	// bigValue is the data of a value for which the disk needs new space.
	bigValue = 60 << 10
)

// Putters hold keys for a moment each, and put and remove values at random
// instants. They live in the process of the test, which is not killed, so that
// what they were answered is known for sure.
type putters struct {
	*ledger
	rig    *rig
	keys   []string        // all that may have a value
	big    []string        // of them those that provoke put and nobody removed
	ctx    context.Context // ends when they are to stop
	cancel context.CancelFunc
	client *distributed.Client
	wg     sync.WaitGroup
	paused atomic.Bool
	cut    int // writes that were under way when a server was killed
}

// newPutters returns putters at the rig's server who do nothing yet.
func newPutters(r *rig, ttl time.Duration) *putters {
	r.t.Helper()
	p := &putters{ledger: newLedger(), rig: r, keys: keysOf("value", putterLanes*putterKeys), client: open(r.t, urlOf(r.server.Addr, false), ttl)}
	p.ctx, p.cancel = context.WithCancel(r.ctx)
	r.t.Cleanup(p.cancel)
	return p
}

// startPutters starts putters.
func startPutters(r *rig) *putters {
	r.t.Helper()
	p := newPutters(r, restartTTL())
	for i := range putterLanes {
		random, keys := p.random(), p.keys[i*putterKeys:(i+1)*putterKeys]
		p.wg.Go(func() {
			for p.ctx.Err() == nil {
				if err := p.turn(random, keys[random.IntN(putterKeys)]); err != nil && p.ctx.Err() == nil {
					r.fail(err)
					return
				}
			}
		})
	}
	return p
}

// random returns a source for one goroutine.
func (p *putters) random() *rand.Rand {
	p.rig.mu.Lock()
	defer p.rig.mu.Unlock()
	return rand.New(rand.NewPCG(p.rig.random.Uint64(), 0))
}

// turn holds a key for one or a few writes.
func (p *putters) turn(random *rand.Rand, key string) error {
	return p.holding(p.ctx, key, func(lease *distributed.Lease) error {
		for range 1 + random.IntN(3) {
			p.sleep(campaign.Between(random, 0, putterPause))
			for p.paused.Load() && p.ctx.Err() == nil {
				p.sleep(time.Millisecond)
			}
			if p.ctx.Err() != nil || p.write(p.ctx, lease, randomly(random, key)) != nil {
				break
			}
		}
		return nil
	})
}

// holding calls f while it holds a key.
func (p *putters) holding(ctx context.Context, key string, f func(*distributed.Lease) error) error {
	lease, err := p.client.Acquire(ctx, key)
	if err != nil {
		return err
	}
	err = f(lease)
	over, cancel := context.WithTimeout(noContext, 5*restartTTL())
	defer cancel()
	_ = lease.Release(over) // where the lease is lost there is nothing to release, and else it will run out
	return err
}

// write makes one change; without data it removes what is there.
func (p *putters) write(ctx context.Context, lease *distributed.Lease, data []byte) (err error) {
	var fence uint64
	n := p.begin(lease.Key(), data)
	if data == nil {
		err = lease.RemoveValue(ctx)
	} else {
		fence, err = lease.Put(ctx, data, 0)
	}
	p.end(lease.Key(), n, fence, err == nil)
	return err
}

// randomly returns data that say whose they are and differ from all others; now and
// then more than a page of them, or none.
func randomly(random *rand.Rand, key string) []byte {
	size := random.IntN(600)
	switch random.IntN(8) {
	case 0, 1:
		return nil
	case 2:
		size = random.IntN(6000)
	}
	return filled(random, key, size)
}

func filled(random *rand.Rand, key string, size int) []byte {
	data := fmt.Appendf(nil, "%s %016x ", key, random.Uint64())
	for range size {
		data = append(data, byte(random.Uint32()))
	}
	return data
}

func (p *putters) sleep(d time.Duration) {
	select {
	case <-time.After(d): // real time: the server is another process
	case <-p.ctx.Done():
	}
}

// pause begins no more writes. Those that are under way stay so.
func (p *putters) pause() { p.paused.Store(true) }

// killed takes note of what was under way when the server was killed.
func (p *putters) killed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cut += p.underWay
}

// look reads all values of a server, judges them, and lets the putters go on.
func (p *putters) look(s *lockServer) {
	p.rig.t.Helper()
	if err := p.readAll(s); err != nil {
		p.rig.fail(err)
	}
	p.paused.Store(false)
}

// readAll reads and judges all values of a server.
func (p *putters) readAll(s *lockServer) error {
	c := open(p.rig.t, urlOf(s.Addr, false), restartTTL())
	defer c.Close()
	ctx, cancel := context.WithTimeout(p.rig.ctx, takeoverBound)
	defer cancel()
	for _, key := range p.keys {
		floor := p.before(key)
		v, err := c.Get(ctx, key)
		if err != nil && !errors.Is(err, locker.ErrNoValue) {
			return err
		}
		if err == nil && v.Data == nil {
			v.Data = []byte{}
		}
		p.read(key, floor, v.Data, v.Fence)
	}
	return nil
}

// provoke puts values that need space until one is refused because the disk takes
// no more, and says how many were not.
func (p *putters) provoke(n, most int) (put int, err error) {
	ctx, cancel := context.WithTimeout(p.rig.ctx, takeoverBound)
	defer cancel()
	random := p.random()
	for put < most && err == nil {
		key := fmt.Sprintf("big-%d-%d", n, put)
		p.keys, p.big = append(p.keys, key), append(p.big, key)
		err = p.holding(ctx, key, func(lease *distributed.Lease) error { return p.write(ctx, lease, filled(random, key, bigValue)) })
		if err == nil {
			put++
		}
	}
	if errors.Is(err, locker.ErrNotStored) {
		err = nil
	}
	return put, err
}

// unprovoke removes what provoke put.
func (p *putters) unprovoke() error {
	ctx, cancel := context.WithTimeout(p.rig.ctx, takeoverBound)
	defer cancel()
	for _, key := range p.big {
		if err := p.holding(ctx, key, func(lease *distributed.Lease) error { return p.write(ctx, lease, nil) }); err != nil {
			return err
		}
	}
	p.big = nil
	return nil
}

// stop ends the putters. It reads once more before, and returns what is wrong.
func (p *putters) stop() []campaign.Violation {
	p.rig.t.Helper()
	p.look(p.rig.server)
	p.cancel()
	p.wg.Wait()
	if err := p.client.Close(); err != nil {
		p.rig.fail(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.found
}
