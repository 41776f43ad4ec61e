//go:build unix

package bench

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/distributed-go/distributed/internal/figures"
	"github.com/distributed-go/distributed/internal/plot"
)

// Table writes the report for a reader at a terminal.
func (r *Report) Table(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\tMEASURED\tLIMIT\tRATIO\tP99 µs\tMAX/MIN\tCPU µs/PAIR\tOF LIMIT")
	for i := range r.Rows {
		r.Rows[i].line(t)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	fmt.Fprintln(w, r.Held.sentence())
	for _, s := range r.notes() {
		fmt.Fprintln(w, s)
	}
	_, err := fmt.Fprintln(w, r.where())
	return err
}

func (r *Row) line(w io.Writer) {
	if r.Missing != "" {
		fmt.Fprintf(w, "%s\t-\t\t\t\t\t\t\n", r.Name)
		return
	}
	ratio := r.Ratio.String()
	if r.Discarded {
		ratio += " *"
	}
	fmt.Fprintf(w, "%s\t%s %s\t%s %s\t%s\t%s\t%s\t%s\t%s\n", r.Name, number(r.Value.Middle()), r.Unit, number(r.Limit.Middle()), r.Unit, ratio,
		figures.Optional(r.P99), figures.Optional(r.Fairness), r.CPU, r.LimitCPU)
}

// notes explain what stands in the table.
func (r *Report) notes() []string {
	notes := []string{"A pair is a lock and an unlock. The limit is a bare echo over one connection, measured in turns; of it are ratios, with quartiles."}
	for i := range r.Rows {
		switch row := &r.Rows[i]; {
		case row.Missing != "":
			notes = append(notes, fmt.Sprintf("- not measured, %q: %s.", row.Name, row.Missing))
		case row.Discarded:
			notes = append(notes, fmt.Sprintf("* discard %q: the echo's second copy was at %s of the first, so the machine was too busy.", row.Name, row.Copy))
		}
	}
	return notes
}

// where says on what, when, and how quiet it was.
func (r *Report) where() string {
	s := r.Time.Format("2006-01-02") + ", " + r.Machine.String()
	if r.Others != nil {
		s += fmt.Sprintf(", %.0f %% of the CPU time used by others", 100**r.Others)
	}
	return s
}

// sentence says what held locks cost.
func (h *Held) sentence() string {
	s := fmt.Sprintf("%d locks held: taken in %.3f s, released in %.3f s; %s, %s; heap per lock %.0f B", h.Locks, h.Taken, h.Released,
		plural(h.Sockets, "socket"), plural(h.Goroutines, "goroutine"), h.ClientBytes)
	if h.ServerBytes != nil {
		s += fmt.Sprintf(" + %.0f B in the server", *h.ServerBytes)
	}
	if h.Wire != nil {
		s += fmt.Sprintf("; idle %s B/s on the wire", number(*h.Wire))
	}
	if h.WireOfFew != nil {
		s += fmt.Sprintf(", 10 locks %s B/s", number(*h.WireOfFew))
	}
	return s
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// SVG draws the report.
func (r *Report) SVG() []byte {
	f := plot.Figure{Title: "Lock and unlock, against what the machine can do", Subtitle: r.where()}
	for _, rows := range r.groups() {
		f.Panels = append(f.Panels, panel(rows))
	}
	f.Footer = strings.SplitAfter(r.Held.sentence(), "; ")
	if slices.ContainsFunc(r.Rows, func(row Row) bool { return row.Discarded }) {
		f.Footer = append(f.Footer, "Some of it was measured on a machine too busy to tell small differences.")
	}
	return f.SVG()
}

// groups are the rows that were measured, those together that share a limit in
// the same unit.
func (r *Report) groups() [][]Row {
	var groups [][]Row
	for _, row := range r.Rows {
		last := len(groups) - 1
		switch {
		case row.Missing != "":
		case last >= 0 && row.Unit == "/s" && groups[last][0].LimitName == row.LimitName:
			groups[last] = append(groups[last], row)
		default:
			groups = append(groups, []Row{row})
		}
	}
	return groups
}

// panel draws rows that share a limit. Speeds are drawn, also of what was
// measured as a time: more is better everywhere.
func panel(rows []Row) plot.Panel {
	title, _, _ := strings.Cut(rows[0].Name, ": ")
	p := plot.Panel{Title: title + ", per second"}
	p.Bars = append(p.Bars, bar(rows[0].LimitName, plot.Limit, rows[0].Limit, rows[0].Unit, ""))
	for i := range rows {
		r := &rows[i]
		label, class := r.Label, plot.Ours
		if r.Rival {
			class = plot.Rival
		}
		p.Bars = append(p.Bars, bar(label, class, r.Value, r.Unit, fmt.Sprintf(" (%s × the limit)", number(r.speed()))))
	}
	return p
}

// speed is the ratio as one of speeds.
func (r *Row) speed() float64 {
	if r.Unit == "/s" {
		return r.Ratio.Middle()
	}
	return 1 / r.Ratio.Middle()
}

func bar(label string, class plot.Class, s *figures.Spread, unit, more string) plot.Bar {
	if s == nil {
		return plot.Bar{Label: label, Class: class, Value: -1, Text: "not measured"}
	}
	v := *s
	if unit != "/s" {
		v = figures.Spread{Median: 1e6 / s.Median, Low: 1e6 / s.High, High: 1e6 / s.Low}
	}
	return plot.Bar{Label: label, Class: class, Value: v.Median, Low: v.Low, High: v.High, Text: number(v.Median) + more}
}

// String is client and server.
func (c *CPU) String() string {
	if c == nil {
		return "-"
	}
	if c.Server == 0 {
		return number(c.Client)
	}
	return number(c.Client) + " + " + number(c.Server)
}

func number(v float64) string { return figures.Number(v) }
