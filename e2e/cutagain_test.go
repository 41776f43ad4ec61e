//go:build unix

package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/proxy"
	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/internal/figures"
	"github.com/distributed-go/distributed/locker"
)

const (
	// againTTL is short, so that a client that takes its time to come back
	// loses the lease.
	againTTL = time.Second

	// againCuts are made one soon after the other.
	againCuts = 12
)

// TestMeasureCutAgain cuts a connection soon after it was made, again and again,
// each time with the server there to be connected to at once, and sees that a
// lease with a short TTL survives that.
func TestMeasureCutAgain(t *testing.T) {
	s := startServer(t)
	p := proxy.Start(t, s.addr)
	c := open(t, "dflockd://"+p.Addr(), locker.WithTTL(againTTL))
	l, err := c.Acquire(t.Context(), "key")
	assert.Sure(t, err)
	var took figures.Sample
	for i := range againCuts {
		before := p.Counts().Connections
		began := time.Now()
		p.Cut(proxy.How(i%2), 0)
		eventually(t, stuck, func() string {
			if p.Counts().Connections == before {
				return fmt.Sprintf("no new connection after cut %d", i+1)
			}
			return ""
		})
		took = append(took, ms(time.Since(began)))
		time.Sleep(againTTL / 20) // real time: of a real connection
		if err := l.Check(); err != nil {
			t.Fatalf("lost after %d cuts, of which the last took %.0f ms of a TTL of %v: %v", i+1, took[i], againTTL, err)
		}
	}
	assert.Sure(t, l.Release(t.Context()))
	table := figures.NewTable("cut again and again", "cuts", "TTL", "new connection after ms, median", "latest", "leases lost")
	table.Row("50 ms after each return", againCuts, againTTL, took.Median(), took.Quantile(1), 0)
	campaign.Show(t, table)
}
