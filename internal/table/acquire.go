package table

import (
	"math"
	"time"
)

// A Request asks for a lease.
type Request struct {
	Kind Kind
	// Key is copied if the table does not know it yet.
	Key []byte
	// Owner is whom the lease will belong to; it must be one of the table's.
	Owner *Owner
	// TTL is the length of the lease, above 0.
	TTL time.Duration
	// Limit is the semaphore's; a lock's is 1 whatever it says here.
	Limit int
	// Weight is what the lease takes of the limit, from 1 to all of it, and at
	// most MaxWeight.
	Weight int
	// Fences is how many fences the grant takes from the counter, at most
	// MaxFences: it owns its token's fence and those after it. 0 is 1.
	Fences int
	// Ticket says that the session's beats renew the grant only after Collect.
	Ticket bool
	// Try asks not to queue.
	Try bool
	// WaitUntil is the instant at which to stop waiting; 0 is never, and one
	// that is not in the future makes the request a try.
	WaitUntil time.Duration
	// Joins says that a put on the key ends the wait too, with its value.
	Joins bool
	// Late says that a session asked for this some time ago: it is not heard by it,
	// and is passed over if it has been silent since for too long.
	Late bool
	// Tag is put into the lease. Without one it has that of the lease in whose
	// place it comes, if there is one: see Reuse.
	Tag any
}

// MaxFences bounds what one grant takes from the counter, so that no client can
// use it up.
const MaxFences = 1 << 20

// MaxWeight bounds what one lease takes, as the wire does.
const MaxWeight = math.MaxInt32

// check returns the limit that the request means, or why it can never be
// granted.
func (r *Request) check() (limit int, err error) {
	limit = 1
	if r.Kind != Lock {
		limit = r.Limit
	}
	switch {
	case r.Weight < 1 || r.Weight > limit || r.Weight > MaxWeight:
		return 0, ErrWeight
	case r.Fences < 0 || r.Fences > MaxFences:
		return 0, ErrFences
	case r.TTL <= 0:
		return 0, ErrTTL
	}
	return limit, nil
}

// Acquire asks for a lease and returns it Granted or Queued. The error is
// ErrLocked, ErrLimitMismatch, ErrTooManyKeys, ErrTooManyWaiters, ErrWeight,
// ErrFences or ErrTTL; the table then holds nothing of the request. A session
// that asks is heard.
func (t *Table) Acquire(now time.Duration, r Request) (*Lease, error) {
	if r.Late {
		t.Advance(now)
	} else {
		t.Heard(now, r.Owner)
	}
	limit, err := r.check()
	if err != nil {
		return nil, err
	}
	e := t.keys[r.Kind].get(r.Key)
	if e == nil {
		if e, err = t.add(r.Kind, string(r.Key), limit); err != nil {
			return nil, err
		}
	}
	free := e.waiting == e.absent && e.fits(r.Weight) && t.may(uint64(max(r.Fences, 1))) &&
		(!r.Late || t.now < after(r.Owner.heard, patience(r.TTL)))
	switch {
	case e.limit != limit:
		return nil, ErrLimitMismatch
	case free:
	case r.Try || r.WaitUntil != 0 && r.WaitUntil <= t.now:
		t.rest(e) // where nothing may be granted nobody needs to hold it
		return nil, ErrLocked
	case t.cfg.MaxWaiters > 0 && int(e.waiting) >= t.cfg.MaxWaiters:
		return nil, ErrTooManyWaiters
	}
	l := t.lease()
	l.entry, l.owner, l.ttl, l.weight, l.marks, l.mac = e, r.Owner, r.TTL, int32(r.Weight), named, uint64(max(r.Fences, 1))
	if r.Tag != nil {
		l.Tag = r.Tag
	}
	if r.Ticket {
		l.marks |= ticket
	}
	if r.Joins {
		l.marks |= joins
	}
	r.Owner.leases.push(byOwner, l)
	if free {
		t.grant(l)
	} else {
		t.enqueue(l, r.WaitUntil)
	}
	return l, nil
}

// add makes the entry of a key that is about to be held.
func (t *Table) add(k Kind, key string, limit int) (*entry, error) {
	if t.cfg.MaxKeys > 0 && t.Keys() >= t.cfg.MaxKeys {
		if t.idle.oldest == nil {
			return nil, ErrTooManyKeys
		}
		t.forget(t.idle.oldest)
	}
	return t.enter(k, key, limit), nil
}

// enter makes the entry of a key that the table does not know.
func (t *Table) enter(k Kind, key string, limit int) *entry {
	e := &entry{key: key, kind: k, limit: limit}
	t.keys[k].put(e)
	return e
}

// enqueue puts a new lease at the end of its key's queue.
func (t *Table) enqueue(l *Lease, until time.Duration) {
	if l.entry.idle {
		t.idle.remove(l.entry)
	}
	t.arrived++
	l.number = t.arrived
	l.entry.queue.push(byKey, l)
	l.entry.waiting++
	t.waiting++
	t.deadlines.set(l, until)
}

// grant makes a lease, which is in no queue, one of its key's holders.
func (t *Table) grant(l *Lease) {
	e := l.entry
	l.number = t.fence + 1
	t.fence += l.mac
	l.mac = t.cfg.Sign(e.kind, e.key, l.number, e.limit, int(l.weight))
	t.seat(l)
}

// seat makes a lease that has its token one of its key's holders.
func (t *Table) seat(l *Lease) {
	e := l.entry
	if e.idle {
		t.idle.remove(e)
	}
	l.state = Granted
	if l.owner.session && l.marks&ticket == 0 {
		l.marks |= beaten
	}
	l.grantedAt(t.now)
	e.hold(l)
	t.held++
	t.deadlines.set(l, after(t.now, l.ttl))
}

// leave takes a lease off its key and ends it, and leaves it to the caller to
// take it off its owner and to settle the key.
func (t *Table) leave(l *Lease, why Reason) {
	t.deadlines.remove(l)
	if l.state == Queued {
		t.unqueue(l)
		l.number, l.mac = 0, 0
	} else {
		l.entry.unhold(l)
		t.held--
		if t.past.end != 0 {
			t.bury(l.Kind(), l.Key(), l.Token())
		}
		if t.cfg.Ended != nil {
			t.cfg.Ended(l)
		}
	}
	l.state, l.reason = Ended, why
}

// unqueue takes a lease out of its key's queue.
func (t *Table) unqueue(l *Lease) {
	if l.marks&absent != 0 {
		l.back()
	}
	l.entry.queue.remove(byKey, l)
	l.entry.waiting--
	t.waiting--
}

// settle passes a key on after something left it: the first of the queue who
// are present are granted for as long as they fit, and a key that nobody holds
// or waits for becomes idle.
func (t *Table) settle(e *entry) {
	for l := present(e.queue.first); l != nil && e.fits(int(l.weight)) && t.may(l.mac); {
		next := l.links[byKey].next
		t.deadlines.remove(l)
		t.unqueue(l)
		t.grant(l)
		t.happened(EventGranted, l)
		l = present(next)
	}
	t.rest(e)
}

// rest makes a key idle that nobody holds or waits for, and of which no change of
// its value is pending.
func (t *Table) rest(e *entry) {
	if e.holding == 0 && e.waiting == 0 && !e.idle && !e.pending {
		t.idle.push(e, t.now)
	}
}

// end ends a lease and passes its key on.
func (t *Table) end(l *Lease, why Reason) {
	t.leave(l, why)
	l.owner.leases.remove(byOwner, l)
	t.settle(l.entry)
}
