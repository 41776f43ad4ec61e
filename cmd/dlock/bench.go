package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/distributed-go/distributed/cmd/dlock/internal/bench"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

const benchHelp = `Bench measures what locks cost on this machine, against what the machine can do:
a bare echo of messages of the same size over one connection. It takes about a
minute, and wants a machine that does nothing else.

Without --server it starts a server for the purpose, in a process of its own, on
a free port of this machine. With it, the echo still runs on this machine, so
that ratios mean something only where the server does too.

An etcd (--server etcd://...) puts each lock and unlock on its disk, and has no local
hand-over; that row is left out.

Locks and echo take turns, in short blocks in random order; ratios are taken
block by block, and what is shown are medians, with quartiles in brackets. A
second copy of the echo takes turns with the first: where it is not within 5 % of
it the row is marked with *, and is to be discarded.

  MEASURED  the median pair of one goroutine, a lock and an unlock, in µs; else
            pairs a second, or of one key how often its owner changes a second
  LIMIT     the same of the echo: two round trips a pair
  P99       of a pair, or of a hand-over from one owner to the next
  MAX/MIN   pairs of the luckiest goroutine over those of the unluckiest
  CPU       time of processors for a pair, client + server, in µs

Exit code: 0, 1 if something failed, 125 on bad usage, 128+n on signal n.`

// benchServerVerb starts a server for the bench; it is not for users.
const benchServerVerb = "bench-server"

// benchOptions is what the flags of bench say.
type benchOptions struct {
	conn  connection
	json  bool
	svg   string
	big   bool
	quick bool
	block time.Duration
}

func (a *app) benchCommand() *cobra.Command {
	var o benchOptions
	cmd := &cobra.Command{
		Use:     "bench",
		Short:   "Measure what locks cost on this machine",
		Long:    benchHelp,
		Example: examples("dlock bench", "dlock bench --svg bench.svg --json > bench.json"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case o.block <= 0:
				return usagef("--time-per-block %v: want a time above zero", o.block)
			case o.big && o.quick:
				return usagef("--big and --quick exclude each other")
			case !cmd.Flags().Changed("server"):
				o.conn.url = ""
			}
			return a.bench(cmd.Context(), &o)
		},
	}
	f := cmd.Flags()
	o.conn.addFlags(a, f)
	f.Lookup("server").DefValue = ""
	f.Lookup("server").Usage = "`URL` of the servers to measure (default: one that is started for the purpose)"
	f.BoolVar(&o.json, "json", false, "print one JSON object instead of the table")
	f.StringVar(&o.svg, "svg", "", "draw the figures to `FILE`")
	f.BoolVar(&o.big, "big", false, "hold 1,000,000 locks instead of 10,000")
	f.BoolVar(&o.quick, "quick", false, "measure everything for a moment, to see that it works")
	f.DurationVar(&o.block, "time-per-block", 150*time.Millisecond, "length of a block of many goroutines")
	return cmd
}

// benchServerCommand is what the bench starts itself as.
func (a *app) benchServerCommand() *cobra.Command {
	return &cobra.Command{
		Use:    benchServerVerb,
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if code := bench.Child(); code != 0 {
				return &exitError{code: code}
			}
			return nil
		},
	}
}

func (a *app) bench(ctx context.Context, o *benchOptions) error {
	self, err := os.Executable()
	if err != nil {
		return failf(exitFailed, "%w", err)
	}
	ctx, cancel := untilSignal(ctx)
	defer cancel()
	opts := bench.Options{
		Launch: func() *exec.Cmd { return &exec.Cmd{Path: self, Args: []string{self, benchServerVerb}, Env: a.env} },
		Open:   o.conn.opener(a),
		URL:    o.conn.url, Block: o.block,
	}
	switch {
	case o.quick:
		opts = bench.Quick(opts)
	case o.big:
		opts = bench.Big(opts)
	}
	// The file is made before the minute is spent, not after.
	var svg *os.File
	if o.svg != "" {
		if svg, err = os.Create(o.svg); err != nil {
			return usagef("--svg: %w", err)
		}
		defer svg.Close()
	}
	line := progress{app: a}
	opts.Progress = line.show
	report, err := bench.Run(ctx, opts)
	line.end()
	if err != nil {
		return benchFailed(err)
	}
	if svg != nil {
		if _, err := svg.Write(report.SVG()); err != nil {
			return failf(exitFailed, "%w", err)
		}
	}
	if err := a.printBench(report, o.json); err != nil {
		return failf(exitFailed, "%w", err)
	}
	return nil
}

func (a *app) printBench(r *bench.Report, asJSON bool) error {
	if !asJSON {
		return r.Table(a.stdout)
	}
	e := json.NewEncoder(a.stdout)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

func benchFailed(err error) error {
	var i *interrupted
	var exit *exitError
	switch {
	case errors.As(err, &i):
		return failf(128+int(i.sig), "%w", i)
	case errors.As(err, &exit):
		return exit // of usage: the URL
	}
	return failf(exitFailed, "%w", err)
}

// progress is a line on the terminal that says how far the bench is; elsewhere
// it is one line for each thing that is done.
type progress struct {
	*app
	last  string
	shown time.Time
}

// progressEvery is how often the line moves: seldom, as it takes time from what
// is measured.
const progressEvery = 500 * time.Millisecond

func (p *progress) show(part float64, what string) {
	moves := p.terminal()
	if what == p.last && (!moves || time.Since(p.shown) < progressEvery) {
		return
	}
	p.last, p.shown = what, time.Now()
	if moves {
		fmt.Fprintf(p.stderr, "%s%3.0f %%  %s", erase, 100*part, clip(what, 70))
	} else {
		p.note("%s", what)
	}
}

func (p *progress) end() {
	if p.last != "" && p.terminal() {
		fmt.Fprint(p.stderr, erase)
	}
}

// terminal says whether a line can be written over.
func (p *progress) terminal() bool {
	return term.IsTerminal(int(p.stderr.Fd())) && p.getenv("TERM") != "dumb"
}
