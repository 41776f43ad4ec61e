//go:build linux

package etcdcluster

import (
	"slices"
	"testing"
	"time"

	"github.com/distributed-go/distributed/e2e/internal/witness"
)

// TestJudgeShared shows the judge of what is shared histories that are right, and
// such that are wrong in one way each.
func TestJudgeShared(t *testing.T) {
	shares := map[string]share{"a": {1, 3}, "b": {2, 3}, "c": {2, 3}, "w": {3, 3}, "v": {3, 3}}
	hold := func(who string, fence uint64, enter, last int64) []witness.Record {
		return []witness.Record{
			{What: "ask", Who: who, Key: "k", At: 0}, {What: "enter", Who: who, Key: "k", Fence: fence, At: enter}, {What: "gone", Who: who, Key: "k", At: last},
		}
	}
	for name, c := range map[string]struct {
		records [][]witness.Record
		want    []string
	}{
		"all fit":               {[][]witness.Record{hold("a", 0, 10, 30), hold("b", 0, 20, 40)}, nil},
		"one after the other":   {[][]witness.Record{hold("b", 0, 10, 30), hold("c", 0, 30, 40)}, nil},
		"too much":              {[][]witness.Record{hold("b", 0, 10, 30), hold("c", 0, 29, 40)}, []string{"overlap"}},
		"a reader and a writer": {[][]witness.Record{hold("a", 0, 10, 30), hold("w", 5, 29, 40)}, []string{"overlap"}},
		"writers in turn":       {[][]witness.Record{hold("w", 5, 10, 30), hold("a", 0, 30, 35), hold("v", 7, 35, 40)}, nil},
		"fences shrink":         {[][]witness.Record{hold("w", 7, 10, 30), hold("v", 5, 35, 40)}, []string{"fence"}},
	} {
		_, found := judge(slices.Concat(c.records...), shares)
		var kinds []string
		for _, v := range found {
			kinds = append(kinds, v.Kind)
		}
		if !slices.Equal(kinds, c.want) {
			t.Errorf("%s: found %q, want kinds %q", name, found, c.want)
		}
	}
}

func TestGap(t *testing.T) {
	grants := []int64{10, 20, 50, 90, 100}
	for _, c := range []struct {
		w    window
		want time.Duration
	}{
		{window{from: 25, end: 45}, 30},
		{window{from: 25, end: 60}, 40},
		{window{kind: quiet, from: 40, end: 45}, 10},
		{window{from: 95, end: 99}, 10},
	} {
		if got := gap(grants, c.w); got != c.want {
			t.Errorf("%+v: %d, want %d", c.w, got, c.want)
		}
	}
}

func TestGrantsWithout(t *testing.T) {
	second := int64(time.Second)
	w := []window{{kind: "two", without: second, again: 9 * second, to: 12 * second}}
	enter := func(at int64) witness.Record {
		return witness.Record{What: "enter", Who: "a", Key: "k", At: at * second}
	}
	if found := grantsWithout(w, []witness.Record{enter(1), enter(3), enter(10)}); len(found) != 0 {
		t.Errorf("found %q in what is right", found)
	}
	if found := grantsWithout(w, []witness.Record{enter(5)}); len(found) != 1 {
		t.Errorf("found %q, want one", found)
	}
}
