//go:build unix

package e2e

import (
	"testing"
	"time"

	"github.com/distributed-go/distributed/e2e/internal/campaign"
	"github.com/distributed-go/distributed/e2e/internal/proxy"
	"github.com/distributed-go/distributed/e2e/internal/size"
	"github.com/distributed-go/distributed/internal/assert"
	"github.com/distributed-go/distributed/internal/figures"
)

var returns = size.New("returns", 3, 5, "cuts of the connection of a client that holds many locks")

// returnTTL is long enough for a million locks to be confirmed one by one.
const returnTTL = 30 * time.Second

// TestMeasureReturn cuts the connection of a client that holds very many locks,
// all of which have to be confirmed over the next one, and sees that none is
// lost.
func TestMeasureReturn(t *testing.T) {
	table := figures.NewTable("cut while many are held", "cuts", "answer to the next request after ms, median", "latest", "bytes/lock up", "down", "lost")
	sizes := []int{fewHeld, heldLocks.Get()}
	if n := heldMost.Get(); n > 0 {
		sizes = append(sizes, n)
	}
	for _, n := range sizes {
		measureReturn(t, table, n)
	}
	campaign.Show(t, table)
}

func measureReturn(t *testing.T, table *figures.Table, n int) {
	t.Helper()
	s := startServer(t)
	k := holdThroughProxy(t, s, n, returnTTL)
	var took, up, down figures.Sample
	for i := range returns.Get() {
		before := k.proxy.Counts()
		k.proxy.Cut(proxy.How(i%2), 0)
		began := time.Now()
		assert.Sure(t, k.Call(t.Context(), "probe", struct{}{}, nil))
		took = append(took, ms(time.Since(began)))
		assert.Sure(t, k.Call(t.Context(), "check", struct{}{}, nil))
		after := k.proxy.Counts()
		up = append(up, float64(after.Up-before.Up)/float64(n))
		down = append(down, float64(after.Down-before.Down)/float64(n))
	}
	var released time.Duration
	assert.Sure(t, k.Call(t.Context(), "release", struct{}{}, &released))
	table.Row(n, returns.Get(), took.Median(), took.Quantile(1), up.Median(), down.Median(), 0)
}
