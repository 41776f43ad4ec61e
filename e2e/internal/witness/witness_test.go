//go:build unix

package witness

import (
	"slices"
	"testing"
	"time"
)

// TestJudge shows the judges histories that are right, and such that are wrong
// in one way each.
func TestJudge(t *testing.T) {
	hold := func(who string, fence uint64, ask, enter, last int64, end string) []Record {
		all := []Record{{"ask", who, "k", 0, ask}, {"enter", who, "k", fence, enter}, {"alive", who, "k", 0, last}}
		switch end {
		case "gone":
			all = append(all, Record{"gone", who, "k", 0, last})
		case "freed":
			all = append(all, Record{"leave", who, "k", 0, last}, Record{"freed", who, "k", 0, last + 5})
		}
		return all
	}
	for name, c := range map[string]struct {
		records [][]Record
		want    []string
	}{
		"released":                {[][]Record{hold("a", 1, 0, 10, 20, "freed"), hold("b", 2, 5, 30, 40, "freed")}, nil},
		"killed":                  {[][]Record{hold("a", 1, 0, 10, 20, ""), hold("b", 2, 5, 30, 40, "freed")}, nil},
		"lost":                    {[][]Record{hold("a", 1, 0, 10, 20, "gone"), hold("b", 2, 5, 30, 40, "freed")}, nil},
		"granted while releasing": {[][]Record{hold("a", 1, 0, 10, 20, "freed"), hold("b", 2, 5, 22, 40, "freed")}, nil},
		"two believe":             {[][]Record{hold("a", 1, 0, 10, 20, "gone"), hold("b", 2, 5, 15, 40, "freed")}, []string{"history", "overlap"}},
		"the killed one believed": {[][]Record{hold("a", 1, 0, 10, 20, ""), hold("b", 2, 5, 19, 40, "freed")}, []string{"history", "overlap"}},
		"the same fence":          {[][]Record{hold("a", 2, 0, 10, 20, "freed"), hold("b", 2, 5, 30, 40, "freed")}, []string{"fence", "history"}},
		"a lower fence":           {[][]Record{hold("a", 2, 0, 10, 20, "freed"), hold("b", 1, 22, 30, 40, "freed")}, []string{"fence", "history"}},
		"an end without a hold":   {[][]Record{{{"leave", "a", "k", 0, 1}}}, []string{"records"}},
	} {
		_, found := Judge(slices.Concat(c.records...))
		var kinds []string
		for _, v := range found {
			kinds = append(kinds, v.Kind)
		}
		slices.Sort(kinds)
		if !slices.Equal(kinds, c.want) {
			t.Errorf("%s: found %q, want kinds %q", name, found, c.want)
		}
	}
}

func TestTakeovers(t *testing.T) {
	dead := Death{Hold: Interval{Record: Record{Who: "a", Key: "k", Fence: 1}}, At: 100}
	next := func(fence uint64, at int64) map[string][]*Interval {
		return map[string][]*Interval{"k": {{Record: Record{Who: "b", Key: "k", Fence: fence, At: at}}}}
	}
	for name, c := range map[string]struct {
		all   map[string][]*Interval
		found int
	}{
		"in time":            {next(2, 150), 0},
		"late":               {next(2, 250), 1},
		"nobody":             {nil, 1},
		"only one before it": {next(1, 150), 1},
	} {
		if _, found := Takeovers(c.all, []Death{dead}, 100*time.Nanosecond); len(found) != c.found {
			t.Errorf("%s: %q, want %d", name, found, c.found)
		}
	}
}

// TestStoreSeesStaleWrites checks what the stale writes are counted by.
func TestStoreSeesStaleWrites(t *testing.T) {
	s := StartStore(t)
	for _, w := range []struct {
		fence uint64
		want  bool
	}{{5, true}, {5, true}, {7, true}, {6, false}, {7, true}} {
		if got := s.put("k", w.fence); got != w.want {
			t.Errorf("fence %d: accepted is %t, want %t", w.fence, got, w.want)
		}
	}
	counts, found := s.Result()
	if want := (Counts{Writes: 5, StaleRefused: 1, StaleTaken: 1}); counts != want || len(found) != 0 {
		t.Errorf("counts %+v and %q, want %+v and nothing", counts, found, want)
	}
}

func TestParseRecord(t *testing.T) {
	want := Record{"enter", "w1.0", "k-1", 7, 123}
	if got, err := parseRecord(string(want.line())); err != nil || got != want {
		t.Errorf("%+v became %+v, %v", want, got, err)
	}
	for _, bad := range []string{"", "enter w1.0 k 7\n", "left w1.0 k 7 1\n", "enter w1.0 k x 1\n"} {
		if r, err := parseRecord(bad); err == nil {
			t.Errorf("%q was read as %+v", bad, r)
		}
	}
}
