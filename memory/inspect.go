package memory

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/distributed-go/distributed/internal/table"
	"github.com/distributed-go/distributed/locker"
)

// Inspect implements locker.Inspector. Connections counts the Backends that are
// open; owners have the number of their Backend's session.
func (b *Backend) Inspect(ctx context.Context) (locker.Report, error) {
	var r locker.Report
	var keys []table.KeyInfo
	err := b.do(ctx, func(now time.Duration) error {
		r.Connections = b.server.backends
		keys = b.server.table.Snapshot(now)
		return nil
	})
	if err != nil {
		return locker.Report{}, err
	}
	slices.SortFunc(keys, func(a, b table.KeyInfo) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Key, b.Key))
	})
	r.Keys = make([]locker.KeyReport, len(keys))
	for i, k := range keys {
		r.Keys[i] = report(k)
	}
	return r, nil
}

// report says about a key what dflockd would.
func report(k table.KeyInfo) locker.KeyReport {
	r := locker.KeyReport{
		Kind: locker.Counting.String(), Key: k.Key, Limit: k.Limit,
		Holders: k.Holders, Waiters: k.Waiters, Idle: k.Idle,
	}
	switch {
	case k.Kind == table.Lock:
		r.Kind = locker.Exclusive.String()
		if k.Holders > 0 {
			r.Owner, r.ExpiresIn = strconv.FormatUint(k.Owner, 10), k.ExpiresIn
			r.Name, r.HeldFor = k.Name, k.HeldFor
		}
		if k.Valued {
			r.Value = &locker.ValueReport{Bytes: k.ValueBytes, Age: k.ValueAge}
		}
	case k.Holders == 0:
		r.Limit = 0
	}
	return r
}

// inTheWayLocked says why a try failed, and who held the key first of those who
// do.
func (s *Server) inTheWayLocked(req locker.Request) error {
	name, heldFor, held := s.table.Holder(kindOf(req.Kind), []byte(req.Key))
	if !held {
		return locker.ErrLocked
	}
	return &locker.HeldError{Holder: name, For: heldFor}
}
