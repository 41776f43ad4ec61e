package etcd

import (
	"cmp"
	"slices"
)

// A member is a key of a subject in etcd: one who holds it, or waits for it.
type member struct {
	rev    int64 // of creation: the place in the order, and who it is: no two have one
	name   uint64
	weight int
	limit  int
}

// A line is what this process knows of the queue of one subject. It is a pure
// state machine: of the answers to questions, of deletions that a watch reports,
// and of gaps in that watch. What it knows may be too much, never too little: a
// member that is gone already is still there until its deletion is heard of, but
// nobody who came before one of those that it knows is missing. So who fits by the
// line fits in etcd.
//
// A name is used again when its key has been deleted. A deletion is of those of its
// name that were created before it; so told it holds for ever, and deletions may be
// told twice and in any order.
type line struct {
	members []member // in the order of rev
	// base is the revision of the last answer that listed all; 0 before one.
	base int64
	// known is the last revision of all answers: who was created up to it, and
	// was not deleted, is a member.
	known int64
	asked []*question // that are not answered yet
}

// A question is a range request, alone or behind a put in the same transaction.
type question struct {
	// after bounds it to those created after this revision; 0 asks for all.
	after int64
	// gone are the last revisions at which names were deleted while it was under
	// way: its answer may be older than that.
	gone map[uint64]int64
}

// ask begins a question: for all, or for what the line does not know yet.
func (l *line) ask(all bool) *question {
	q := new(question)
	if !all {
		q.after = l.known
	}
	l.asked = append(l.asked, q)
	return q
}

// unanswered ends a question that has failed.
func (l *line) unanswered(q *question) {
	if i := slices.Index(l.asked, q); i >= 0 {
		l.asked = slices.Delete(l.asked, i, i+1)
	}
}

// answer ends a question with what etcd said at a revision.
func (l *line) answer(q *question, rev int64, members []member) {
	l.unanswered(q)
	switch {
	case rev <= l.base:
		return // a list of all is younger than this
	case q.after > l.known:
		return // what came before it is forgotten
	}
	members = slices.DeleteFunc(members, func(m member) bool { return m.rev < q.gone[m.name] })
	kept := l.members
	if q.after == 0 {
		l.base = rev
		kept = slices.DeleteFunc(kept, func(m member) bool { return m.rev <= rev })
	}
	for _, m := range members {
		if i := slices.IndexFunc(kept, func(k member) bool { return k.name == m.name }); i < 0 {
			kept = append(kept, m)
		} else if kept[i].rev < m.rev { // whose deletion is not heard of yet
			kept[i] = m
		}
	}
	slices.SortFunc(kept, func(a, b member) int { return cmp.Compare(a.rev, b.rev) })
	l.members, l.known = kept, max(l.known, rev)
}

// deleted takes a member out whose name was deleted at a revision.
func (l *line) deleted(name uint64, at int64) {
	for _, q := range l.asked {
		if q.gone == nil {
			q.gone = make(map[uint64]int64)
		}
		q.gone[name] = max(q.gone[name], at)
	}
	if i := slices.IndexFunc(l.members, func(m member) bool { return m.name == name && m.rev < at }); i >= 0 {
		l.members = slices.Delete(l.members, i, i+1)
	}
}

// forget is for a gap in what is heard of deletions: nothing is known any more.
func (l *line) forget() { l.members, l.base, l.known = nil, 0, 0 }

// has says whether who was created at a revision is a member.
func (l *line) has(rev int64) bool {
	return slices.ContainsFunc(l.members, func(m member) bool { return m.rev == rev })
}

// limit is what all have to agree on: the limit of the first.
func (l *line) limit() int {
	if len(l.members) == 0 {
		return 0
	}
	return l.members[0].limit
}

// fits says whether a member holds: its weight and those of all before it fit under
// the limit. That is what the first says, and never more than the member itself says:
// who asks with another limit is refused by its own process only, and may be the
// first until its key is gone.
func (l *line) fits(rev int64) bool {
	i := slices.IndexFunc(l.members, func(m member) bool { return m.rev == rev })
	if i < 0 {
		return false
	}
	left := min(l.limit(), l.members[i].limit)
	for _, m := range l.members {
		if m.weight > left {
			return false
		}
		if m.rev == rev {
			return true
		}
		left -= m.weight
	}
	return false
}

// holders counts those of a list, in the order of their creation, who hold.
func holders(members []member) int {
	used := 0
	for i, m := range members {
		if m.weight > min(members[0].limit, m.limit)-used {
			return i
		}
		used += m.weight
	}
	return len(members)
}
