package figures

import (
	"math"
	"testing"
)

func TestSpread(t *testing.T) {
	if s := (Sample{4, 1, 3, 2, 5}).Spread(); s == nil || *s != (Spread{Median: 3, Low: 2, High: 4}) || s.String() != "3.00 (2.00–4.00)" {
		t.Errorf("of 1 to 5: %v", s)
	}
	for _, none := range []Sample{nil, {1, math.NaN()}, {math.Inf(1)}} {
		if s := none.Spread(); s != nil || s.String() != "–" || !math.IsNaN(s.Middle()) {
			t.Errorf("of %v: %v", none, s)
		}
	}
}

func TestKnown(t *testing.T) {
	if v := Known(2); v == nil || *v != 2 || Optional(v) != "2.00" {
		t.Errorf("of 2: %v", v)
	}
	for _, none := range []float64{math.NaN(), math.Inf(1)} {
		if v := Known(none); v != nil || Optional(v) != "–" {
			t.Errorf("of %v: %v", none, *v)
		}
	}
}
