package dflockd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/locker"
)

// Inspect reports on the keys of all servers; see locker.Inspector. The error
// matches errors.ErrUnsupported where a server refuses to say, as those before
// dflockd 1.4 do, and the report then lacks its keys.
func (b *Backend) Inspect(ctx context.Context) (locker.Report, error) {
	if ctx.Err() != nil {
		return locker.Report{}, context.Cause(ctx)
	}
	if b.life.Err() != nil {
		return locker.Report{}, locker.ErrClosed
	}
	reports := make([]locker.Report, len(b.servers))
	errs := make([]error, len(b.servers))
	var wg sync.WaitGroup
	for i, s := range b.servers {
		wg.Go(func() { reports[i], errs[i] = s.inspect(ctx) })
	}
	wg.Wait()
	var all locker.Report
	for _, r := range reports {
		all.Connections += r.Connections
		all.Keys = append(all.Keys, r.Keys...)
		all.Servers = append(all.Servers, r.Servers...)
	}
	slices.SortFunc(all.Keys, func(a, b locker.KeyReport) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Key, b.Key), cmp.Compare(a.Server, b.Server))
	})
	return all, errors.Join(errs...)
}

// inspect asks in the server's way.
func (s *server) inspect(ctx context.Context) (locker.Report, error) {
	for {
		x, err := s.way(ctx)
		switch {
		case err != nil:
			return locker.Report{}, err
		case x == nil:
			return s.inspectBase(ctx)
		}
		if r, err := x.inspect(ctx); err != errTooLate {
			return r, err
		}
	}
}

// inspectBase asks over a connection of its own: an old server closes it on a
// command that it does not know, and the shared one may hold.
func (s *server) inspectBase(ctx context.Context) (locker.Report, error) {
	for fresh := false; ; fresh = true {
		c, err := s.checkout(ctx, fresh)
		if err != nil {
			return locker.Report{}, err
		}
		stale := c.used()
		a, err := c.roundTrip(ctx, &request{command: codec.Stats}, nil)
		switch {
		case err != nil:
			c.cancel()
		case a.Status == codec.ErrAuth:
			c.cancel() // the server closes it
			err = fmt.Errorf("%w by %v", locker.ErrAuth, s.addr)
		case a.Status != codec.OK:
			s.put(c)
			err = fmt.Errorf("%w by %v: it answered %v to stats, which dflockd knows from 1.4 on (%w)", errors.ErrUnsupported, s.addr, &a, ErrRefused)
		default:
			s.put(c)
			return s.report(a.JSON)
		}
		if fresh || !stale || !s.worthRepeating(err) {
			return locker.Report{}, err
		}
	}
}

// report translates a server's statistics.
func (s *server) report(json []byte) (locker.Report, error) {
	stats, err := codec.ParseStats(json)
	if err != nil {
		return locker.Report{}, fmt.Errorf("statistics of %v: %w", s.addr, err)
	}
	r := locker.Report{Connections: stats.Connections}
	if stats.State != "" {
		r.Servers = []locker.ServerReport{{Server: s.addr.String(), State: stats.State, GraceEnds: fromSeconds(stats.GraceEndsS)}}
	}
	add := func(kind locker.Kind, k locker.KeyReport) {
		k.Server, k.Kind = s.addr.String(), kind.String()
		r.Keys = append(r.Keys, k)
	}
	for _, l := range stats.Locks {
		add(locker.Exclusive, locker.KeyReport{
			Key: l.Key, Limit: 1, Holders: 1, Waiters: l.Waiters,
			Owner: strconv.FormatUint(l.OwnerConnID, 10), Name: l.Owner, HeldFor: fromSeconds(l.HeldS),
			ExpiresIn: fromSeconds(l.LeaseExpiresInS), Value: valueReport(l.Value),
		})
	}
	for _, m := range stats.Semaphores {
		k := locker.KeyReport{Key: m.Key, Limit: m.Limit, Holders: m.Holders, Waiters: m.Waiters}
		for _, o := range m.Owners {
			k.Shares = append(k.Shares, locker.ShareReport{Name: o.Name, Weight: o.Weight, HeldFor: fromSeconds(o.HeldS)})
		}
		if len(k.Shares) > 0 {
			k.Name, k.HeldFor = k.Shares[0].Name, k.Shares[0].HeldFor
		}
		add(locker.Counting, k)
	}
	for _, l := range stats.IdleLocks {
		add(locker.Exclusive, locker.KeyReport{Key: l.Key, Limit: 1, Idle: fromSeconds(l.IdleS), Value: valueReport(l.Value)})
	}
	for _, m := range stats.IdleSemaphores {
		add(locker.Counting, locker.KeyReport{Key: m.Key, Idle: fromSeconds(m.IdleS)})
	}
	return r, nil
}

// valueReport says of a value what the server does, and nil of none.
func valueReport(v *codec.ValueStats) *locker.ValueReport {
	if v == nil {
		return nil
	}
	return &locker.ValueReport{Bytes: max(v.Bytes, 0), Age: fromSeconds(v.AgeS)}
}

// fromSeconds converts what a server reports, whatever that is.
func fromSeconds(s float64) time.Duration {
	if !(s > 0) {
		return 0
	}
	return time.Duration(min(s*float64(time.Second), math.MaxInt64/2))
}
