package server

import (
	"errors"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/internal/datadir"
	"github.com/distributed-go/distributed/internal/session"
	"github.com/distributed-go/distributed/internal/table"
)

// What a connection of the base protocol does for the sake of a data directory.
// It answers one request after the other anyway, so that its goroutine can wait
// for the disk, as it waits for a turn: it hears its client's end meanwhile.

// patience is how long a request waits for the disk at least that has no time to
// lose: most often that is a try, for which the disk needs a few milliseconds.
const patience = time.Second

// admitted returns with the mutex held, as it was called, once a lease of the TTL
// may be out. If that will never be, or not until the request is to be answered,
// the mutex is not held and the status is the answer; the error is what ended the
// connection meanwhile.
func (b *base) admitted(now, ttl time.Duration) (time.Duration, codec.Status, error) {
	for limit := b.limit(now); !b.locks.draining; {
		stamp, err := b.locks.admit(ttl, 1)
		switch {
		case err == nil && stamp == 0:
			return now, codec.OK, nil
		case err != nil:
			b.locks.leave(now)
			return 0, codec.Failed, nil
		case limit != 0 && now >= limit:
			b.locks.leave(now)
			return 0, codec.Timeout, nil
		}
		if now, err = b.waitForDisk(now, limit); err != nil {
			return 0, codec.Failed, err
		}
	}
	return now, codec.OK, nil // and acquire says why not
}

// limit returns until when the request at hand may wait for the disk; 0 is for
// ever.
func (b *base) limit(now time.Duration) time.Duration {
	if b.until == 0 {
		return 0
	}
	return max(b.until, now+patience)
}

// waitForDisk gives the mutex back and takes it again when the disk has written
// something, or at the limit unless that is 0, or earlier. The error is what ended
// the connection meanwhile; the mutex is not held then.
func (b *base) waitForDisk(now, limit time.Duration) (time.Duration, error) {
	b.locks.disk.waiting[b] = struct{}{}
	b.locks.leave(now)
	if limit != 0 {
		timer := time.AfterFunc(limit-now, b.wake)
		defer timer.Stop()
	}
	err := b.await()
	now = b.locks.enter()
	b.locks.disk.left(b)
	if err != nil {
		b.locks.leave(now)
	}
	return now, err
}

// left takes note that a connection waits for the disk no longer, and says whether
// it did.
func (d *disk) left(b *base) bool {
	_, ok := d.waiting[b]
	delete(d.waiting, b)
	return ok
}

// tell takes note that the answer at hand tells of a grant, unless it has to wait
// for a record.
func (b *base) tell(l *table.Lease) {
	switch d := b.locks.disk; {
	case d == nil:
	case l.TTL() > d.maxGrace:
		b.locks.table.Withhold(l)
	default:
		b.locks.table.Told(l)
	}
}

// kept returns the answer that tells of a grant, once that may be relied on. The
// error is what ended the connection meanwhile.
func (b *base) kept(a codec.Answer) (codec.Answer, error) {
	k := b.locks
	if k.disk == nil || a.TTL <= k.disk.maxGrace {
		return a, nil
	}
	now := k.enter()
	for limit := b.limit(now); ; {
		stamp, status := b.keepTold(now, limit, a.TTL)
		if status != codec.OK {
			a = codec.Answer{Status: status}
		}
		if stamp == 0 {
			k.leave(now)
			return a, nil
		}
		var err error
		if now, err = b.waitForDisk(now, limit); err != nil {
			return a, err
		}
	}
}

// keepTold says whether the client may hear of its grant. A stamp says that it has
// to wait, and a status other than OK why it never will hear.
func (b *base) keepTold(now, limit, ttl time.Duration) (datadir.Stamp, codec.Status) {
	k := b.locks
	switch {
	case k.frozen:
		return 0, codec.Draining
	case b.told.State() != table.Granted:
		return 0, codec.LeaseExpired
	}
	stamp, err := k.keep(b.told, ttl)
	switch {
	case err != nil:
		k.table.Cancel(now, b.told)
		if errors.Is(err, datadir.ErrFull) {
			return 0, codec.MaxLocks
		}
		return 0, codec.Failed
	case stamp == 0:
		k.table.Told(b.told)
	case limit != 0 && now >= limit:
		k.table.Cancel(now, b.told)
		return 0, codec.Timeout
	}
	return stamp, codec.OK
}

// renewDurably is renew with a data directory. Whoever was granted a lock before
// a restart goes on with it by renewing it.
func (b *base) renewDurably(r *codec.Request) (codec.Answer, error) {
	k, kind, token := b.locks, session.KindOf(r), session.FromWire(r.Token)
	now := k.enter()
	for ttl, limit := b.ttl(r), now+patience; ; {
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
		if err != nil || stamp != 0 && now >= limit { // as it was is what can be relied on
			stamp, ttl = 0, min(ttl, l.TTL())
		}
		if stamp == 0 {
			a := b.renewed(now, r, ttl)
			k.leave(now)
			return a, nil
		}
		if now, err = b.waitForDisk(now, limit); err != nil {
			return codec.Answer{}, err
		}
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
