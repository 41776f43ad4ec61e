package figures

import (
	"fmt"
	"math"
)

// A Spread is what a report says of a Sample: its median and the quartiles
// around it. Nil is that of nothing.
type Spread struct {
	Median float64 `json:"median"`
	Low    float64 `json:"quartile_1"`
	High   float64 `json:"quartile_3"`
}

// Spread returns that of the sample; nil if it is empty or has something in it
// that is no number.
func (s Sample) Spread() *Spread {
	r := &Spread{Median: s.Median(), Low: s.Quantile(0.25), High: s.Quantile(0.75)}
	if sum := s.Sum(); len(s) == 0 || math.IsNaN(sum) || math.IsInf(sum, 0) {
		return nil
	}
	return r
}

// Middle is the median, and NaN of nothing.
func (s *Spread) Middle() float64 {
	if s == nil {
		return math.NaN()
	}
	return s.Median
}

// String is the median with the quartiles in brackets.
func (s *Spread) String() string {
	if s == nil {
		return "–"
	}
	return fmt.Sprintf("%s (%s–%s)", Number(s.Median), Number(s.Low), Number(s.High))
}

// Known returns a number for a report that leaves out what is not known: nil if
// it is none, or infinite.
func Known(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

// Optional writes a number that may not be known.
func Optional(v *float64) string {
	if v == nil {
		return "–"
	}
	return Number(*v)
}
