package table

import "time"

// An Owner is whom leases belong to and end with: a connection, a session. It
// knows its leases by a list that goes through them and costs nothing else.
type Owner struct {
	// Name is what the owner calls itself, for Snapshot.
	Name string
	// Tag is the caller's own.
	Tag any

	id      uint64
	leases  list
	session bool // it can fall silent, and beats

	heard  time.Duration // the last sign of life of a session
	beat   time.Duration // its last beat
	absent int32         // its leases that are passed over
}

// ID returns the number that the owner was made with.
func (o *Owner) ID() uint64 { return o.id }

// Leases calls f with each of the owner's leases that are queued or granted, in
// order of their requests, until f returns false. It must not call the table.
func (o *Owner) Leases(f func(*Lease) bool) {
	for l := o.leases.first; l != nil; l = l.links[byOwner].next {
		if !f(l) {
			return
		}
	}
}

// Idle says whether nothing belongs to the owner.
func (o *Owner) Idle() bool { return o.leases.first == nil }

// longestPatience is what a silent session is waited for at most.
const longestPatience = 5 * time.Second

// patience is how long a session may be silent before its place in a queue is
// passed over: half of the lease that it waits for. Granted to a session that
// is gone, the key would be lost to all others for the whole TTL.
func patience(ttl time.Duration) time.Duration { return min(ttl-ttl/2, longestPatience) }

// Heard says that the session was there at the instant now. Places at which it
// was passed over count again. It does nothing for other owners than to advance
// the table.
func (t *Table) Heard(now time.Duration, o *Owner) {
	t.Advance(now)
	if !o.session {
		return
	}
	o.heard = t.now
	if o.absent == 0 {
		return
	}
	for l := o.leases.first; l != nil; l = l.links[byOwner].next {
		if l.marks&absent != 0 {
			l.back()
			t.deadlines.fix(l)
		}
	}
	// All are back before any key is passed on: the order of a queue decides
	// between two places of one session too.
	for l := o.leases.first; l != nil; l = l.links[byOwner].next {
		if l.state == Queued {
			t.settle(l.entry)
		}
	}
}

// passOver leaves a queued lease where it is, and lets those behind it pass.
func (t *Table) passOver(l *Lease) {
	l.marks |= absent
	l.entry.absent++
	l.owner.absent++
	t.deadlines.fix(l)
	t.settle(l.entry)
}

// back takes note that a lease is not passed over any more.
func (l *Lease) back() {
	l.marks &^= absent
	l.entry.absent--
	l.owner.absent--
}

// Beat renews all that the session holds, by one stamp: it takes the same time
// for one lease and for a million. Left out are grants of tickets that were not
// collected, and after a Resume all that has not been renewed by token or
// collected since. The session is heard.
func (t *Table) Beat(now time.Duration, o *Owner) {
	t.Heard(now, o)
	o.beat = t.now
}

// Resume begins a resume: what the session has is not named, and no beat counts
// for what it holds, until it renews, collects or names it. The session is
// heard. Sync ends the resume; another Resume begins it anew.
func (t *Table) Resume(now time.Duration, o *Owner) {
	t.Heard(now, o)
	for l := o.leases.first; l != nil; l = l.links[byOwner].next {
		if l.marks&beaten != 0 {
			l.deadline = l.due()
		}
		l.marks &^= beaten | named
	}
}

// Name says that the session knows of a lease, whatever its state.
func (t *Table) Name(l *Lease) { l.marks |= named }

// Sync ends a resume: whatever of the session was not named since has an owner
// that does not know of it, and is dropped. It returns how many leases were.
func (t *Table) Sync(now time.Duration, o *Owner) int {
	t.Heard(now, o)
	n := 0
	t.drop(o, func(l *Lease) bool {
		if l.marks&named != 0 {
			return false
		}
		n++
		return true
	})
	return n
}
