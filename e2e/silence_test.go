//go:build unix

package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/proxy"
	"github.com/distributed-go/distributed/e2e/internal/size"
	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/internal/figures"
	"github.com/distributed-go/distributed/locker"
)

var silences = size.New("silences", 6, 60, "connections that go dead without a word, and pauses of servers, at once")

const (
	// silentTTL is the TTL of what is held and waited for meanwhile.
	silentTTL = 6 * time.Second

	// pause is for how long servers are stopped: it must cost nothing.
	pause = silentTTL / 3
)

// TestMeasureSilence has connections go dead without FIN or RST, and servers
// stop for a while, both for shorter than half the TTL, and sees that neither
// costs a lease or a place in a queue.
func TestMeasureSilence(t *testing.T) {
	if !size.Full() {
		t.Parallel()
	}
	table := figures.NewTable("silence", "runs", "TTL", "new connection after s, median", "latest", "leases lost", "places lost")
	dead, paused := make([]silence, silences.Get()), make([]silence, silences.Get())
	for i := range dead {
		dead[i], paused[i] = newSilence(t), newSilence(t)
	}
	var wg sync.WaitGroup
	for i := range dead {
		wg.Go(func() { dead[i].run(t.Context(), dead[i].deafen) })
		wg.Go(func() { paused[i].run(t.Context(), paused[i].pause) })
	}
	wg.Wait()
	for what, all := range map[string][]silence{"connection dead": dead, "server stopped for 2 s": paused} {
		var took figures.Sample
		lost, places := 0, 0
		for _, s := range all {
			took = append(took, s.took.Seconds())
			for _, err := range []error{s.lease, s.place, s.err} {
				if err != nil {
					t.Errorf("%s: %v", what, err)
				}
			}
			if s.lease != nil {
				lost++
			}
			if s.place != nil {
				places++
			}
		}
		if what != "connection dead" {
			took = nil
		}
		table.Row(what, len(all), silentTTL, took.Median(), took.Quantile(1), lost, places)
	}
	campaign.Show(t, table)
}

// A silence is a lane with a server of its own.
type silence struct {
	*cutLane
	server *lockServer

	took  time.Duration // until there was a new connection
	lease error         // why what a held was lost
	place error         // why a was not served in its turn
	err   error         // what else went wrong
}

func newSilence(t *testing.T) silence {
	t.Helper()
	s := startServer(t)
	return silence{cutLane: newCutLane(t, s, "silence", locker.WithTTL(silentTTL)), server: s}
}

// run has a lane held and waited for go through something.
func (s *silence) run(ctx context.Context, through func(context.Context) error) {
	if s.err = s.begin(ctx); s.err != nil {
		return
	}
	time.Sleep(rand.N(time.Second)) // real time: anywhere between two beats
	s.err = through(ctx)
	s.lease = errors.Join(s.kept.Check(), s.theirs.Check())
	s.place = s.end(ctx)
}

// deafen makes the connection go dead, and returns when there is another one.
func (s *silence) deafen(ctx context.Context) error {
	before := s.proxy.Counts().Connections
	began := time.Now()
	s.proxy.Deafen()
	for s.proxy.Counts().Connections == before {
		if time.Since(began) > 2*silentTTL || ctx.Err() != nil {
			return fmt.Errorf("no new connection %v after the old one went dead", time.Since(began))
		}
		time.Sleep(time.Millisecond) // real time, as all of this
	}
	s.took = time.Since(began)
	return nil
}

// pause stops the server for a while.
func (s *silence) pause(context.Context) error {
	if err := s.server.Freeze(); err != nil {
		return err
	}
	time.Sleep(pause)
	return s.server.Signal(syscall.SIGCONT)
}

// TestMeasureCutHello cuts the first connection of clients at every byte of what
// is said on it before anything is asked for. They acquire all the same, nothing
// is left, and they are in session mode then: a server that closes the connection
// at hello may be one of the oldest, which do that, but not if it does it once.
func TestMeasureCutHello(t *testing.T) {
	s := startServer(t)
	observer := open(t, s.url())
	up, down := helloBytes(t, s)
	step := 7
	if size.Full() {
		step = 1
	}
	table := figures.NewTable("cut in the first hello", "clients", "acquired", "in session mode then")
	for _, how := range []proxy.How{proxy.FIN, proxy.RST, proxy.OneSided} {
		clients, acquired, session := 0, 0, 0
		for n := rand.IntN(step); n < up+down; n += step {
			cut := proxy.Cut{Direction: proxy.Up, After: int64(n), How: how}
			if n >= up {
				cut = proxy.Cut{Direction: proxy.Down, After: int64(n - up), How: how}
			}
			clients++
			isSession, err := cutHello(t, s, cut)
			if err != nil {
				t.Errorf("%v: %v", cut, err)
				continue
			}
			acquired++
			if isSession {
				session++
			}
		}
		table.Row(how, clients, acquired, session)
		if session != acquired {
			t.Errorf("%v: %d of %d clients are in session mode, want all", how, session, acquired)
		}
	}
	eventually(t, stuck, func() string {
		if holders, waiters, err := busy(t.Context(), observer); err != nil || holders+waiters != 0 {
			return fmt.Sprintf("%d holders and %d waiters are left, %v", holders, waiters, err)
		}
		return ""
	})
	campaign.Show(t, table)
}

// helloBytes counts what goes over before the first answer to a request.
func helloBytes(t *testing.T, s *lockServer) (up, down int) {
	t.Helper()
	p := proxy.Start(t, s.addr)
	c := open(t, "dflockd://"+p.Addr(), locker.WithTTL(cutTTL))
	l, err := c.Acquire(t.Context(), "hello")
	assert.Sure(t, err)
	counts := p.Counts()
	assert.Sure(t, l.Release(t.Context()))
	return int(counts.Up), int(counts.Down)
}

// cutHello cuts a client's first connection and says whether it is in session
// mode afterwards: then a wait takes no connection of its own.
func cutHello(t *testing.T, s *lockServer, cut proxy.Cut) (session bool, err error) {
	t.Helper()
	p := proxy.Start(t, s.addr)
	defer p.Close()
	done := p.Arm(cut)
	c := open(t, "dflockd://"+p.Addr(), locker.WithTTL(cutTTL))
	defer func() { err = errors.Join(err, c.Close()) }()
	ctx, cancel := context.WithTimeout(t.Context(), stuck)
	defer cancel()
	l, err := c.Acquire(ctx, "hello")
	if err != nil {
		return false, err
	}
	<-done
	before := p.Counts().Connections
	waited, giveUp := context.WithTimeout(ctx, 20*time.Millisecond)
	defer giveUp()
	if _, err := c.Acquire(waited, "hello"); !errors.Is(err, context.DeadlineExceeded) {
		return false, fmt.Errorf("a wait for what is held: %w", err)
	}
	session = p.Counts().Connections == before
	return session, l.Release(ctx)
}
