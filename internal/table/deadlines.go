package table

import "time"

// A due is a lease in the heap of deadlines.
type due struct {
	at    time.Duration // never later than the lease is due
	lease *Lease
}

// before orders what is due: by instant; at one instant leases that run out
// before waits that end, so that a waiter whose last instant is the one at
// which the key becomes free still gets it; and then by number, so that the
// same calls always have the same outcome.
func (d due) before(e due) bool {
	if d.at != e.at {
		return d.at < e.at
	}
	if d.lease.state != e.lease.state {
		return d.lease.state == Granted
	}
	return d.lease.number < e.lease.number
}

// Deadlines is a binary heap of what happens to leases by itself. It knows
// where each lease is, so that one can be moved or removed; and it is lazy: a
// deadline that only moves later, as nearly all do and as every request moves
// those of a whole session, leaves the heap alone until the instant at which the
// lease was due before. So a lease is moved once in the time that its deadline
// is away, however often that changes. A list per TTL would be simpler, but here
// callers choose any TTL, and waits end at any instant.
type deadlines struct{ heap []due }

// set gives the lease a deadline of its own; 0 is none.
func (d *deadlines) set(l *Lease, at time.Duration) {
	l.deadline = at
	d.fix(l)
}

// fix follows a lease that may be due earlier than before.
func (d *deadlines) fix(l *Lease) {
	at := l.due()
	switch {
	case at == 0:
		d.remove(l)
	case l.slot == 0:
		d.heap = append(d.heap, due{at, l})
		l.slot = int32(len(d.heap)) //nolint:gosec // 2^31 leases are 240 GB
		d.up(len(d.heap) - 1)
	case at < d.heap[l.slot-1].at:
		d.heap[l.slot-1].at = at
		d.up(int(l.slot - 1))
	}
}

// remove forgets the lease's deadline, if it has one.
func (d *deadlines) remove(l *Lease) {
	if l.slot == 0 {
		return
	}
	i, last := int(l.slot-1), len(d.heap)-1
	l.slot = 0
	moved := d.heap[last]
	d.heap[last] = due{}
	d.heap = d.heap[:last]
	if i < last {
		d.fill(i, moved)
	}
	d.shrink()
}

// foresight is how long before its old instant a deadline that moved later may
// be put in its place, so that the caller is not woken for each lease of many
// that were granted within moments of each other.
const foresight = 10 * time.Millisecond

// first returns the lease with the first deadline, if that is not after the
// instant now, and nil if not.
func (d *deadlines) first(now time.Duration) *Lease {
	for until := after(now, foresight); len(d.heap) > 0 && d.heap[0].at <= until; {
		top := &d.heap[0]
		at := top.lease.due()
		switch {
		case at == top.at && at <= now:
			return top.lease
		case at == top.at, top.at > now && at-top.at < foresight: // not worth it yet
			return nil
		}
		top.at = at
		d.down(0)
	}
	return nil
}

// next returns an instant that is not later than the first deadline, and false if
// there is none.
func (d *deadlines) next() (at time.Duration, ok bool) {
	if len(d.heap) == 0 {
		return 0, false
	}
	return d.heap[0].at, true
}

// up moves what is at i towards the top until its parent is not after it.
func (d *deadlines) up(i int) {
	moving := d.heap[i]
	for i > 0 {
		parent := (i - 1) / 2
		if !moving.before(d.heap[parent]) {
			break
		}
		d.put(i, d.heap[parent])
		i = parent
	}
	d.put(i, moving)
}

// down moves what is at i away from the top until no child is before it.
func (d *deadlines) down(i int) {
	moving := d.heap[i]
	for {
		child := 2*i + 1
		if child >= len(d.heap) {
			break
		}
		if right := child + 1; right < len(d.heap) && d.heap[right].before(d.heap[child]) {
			child = right
		}
		if !d.heap[child].before(moving) {
			break
		}
		d.put(i, d.heap[child])
		i = child
	}
	d.put(i, moving)
}

// fill puts what was the last of the heap where nothing is any more. As a rule it
// belongs near the end, so first the gap is moved there: that takes one comparison at
// each level, where down takes two.
func (d *deadlines) fill(i int, last due) {
	for child := 2*i + 1; child < len(d.heap); child = 2*i + 1 {
		if right := child + 1; right < len(d.heap) && d.heap[right].before(d.heap[child]) {
			child = right
		}
		d.put(i, d.heap[child])
		i = child
	}
	d.heap[i] = last
	d.up(i)
}

func (d *deadlines) put(i int, x due) {
	d.heap[i] = x
	x.lease.slot = int32(i + 1) //nolint:gosec // see set
}

// smallHeap is a heap not worth shrinking: 16 KiB.
const smallHeap = 1024

// shrink gives memory back after a peak. It leaves room to grow, so that a
// heap whose size swings does not copy at each swing.
func (d *deadlines) shrink() {
	if c := cap(d.heap); c > smallHeap && len(d.heap) < c/4 {
		d.heap = append(make([]due, 0, c/2), d.heap...)
	}
}
