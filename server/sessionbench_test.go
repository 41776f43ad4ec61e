package server_test

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/server"
)

// BenchmarkSessionPipelined has goroutines share one session: each locks and
// releases a key of its own, over and over.
func BenchmarkSessionPipelined(b *testing.B) {
	for _, goroutines := range []int{1, 10, 100, 1000} {
		b.Run(fmt.Sprint(goroutines), func(b *testing.B) {
			_, connect := overTCP(b, server.Config{})
			p := connect()
			p.hello(b)
			c := newMux(p)
			var left atomic.Int64
			left.Store(int64(b.N))
			b.ReportAllocs()
			b.ResetTimer()
			var wg sync.WaitGroup
			for i := range goroutines {
				wg.Go(func() {
					key := fmt.Appendf(nil, "key-%d", i)
					done := make(chan codec.Answer, 1)
					for left.Add(-1) >= 0 {
						granted := c.ask(codec.Request{Command: codec.Lock, Key: key}, done)
						if a := c.ask(codec.Request{Command: codec.Release, Key: key, Token: granted.Token}, done); a.Status != codec.OK {
							b.Error(granted, a)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "pairs/s")
			p.nc.Close()
			<-c.ended
		})
	}
}

// A mux is a client that many share: whoever finds nobody writing writes for
// all.
type mux struct {
	p     *peer
	ended chan struct{}

	mu      sync.Mutex
	id      uint64
	pending map[uint64]chan codec.Answer
	out     []byte
	spare   []byte
	writing bool
}

func newMux(p *peer) *mux {
	c := &mux{p: p, ended: make(chan struct{}), pending: map[uint64]chan codec.Answer{}}
	go c.read()
	return c
}

func (c *mux) ask(r codec.Request, done chan codec.Answer) codec.Answer {
	c.mu.Lock()
	c.id++
	r.ID = c.id
	c.pending[r.ID] = done
	c.out = codec.AppendRequest(c.out, &r)
	writes := !c.writing
	c.writing = true
	c.mu.Unlock()
	if writes {
		c.write()
	}
	return <-done
}

func (c *mux) write() {
	runtime.Gosched()
	c.mu.Lock()
	for len(c.out) > 0 {
		out := c.out
		c.out = c.spare[:0]
		c.mu.Unlock()
		c.p.nc.Write(out)
		c.mu.Lock()
		c.spare = out
	}
	c.writing = false
	c.mu.Unlock()
}

func (c *mux) read() {
	defer close(c.ended)
	answers := codec.NewAnswerReader(c.p.nc)
	answers.Frames()
	var a codec.Answer
	for answers.Read(&a) == nil {
		c.mu.Lock()
		done := c.pending[a.ID]
		delete(c.pending, a.ID)
		c.mu.Unlock()
		done <- a
	}
}
