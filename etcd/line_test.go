package etcd

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func one(rev int64) member { return member{rev: rev, name: uint64(rev), weight: 1, limit: 1} }

func ones(revs ...int64) (members []member) {
	for _, r := range revs {
		members = append(members, one(r))
	}
	return members
}

// fitting are the revisions of those who fit.
func fitting(l *line) (revs []int64) {
	for _, m := range l.members {
		if l.fits(m.rev) {
			revs = append(revs, m.rev)
		}
	}
	return revs
}

func wantFit(t *testing.T, l *line, revs ...int64) {
	t.Helper()
	if got := fitting(l); !slices.Equal(got, revs) {
		t.Errorf("%v fit, want %v", got, revs)
	}
}

func TestLineServesInOrderOfCreation(t *testing.T) {
	var l line
	l.answer(l.ask(false), 9, ones(9, 5, 7))
	wantFit(t, &l, 5)
	l.deleted(7, 100)
	wantFit(t, &l, 5)
	l.deleted(5, 100)
	wantFit(t, &l, 9)
	l.deleted(5, 100) // again
	l.deleted(9, 100)
	wantFit(t, &l)
}

func TestLineStarvesNobody(t *testing.T) {
	var l line
	of := func(name int64, weight int) member {
		return member{rev: name, name: uint64(name), weight: weight, limit: 3}
	}
	l.answer(l.ask(false), 4, []member{of(1, 1), of(2, 1), of(3, 3), of(4, 1)})
	wantFit(t, &l, 1, 2)
	l.deleted(1, 100)
	wantFit(t, &l, 2) // 4 would fit, but is behind 3
	l.deleted(2, 100)
	wantFit(t, &l, 3)
	l.deleted(3, 100)
	wantFit(t, &l, 4)
}

// TestLineHeedsTheLimitOfWhoAsks: one who asks with another limit is refused, and may be
// the first until its key is deleted; that lets nobody in for whom it is too many.
func TestLineHeedsTheLimitOfWhoAsks(t *testing.T) {
	for _, other := range []int{1, 100} {
		var l line
		of := func(name int64, limit int) member {
			return member{rev: name, name: uint64(name), weight: 1, limit: limit}
		}
		l.answer(l.ask(false), 6, []member{of(1, 2), of(2, 2), of(3, other), of(4, 2), of(5, 2), of(6, 2)})
		wantFit(t, &l, 1, 2)
		l.deleted(1, 100)
		l.deleted(2, 100)
		first := []int64{3, 4}[:min(other, 2)] // it is about to go
		wantFit(t, &l, first...)
		if n := holders(l.members); n != len(first) {
			t.Errorf("%d are said to hold, want %d", n, len(first))
		}
		l.deleted(3, 100)
		wantFit(t, &l, 4, 5)
	}
}

func TestLineAsksForWhatItDoesNotKnow(t *testing.T) {
	var l line
	first := l.ask(false)
	if first.after != 0 {
		t.Errorf("the first question is for what came after %d", first.after)
	}
	l.answer(first, 9, ones(5, 9))
	second := l.ask(false)
	if second.after != 9 {
		t.Errorf("the second question is for what came after %d, want 9", second.after)
	}
	l.answer(second, 12, ones(11, 12))
	l.deleted(5, 100)
	wantFit(t, &l, 9)
	if all := l.ask(true); all.after != 0 {
		t.Errorf("a question for all is for what came after %d", all.after)
	}
}

// TestLineAndDeletionsThatOvertake: a deletion may be heard of before the answer
// that still lists who was deleted.
func TestLineAndDeletionsThatOvertake(t *testing.T) {
	var l line
	q := l.ask(false)
	l.deleted(5, 100)
	l.answer(q, 9, ones(5, 9))
	wantFit(t, &l, 9)
	if len(l.asked) != 0 {
		t.Error("a question is still asked")
	}
}

func TestLineAndAnswersThatOvertake(t *testing.T) {
	var l line
	l.answer(l.ask(false), 5, ones(5))
	slow, quick := l.ask(false), l.ask(false)
	l.answer(quick, 8, ones(7, 8))
	l.deleted(5, 100)
	l.deleted(7, 100)
	wantFit(t, &l, 8)
	l.answer(slow, 7, ones(7)) // from before the deletion
	wantFit(t, &l, 8)
}

func TestLineForgets(t *testing.T) {
	var l line
	l.answer(l.ask(false), 5, ones(5))
	part := l.ask(false)
	l.forget()
	wantFit(t, &l)
	l.answer(part, 8, ones(8)) // tells nothing of who came before
	wantFit(t, &l)
	all := l.ask(true)
	if all.after != 0 {
		t.Errorf("after a gap it asks for what came after %d", all.after)
	}
	l.answer(all, 9, ones(8, 9))
	wantFit(t, &l, 8)
	late := &question{after: 5}
	l.answer(late, 8, ones(6, 8)) // a list of all is younger
	wantFit(t, &l, 8)
}

// TestLineAgainstEtcd plays an etcd, with answers and deletions that overtake each
// other, and gaps. Nobody ever fits who does not hold; and when all that is under
// way has arrived everybody fits who does.
func TestLineAgainstEtcd(t *testing.T) {
	for seed := range uint64(3000) {
		w := &lineWorld{T: t, seed: seed, rand: rand.New(rand.NewPCG(seed, 1)), limit: 1 + int(seed%4)} //nolint:gosec // a test
		for range 60 {
			w.step()
			w.check()
		}
		w.arrive()
		if t.Failed() {
			return
		}
	}
}

// A lineWorld is an etcd that has one subject, and a process.
type lineWorld struct {
	*testing.T
	seed  uint64
	rand  *rand.Rand
	limit int

	rev     int64
	members []member // in etcd

	line    line
	answers []func()   // under way
	watch   []deletion // under way, in order
}

// A deletion is heard of later.
type deletion struct {
	name uint64
	at   int64
}

func (w *lineWorld) step() {
	switch n := w.rand.IntN(20); {
	case n < 5: // somebody else comes
		w.create()
	case n < 9: // somebody here comes, who reads along
		q := w.line.ask(false)
		w.create()
		w.reply(q)
	case n < 13 && len(w.members) > 0:
		w.rev++
		i := w.rand.IntN(len(w.members))
		w.watch = append(w.watch, deletion{w.members[i].name, w.rev})
		w.members = slices.Delete(w.members, i, i+1)
	case n < 15 && len(w.watch) > 0:
		w.line.deleted(w.watch[0].name, w.watch[0].at)
		w.watch = w.watch[1:]
	case n < 18 && len(w.answers) > 0:
		i := w.rand.IntN(len(w.answers))
		arrive := w.answers[i]
		w.answers = slices.Delete(w.answers, i, i+1)
		arrive()
	case n == 18: // a gap
		w.watch = nil
		w.line.forget()
		w.reply(w.line.ask(true))
	}
}

func (w *lineWorld) create() {
	w.rev++
	name := uint64(0) // the first that is free
	for slices.ContainsFunc(w.members, func(m member) bool { return m.name == name }) {
		name++
	}
	w.members = append(w.members, member{rev: w.rev, name: name, weight: 1 + w.rand.IntN(w.limit), limit: w.limit}) //nolint:gosec // positive
}

// reply answers a question, as of now, later.
func (w *lineWorld) reply(q *question) {
	rev, list := w.rev, []member{}
	for _, m := range w.members {
		if m.rev > q.after {
			list = append(list, m)
		}
	}
	w.answers = append(w.answers, func() { w.line.answer(q, rev, list) })
}

func (w *lineWorld) check() {
	held := w.members[:holders(w.members)]
	for _, rev := range fitting(&w.line) {
		who := func(m member) bool { return m.rev == rev }
		if slices.ContainsFunc(w.members, who) && !slices.ContainsFunc(held, who) {
			w.Fatalf("seed %d: %d fits and does not hold: %v in etcd, %v here", w.seed, rev, w.members, w.line.members)
		}
	}
}

func (w *lineWorld) arrive() {
	w.reply(w.line.ask(false))
	for _, arrive := range w.answers {
		arrive()
	}
	for _, d := range w.watch {
		w.line.deleted(d.name, d.at)
	}
	w.check()
	if w.line.base > 0 && !slices.Equal(w.line.members, w.members) {
		w.Errorf("seed %d: %v in etcd, %v here", w.seed, w.members, w.line.members)
	}
}
