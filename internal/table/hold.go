package table

import "time"

// Await changes the instant at which a queued lease stops waiting; 0 is never.
// If it is not in the future, the wait ends here and now, with its event. A
// lease that is not queued (any more) is left alone: look at its State.
func (t *Table) Await(now time.Duration, l *Lease, until time.Duration) {
	t.Advance(now)
	if l.state != Queued {
		return
	}
	t.deadlines.set(l, until)
	t.Advance(now)
}

// Collect starts the TTL of a granted lease anew, because only now its holder
// hears of it; from here on the beats of its session renew it. The error is ErrExpired if the lease ran out before, and
// ErrNotHeld if it is queued or ended otherwise.
func (t *Table) Collect(now time.Duration, l *Lease) error {
	t.Advance(now)
	switch {
	case l.state == Granted:
		t.known(l)
		return nil
	case l.reason == Expired:
		return ErrExpired
	}
	return ErrNotHeld
}

// Cancel ends a lease, whatever it is: a queued one leaves the queue, a granted
// one is released, one that ended stays as it is.
func (t *Table) Cancel(now time.Duration, l *Lease) {
	t.Advance(now)
	switch l.state {
	case Queued:
		t.end(l, Cancelled)
	case Granted:
		t.end(l, Released)
	}
}

// Renew starts the lease that the token names anew, with the given TTL, which
// may be shorter than before, and returns what is left of it: all of the TTL.
// The error is ErrNotHeld or ErrTTL.
func (t *Table) Renew(now time.Duration, k Kind, key []byte, tok Token, ttl time.Duration) (remaining time.Duration, err error) {
	l := t.Find(now, k, key, tok)
	switch {
	case ttl <= 0:
		return 0, ErrTTL
	case l == nil:
		return 0, ErrNotHeld
	}
	l.ttl = ttl
	t.known(l)
	return l.Remaining(t.now), nil
}

// known starts the TTL of a granted lease anew, of which its session has just
// shown that it knows.
func (t *Table) known(l *Lease) {
	l.marks = l.marks&^ticket | named
	if l.owner.session {
		l.marks |= beaten
	}
	t.deadlines.set(l, after(t.now, l.ttl))
}

// Release ends the lease that the token names and passes its key on. In the
// grace that may be one of the table before that nobody has claimed: it cannot
// be claimed any more then. The error is ErrNotHeld or ErrTooManyReleases.
func (t *Table) Release(now time.Duration, k Kind, key []byte, tok Token) error {
	l := t.Find(now, k, key, tok)
	if l == nil {
		return t.releasePast(k, key, tok)
	}
	if l.owner.session {
		t.happened(EventReleased, l)
	}
	t.end(l, Released)
	return nil
}

// Force takes a key away from all who hold it, and passes it on. It returns how
// many did. Each hears of it by an event.
func (t *Table) Force(now time.Duration, k Kind, key []byte) int {
	t.Advance(now)
	e := t.keys[k].get(key)
	if e == nil {
		return 0
	}
	n := 0
	for ; e.holders.first != nil; n++ {
		l := e.holders.first
		t.happened(EventRevoked, l)
		t.leave(l, Revoked)
		l.owner.leases.remove(byOwner, l)
	}
	if n > 0 {
		t.settle(e)
	}
	return n
}

// Find returns the lease that the token names at the instant now, or nil.
func (t *Table) Find(now time.Duration, k Kind, key []byte, tok Token) *Lease {
	t.Advance(now)
	e := t.keys[k].get(key)
	if e == nil {
		return nil
	}
	return e.find(tok)
}

// Drop ends what belongs to the owner: its places in queues, and what it holds,
// collected or not, unless keepHeld; then that runs out by its TTL. The owner
// can be used again.
func (t *Table) Drop(now time.Duration, o *Owner, keepHeld bool) {
	t.Advance(now)
	t.drop(o, func(l *Lease) bool { return l.state == Queued || !keepHeld })
}

// drop ends those of the owner's leases that are to go.
func (t *Table) drop(o *Owner, goes func(*Lease) bool) {
	// All leave before any key is passed on, or else the owner's hold would
	// be granted to the owner's next place in the same queue.
	for l := o.leases.first; l != nil; l = l.links[byOwner].next {
		if goes(l) {
			t.leave(l, Dropped)
		}
	}
	for l := o.leases.first; l != nil; {
		next := l.links[byOwner].next
		if l.state == Ended {
			o.leases.remove(byOwner, l)
			t.settle(l.entry)
		}
		l = next
	}
}
