package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/distributed-go/distributed/cmd/dlock/internal/demo"
	"golang.org/x/term"
)

// A view shows the demo to the user.
type view interface {
	demo.Watcher
	// close ends what is shown live.
	close()
	// table shows the verdicts.
	table(demoReport) error
}

// newView returns a view for this output: with colour and a line that moves on
// a terminal that can, unless NO_COLOR or TERM say otherwise, else plain text.
func newView(out *os.File, getenv func(string) string, rows int) view {
	p := plain{out: out, rows: rows}
	if fd := int(out.Fd()); term.IsTerminal(fd) && getenv("TERM") != "dumb" {
		return &live{plain: p, colour: getenv("NO_COLOR") == "", width: func() int {
			w, _, err := term.GetSize(fd)
			if err != nil || w <= 0 {
				return 80
			}
			return w
		}}
	}
	return &p
}

// quiet shows nothing.
type quiet struct{}

func (quiet) Began(int, demo.Row, *demo.Stage) {}
func (quiet) Ended(int, demo.Result)           {}
func (quiet) close()                           {}
func (quiet) table(demoReport) error           { return nil }

// plain shows a line when a row begins and when it ends.
type plain struct {
	out  io.Writer
	rows int
}

// Began shows what is promised.
func (p *plain) Began(i int, r demo.Row, _ *demo.Stage) {
	fmt.Fprintf(p.out, "%d/%d  %s: %s\n", i+1, p.rows, r.Name, r.Claim)
}

// Ended shows what was observed.
func (p *plain) Ended(_ int, r demo.Result) {
	_, word := verdict(r.Holds)
	p.ended(word, r)
}

func (p *plain) ended(word string, r demo.Result) {
	fmt.Fprintf(p.out, "     %s: %s (%d processes, %.1f s)\n", word, r.Reason(), r.Processes, r.Seconds)
}

func (p *plain) close() {}

func (p *plain) table(r demoReport) error {
	return writeTable(p.out, r, func(_, text string) string { return text })
}

// The codes of colours, all of the same length, because they count as text
// where columns are aligned.
const (
	green  = "\x1b[32m"
	red    = "\x1b[31m"
	normal = "\x1b[39m"
)

// verdict is the word for a verdict and its colour.
func verdict(holds bool) (colour, word string) {
	if holds {
		return green, "holds"
	}
	return red, "BROKEN"
}

// writeTable writes the verdicts as a table. What is observed comes last, as it
// may be long.
func writeTable(out io.Writer, r demoReport, paint func(colour, text string) string) error {
	fmt.Fprintln(out)
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "PROMISE\t%s\tOBSERVED\n", paint(normal, "VERDICT"))
	held := 0
	for _, row := range r.Rows {
		fmt.Fprintf(t, "%s\t%s\t%s\n", row.Name, paint(verdict(row.Holds)), row.Reason())
		if row.Holds {
			held++
		}
	}
	for _, o := range r.LeftOut {
		fmt.Fprintf(t, "%s\t%s\tneeds %s\n", o.Name, paint(normal, "left out"), o.Why)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(out, "\n%d of %d hold, with %d processes in %.1f s\n", held, len(r.Rows), r.Processes, r.Seconds)
	return err
}

// live shows, beside what plain does, a line that follows the row under way.
type live struct {
	plain
	colour bool
	width  func() int

	stop chan struct{} // closed to end the line
	wg   sync.WaitGroup
}

const erase = "\r\x1b[K"

// Began follows the row in a line.
func (l *live) Began(i int, r demo.Row, s *demo.Stage) {
	l.plain.Began(i, r, s)
	stop := make(chan struct{})
	l.stop = stop
	began := time.Now()
	l.wg.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			fmt.Fprint(l.out, erase+clip(follow(n, s, time.Since(began)), l.width()-1))
			select {
			case <-stop:
				fmt.Fprint(l.out, erase)
				return
			case <-tick.C:
			}
		}
	})
}

// follow is the n-th line about a row under way.
func follow(n int, s *demo.Stage, took time.Duration) string {
	records := s.Records()
	line := fmt.Sprintf("  %c  %.1f s, %d processes, %d records", `|/-\`[n%4], took.Seconds(), s.Processes(), len(records))
	if len(records) > 0 {
		last := records[len(records)-1]
		line += fmt.Sprintf(", worker %d: %s %s", last.Worker, last.Event, last.Key)
	}
	return line
}

// clip keeps a line from wrapping, which could not be erased.
func clip(line string, width int) string {
	if len(line) > width {
		return line[:max(width, 0)]
	}
	return line
}

// Ended shows what was observed.
func (l *live) Ended(_ int, r demo.Result) {
	l.close()
	l.ended(l.paint(verdict(r.Holds)), r)
}

// close ends the line, if there is one.
func (l *live) close() {
	if l.stop != nil {
		close(l.stop)
		l.stop = nil
	}
	l.wg.Wait()
}

func (l *live) table(r demoReport) error { return writeTable(l.out, r, l.paint) }

// paint colours a text, unless the user does not want that.
func (l *live) paint(colour, text string) string {
	if !l.colour {
		return text
	}
	return colour + text + "\x1b[0m"
}
