// Package figures turns measurements into what is printed of them.
package figures

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// A Sample is a set of measurements of one thing.
type Sample []float64

// Quantile returns the value below which the part q of the sample lies, between
// neighbours in proportion; NaN if the sample is empty. Q is from 0 to 1.
func (s Sample) Quantile(q float64) float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(s))
	at := q * float64(len(sorted)-1)
	i := int(at)
	if i+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[i] + (at-float64(i))*(sorted[i+1]-sorted[i])
}

// Median returns the value in the middle; NaN if the sample is empty.
func (s Sample) Median() float64 { return s.Quantile(0.5) }

// Sum returns the sum of the measurements.
func (s Sample) Sum() float64 {
	var sum float64
	for _, v := range s {
		sum += v
	}
	return sum
}

// Over returns the ratios to a base that was measured in turns with s, turn by
// turn: what disturbed one turn disturbed both.
func (s Sample) Over(base Sample) Sample {
	ratios := make(Sample, 0, len(s))
	for i := range min(len(s), len(base)) {
		ratios = append(ratios, s[i]/base[i])
	}
	return ratios
}

// String is the median with the quartiles in brackets.
func (s Sample) String() string {
	return fmt.Sprintf("%s (%s–%s)", Number(s.Median()), Number(s.Quantile(0.25)), Number(s.Quantile(0.75)))
}

// Number writes a number with as many digits as a measurement deserves.
func Number(v float64) string {
	switch abs := math.Abs(v); {
	case math.IsNaN(v):
		return "–"
	case abs >= 10_000:
		return fmt.Sprintf("%.0fk", v/1000)
	case abs >= 100:
		return fmt.Sprintf("%.0f", v)
	case abs >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// A Table is a table in Markdown.
type Table struct {
	head []string
	rows [][]string
}

// NewTable returns a table with the heads of its columns.
func NewTable(head ...string) *Table { return &Table{head: head} }

// Row adds a row. Numbers are written by Number, all else as it prints; cells
// that are missing stay empty.
func (t *Table) Row(cells ...any) {
	row := make([]string, len(t.head))
	for i, c := range cells[:min(len(cells), len(row))] {
		switch v := c.(type) {
		case float64:
			row[i] = Number(v)
		default:
			row[i] = fmt.Sprint(v)
		}
	}
	t.rows = append(t.rows, row)
}

// String is the table, its columns aligned for readers of the source.
func (t *Table) String() string {
	widths := make([]int, len(t.head))
	for _, row := range append([][]string{t.head}, t.rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	line := func(cells []string, pad string) {
		for i, cell := range cells {
			fill := strings.Repeat(pad, widths[i]-utf8.RuneCountInString(cell))
			b.WriteString("| " + cell + fill + " ")
		}
		b.WriteString("|\n")
	}
	line(t.head, " ")
	line(make([]string, len(t.head)), "-")
	for _, row := range t.rows {
		line(row, " ")
	}
	return b.String()
}
