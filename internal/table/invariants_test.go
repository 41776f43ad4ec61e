package table

import (
	"fmt"
	"testing"
)

// audit checks the table against itself: every lease in exactly one place of
// each structure, nothing above a limit, nothing out of order, nothing without
// a reason to be there.
func audit(t *Table, owners ...*Owner) error {
	seen := make(map[*Lease]bool)
	held, waiting, idle := 0, 0, 0
	for k := range t.keys {
		for e := range t.keys[k].all() {
			key := e.key
			if t.keys[k].get([]byte(key)) != e || int(e.kind) != k {
				return fmt.Errorf("entry %q of kind %d is filed elsewhere, or among those of kind %d", key, e.kind, k)
			}
			if err := auditEntry(t, e, seen); err != nil {
				return fmt.Errorf("key %q of kind %d: %w", key, k, err)
			}
			held += int(e.holding)
			waiting += int(e.waiting)
			if e.idle {
				idle++
			}
		}
	}
	if held != t.held || waiting != t.waiting || held+waiting != len(seen) {
		return fmt.Errorf("%d held and %d waiting found, counted %d and %d", held, waiting, t.held, t.waiting)
	}
	if err := auditIdle(t, idle); err != nil {
		return err
	}
	if err := auditHeap(t, seen); err != nil {
		return err
	}
	if err := auditValues(t); err != nil {
		return err
	}
	return auditOwners(owners, seen)
}

func auditEntry(t *Table, e *entry, seen map[*Lease]bool) error {
	used, holding, waiting, away, claims := 0, 0, 0, 0, false
	var last uint64
	for l := e.holders.first; l != nil; l = l.links[byKey].next {
		switch {
		case l.state != Granted || l.reason != Lasting || l.entry != e || seen[l]:
			return fmt.Errorf("holder in state %d, reason %d, seen %t", l.state, l.reason, seen[l])
		case l.number <= last && l.number > t.cfg.FirstFence:
			return fmt.Errorf("fence %d after %d", l.number, last)
		case e.find(l.Token()) != l:
			return fmt.Errorf("fence %d does not find its lease", l.number)
		}
		claims = claims || l.number <= t.cfg.FirstFence
		seen[l], last = true, l.number
		used += l.Weight()
		holding++
	}
	last = 0
	for l := e.queue.first; l != nil; l = l.links[byKey].next {
		switch {
		case l.state != Queued || l.reason != Lasting || l.entry != e || seen[l]:
			return fmt.Errorf("waiter in state %d, reason %d, seen %t", l.state, l.reason, seen[l])
		case l.number <= last:
			return fmt.Errorf("arrival %d after %d", l.number, last)
		case l.Weight() > e.limit:
			return fmt.Errorf("waiter of weight %d under limit %d", l.weight, e.limit)
		}
		seen[l], last = true, l.number
		waiting++
		if l.marks&absent != 0 {
			away++
		}
		if l.marks&beaten != 0 || l.marks&absent != 0 && !l.owner.session {
			return fmt.Errorf("waiter with marks %b", l.marks)
		}
	}
	switch head := present(e.queue.first); {
	case used != e.used || used > e.limit && !claims:
		return fmt.Errorf("%d used, counted %d, limit %d", used, e.used, e.limit)
	case holding != int(e.holding) || waiting != int(e.waiting):
		return fmt.Errorf("%d hold and %d wait, counted %d and %d", holding, waiting, e.holding, e.waiting)
	case away != int(e.absent):
		return fmt.Errorf("%d are absent, counted %d", away, e.absent)
	case e.index != nil && len(e.index) != holding:
		return fmt.Errorf("%d indexed of %d holders", len(e.index), holding)
	case head != nil && e.fits(head.Weight()) && t.may(head.mac):
		return fmt.Errorf("the head waits for %d with %d of %d used", head.weight, used, e.limit)
	case e.pending != (e.kind == Lock && len(t.values.pending[e.key]) > 0):
		return fmt.Errorf("pending is %t with %d changes", e.pending, len(t.values.pending[e.key]))
	case e.idle != (holding == 0 && waiting == 0 && !e.pending):
		return fmt.Errorf("idle is %t with %d holders and %d waiters", e.idle, holding, waiting)
	}
	return nil
}

func auditIdle(t *Table, want int) error {
	n := 0
	var last *entry
	for e := t.idle.oldest; e != nil; e = e.newer {
		switch {
		case !e.idle || e.older != last || t.keys[e.kind].get([]byte(e.key)) != e:
			return fmt.Errorf("idle list: %q is idle %t, known %t", e.key, e.idle, t.keys[e.kind].get([]byte(e.key)) == e)
		case last != nil && e.since < last.since:
			return fmt.Errorf("idle list: %q since %v after one since %v", e.key, e.since, last.since)
		}
		last = e
		n++
	}
	if last != t.idle.newest || n != want {
		return fmt.Errorf("idle list: %d entries of %d", n, want)
	}
	return nil
}

func auditHeap(t *Table, live map[*Lease]bool) error {
	for i, d := range t.deadlines.heap {
		l := d.lease
		switch {
		case !live[l]:
			return fmt.Errorf("heap: a lease in state %d that is nowhere else", l.state)
		case d.at <= t.now:
			return fmt.Errorf("heap: the caller is to wake up at %v, and it is %v", d.at, t.now)
		case int(l.slot) != i+1 || d.at > l.due():
			return fmt.Errorf("heap: slot %d at %d, instant %v after %v", l.slot, i, d.at, l.due())
		case i > 0 && d.before(t.deadlines.heap[(i-1)/2]):
			return fmt.Errorf("heap: %d before its parent", i)
		}
	}
	for l := range live {
		if l.slot == 0 && (l.state == Granted || l.due() != 0) {
			return fmt.Errorf("a lease in state %d with deadline %v is not in the heap", l.state, l.deadline)
		}
	}
	return nil
}

// auditOwners wants each live lease in the list of its owner, and no other.
func auditOwners(owners []*Owner, live map[*Lease]bool) error {
	n := 0
	for _, o := range owners {
		away := 0
		for l := o.leases.first; l != nil; l = l.links[byOwner].next {
			if !live[l] || l.owner != o {
				return fmt.Errorf("owner %d has a lease in state %d of owner %d", o.id, l.state, l.owner.id)
			}
			n++
			if l.marks&absent != 0 {
				away++
			}
		}
		if away != int(o.absent) {
			return fmt.Errorf("%d of owner %d are absent, counted %d", away, o.id, o.absent)
		}
	}
	if n != len(live) {
		return fmt.Errorf("owners have %d leases, keys %d", n, len(live))
	}
	return nil
}

// TestAuditSeesDamage makes sure that the auditor is not blind.
func TestAuditSeesDamage(t *testing.T) {
	damages := map[string]func(*Table, *Owner, *Lease, *Lease){
		"used":          func(_ *Table, _ *Owner, held, _ *Lease) { held.entry.used-- },
		"limit":         func(_ *Table, _ *Owner, held, _ *Lease) { held.entry.limit = 0 },
		"state":         func(_ *Table, _ *Owner, held, _ *Lease) { held.state = Ended },
		"queue":         func(_ *Table, _ *Owner, _, queued *Lease) { queued.entry.queue.remove(byKey, queued) },
		"head fits":     func(_ *Table, _ *Owner, held, _ *Lease) { held.entry.limit = 9 },
		"owner":         func(_ *Table, o *Owner, held, _ *Lease) { o.leases.remove(byOwner, held) },
		"heap":          func(t *Table, _ *Owner, held, _ *Lease) { t.deadlines.remove(held) },
		"heap too late": func(_ *Table, _ *Owner, held, _ *Lease) { held.deadline = 1 },
		"absent": func(_ *Table, _ *Owner, _, queued *Lease) {
			queued.marks |= absent
		},
		"count": func(t *Table, _ *Owner, _, _ *Lease) { t.waiting++ },
		"idle": func(t *Table, _ *Owner, held, _ *Lease) {
			t.idle.push(held.entry, 0)
		},
		"pending":      func(_ *Table, _ *Owner, held, _ *Lease) { held.entry.pending = true },
		"nobody waits": func(t *Table, _ *Owner, _, _ *Lease) { delete(t.values.pending, "settles") },
		"value's size": func(t *Table, _ *Owner, _, _ *Lease) { t.values.size++ },
		"value's slot": func(t *Table, _ *Owner, _, _ *Lease) { t.values.expires.all[0].slot++ },
		"value stays":  func(t *Table, _ *Owner, _, _ *Lease) { t.values.expires = valueHeap{} },
		"filed wrong":  func(t *Table, _ *Owner, held, _ *Lease) { t.keys[Semaphore].put(held.entry) },
	}
	for name, damage := range damages {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			o := b.NewOwner(1)
			held, queued := b.ask(lock(o, "k"), Granted), b.ask(lock(o, "k"), Queued)
			b.put(held, "v", second, false)
			b.put(b.ask(lock(o, "settles"), Granted), "v", 0, true)
			if err := audit(b.Table, o); err != nil {
				t.Fatalf("before: %v", err)
			}
			damage(b.Table, o, held, queued)
			if audit(b.Table, o) == nil {
				t.Fatal("the damage was not seen")
			}
		})
	}
}
