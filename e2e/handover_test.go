//go:build unix

package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/distributed-go/distributed"
	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/size"
	"github.com/distributed-go/distributed/internal/figures"
	"github.com/distributed-go/distributed/internal/proc"
	"github.com/distributed-go/distributed/locker"
)

var (
	deaths = size.New("deaths", 20, 1000, "holders to kill one after the other, whose death the server can see")
	unseen = size.New("unseen-deaths", 30, 1000, "leases whose holders are killed without the server seeing it")
)

const (
	// unseenTTL is how long the leases of those go on.
	unseenTTL = time.Second

	// unseenHolders is how many processes hold them.
	unseenHolders = 10

	// longestHandOver is what no hand-over takes, beside the TTL where that has
	// to pass.
	longestHandOver = 5 * time.Second
)

// TestMeasureKillHandOver kills holders with SIGKILL while another process
// waits, and takes the time until it holds: where the server sees that the
// holder is dead, and where the TTL has to pass.
func TestMeasureKillHandOver(t *testing.T) {
	s := startServer(t)
	table := figures.NewTable("holders killed", "TTL", "hand-overs", "next holder after ms, p50", "p99", "longest", "shortest")
	row := func(what string, ttl time.Duration, took figures.Sample) {
		table.Row(what, ttl, len(took), took.Median(), took.Quantile(0.99), took.Quantile(1), took.Quantile(0))
	}

	w := newKillWatch(t, s)
	var seen figures.Sample
	for range deaths.Get() {
		h := w.hold(s.url(), time.Minute, []string{"seen"})
		w.await(h)
		seen = append(seen, w.kill(h)...)
	}
	row("the server on the same machine sees it", time.Minute, seen)
	if longest := ms(longestHandOver); seen.Quantile(1) > longest {
		t.Errorf("a hand-over took %.0f ms, want at most %.0f", seen.Quantile(1), longest)
	}

	late := w.unseen(s.url() + "&process=0")
	row("process=0: the TTL passes", unseenTTL, late)
	if longest := ms(unseenTTL + longestHandOver); late.Quantile(1) > longest {
		t.Errorf("a hand-over took %.0f ms, want at most %.0f", late.Quantile(1), longest)
	}
	// A holder renews every third of the TTL, so that two thirds are left.
	if least := ms(unseenTTL / 3); late.Quantile(0) < least {
		t.Errorf("a lease was handed over after %.0f ms: it was not its TTL that ended it", late.Quantile(0))
	}
	campaign.Show(t, table)
}

func ms(d time.Duration) float64 { return d.Seconds() * 1000 }

// A killWatch waits for what the dead leave.
type killWatch struct {
	*testing.T
	client   *distributed.Client // waits
	observer *distributed.Client
}

func newKillWatch(t *testing.T, s *lockServer) *killWatch {
	return &killWatch{T: t, client: open(t, s.url(), locker.WithTTL(unseenTTL)), observer: open(t, s.url())}
}

// A doomed is a process that holds keys and is killed, and those who wait for
// them.
type doomed struct {
	*proc.Process
	keys    []string
	fences  []uint64
	waiting sync.WaitGroup
	next    []successor
}

// A successor is the hold after that of a process that was killed.
type successor struct {
	at    int64
	fence uint64
	err   error
}

type holderArgs struct {
	URL  string
	TTL  time.Duration
	Keys []string
}

// holderRole acquires keys, says with which fences, and holds them.
func holderRole(c *proc.Child) error {
	var args holderArgs
	if err := c.Args(&args); err != nil {
		return err
	}
	client, err := distributed.Open(args.URL, locker.WithTTL(args.TTL))
	if err != nil {
		return err
	}
	fences := make([]uint64, len(args.Keys))
	for i, key := range args.Keys {
		l, err := client.Acquire(context.Background(), key)
		if err != nil {
			return err
		}
		fences[i], _ = l.Fence()
	}
	if err := c.Serve(fences); err != nil {
		return err
	}
	return client.Close()
}

// hold starts a process that holds the keys.
func (w *killWatch) hold(url string, ttl time.Duration, keys []string) *doomed {
	w.Helper()
	h := &doomed{keys: keys, next: make([]successor, len(keys))}
	h.Process = proc.Start(w.T, "holder", holderArgs{URL: url, TTL: ttl, Keys: keys}, &h.fences)
	return h
}

// await waits for the keys of processes until all those waits are known to the
// server.
func (w *killWatch) await(all ...*doomed) {
	w.Helper()
	waits := 0
	for _, h := range all {
		waits += len(h.keys)
		for i, key := range h.keys {
			h.waiting.Go(func() { h.next[i] = w.acquire(key) })
		}
	}
	eventually(w, longestHandOver, func() string {
		if _, n, err := busy(w.Context(), w.observer); err != nil || n != waits {
			return fmt.Sprintf("the server reports %d waiters, %v; want %d", n, err, waits)
		}
		return ""
	})
}

func (w *killWatch) acquire(key string) (next successor) {
	ctx, cancel := context.WithTimeout(w.Context(), 12*longestHandOver)
	defer cancel()
	l, err := w.client.Acquire(ctx, key)
	next.at = monotonic()
	if err != nil {
		return successor{err: err}
	}
	next.fence, _ = l.Fence()
	next.err = l.Release(context.WithoutCancel(ctx))
	return next
}

// kill kills a process and returns for each of its keys after how many ms it
// was held again.
func (w *killWatch) kill(h *doomed) figures.Sample {
	w.Helper()
	time.Sleep(rand.N(2 * time.Millisecond)) // real time: of a real process
	killed := monotonic()
	if err := h.Signal(syscall.SIGKILL); err != nil {
		w.Error(err)
	}
	h.waiting.Wait()
	h.Kill()
	var took figures.Sample
	for i, next := range h.next {
		switch {
		case next.err != nil:
			w.Errorf("the wait for %s: %v", h.keys[i], next.err)
		case next.fence <= h.fences[i]:
			w.Errorf("%s: fence %d after %d", h.keys[i], next.fence, h.fences[i])
		default:
			took = append(took, float64(next.at-killed)/1e6)
		}
	}
	return took
}

// unseen kills several processes with many keys each, at once.
func (w *killWatch) unseen(url string) figures.Sample {
	w.Helper()
	var all []*doomed
	for i := range unseenHolders {
		var keys []string
		for k := range unseen.Get() / unseenHolders {
			keys = append(keys, fmt.Sprintf("unseen-%d-%d", i, k))
		}
		all = append(all, w.hold(url, unseenTTL, keys))
	}
	w.await(all...)
	samples := make([]figures.Sample, len(all))
	var wg sync.WaitGroup
	for i, h := range all {
		wg.Go(func() {
			time.Sleep(rand.N(unseenTTL / 3)) // real time: anywhere between two renewals
			samples[i] = w.kill(h)
		})
	}
	wg.Wait()
	var took figures.Sample
	for _, s := range samples {
		took = append(took, s...)
	}
	return took
}
