package main

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/distributed-go/distributed/internal/figures"
	"github.com/distributed-go/distributed/internal/measure"
	"github.com/distributed-go/distributed/internal/plot"
)

// A report is what was measured.
type report struct {
	Time    time.Time       `json:"time"`
	Seconds float64         `json:"seconds"`
	Machine measure.Machine `json:"machine"`
	// Others is what share of the processor time that was used in the run other
	// processes used.
	Others *float64 `json:"others_cpu_share,omitempty"`
	// Noisy says which workloads the echo's second copy shows to be measured on
	// a machine too busy: they are to be discarded.
	Noisy   []string  `json:"noisy,omitempty"`
	Systems []*result `json:"systems"`
}

// A result is what was measured of one system.
type result struct {
	Name string `json:"name"`
	Note string `json:"note,omitempty"`
	// One is µs of the median pair, Many pairs a second, and Fight owner changes
	// a second, or of the echo pairs of one goroutine.
	One    *measured   `json:"one_goroutine_us"`
	Many   *measured   `json:"a_key_each_per_s"`
	Fight  *measured   `json:"one_key_per_s"`
	Held   *heldReport `json:"held,omitempty"`
	Killed *lossReport `json:"server_killed,omitempty"`
	Frozen *lossReport `json:"server_frozen,omitempty"`

	system *system
}

// A measured is one workload of one system.
type measured struct {
	Value *figures.Spread `json:"value"`
	// Ratio is Value over that of the echo, block by block.
	Ratio    *figures.Spread `json:"ratio_to_echo"`
	Blocks   int             `json:"blocks"`
	Pairs    int             `json:"pairs"`
	Client   *float64        `json:"client_cpu_us_per_pair,omitempty"`
	Server   *float64        `json:"server_cpu_us_per_pair,omitempty"`
	P99      *float64        `json:"p99_us,omitempty"`
	Fairness *float64        `json:"max_over_min,omitempty"`
	// Stuck counts pairs that had not ended 2 s after their block.
	Stuck int `json:"stuck,omitempty"`
}

// A lossReport is how a library told of a server that went away.
type lossReport struct {
	// Tells says whether it has a way to.
	Tells bool `json:"tells"`
	// After is the seconds until it told; absent if it did not Within seconds.
	After  *float64 `json:"after_s,omitempty"`
	Within float64  `json:"within_s"`
	// Stuck says that the lock could not be taken in 20 s to begin with.
	Stuck bool `json:"stuck,omitempty"`
}

// figure makes a measured of a contestant; f is what counts of a block, and g
// what counts of one of the echo.
func figure(c *measure.Contestant, f func(*measure.Block) float64, echo *measure.Contestant, g func(*measure.Block) float64) *measured {
	m := &measured{Value: c.Of(f).Spread(), Ratio: c.Of(f).Over(echo.Of(g)).Spread(), Blocks: len(c.Blocks), Pairs: c.Pairs()}
	client, server := c.CPU()
	m.Client, m.Server = figures.Known(client), figures.Known(server)
	for i := range c.Blocks {
		m.Stuck += c.Blocks[i].Stuck
	}
	return m
}

func pairTimes(b *measure.Block) figures.Sample { return b.Each }
func handovers(b *measure.Block) figures.Sample { return b.Handovers }

// judge notes what the second copy of the echo shows to be noise.
func (r *report) judge() {
	copies := r.Systems[1]
	for _, w := range []struct {
		name string
		m    *measured
	}{{"1 goroutine", copies.One}, {fmt.Sprintf("%d goroutines, a key each", crowd), copies.Many}, {fmt.Sprintf("%d goroutines, one key", few), copies.Fight}} {
		if ratio := w.m.Ratio.Middle(); !(ratio >= 0.95 && ratio <= 1.05) {
			r.Noisy = append(r.Noisy, fmt.Sprintf("%s: the echo's second copy was at %s of the first", w.name, w.m.Ratio))
		}
	}
}

// Markdown is the part of docs/benchmarks.md that a run writes.
func (r *report) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Taken on %s in %.0f s on %s, clients and servers in processes of their own, over loopback.\n",
		r.Time.Format("2006-01-02"), r.Seconds, r.Machine)
	if r.Others != nil {
		fmt.Fprintf(&b, "Other processes used %.0f %% of the CPU time that was used.\n", 100**r.Others)
	}
	b.WriteString("Medians of blocks that took turns in random order, with quartiles; a pair is a lock and an unlock.\n")
	b.WriteString("*Stuck* counts goroutines that still waited 2 s after their block had ended, and were cancelled; of held locks, that not all could be taken and released in 20 s.\n")
	for _, n := range r.Noisy {
		fmt.Fprintf(&b, "\n**To be discarded:** %s. The machine was too busy.\n", n)
	}
	fmt.Fprintf(&b, "\n%s\n%s\n%s", r.uncontended(), r.contended(), r.costs())
	b.WriteString("\nWhat was chosen where there was a choice:\n\n")
	for _, s := range r.Systems {
		if s.Note != "" {
			fmt.Fprintf(&b, "- %s: %s.\n", s.Name, s.Note)
		}
	}
	return b.String()
}

func (r *report) uncontended() *figures.Table {
	t := figures.NewTable("no contention", "1 goroutine: p50 µs", "p99 µs", "of the echo's time", fmt.Sprintf("%d goroutines, a key each: pairs/s", crowd), "of the echo's", "CPU µs/pair, client + server")
	for _, s := range r.Systems {
		t.Row(s.Name, s.One.Value, figures.Optional(s.One.P99), figures.Number(s.One.Ratio.Middle()), stuck(s.Many), figures.Number(s.Many.Ratio.Middle()), s.Many.cpu())
	}
	return t
}

func (r *report) contended() *figures.Table {
	t := figures.NewTable(fmt.Sprintf("%d goroutines, one key", few), "owner changes/s", "of the echo's pairs/s, 1 goroutine", "p99 of a hand-over, ms", "max/min pairs", "CPU µs/pair, client + server")
	for _, s := range r.Systems {
		p99 := math.NaN()
		if s.Fight.P99 != nil {
			p99 = *s.Fight.P99 / 1000
		}
		t.Row(s.Name, stuck(s.Fight), figures.Number(s.Fight.Ratio.Middle()), p99, figures.Optional(s.Fight.Fairness), s.Fight.cpu())
	}
	return t
}

func (r *report) costs() *figures.Table {
	locks := "locks"
	if h := r.firstHeld(); h != nil {
		locks = fmt.Sprintf("%d locks held", h.Locks)
	}
	t := figures.NewTable(locks, "taken in s", "heap B/lock", "stack B/lock", "goroutines/lock", "sockets", "server killed: told after s", "server frozen: told after s")
	for _, s := range r.Systems {
		if h := s.Held; h != nil && h.Stuck {
			t.Row(s.Name, "stuck", "–", "–", "–", "–", s.Killed, s.Frozen)
		} else if h != nil {
			t.Row(s.Name, fmt.Sprintf("%.3f", h.Taken), fmt.Sprintf("%.0f", h.Heap), fmt.Sprintf("%.0f", max(h.Stack, 0)), fmt.Sprintf("%.0f", h.Goroutines), h.Sockets, s.Killed, s.Frozen)
		}
	}
	return t
}

func (r *report) firstHeld() *heldReport {
	for _, s := range r.Systems {
		if s.Held != nil {
			return s.Held
		}
	}
	return nil
}

func (m *measured) cpu() string {
	return figures.Optional(m.Client) + " + " + figures.Optional(m.Server)
}

// stuck is the value, and whether some hung.
func stuck(m *measured) string {
	s := m.Value.String()
	if m.Stuck > 0 {
		s += fmt.Sprintf(", %d stuck", m.Stuck)
	}
	return s
}

// String is when the library told.
func (l *lossReport) String() string {
	switch {
	case l == nil:
		return "–"
	case l.Stuck:
		return "stuck"
	case !l.Tells:
		return "cannot tell"
	case l.After == nil:
		return fmt.Sprintf("not within %.0f", l.Within)
	}
	return fmt.Sprintf("%.3f", *l.After)
}

// SVG draws it.
func (r *report) SVG() []byte {
	f := plot.Figure{Title: "Distributed locks, side by side", Subtitle: r.Time.Format("2006-01-02") + ", " + r.Machine.String()}
	for _, p := range []struct {
		title string
		of    func(*result) *figures.Spread
	}{
		{"1 goroutine: pairs of lock and unlock per second", func(s *result) *figures.Spread { return speed(s.One.Value) }},
		{fmt.Sprintf("%d goroutines, a key each: pairs per second", crowd), func(s *result) *figures.Spread { return s.Many.Value }},
		{fmt.Sprintf("%d goroutines on one key: owner changes per second", few), func(s *result) *figures.Spread { return s.Fight.Value }},
	} {
		panel := plot.Panel{Title: p.title}
		for i, s := range r.Systems {
			if i != 1 { // the echo's second copy is for the table
				panel.Bars = append(panel.Bars, bar(s, p.of(s)))
			}
		}
		f.Panels = append(f.Panels, panel)
	}
	f.Panels = append(f.Panels, r.bytes())
	f.Footer = []string{"The echo sends and gets as many bytes as a lock does, over one connection; on one key its bar is pairs of one goroutine.",
		"Every system has a server and a client process of its own; all took turns in one run. Whiskers are quartiles."}
	if len(r.Noisy) > 0 {
		f.Footer = append(f.Footer, "Some of it was measured on a machine too busy to tell small differences.")
	}
	return f.SVG()
}

// speed is pairs a second of µs a pair.
func speed(s *figures.Spread) *figures.Spread {
	if s == nil {
		return nil
	}
	return &figures.Spread{Median: 1e6 / s.Median, Low: 1e6 / s.High, High: 1e6 / s.Low}
}

func bar(s *result, v *figures.Spread) plot.Bar {
	b := plot.Bar{Label: s.Name, Class: s.system.class, Value: v.Middle(), Text: figures.Number(v.Middle())}
	if v != nil {
		b.Low, b.High = v.Low, v.High
	}
	return b
}

// bytes is what held locks take of the client's memory.
func (r *report) bytes() plot.Panel {
	var p plot.Panel
	for _, s := range r.Systems {
		if h := s.Held; h != nil {
			p.Title = fmt.Sprintf("%d locks held: bytes of memory per lock in the client, heap and stacks (less is better)", h.Locks)
			b := plot.Bar{Label: s.Name, Class: s.system.class, Value: max(h.Heap, 0) + max(h.Stack, 0)}
			if b.Text = fmt.Sprintf("%.0f", b.Value); h.Stuck {
				b.Value, b.Text = -1, "stuck"
			}
			p.Bars = append(p.Bars, b)
		}
	}
	return p
}
