package server

import (
	"cmp"
	"slices"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/internal/table"
)

// maxRows caps the rows of a report. With keys of the greatest length it then
// has fewer bytes than the 64 MiB that clients read at most.
const maxRows = 100_000

// Stats reports who holds and who waits: keys in use first, sorted by key, at
// most 100,000 rows in all. It holds up the server for as long as it takes to
// copy that, a few milliseconds for ten thousand keys.
func (s *Server) Stats() codec.ServerStats {
	s.mu.Lock()
	report := codec.ServerStats{Connections: len(s.members)}
	s.mu.Unlock()

	now := s.locks.enter()
	keys := s.locks.table.Snapshot(now)
	s.locks.leave(now)

	slices.SortFunc(keys, func(a, b table.KeyInfo) int {
		return cmp.Or(cmp.Compare(min(b.Holders, 1), min(a.Holders, 1)), cmp.Compare(a.Key, b.Key))
	})
	for _, k := range keys[:min(len(keys), maxRows)] {
		addRow(&report, k)
	}
	return report
}

func addRow(report *codec.ServerStats, k table.KeyInfo) {
	switch {
	case k.Holders == 0 && k.Kind == table.Lock:
		report.IdleLocks = append(report.IdleLocks, codec.IdleStats{Key: k.Key, IdleS: seconds(k.Idle)})
	case k.Holders == 0:
		report.IdleSemaphores = append(report.IdleSemaphores, codec.IdleStats{Key: k.Key, IdleS: seconds(k.Idle)})
	case k.Kind == table.Lock:
		report.Locks = append(report.Locks, codec.LockStats{
			Key: k.Key, OwnerConnID: k.Owner, LeaseExpiresInS: seconds(k.ExpiresIn), Waiters: k.Waiters,
		})
	default:
		report.Semaphores = append(report.Semaphores, codec.SemaphoreStats{
			Key: k.Key, Limit: k.Limit, Holders: k.Holders, Waiters: k.Waiters,
		})
	}
}

// seconds rounds to milliseconds: more digits are noise to whoever reads them.
func seconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }
