package etcd

import (
	"testing"
	"time"

	"github.com/distributed-go/distributed/internal/figures"
	"github.com/distributed-go/distributed/locker"
)

// TestMeasureLost freezes the way to etcd while a lock is held: how late Lost closes,
// and how long after it somebody else gets the lock. That nobody does before is no
// measurement.
func TestMeasureLost(t *testing.T) {
	ttls, times := []time.Duration{2 * time.Second}, 1
	if *full {
		ttls, times = append(ttls, 5*time.Second, 10*time.Second), 8
	}
	s := startEtcd(t)
	table := figures.NewTable("TTL", "times", "from the freeze to Lost, s", "Lost after the deadline, ms", "latest, ms", "from Lost to the next holder, s")
	for _, ttl := range ttls {
		results := make(chan loss, times)
		for i := range times {
			go func() {
				results <- loseFrozen(t, s, keyOf(i, false)+ttl.String(), ttl, time.Duration(i)*ttl/time.Duration(3*times))
			}()
		}
		var after, late, heir figures.Sample
		for range times {
			l := <-results
			after, late, heir = append(after, l.after.Seconds()), append(late, l.late.Seconds()*1000), append(heir, l.heir.Seconds())
		}
		table.Row(ttl, times, after, late, late.Quantile(1), heir)
	}
	t.Logf("\n\n%s\n", table)
}

// A loss is how a hold was lost.
type loss struct{ after, late, heir time.Duration }

// loseFrozen holds a lock, lets its server fall silent after a while, and waits for
// the loss, and for who gets the lock then.
func loseFrozen(t *testing.T, s *server, key string, ttl, pause time.Duration) (r loss) {
	p := newProxy(t, s.addr)
	c := locker.New(dialTo(t, p.at), silent, locker.WithTTL(ttl))
	t.Cleanup(func() { c.Close() })
	l, err := c.Acquire(t.Context(), key)
	if err != nil {
		t.Error(err)
		return r
	}
	lost := l.Lost()
	time.Sleep(pause)
	p.freeze()
	frozen := time.Now()
	next := make(chan error, 1)
	other := s.locker(silent, locker.WithTTL(ttl))
	go func() {
		heir, err := other.Acquire(t.Context(), key)
		if err == nil && l.Check() == nil {
			t.Errorf("TTL %v: two hold %s", ttl, key)
		}
		next <- err
		if err == nil {
			_ = heir.Release(t.Context())
		}
	}()
	<-lost
	at := time.Now()
	r.after, r.late = at.Sub(frozen), at.Sub(l.Deadline())
	if err := <-next; err != nil {
		t.Error(err)
	}
	r.heir = time.Since(at)
	return r
}
