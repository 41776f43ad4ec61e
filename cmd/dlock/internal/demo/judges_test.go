package demo

import (
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/distributed-go/distributed/locker"
)

// rec is a record of a worker.
func rec(worker int, event string) Record { return Record{Worker: worker, Event: event} }

// A bad is a change to good records that breaks a promise, and a part of the
// fault that a judge must find then.
type bad struct {
	name   string
	change func(r []Record) []Record
	fault  string
}

// judged runs a judge on good records, which must hold, and on each bad change
// to a copy of them, which must not.
func judged(t *testing.T, good []Record, judge func([]Record) Verdict, bads []bad) {
	t.Helper()
	if v := judge(good); len(v.Faults) > 0 || v.Saw == "" {
		t.Errorf("good records: %+v, want no fault, and what was seen", v)
	}
	bads = append(bads, bad{"nothing recorded", func([]Record) []Record { return nil }, ""})
	for _, b := range bads {
		v := judge(b.change(slices.Clone(good)))
		if len(v.Faults) == 0 {
			t.Errorf("%s: no fault in %+v", b.name, v)
		} else if all := strings.Join(v.Faults, "; "); !strings.Contains(all, b.fault) {
			t.Errorf("%s: faults %q, want %q", b.name, all, b.fault)
		}
	}
}

// without removes the i-th record.
func without(i int) func([]Record) []Record {
	return func(r []Record) []Record { return slices.Delete(r, i, i+1) }
}

// swapped swaps two records.
func swapped(i, j int) func([]Record) []Record {
	return func(r []Record) []Record {
		r[i], r[j] = r[j], r[i]
		return r
	}
}

// edited changes the i-th record.
func edited(i int, edit func(*Record)) func([]Record) []Record {
	return func(r []Record) []Record {
		edit(&r[i])
		return r
	}
}

func TestJudgeMutex(t *testing.T) {
	done := func(w, n int) Record { return Record{Worker: w, Event: evDone, N: n} }
	good := []Record{done(1, 5), done(2, 5), done(1, 5), done(2, 5)}
	judged(t, good, func(r []Record) Verdict { return judgeMutex(r, 2, 5, 7, 10) }, []bad{
		{"a worker counted less", edited(1, func(r *Record) { r.N = 4 }), "worker 2 counted to 9, not 10"},
		{"a worker is missing", func([]Record) []Record { return []Record{done(1, 5), done(1, 5)} }, "1 processes counted, not 2"},
	})
	for _, n := range []int{0, 9, 11} {
		if v := judgeMutex(good, 2, 5, 7, n); len(v.Faults) == 0 {
			t.Errorf("a counter at %d instead of 10 passed", n)
		}
	}
}

func TestJudgeSemaphore(t *testing.T) {
	in, out := func(w int) Record { return rec(w, evEnter) }, func(w int) Record { return rec(w, evExit) }
	good := []Record{in(1), in(2), out(1), in(3), out(3), out(2)}
	judged(t, good, func(r []Record) Verdict { return judgeSemaphore(r, 3, 2, 1) }, []bad{
		{"three inside", swapped(2, 3), "3 were inside at once, 2 is the limit"},
		{"never full", func([]Record) []Record { return []Record{in(1), out(1), in(2), out(2), in(3), out(3)} }, "no more than 1 were inside"},
		{"one never left", without(5), "1 never left"},
		{"one entered twice", func(r []Record) []Record { return append([]Record{in(1)}, r...) }, "worker 1 entered twice"},
		{"one left twice", func(r []Record) []Record { return append(r, out(1)) }, "worker 1 left without having entered"},
		{"one had more rounds", func(r []Record) []Record { return append(r, in(1), out(1)) }, "worker 1 was inside 2 times, not 1"},
		{"one had none", func(r []Record) []Record { return []Record{in(1), in(2), out(1), out(2)} }, "2 processes were inside at all, not 3"},
	})
}

func TestJudgeOrder(t *testing.T) {
	enter := func(w int, fence uint64) Record { return Record{Worker: w, Event: evEnter, Fence: fence} }
	good := []Record{
		rec(1, evAsks), enter(1, 10), rec(3, evAsks), rec(2, evAsks), rec(1, evExit),
		enter(3, 11), rec(3, evExit), enter(2, 12), rec(2, evExit),
	}
	judged(t, good, func(r []Record) Verdict { return judgeOrder(r, 1, []int{3, 2}) }, []bad{
		{"served in another order", func(r []Record) []Record {
			r[5], r[6], r[7], r[8] = enter(2, 11), rec(2, evExit), enter(3, 12), rec(3, evExit)
			return r
		}, "asked in the order [3 2], served in [2 3]"},
		{"one not served", func(r []Record) []Record { return r[:7] }, "served in [3]"},
		{"two held at once", swapped(6, 7), "2 held at once"},
		{"a fence that does not grow", edited(7, func(r *Record) { r.Fence = 11 }), "got the fence 11 after 11"},
		{"no fence", edited(1, func(r *Record) { r.Fence = 0 }), "got the fence 0"},
		{"the first did not wait for all to ask", swapped(3, 4), "left before 1 had asked"},
	})
}

func TestJudgeTicket(t *testing.T) {
	var good []Record
	for i, m := range ticketScript {
		r := rec(m.worker, m.event)
		if m.event == evEnter {
			r.Fence = uint64(100 + i)
		}
		good = append(good, r)
	}
	judged(t, good, judgeTicket, []bad{
		{"the late one overtakes", func(r []Record) []Record {
			return slices.Concat(r[:7], r[9:11], r[7:9])
		}, `worker 3: "enter" where worker 2: "enter" was due`},
		{"the owner's turn comes while the first holds", swapped(5, 7), `"enter" where`},
		{"the owner got the lock at once", edited(2, func(r *Record) { r.Event = evAcquired }), `"acquired" where`},
		{"the first had to queue", edited(0, func(r *Record) { r.Event = evQueued }), `"queued" where`},
		{"the late one is not served", func(r []Record) []Record { return r[:9] }, `no "enter"`},
		{"something happens after the end", func(r []Record) []Record { return append(r, rec(1, evEnter)) }, "after the end"},
		{"fences do not grow", edited(7, func(r *Record) { r.Fence = 1 }), "got the fence 1 after 101"},
		{"no fences", edited(1, func(r *Record) { r.Fence = 0 }), "got the fence 0"},
	})
}

func TestJudgeCrash(t *testing.T) {
	good := []Record{
		{Worker: 1, Event: evEnter, Fence: 10},
		{Event: evKill, N: 1, At: time.Second},
		{Worker: 2, Event: evEnter, Fence: 11, At: time.Second + 3*time.Millisecond},
		{Event: evKill, N: 2, At: 2 * time.Second},
		{Worker: 3, Event: evEnter, Fence: 12, At: 2*time.Second + 4*time.Millisecond},
	}
	judged(t, good, func(r []Record) Verdict { return judgeCrash(r, 3, crashBound) }, []bad{
		{"the next held before the kill", swapped(1, 2), "2 held at once"},
		{"the next held late", edited(2, func(r *Record) { r.At += crashBound }), "are allowed"},
		{"the fence stayed", edited(2, func(r *Record) { r.Fence = 10 }), "got the fence 10 after 10"},
		{"the fence fell", edited(4, func(r *Record) { r.Fence = 5 }), "got the fence 5 after 11"},
		{"nobody held after the last kill", without(4), "passed on 1 times, not 2"},
		{"somebody else was killed", edited(3, func(r *Record) { r.N = 3 }), "worker 3 was killed and did not hold"},
		{"nobody was killed", func(r []Record) []Record { return []Record{r[0]} }, "passed on 0 times, not 2"},
	})
	if v := judgeCrash(good, 3, crashBound); v.Saw != "held by the next after 3ms, 4ms" {
		t.Errorf("saw %q, want the times from each kill", v.Saw)
	}
}

func TestJudgePause(t *testing.T) {
	var good []Record
	for i, m := range pauseScript {
		r := rec(m.worker, m.event)
		r.At = time.Duration(i) * time.Millisecond
		switch m.event {
		case evStop, evWake:
			r.Worker, r.N = 0, m.worker
		case evEnter:
			r.Fence = uint64(100 + i)
		}
		good = append(good, r)
	}
	const stop, enter, secondCheck, refused = 5, 6, 9, 10
	good[secondCheck].Err = lost
	final := guarded{Fence: good[enter].Fence, Text: "next"}
	judge := func(r []Record) Verdict { return judgePause(r, final, time.Second, pauseBound) }
	judged(t, good, judge, []bad{
		{"the next held while the sleeper did", swapped(stop, enter), `"enter" where`},
		{"the sleeper did not notice", edited(secondCheck, func(r *Record) { r.Err = "" }), `say ["" ""]`},
		{"the lease was lost before the pause", edited(2, func(r *Record) { r.Err = lost }), `say ["lost" "lost"]`},
		{"the late write went through", edited(refused, func(r *Record) { r.Event = evWrote }), `"wrote" where`},
		{"the next held too late", edited(enter, func(r *Record) { r.At += 3 * time.Second }), "the lease is 1s"},
		{"the fence did not grow", edited(enter, func(r *Record) { r.Fence = 100 }), "got the fence 100 after 101"},
		{"there was no fence", edited(1, func(r *Record) { r.Fence = 0 }), "after 0"},
	})
	for _, f := range []guarded{{}, {Fence: final.Fence, Text: "late"}, {Fence: good[1].Fence, Text: "next"}} {
		if v := judgePause(good, f, time.Second, pauseBound); len(v.Faults) == 0 {
			t.Errorf("a file that says %+v at the end passed", f)
		}
	}
}

func TestJudgeShard(t *testing.T) {
	keys := []string{"my-key", "key-1", "key-2", "key-3", "key-4", "key-5"}
	var good []Record
	for _, key := range keys {
		for w := 1; w <= 2; w++ {
			good = append(good, Record{Worker: w, Event: evEnter, Key: key}, Record{Worker: w, Event: evExit, Key: key})
		}
	}
	reports := func() []locker.Report {
		rs := make([]locker.Report, 3)
		for _, key := range keys {
			r := &rs[crc32.ChecksumIEEE([]byte(key))%3]
			r.Keys = append(r.Keys, locker.KeyReport{Kind: "lock", Key: key})
		}
		return rs
	}
	judged(t, good, func(r []Record) Verdict { return judgeShard(r, keys, reports(), 2) }, []bad{
		{"two held one key", swapped(1, 2), "2 held my-key at once"},
		{"one did not come", func(r []Record) []Record { return slices.Delete(r, 4, 6) }, "1 processes visited key-1, not 2"},
	})

	twice := reports()
	twice[0].Keys = append(twice[0].Keys, twice[1].Keys[0])
	moved := reports()
	moved[1].Keys, moved[2].Keys = moved[2].Keys, moved[1].Keys
	forgotten := reports()
	forgotten[0].Keys = forgotten[0].Keys[1:]
	for name, rs := range map[string][]locker.Report{"known to two servers": twice, "on wrong servers": moved, "known to none": forgotten} {
		if v := judgeShard(good, keys, rs, 2); len(v.Faults) == 0 {
			t.Errorf("keys %s: no fault in %+v", name, v)
		}
	}
	if v := judgeShard(nil, []string{"my-key"}, reports(), 0); len(v.Faults) == 0 {
		t.Error("servers that own nothing passed")
	}
}

// The servers of some keys as dflockd's Python client gives them, so that the
// judge's own arithmetic is tested against something else than itself.
func TestJudgeShardKnowsTheOfficialServers(t *testing.T) {
	for key, want := range map[string]int{"my-key": 2, "key-2": 0, "key-4": 1} {
		rs := make([]locker.Report, 3)
		rs[want].Keys = []locker.KeyReport{{Key: key}}
		v := judgeShard([]Record{{Worker: 1, Event: evEnter, Key: key}, {Worker: 1, Event: evExit, Key: key}}, []string{key}, rs, 1)
		if all := fmt.Sprint(v.Faults); strings.Contains(all, "known to") {
			t.Errorf("%s on server %d of 3: %s", key, want, all)
		}
	}
}
