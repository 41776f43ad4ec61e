//go:build linux

package etcdcluster

import (
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/distributed-go/distributed"
	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/internal/figures"
	"github.com/distributed-go/distributed/locker"

	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/size"
	"github.com/distributed-go/distributed/e2e/internal/witness"
)

var lossRounds = size.New("loss-rounds", 1, 4, "times that the leader is stopped, and all members are killed, under holders")

const (
	lossHolds = 10
	// slack is how much later than at its deadline the channel of a lease may
	// close. Check, which is what matters, gets none of it; a machine that runs
	// other tests at the same time wakes goroutines late.
	slack = time.Second
	// after is for how long a lost lease is asked again.
	after = 500 * time.Millisecond
)

// lossTTLs are the leases that are lost.
func lossTTLs() []time.Duration {
	if size.Full() {
		return []time.Duration{2 * time.Second, 5 * time.Second, 10 * time.Second}
	}
	return []time.Duration{2 * time.Second}
}

// TestLoss stops the leader, and kills all members, under holders of different TTLs,
// and takes the time until they know: by their deadline at the latest, and by the
// end of a TTL that begins with the fault. Check never says afterwards that they
// hold. Who gets the keys next does so after that.
func TestLoss(t *testing.T) {
	t.Parallel()
	l := &losing{rig: newRig(t), rows: make(map[string]*lossRow)}
	for range lossRounds.Get() {
		leader, err := l.cluster.leader(serving)
		assert.Sure(t, err)
		l.round("leader stopped, who know it alone", []int{leader}, func() error { return l.cluster.freeze(leader) }, func() error { return l.cluster.thaw(leader) })
		if size.Full() {
			leader, err = l.cluster.leader(serving)
			assert.Sure(t, err)
			l.round("leader stopped, who know all", nil, func() error { return l.cluster.freeze(leader) }, func() error { return l.cluster.thaw(leader) })
		}
		l.round("all members killed", nil, func() error { l.cluster.all(l.cluster.kill); return nil }, func() error {
			for i := range members {
				if err := l.cluster.start(i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	l.end()
	table := figures.NewTable("fault", "TTL", "holds", "kept", "lost s after the fault, median", "greatest", "Lost ms after Deadline, median", "greatest", "Check nil after it")
	for _, name := range l.order {
		r := l.rows[name]
		table.Row(r.what, r.ttl, r.holds, r.kept, r.took.Median(), r.took.Quantile(1), r.late.Median(), r.late.Quantile(1), r.believed)
	}
	campaign.Show(t, table)
	campaign.Report(t, l.found)
}

// A losing is that campaign.
type losing struct {
	*rig
	order []string
	rows  map[string]*lossRow
}

// A lossRow is what became of the holds of a fault and a TTL.
type lossRow struct {
	what        string
	ttl         time.Duration
	holds, kept int
	took        figures.Sample // from the fault to the loss, in s
	late        figures.Sample // from the deadline to the loss, in ms
	believed    int            // times that Check was nil after the deadline or the loss
}

// A lost is what became of one hold.
type lost struct {
	key      string
	kept     bool
	believed int64         // the last instant before a Check that returned nil
	told     time.Time     // when Lost was closed
	late     time.Duration // after the deadline
	wrong    int
}

// round acquires, lets the fault happen, watches until all leases must have ended
// but for those that were kept, undoes the fault, and lets others have the keys.
func (l *losing) round(what string, some []int, fault, undo func() error) {
	l.t.Helper()
	all := make(map[time.Duration][]*distributed.Lease)
	for _, ttl := range lossTTLs() {
		c := l.open(ttl, some...)
		defer func() { _ = c.Close() }() // there may be nobody to give back to
		for i := range lossHolds {
			lease, err := c.Acquire(l.ctx, fmt.Sprintf("loss-%v-%d", ttl, i))
			assert.Sure(l.t, err)
			all[ttl] = append(all[ttl], lease)
		}
	}
	pause(l.ctx, l.between(500*time.Millisecond, 1500*time.Millisecond)) // anywhere between two renewals
	var watching sync.WaitGroup
	results := make(map[time.Duration][]lost)
	longest := slices.Max(lossTTLs()) + slack
	assert.Sure(l.t, fault())
	happened := time.Now()
	for ttl, leases := range all {
		results[ttl] = make([]lost, len(leases))
		for i, lease := range leases {
			watching.Go(func() { results[ttl][i] = watch(lease, happened.Add(longest)) })
		}
	}
	watching.Wait()
	assert.Sure(l.t, undo())
	for _, ttl := range lossTTLs() {
		l.count(what, ttl, happened, results[ttl])
	}
	_, err := l.cluster.leader(serving)
	assert.Sure(l.t, err)
	l.inherit(results)
}

func (l *losing) open(ttl time.Duration, some ...int) *distributed.Client {
	c, err := distributed.Open(l.cluster.url(some...), locker.WithTTL(ttl), locker.WithLogger(slog.New(slog.DiscardHandler)))
	assert.Sure(l.t, err)
	return c
}

// watch asks a lease until it is lost, and a while longer; or until an instant.
func watch(lease *distributed.Lease, until time.Time) lost {
	var (
		result = lost{key: lease.Key()}
		told   = make(chan struct{})
		stop   = make(chan struct{})
	)
	go func() {
		defer close(told)
		select {
		case <-lease.Lost():
			result.told = time.Now()
		case <-stop:
		}
	}()
	var lostAt time.Time
	for lostAt.IsZero() || time.Since(lostAt) < after {
		at, now := witness.Monotonic(), time.Now()
		if lease.Check() == nil {
			result.believed = at
			if !lostAt.IsZero() || past(lease, now) {
				result.wrong++
			}
			if now.After(until) {
				result.kept = true
				break
			}
		} else if lostAt.IsZero() {
			lostAt = now
		}
		time.Sleep(2 * time.Millisecond) // real time, as all here
	}
	if result.kept {
		close(stop)
	} else {
		select {
		case <-told:
		case <-time.After(slack): // it has had after besides
			close(stop)
		}
	}
	<-told
	if !result.told.IsZero() {
		result.late = result.told.Sub(lease.Deadline())
	}
	return result
}

// count keeps what became of holds of one TTL.
func (l *losing) count(what string, ttl time.Duration, happened time.Time, results []lost) {
	name := fmt.Sprint(what, ttl)
	r := l.rows[name]
	if r == nil {
		r = &lossRow{what: what, ttl: ttl}
		l.rows[name] = r
		l.order = append(l.order, name)
	}
	for _, x := range results {
		r.holds++
		r.believed += x.wrong
		if x.wrong > 0 {
			l.fail("late", "%s: Check of %s was nil %d times after its deadline or its loss", what, x.key, x.wrong)
		}
		if x.kept {
			r.kept++
			continue
		}
		took := x.told.Sub(happened)
		switch {
		case x.told.IsZero():
			l.fail("late", "%s: Lost of %s did not close", what, x.key)
			continue
		case x.late > slack || took > ttl+slack:
			l.fail("late", "%s: Lost of %s with a TTL of %v closed %v after the fault, %v after its deadline", what, x.key, ttl, took, x.late)
		}
		r.took, r.late = append(r.took, took.Seconds()), append(r.late, float64(x.late)/1e6)
	}
}

// inherit acquires all keys that were lost, by somebody else, who must not get them
// before the last belief of who had them.
func (l *losing) inherit(results map[time.Duration][]lost) {
	c := l.open(clusterTTL)
	defer func() { assert.Sure(l.t, c.Close()) }()
	var all sync.WaitGroup
	var mu sync.Mutex
	for _, lostOnes := range results {
		for _, x := range lostOnes {
			if x.kept {
				continue
			}
			all.Go(func() {
				lease, err := c.Acquire(l.ctx, x.key)
				at := witness.Monotonic()
				if err == nil {
					err = lease.Release(l.ctx)
				}
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					l.fail("failure", "%s after it was lost: %v", x.key, err)
				}
				if at < x.believed {
					l.fail("overlap", "key %s: granted %v before its last holder believed for the last time", x.key, time.Duration(x.believed-at))
				}
			})
		}
	}
	all.Wait()
}
