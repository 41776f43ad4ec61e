//go:build unix

package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/distributed-go/distributed"
	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/size"
	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/internal/figures"
	"github.com/distributed-go/distributed/locker"
)

// idleSeconds is above the 23 s after which a server closes a connection that
// says nothing.
var idleSeconds = size.New("idle", 27, 90, "seconds for which locks are held idle")

// TestMeasureIdleHold holds locks whose renewals come much more rarely than the
// server's read timeout, and does nothing else. Other tests run while they are
// held: the name of this file makes this test begin first.
func TestMeasureIdleHold(t *testing.T) {
	began := time.Now()
	holds := map[string][]*idleHold{
		"this project's": takeIdle(t, startServer(t)),
		"stock":          takeIdle(t, startStock(t)),
	}
	// Parallel pauses this test until those that are not have run; only then
	// does the rest of the wait pass.
	if !size.Full() {
		t.Parallel()
	}
	time.Sleep(time.Until(began.Add(time.Duration(idleSeconds.Get()) * time.Second)))

	table := figures.NewTable("held idle, server", "TTL", "acquired", "idle s", "Check", "a second client's try", "renewal by token")
	for _, server := range []string{"this project's", "stock"} {
		for _, h := range holds[server] {
			idle := time.Since(h.since).Seconds()
			table.Row(server, h.ttl, h.way, idle, h.check(t), h.try(t), h.renew(t))
			if err := h.lease.Release(t.Context()); err != nil {
				t.Errorf("%s: release: %v", h, err)
			}
		}
	}
	campaign.Show(t, table)
}

// An idleHold is a lock that is held and not used.
type idleHold struct {
	server *lockServer
	key    string
	ttl    time.Duration
	way    string // how it was acquired
	lease  *distributed.Lease
	since  time.Time
}

func (h *idleHold) String() string {
	return fmt.Sprintf("%s, TTL %v, acquired %s", h.key, h.ttl, h.way)
}

// takeIdle acquires locks of two TTLs in every way there is.
func takeIdle(t *testing.T, s *lockServer) []*idleHold {
	t.Helper()
	client := open(t, "dflockd://"+s.addr)
	other := open(t, "dflockd://"+s.addr)
	var holds []*idleHold
	for _, ttl := range []time.Duration{time.Minute, time.Hour} {
		for way, acquire := range ways {
			h := &idleHold{server: s, key: fmt.Sprintf("%s-%.0f", way, ttl.Seconds()), ttl: ttl, way: way}
			var err error
			h.lease, err = acquire(t, client, other, h.key, locker.WithTTL(ttl))
			assert.Sure(t, err)
			h.since = time.Now()
			holds = append(holds, h)
		}
	}
	return holds
}

// ways are the ways to acquire a lock of which the base protocol makes three
// different things: on the shared connection at once, on one of its own after a
// wait, and by a ticket.
var ways = map[string]func(t *testing.T, c, other *distributed.Client, key string, opts ...locker.Option) (*distributed.Lease, error){
	"at-once": func(t *testing.T, c, _ *distributed.Client, key string, opts ...locker.Option) (*distributed.Lease, error) {
		return c.Acquire(t.Context(), key, opts...)
	},
	"after-a-wait": func(t *testing.T, c, other *distributed.Client, key string, opts ...locker.Option) (*distributed.Lease, error) {
		first, err := other.Acquire(t.Context(), key)
		assert.Sure(t, err)
		releaseLater(t, first)
		return c.Acquire(t.Context(), key, opts...)
	},
	"by-ticket": func(t *testing.T, c, other *distributed.Client, key string, opts ...locker.Option) (*distributed.Lease, error) {
		first, err := other.Acquire(t.Context(), key)
		assert.Sure(t, err)
		ticket, err := c.Enqueue(t.Context(), key, opts...)
		assert.Sure(t, err)
		releaseLater(t, first)
		return ticket.Wait(t.Context())
	},
}

// releaseLater releases a lease once somebody has had the time to wait for it.
func releaseLater(t *testing.T, l *distributed.Lease) {
	t.Helper()
	released := make(chan error, 1)
	time.AfterFunc(50*time.Millisecond, func() { // real time: a stock server cannot say whether somebody waits
		released <- l.Release(context.Background())
	})
	t.Cleanup(func() {
		if err := <-released; err != nil {
			t.Errorf("release of the first holder: %v", err)
		}
	})
}

// check asks the holder.
func (h *idleHold) check(t *testing.T) string {
	t.Helper()
	if err := h.lease.Check(); err != nil {
		t.Errorf("%s: %v", h, err)
		return "lost"
	}
	select {
	case <-h.lease.Lost():
		t.Errorf("%s: Lost is closed", h)
		return "lost"
	default:
		return "held"
	}
}

// try has another client try to take the lock.
func (h *idleHold) try(t *testing.T) string {
	t.Helper()
	other := open(t, "dflockd://"+h.server.addr)
	l, err := other.TryAcquire(t.Context(), h.key)
	if err == nil {
		t.Errorf("%s: a second client got it as well", h)
		assert.Sure(t, l.Release(t.Context()))
		return "GRANTED"
	}
	if !errors.Is(err, locker.ErrLocked) {
		t.Errorf("%s: a second client's try: %v, want ErrLocked", h, err)
	}
	return "locked"
}

// renew asks the server itself, over a connection of its own, whether the token
// is that of the holder.
func (h *idleHold) renew(t *testing.T) string {
	t.Helper()
	conn, err := net.Dial("tcp", h.server.addr)
	assert.Sure(t, err)
	defer conn.Close()
	req := codec.Request{Command: codec.Renew, Key: []byte(h.key), Token: codec.Token(h.lease.Token()), TTL: h.ttl}
	_, err = conn.Write(codec.AppendRequest(nil, &req))
	assert.Sure(t, err)
	var a codec.Answer
	assert.Sure(t, codec.NewAnswerReader(conn).Read(&a))
	if a.Status != codec.OK || a.TTL < h.ttl-2*time.Second {
		t.Errorf("%s: a renewal by token answered %v, %v", h, a.Status, a.TTL)
	}
	return fmt.Sprintf("%v %v", a.Status, a.TTL)
}
