package server

import (
	"errors"
	"time"

	"github.com/distributed-go/distributed/codec"
	"github.com/distributed-go/distributed/internal/session"
	"github.com/distributed-go/distributed/internal/table"
)

// longest is the longest lease and the longest wait: a hundred years, so that
// no sum of instants overflows. The answer to who asks for more says so.
const longest = 100 * 365 * 24 * time.Hour

// base is dflockd's protocol on one connection: one request after the other, a
// request that waits holding up those behind it. All of it belongs to the
// connection's goroutine, but for what the mutex of the locks guards.
type base struct {
	*conn
	locks *locks
	stats func() codec.ServerStats
	owner *table.Owner // guarded by locks.mu

	// The lease that the request at hand waits for, until it was told to look
	// at it; guarded by locks.mu.
	pending *table.Lease
	// until is when the request at hand is to be answered, as the table's time
	// says, and 0 for any time; while it waits for the disk.
	until time.Duration
	// told is the lease that the answer at hand grants.
	told *table.Lease
	// framed is what the connection goes on as when serve returns errHello.
	framed *framed
	begun  bool // it is too late for a hello

	// The tickets are the leases of Enqueue that no Wait has answered; guarded
	// by locks.mu. One whose lease was released meanwhile is none any more.
	tickets map[ticket]*table.Lease
	purgeAt int // how many tickets may gather before the dead are removed
}

// A ticket is what Wait finds the lease of Enqueue by.
type ticket struct {
	kind table.Kind
	key  string
}

// fewTickets is the number of tickets that are not worth a purge.
const fewTickets = 1024

func newBase(c *conn, k *locks, id uint64, stats func() codec.ServerStats) *base {
	return &base{conn: c, locks: k, owner: k.newOwner(id), stats: stats, purgeAt: fewTickets}
}

// serve answers requests until the connection ends, and returns why it did.
func (b *base) serve() error {
	var r codec.Request
	for {
		a := codec.Answer{Status: codec.Failed}
		err := b.next(&r)
		switch {
		case err == nil && r.Command == codec.Hello && !b.begun:
			if b.framed, a = b.hello(&r); b.framed != nil {
				return errHello
			}
		case err == nil:
			b.begun = true
			b.told, b.until = nil, 0
			if a, err = b.handle(&r); err != nil {
				return err
			}
			if b.told != nil {
				if a, err = b.kept(a); err != nil {
					return err
				}
			}
		case !errors.Is(err, codec.ErrMalformed):
			return err
		default:
			b.begun = true
		}
		if err := b.answer(&a); err != nil {
			return err
		}
	}
}

// end gives up what the connection waits for and, unless keepHeld, what it
// holds.
func (b *base) end(keepHeld bool) {
	now := b.locks.enter()
	b.pending, b.tickets = nil, nil
	if b.locks.disk != nil {
		delete(b.locks.disk.waiting, b)
	}
	b.locks.table.Drop(now, b.owner, keepHeld)
	b.locks.leave(now)
}

// handle carries out one request. The error is what ended the connection while
// the request waited.
func (b *base) handle(r *codec.Request) (codec.Answer, error) {
	switch r.Command {
	case codec.Lock:
		return b.lock(r)
	case codec.Wait:
		return b.wait(r)
	case codec.Enqueue:
		return b.enqueue(r)
	case codec.Release:
		return b.release(r)
	case codec.Renew:
		return b.renew(r)
	case codec.Force:
		return b.force(r)
	case codec.Ping:
		return codec.Answer{Status: codec.OK}, nil
	case codec.Stats:
		return codec.Answer{Status: codec.OK, JSON: b.stats().JSON()}, nil
	}
	// Authentication or hello came too late, or is not asked for here.
	return codec.Answer{Status: codec.Failed}, nil
}

func (b *base) lock(r *codec.Request) (codec.Answer, error) {
	now := b.locks.enter()
	b.until = now + min(r.Timeout, longest)
	now, refusal, err := b.admitted(now, b.ttl(r))
	if err != nil || refusal != codec.OK {
		return codec.Answer{Status: refusal}, err
	}
	l, status := b.acquire(now, r, b.until)
	a := codec.Answer{Status: status}
	switch status {
	case codec.OK:
		a = b.granted(codec.OK, l)
	case codec.Queued:
		b.pending = l
	}
	b.locks.leave(now)
	if status != codec.Queued {
		return a, nil
	}
	return b.outwait(l)
}

func (b *base) enqueue(r *codec.Request) (codec.Answer, error) {
	now, refusal, err := b.admitted(b.locks.enter(), b.ttl(r))
	if err != nil || refusal != codec.OK {
		return codec.Answer{Status: refusal}, err
	}
	defer b.locks.leave(now)
	name := ticket{session.KindOf(r), string(r.Key)}
	if l := b.tickets[name]; l != nil && l.Reason() != table.Released {
		return codec.Answer{Status: codec.AlreadyQueued}, nil
	}
	l, status := b.acquire(now, r, 0)
	if l != nil {
		b.keep(name, l)
	}
	if status == codec.OK {
		return b.granted(codec.Acquired, l), nil
	}
	return codec.Answer{Status: status}, nil
}

// wait answers for the ticket of the key: its lease starts anew as it does.
func (b *base) wait(r *codec.Request) (codec.Answer, error) {
	now := b.locks.enter()
	l := b.tickets[ticket{session.KindOf(r), string(r.Key)}]
	if l == nil {
		b.locks.leave(now)
		return codec.Answer{Status: codec.NotQueued}, nil
	}
	delete(b.tickets, ticket{l.Kind(), l.Key()})
	// With a timeout of 0 this ends the wait at once.
	b.until = now + min(r.Timeout, longest)
	b.locks.table.Await(now, l, b.until)
	a, done := b.outcome(now, l)
	if !done {
		b.pending = l
	}
	b.locks.leave(now)
	if done {
		return a, nil
	}
	return b.outwait(l)
}

func (b *base) release(r *codec.Request) (codec.Answer, error) {
	now := b.locks.enter()
	defer b.locks.leave(now)
	switch {
	case b.locks.frozen:
		return codec.Answer{}, errStopped
	case b.locks.table.Release(now, session.KindOf(r), r.Key, session.FromWire(r.Token)) != nil:
		return codec.Answer{Status: codec.Failed}, nil
	}
	return codec.Answer{Status: codec.OK}, nil
}

func (b *base) renew(r *codec.Request) (codec.Answer, error) {
	if b.locks.disk != nil {
		return b.renewDurably(r)
	}
	now := b.locks.enter()
	defer b.locks.leave(now)
	return b.renewed(now, r, b.ttl(r)), nil
}

// renewed renews a lease for a TTL, with the mutex held, and returns the answer.
func (b *base) renewed(now time.Duration, r *codec.Request, ttl time.Duration) codec.Answer {
	remaining, err := b.locks.table.Renew(now, session.KindOf(r), r.Key, session.FromWire(r.Token), ttl)
	if err != nil {
		return codec.Answer{Status: codec.Failed}
	}
	return codec.Answer{Status: codec.OK, TTL: remaining, HasTTL: true}
}

// force takes the key away from all who hold it.
func (b *base) force(r *codec.Request) (codec.Answer, error) {
	now := b.locks.enter()
	defer b.locks.leave(now)
	if b.locks.frozen {
		return codec.Answer{}, errStopped
	}
	ended := b.locks.table.Force(now, session.KindOf(r), r.Key)
	b.locks.forced(revocation{session.KindOf(r), string(r.Key), ended, "", b.nc.RemoteAddr()})
	return codec.Answer{Status: codec.OK, Count: ended, HasCount: true}, nil
}

// acquire asks the table for a lease, with the mutex held. The status is OK if
// it was granted, Queued if it waits, and otherwise why there is none.
func (b *base) acquire(now time.Duration, r *codec.Request, until time.Duration) (*table.Lease, codec.Status) {
	if b.locks.draining {
		return nil, codec.Draining
	}
	l, err := b.locks.table.Acquire(now, table.Request{
		Kind: session.KindOf(r), Key: r.Key, Owner: b.owner, TTL: b.ttl(r), Limit: r.Limit, Weight: 1, WaitUntil: until, Tag: b,
		Ticket: b.locks.disk != nil, // nobody has heard of it before granted
	})
	switch err {
	case nil:
		if l.State() == table.Queued {
			return l, codec.Queued
		}
		return l, codec.OK
	case table.ErrLocked:
		return nil, codec.Timeout
	case table.ErrLimitMismatch:
		return nil, codec.LimitMismatch
	case table.ErrTooManyKeys:
		return nil, codec.MaxLocks
	case table.ErrTooManyWaiters:
		return nil, codec.MaxWaiters
	}
	return nil, codec.Failed
}

// outwait waits until a queued lease, which is pending, has an outcome. When
// the connection ends before, nothing is left of the lease: a grant that was
// not answered is not held by anybody, whatever is kept over disconnects.
func (b *base) outwait(l *table.Lease) (codec.Answer, error) {
	for {
		err := b.await()
		now := b.locks.enter()
		if err != nil {
			b.pending = nil
			b.locks.table.Cancel(now, l)
			b.locks.leave(now)
			return codec.Answer{}, err
		}
		a, done := b.outcome(now, l)
		b.locks.leave(now)
		if done {
			return a, nil
		}
	}
}

// outcome returns the answer to the request that waited for the lease, with the
// mutex held, and whether there is one already.
func (b *base) outcome(now time.Duration, l *table.Lease) (a codec.Answer, done bool) {
	if b.locks.frozen { // what was not told by then is not handed on
		return codec.Answer{Status: codec.Draining}, true
	}
	if b.locks.table.Collect(now, l) == nil {
		return b.granted(codec.OK, l), true
	}
	if l.State() == table.Queued {
		return codec.Answer{}, false
	}
	a.Status = codec.NotQueued
	switch l.Reason() {
	case table.TimedOut:
		a.Status = codec.Timeout
	case table.Expired, table.Revoked:
		a.Status = codec.LeaseExpired
	case table.Cancelled:
		a.Status = codec.Draining
	}
	return a, true
}

// happened implements party: the connection need only be woken for what its
// request waits for.
func (b *base) happened(e table.Event) bool {
	if e.Lease != b.pending {
		return false
	}
	b.pending = nil
	return true
}

// drain gives up all that the connection waits for, with the mutex held, and
// says whether to call wake once it is not.
func (b *base) drain(now time.Duration) bool {
	for _, l := range b.tickets {
		if l.State() == table.Queued {
			b.locks.table.Cancel(now, l)
		}
	}
	if b.pending == nil {
		return b.locks.disk != nil && b.locks.disk.left(b)
	}
	b.locks.table.Cancel(now, b.pending)
	b.pending = nil
	return true
}

// keep remembers a ticket, with the mutex held. Clients that never wait for
// what they enqueue leave dead tickets behind; those go when there are many,
// and Wait then says that they were never enqueued.
func (b *base) keep(name ticket, l *table.Lease) {
	if len(b.tickets) >= b.purgeAt {
		for name, l := range b.tickets {
			if l.State() == table.Ended {
				delete(b.tickets, name)
			}
		}
		b.purgeAt = max(fewTickets, 2*len(b.tickets))
	}
	if b.tickets == nil {
		b.tickets = make(map[ticket]*table.Lease)
	}
	b.tickets[name] = l
}

func (b *base) ttl(r *codec.Request) time.Duration {
	if r.TTL == 0 {
		return b.cfg.DefaultLeaseTTL
	}
	return min(r.TTL, longest)
}

func (b *base) granted(status codec.Status, l *table.Lease) codec.Answer {
	b.told = l
	b.tell(l)
	return codec.Answer{Status: status, Token: session.ToWire(l.Token()), HasToken: true, TTL: l.TTL(), HasTTL: true}
}
