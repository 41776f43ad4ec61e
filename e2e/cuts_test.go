//go:build unix

package e2e

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/proxy"
	"github.com/distributed-go/distributed/e2e/internal/size"
	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/internal/figures"
)

var cuts = size.New("cuts", 100, 1000, "rounds in which a connection is cut; at full size at least one for every byte and way to cut")

const (
	// cutLanes is how many rounds go on at a time.
	cutLanes = 20

	// longestRefusal is for how long new connections are refused after a cut, at
	// most: well below half the TTL.
	longestRefusal = cutTTL / 20

	// cutWays is how many ways to cut there are.
	cutWays = 3
)

// TestMeasureCuts cuts a connection at every byte that goes over it, or at some
// of them without -full, in either direction and in three ways, while its client
// acquires, waits, tries, takes places, cancels, holds and releases. Then it cuts
// a second time, at every byte of what a client says and hears when it comes back.
// No lease is lost, no fence changes, nobody holds at the same time as another,
// all are served in their order, and nothing is left at the server.
func TestMeasureCuts(t *testing.T) {
	s := startServer(t)
	began := time.Now()
	ground := survey(t, s)
	plans := ground.plans(campaign.Random(t), cuts.Get())
	results := make([]cutResult, cutLanes)
	lanes := make([]*cutLane, cutLanes)
	var wg sync.WaitGroup
	for i := range lanes {
		lanes[i] = newCutLane(t, s, fmt.Sprint("lane", i))
		wg.Go(func() {
			var mine [][]proxy.Cut
			for n := i; n < len(plans); n += cutLanes {
				mine = append(mine, plans[n])
			}
			results[i] = lanes[i].run(t.Context(), mine)
		})
	}
	wg.Wait()
	var sum cutResult
	for i, r := range results {
		for _, err := range r.errs {
			t.Error(err)
		}
		for _, c := range lanes[i].conflicts() {
			t.Error(c)
		}
		sum.add(r)
	}
	observer := open(t, s.url())
	holders, waiters, err := busy(t.Context(), observer)
	if err != nil || holders+waiters != 0 {
		t.Errorf("%d holders and %d waiters are left at the server, %v", holders, waiters, err)
	}
	table := figures.NewTable("connections cut", "FIN, RST, one-sided RST", "bytes of a round, up and down", "of a return, up and down", "rounds", "after their round",
		"holds checked", "releases answered late", "what went wrong", "left at the server", "s")
	table.Row(sum.cuts(), fmt.Sprintf("%d, %d, %d", sum.by[proxy.FIN], sum.by[proxy.RST], sum.by[proxy.OneSided]),
		fmt.Sprintf("%d, %d", ground.up, ground.down), fmt.Sprintf("%d, %d", ground.backUp, ground.backDown),
		len(plans), sum.late, sum.holds, sum.unanswered, len(sum.errs), holders+waiters, time.Since(began).Seconds())
	campaign.Show(t, table)
}

// A cutGround is how many bytes go over in a round: all that can be cut.
type cutGround struct {
	up, down         int // of a round without a cut
	backUp, backDown int // what a cut in the middle of one adds to that
}

// survey counts the bytes of rounds.
func survey(t *testing.T, s *lockServer) (g cutGround) {
	t.Helper()
	l := newCutLane(t, s, "survey")
	assert.Sure(t, l.begin(t.Context()))
	assert.Sure(t, l.round(t.Context())) // so that numbers have as many digits as later
	count := func(cuts ...proxy.Cut) (up, down int) {
		before := l.proxy.Counts()
		l.proxy.Arm(cuts...)
		assert.Sure(t, l.round(t.Context()))
		l.proxy.Disarm()
		after := l.proxy.Counts()
		return int(after.Up - before.Up), int(after.Down - before.Down)
	}
	g.up, g.down = count()
	up, down := count(proxy.Cut{Direction: proxy.Up, After: int64(g.up / 2), How: proxy.RST})
	g.backUp, g.backDown = up-g.up, down-g.down
	assert.Sure(t, l.end(t.Context()))
	if g.up <= 0 || g.down <= 0 || g.backUp <= 0 || g.backDown <= 0 {
		t.Fatalf("bytes of a round: %+v, want all above 0", g)
	}
	return g
}

// plans returns the cuts of n rounds, spread over all bytes and ways; at full
// size at least one for each byte and way.
func (g cutGround) plans(r *rand.Rand, n int) (plans [][]proxy.Cut) {
	all := cutWays * (g.up + g.down + g.backUp + g.backDown)
	if size.Full() {
		n = max(n, all)
	}
	shift := r.IntN(all)
	for i := range n {
		at := (i*all/n + shift) % all
		plan := g.at(at/cutWays, proxy.How(at%cutWays))
		for c := range plan {
			if r.IntN(4) == 0 {
				plan[c].Refuse = time.Duration(r.Int64N(int64(longestRefusal)))
			}
		}
		plans = append(plans, plan)
	}
	return plans
}

// at returns the cut at one of all the bytes, after another one if it is in what
// the client says or hears when it comes back.
func (g cutGround) at(i int, how proxy.How) []proxy.Cut {
	middle := proxy.Cut{Direction: proxy.Up, After: int64(g.up / 2), How: how}
	for _, part := range []struct {
		d     proxy.Direction
		bytes int
		back  bool
	}{{proxy.Up, g.up, false}, {proxy.Down, g.down, false}, {proxy.Up, g.backUp, true}, {proxy.Down, g.backDown, true}} {
		if i >= part.bytes {
			i -= part.bytes
			continue
		}
		cut := proxy.Cut{Direction: part.d, After: int64(i), How: how}
		if part.back {
			return []proxy.Cut{middle, cut}
		}
		return []proxy.Cut{cut}
	}
	panic("there are not so many bytes")
}

func TestCutGround(t *testing.T) {
	g := cutGround{up: 3, down: 2, backUp: 2, backDown: 1}
	var got []string
	for i := range 8 {
		c := g.at(i, proxy.FIN)
		got = append(got, fmt.Sprintf("%d %v %d", len(c), c[len(c)-1].Direction, c[len(c)-1].After))
	}
	want := "[1 up 0 1 up 1 1 up 2 1 down 0 1 down 1 2 up 0 2 up 1 2 down 0]"
	if fmt.Sprint(got) != want {
		t.Errorf("cuts %v, want %v", got, want)
	}
}

// A cutResult is what became of rounds.
type cutResult struct {
	by         [cutWays]int // cuts, by How
	late       int          // that fell after the operations of their round
	holds      int
	unanswered int
	errs       []error
}

func (r *cutResult) add(o cutResult) {
	for how, n := range o.by {
		r.by[how] += n
	}
	r.late += o.late
	r.holds += o.holds
	r.unanswered += o.unanswered
	r.errs = append(r.errs, o.errs...)
}

func (r *cutResult) cuts() int { return r.by[proxy.FIN] + r.by[proxy.RST] + r.by[proxy.OneSided] }

// run runs a round for each plan. It ends early when something went wrong: what
// is wrong then is wrong in the rounds after it too.
func (l *cutLane) run(ctx context.Context, plans [][]proxy.Cut) (r cutResult) {
	if err := l.begin(ctx); err != nil {
		return cutResult{errs: []error{err}}
	}
	for n, plan := range plans {
		hits, late, err := l.cutRound(ctx, plan)
		r.late += late
		for _, h := range hits {
			r.by[h.How]++
		}
		if err != nil {
			r.errs = append(r.errs, fmt.Errorf("%s, round %d, %v: %w", l.name, n, describe(plan, hits), err))
			break
		}
	}
	if len(r.errs) == 0 {
		if err := l.end(ctx); err != nil {
			r.errs = append(r.errs, fmt.Errorf("%s, at the end: %w", l.name, err))
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, holds := range l.holds {
		r.holds += len(holds)
	}
	r.unanswered = l.unanswered
	return r
}

// cutRound runs a round that is cut. What was not reached in it is cut when it is
// over, with the client at rest.
func (l *cutLane) cutRound(ctx context.Context, plan []proxy.Cut) (hits []proxy.Hit, late int, err error) {
	done := l.proxy.Arm(plan...)
	err = l.round(ctx)
	hits = l.proxy.Disarm()
	select {
	case <-done:
	default:
		last := plan[len(plan)-1]
		l.proxy.Cut(last.How, last.Refuse)
		late, hits = 1, append(hits, proxy.Hit{Cut: last})
	}
	// An answer says that the client is back.
	_, inspectErr := l.a.Inspect(ctx)
	for n := 0; inspectErr != nil && n < 100; n++ {
		time.Sleep(10 * time.Millisecond) // real time, as all of this
		_, inspectErr = l.a.Inspect(ctx)
	}
	return hits, late, errors.Join(err, inspectErr, l.kept.Err())
}

// describe says what was to be cut, and where that was.
func describe(plan []proxy.Cut, hits []proxy.Hit) string {
	s := fmt.Sprint(plan)
	for _, h := range hits {
		s += fmt.Sprintf(", in the line %q", h.Line)
	}
	return s
}
