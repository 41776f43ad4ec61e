package server

import (
	"cmp"
	"runtime"
	"slices"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/internal/table"
)

// maxRows caps the rows of a report. With keys of the greatest length it then
// has fewer bytes than the 64 MiB that clients read at most.
const maxRows = 100_000

// Stats reports who holds and who waits: keys in use first, sorted by key, at
// most 100,000 rows in all. The table is copied in parts, between which others
// get it, so that a report of a large one is no picture of one instant. So that
// nobody can slow down the server by asking, reports are made one at a time, and
// once they take long, for a tenth of the time at most; those who ask in between
// wait.
func (s *Server) Stats() codec.ServerStats {
	s.mu.Lock()
	report := codec.ServerStats{Connections: len(s.members)}
	s.mu.Unlock()
	st := s.Status()
	report.State, report.GraceEndsS = string(st.State), seconds(st.GraceEnds)
	fill(&report, s.snapshot())
	return report
}

// fill puts the keys into the report, as many as it may have rows.
func fill(report *codec.ServerStats, keys []table.KeyInfo) {
	slices.SortFunc(keys, func(a, b table.KeyInfo) int {
		return cmp.Or(cmp.Compare(min(b.Holders, 1), min(a.Holders, 1)), cmp.Compare(a.Key, b.Key))
	})
	for _, k := range keys[:min(len(keys), maxRows)] {
		addRow(report, k)
	}
}

// copyPart is how many keys are copied while all else stands still: about 0.1
// ms.
const copyPart = 256

// longCopy is what a copy of the table may take without a pause after it.
const longCopy = 5 * time.Millisecond

func (s *Server) snapshot() []table.KeyInfo {
	s.reports <- struct{}{}
	defer func() { <-s.reports }()
	began := s.locks.now()
	now := s.locks.enter()
	keys := s.locks.table.SnapshotInParts(now, copyPart, func() time.Duration {
		s.locks.leave(now)
		runtime.Gosched() // or else those who wait for the mutex would rarely get it
		now = s.locks.enter()
		return now
	})
	s.locks.leave(now)
	if took := s.locks.now() - began; took > longCopy {
		pause := time.NewTimer(9 * took)
		defer pause.Stop()
		select {
		case <-pause.C:
		case <-s.closing:
		}
	}
	return keys
}

func addRow(report *codec.ServerStats, k table.KeyInfo) {
	switch {
	case k.Holders == 0 && k.Kind == table.Lock:
		report.IdleLocks = append(report.IdleLocks, codec.IdleStats{Key: k.Key, IdleS: seconds(k.Idle), Value: value(k)})
	case k.Holders == 0:
		report.IdleSemaphores = append(report.IdleSemaphores, codec.IdleStats{Key: k.Key, IdleS: seconds(k.Idle)})
	case k.Kind == table.Lock:
		report.Locks = append(report.Locks, codec.LockStats{
			Key: k.Key, OwnerConnID: k.Owner, LeaseExpiresInS: seconds(k.ExpiresIn), Waiters: k.Waiters,
			Owner: k.Name, HeldS: seconds(k.HeldFor), Value: value(k),
		})
	default:
		report.Semaphores = append(report.Semaphores, codec.SemaphoreStats{
			Key: k.Key, Limit: k.Limit, Holders: k.Holders, Waiters: k.Waiters,
			Owners: owners(k.Shares),
		})
	}
}

// value says of the value under a key what there is to say; nil of none.
func value(k table.KeyInfo) *codec.ValueStats {
	if !k.Valued {
		return nil
	}
	return &codec.ValueStats{Bytes: k.ValueBytes, AgeS: seconds(k.ValueAge)}
}

func owners(shares []table.Share) []codec.OwnerStats {
	all := make([]codec.OwnerStats, len(shares))
	for i, s := range shares {
		all[i] = codec.OwnerStats{Name: s.Name, Weight: s.Weight, HeldS: seconds(s.HeldFor)}
	}
	return all
}

// seconds rounds to milliseconds: more digits are noise to whoever reads them.
func seconds(d time.Duration) float64 { return d.Round(time.Millisecond).Seconds() }
