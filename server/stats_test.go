package server

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/internal/table"
)

// TestTheLongestReportFitsItsCap fills a report with the longest rows that
// there can be, of more keys than it lists.
func TestTheLongestReportFitsItsCap(t *testing.T) {
	keys := make([]table.KeyInfo, maxRows+500)
	for i := range keys {
		keys[i] = table.KeyInfo{Key: fmt.Sprintf("%s%07d", strings.Repeat(`"`, codec.MaxLine-7), len(keys)-i)}
		keys[i].Valued, keys[i].ValueBytes, keys[i].ValueAge = true, math.MaxInt32, longest-time.Millisecond
		if i < 300 {
			continue // idle keys come last, so they are left out first
		}
		keys[i].Holders, keys[i].Waiters = 1, math.MaxInt32
		keys[i].Owner, keys[i].ExpiresIn = math.MaxUint64, longest-time.Millisecond
		if i%2 == 0 {
			keys[i].Kind, keys[i].Limit, keys[i].Holders = table.Semaphore, math.MaxInt32, math.MaxInt32
		}
	}
	var report codec.ServerStats
	fill(&report, keys)
	if n := len(report.Locks) + len(report.Semaphores); n != maxRows || len(report.IdleLocks) != 0 {
		t.Errorf("%d rows and %d idle", n, len(report.IdleLocks))
	}
	if n := len(report.JSON()); n >= codec.MaxStats-len("ok \n") {
		t.Errorf("the report has %d bytes", n)
	}
	first := report.Locks[0]
	if last := report.Locks[len(report.Locks)-1]; first.Key >= last.Key {
		t.Errorf("from %q to %q is not sorted", first.Key, last.Key)
	}
}
