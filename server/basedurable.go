package server

import (
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/internal/session"
	"github.com/distributed-go/distributed/internal/table"
)

// What a connection of the base protocol does for the sake of a data directory.
// It answers one request after the other anyway, so that its goroutine can wait
// for the disk.

// enterAdmitted is enter once a lease of the TTL may be out. It is false, and the
// mutex not held, if that will never be.
func (b *base) enterAdmitted(ttl time.Duration) (now time.Duration, ok bool) {
	for {
		now := b.locks.enter()
		stamp, err := b.locks.admit(ttl, 1)
		if err == nil && stamp == 0 {
			return now, true
		}
		b.locks.leave(now)
		if err != nil || b.locks.settled(stamp) != nil {
			return 0, false
		}
	}
}

// kept returns the answer that tells of a grant, once that may be relied on.
func (b *base) kept(a codec.Answer) codec.Answer {
	for k := b.locks; k.disk != nil && a.TTL > k.disk.maxGrace; {
		now := k.enter()
		stamp, err := k.keep(b.told, a.TTL)
		switch {
		case err != nil:
			k.table.Cancel(now, b.told)
			a = codec.Answer{Status: codec.Failed}
		case b.told.State() != table.Granted:
			a = codec.Answer{Status: codec.LeaseExpired}
		}
		k.leave(now)
		if stamp == 0 || err != nil || !a.HasToken {
			return a
		}
		k.settled(stamp) //nolint:errcheck // keep says it again
	}
	return a
}

// renewDurably is renew with a data directory. Whoever was granted a lock before
// a restart goes on with it by renewing it.
func (b *base) renewDurably(r *codec.Request) (codec.Answer, error) {
	k, kind, token := b.locks, session.KindOf(r), session.FromWire(r.Token)
	for ttl := b.ttl(r); ; {
		now := k.enter()
		if k.frozen { // what is held was taken down with the TTL that it had
			k.leave(now)
			return codec.Answer{}, errStopped
		}
		l := k.table.Find(now, kind, r.Key, token)
		if l == nil || k.table.Unclaimed(l) {
			a := b.reclaim(now, r, l, token)
			k.leave(now)
			return a, nil
		}
		stamp, err := k.admit(ttl, 0)
		if stamp == 0 && err == nil {
			stamp, err = k.keep(l, ttl)
		}
		if err != nil { // as it was is what can be relied on
			stamp, ttl = 0, min(ttl, l.TTL())
		}
		if stamp == 0 {
			a := b.renewed(now, r, ttl)
			k.leave(now)
			return a, nil
		}
		k.leave(now)
		k.settled(stamp) //nolint:errcheck // admit and keep say it again
	}
}

// reclaim makes a lease of before a restart one of the connection, with the mutex
// held. The lease may be nil if it is one of a lock: all that its token stands for
// is known then.
func (b *base) reclaim(now time.Duration, r *codec.Request, l *table.Lease, token table.Token) codec.Answer {
	q := table.Request{
		Kind: session.KindOf(r), Key: r.Key, Owner: b.owner, TTL: b.ttl(r), Limit: 1, Weight: 1, Tag: b,
	}
	switch {
	case l != nil:
		q.Limit, q.Weight = l.Limit(), l.Weight()
	case r.Semaphore:
		return codec.Answer{Status: codec.Failed}
	}
	l, err := b.locks.table.Claim(now, q, token)
	if err != nil {
		return codec.Answer{Status: codec.Failed}
	}
	return codec.Answer{Status: codec.OK, TTL: l.Remaining(now), HasTTL: true}
}
