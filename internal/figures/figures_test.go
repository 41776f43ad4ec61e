package figures

import (
	"math"
	"slices"
	"testing"
)

func TestQuantile(t *testing.T) {
	for _, c := range []struct {
		s    Sample
		q    float64
		want float64
	}{
		{Sample{7}, 0, 7},
		{Sample{7}, 0.5, 7},
		{Sample{7}, 1, 7},
		{Sample{3, 1, 2}, 0, 1},
		{Sample{3, 1, 2}, 0.5, 2},
		{Sample{3, 1, 2}, 1, 3},
		{Sample{4, 1, 2, 3}, 0.5, 2.5},
		{Sample{10, 20, 30, 40, 50}, 0.25, 20},
		{Sample{10, 20}, 0.99, 19.9},
	} {
		if got := c.s.Quantile(c.q); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("Quantile(%v) of %v = %v, want %v", c.q, c.s, got, c.want)
		}
	}
	if got := Sample(nil).Median(); !math.IsNaN(got) {
		t.Errorf("the median of nothing is %v", got)
	}
}

func TestQuantileLeavesTheOrder(t *testing.T) {
	s := Sample{3, 1, 2}
	_ = s.Median()
	if !slices.Equal(s, Sample{3, 1, 2}) {
		t.Errorf("sorted in place: %v", s)
	}
}

func TestSum(t *testing.T) {
	if got := (Sample{1, 2, 3.5}).Sum(); got != 6.5 {
		t.Errorf("sum %v", got)
	}
}

func TestOver(t *testing.T) {
	got := Sample{2, 9, 5}.Over(Sample{1, 3})
	if !slices.Equal(got, Sample{2, 3}) {
		t.Errorf("ratios %v", got)
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0.00", 1.066: "1.07", 12.34: "12.3", -12.34: "-12.3", 123.4: "123", 9999: "9999", 51_900: "52k", 1_000_000: "1000k",
	} {
		if got := Number(v); got != want {
			t.Errorf("Number(%v) = %q, want %q", v, got, want)
		}
	}
	if got := Number(math.NaN()); got != "–" {
		t.Errorf("Number of nothing = %q", got)
	}
}

func TestSampleString(t *testing.T) {
	if got := (Sample{1, 2, 3, 4, 5}).String(); got != "3.00 (2.00–4.00)" {
		t.Errorf("%q", got)
	}
}

func TestTable(t *testing.T) {
	table := NewTable("what", "µs", "note")
	table.Row("lock", 1.5)
	table.Row("echo", 12, "twice", "too much")
	want := "" +
		"| what | µs   | note  |\n" +
		"| ---- | ---- | ----- |\n" +
		"| lock | 1.50 |       |\n" +
		"| echo | 12   | twice |\n"
	if got := table.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
