package demo

import (
	"slices"
	"testing"
	"time"
)

func TestJudgeOnce(t *testing.T) {
	got := func(w int) Record { return Record{Worker: w, Event: evGot, Fence: 7} }
	good := []Record{
		rec(1, evAsks), rec(1, evEnter), rec(2, evAsks), rec(1, evExit), got(2), got(1), rec(3, evAsks), got(3),
	}
	judged(t, good, func(r []Record) Verdict { return judgeOnce(r, 3, 0, 0) }, []bad{
		{"a second one ran", func(r []Record) []Record { return slices.Concat(r, []Record{rec(3, evEnter), rec(3, evExit)}) }, "2 began"},
		{"two ran at once", func(r []Record) []Record { return slices.Insert(r, 3, rec(2, evEnter)) }, "2 ran at once"},
		{"nobody ran to the end", without(3), "0 ended"},
		{"one did not wait", swapped(3, 4), "worker 2 found it done before it was"},
		{"one had no answer", without(5), "worker 1 had 0 answers"},
		{"one had two", func(r []Record) []Record { return append(r, got(2)) }, "worker 2 had 2 answers"},
		{"one did not come", func(r []Record) []Record { return r[:6] }, "2 workers asked"},
		{"two marks", edited(7, func(r *Record) { r.Fence = 8 }), "want one"},
		{"no fence", func(r []Record) []Record {
			for i := range r {
				r[i].Fence = 0
			}
			return r
		}, "want one"},
		{"somebody was killed", func(r []Record) []Record { return append(r, Record{Event: evKill, N: 3}) }, "1 were killed"},
	})
}

func TestJudgeOnceWhoseRunnerIsKilled(t *testing.T) {
	got := func(w int) Record { return Record{Worker: w, Event: evGot, Fence: 7} }
	good := []Record{
		rec(1, evAsks), rec(1, evEnter), rec(2, evAsks), rec(3, evAsks),
		{Event: evKill, N: 1, At: time.Second},
		{Worker: 3, Event: evEnter, At: time.Second + 2*time.Millisecond},
		rec(3, evExit), got(3), got(2),
	}
	judged(t, good, func(r []Record) Verdict { return judgeOnce(r, 3, 1, crashBound) }, []bad{
		{"the next ran before the kill", swapped(4, 5), "2 ran at once"},
		{"both others ran", func(r []Record) []Record {
			return slices.Concat(r[:7], []Record{rec(2, evEnter), rec(2, evExit)}, r[7:])
		}, "3 began"},
		{"nobody was killed", without(4), "0 were killed"},
		{"nobody ran after it", func(r []Record) []Record { return append(r[:5], r[7:]...) }, "1 began"},
		{"the next ran late", edited(5, func(r *Record) { r.At += crashBound }), "are allowed"},
		{"a mark of each", edited(8, func(r *Record) { r.Fence = 6 }), "want one"},
	})
	if v := judgeOnce(good, 3, 1, crashBound); v.Saw != "3 asked, 2 began, 1 ended, all see one mark; the next ran 2ms after the kill" {
		t.Errorf("saw %q", v.Saw)
	}
}

func TestJudgeValue(t *testing.T) {
	got := func(w int) Record { return Record{Worker: w, Event: evGot, N: 2} }
	good := []Record{rec(2, evAsks), rec(2, evEnter), rec(1, evAsks), rec(2, evExit), got(1), got(2), rec(3, evAsks), got(3)}
	judged(t, good, func(r []Record) Verdict { return judgeValue(r, 3) }, []bad{
		{"computed twice", func(r []Record) []Record { return append(r, rec(3, evEnter), rec(3, evExit)) }, "2 began"},
		{"another value", edited(7, func(r *Record) { r.N = 3 }), "worker 3 had the value 3, and worker 2 computed it"},
		{"before it was there", swapped(3, 4), "before it was computed"},
		{"one without", without(4), "worker 1 had 0 answers"},
		{"one did not come", func(r []Record) []Record { return r[:6] }, "2 workers asked"},
	})
}

func TestJudgeGroup(t *testing.T) {
	in := func(w, round int, event string) Record { return Record{Worker: w, Event: event, N: round} }
	got := func(w, n int) Record { return Record{Worker: w, Event: evGot, N: n} }
	good := []Record{
		in(1, 0, evAsks), in(1, 0, evEnter), in(2, 0, evAsks), in(3, 0, evAsks), in(1, 0, evExit), got(1, 1), got(3, 1), got(2, 1),
		in(2, 1, evAsks), in(2, 1, evEnter), in(3, 1, evAsks), in(1, 1, evAsks),
		{Event: evKill, N: 2, At: time.Second},
		{Worker: 1, N: 1, Event: evEnter, At: time.Second + 3*time.Millisecond},
		in(1, 1, evExit), got(3, 101), got(1, 101),
	}
	judged(t, good, func(r []Record) Verdict { return judgeGroup(r, 3, 2, crashBound) }, []bad{
		{"an old result", edited(15, func(r *Record) { r.N = 1 }), "worker 3 had the result 1 in round 1, whose was to be 101"},
		{"a result of one who died", edited(15, func(r *Record) { r.N = 102 }), "worker 3 had the result 102"},
		{"two ran in a round", func(r []Record) []Record {
			return slices.Insert(r, 5, in(2, 0, evEnter), in(2, 0, evExit))
		}, "2 ran in round 0, not 1"},
		{"nobody ran after the kill", without(13), "nobody ran after that"},
		{"nobody was killed", without(12), "nobody was killed"},
		{"the next ran late", edited(13, func(r *Record) { r.At += crashBound }), "are allowed"},
		{"a result before the end", swapped(4, 5), "worker 1 had the result 1 in round 0"},
		{"one without", without(7), "worker 2 had 0 answers"},
		{"a round that is none", edited(8, func(r *Record) { r.N = 2 }), "in round 2"},
	})
}
