package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"github.com/distributed-go/distributed/cmd/dlock/internal/demo"
	"github.com/distributed-go/distributed/cmd/dlock/internal/supervise"
	"github.com/spf13/cobra"
)

const demoHelp = `Demo starts lock servers on free ports of this machine and worker processes, lets
them lock, kills and stops some of them, and judges what they wrote down: one row
for each promise, with a verdict. It takes some seconds, needs nothing and leaves
nothing behind.

With --server etcd://... it plays at that etcd instead, below the URL's prefix, and
removes what it puts there. Rows that crash the server, or need several, are left
out; where a holder is killed the next waits for the rest of its lease, because
nobody tells an etcd that a process is dead.

The verdicts are computed from a journal that all processes write to; --json
prints them with what was observed.

Exit code: 0 if every row holds, 1 if not, 125 on bad usage or if the etcd could
not be reached, 128+n on signal n.`

// workerVerb starts a worker of the demo; it is not for users.
const workerVerb = "demo-worker"

func (a *app) demoCommand() *cobra.Command {
	var (
		conn   connection
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:     "demo",
		Short:   "Show what locks promise, with real processes and real faults",
		Long:    demoHelp,
		Example: examples("dlock demo", "dlock demo --server etcd://127.0.0.1:2379"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case !cmd.Flags().Changed("server"):
				conn.url = "" // that of the environment is for work
			case !conn.etcd():
				return usagef("--server %q: want an etcd, as in etcd://h1:2379/PREFIX; without --server the demo starts lock servers", conn.url)
			}
			return a.demo(cmd.Context(), &conn, asJSON)
		},
	}
	conn.addFlags(a, cmd.Flags())
	cmd.Flags().Lookup("server").DefValue = ""
	cmd.Flags().Lookup("server").Usage = "`URL` of an etcd to play at (default: lock servers that are started for the purpose)"
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object at the end and nothing else")
	return cmd
}

// workerCommand is what the demo starts itself as.
func (a *app) workerCommand() *cobra.Command {
	var conn connection
	cmd := &cobra.Command{
		Use:    workerVerb,
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := demo.Work(cmd.Context(), args, a.stdin, a.stdout, conn.opener(a)); err != nil {
				return failf(exitFailed, "%w", err)
			}
			return nil
		},
	}
	conn.addFlags(a, cmd.Flags())
	return cmd
}

// A demoReport is what demo --json prints.
type demoReport struct {
	Holds     bool          `json:"holds"`
	Seconds   float64       `json:"seconds"`
	Processes int           `json:"processes"`
	Rows      []demo.Result `json:"rows"`
	// LeftOut are the rows that an etcd cannot play.
	LeftOut []demo.Omission `json:"left_out,omitempty"`
}

// untilSignal returns a context that ends with an interrupted at a signal that
// ends the tool. SIGPIPE is one: whoever read our output has seen enough, and
// its default effect would leave files behind.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	signals := make(chan os.Signal, 1)
	listen(signals, append(ending, syscall.SIGPIPE)...)
	go func() {
		select {
		case s := <-signals:
			cancel(&interrupted{s.(syscall.Signal)})
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel(nil)
	}
}

func (a *app) demo(ctx context.Context, conn *connection, asJSON bool) error {
	self, err := os.Executable()
	if err != nil {
		return failf(exitFailed, "%w", err)
	}
	ctx, cancel := untilSignal(ctx)
	defer cancel()
	if conn.url != "" {
		if _, err := a.inspect(ctx, conn); err != nil {
			return err
		}
	}
	at := demo.Venue{Etcd: conn.url, Open: conn.opener(a)}
	rows, out := at.Rows()
	start := func(args []string, stdin, stdout, stderr *os.File) (*supervise.Group, error) {
		return supervise.Start(supervise.Command{
			Path: self, Args: slices.Concat([]string{self, workerVerb}, conn.files(), args), Env: a.env, Stdin: stdin, Stdout: stdout, Stderr: stderr,
		})
	}
	var show view = quiet{}
	if !asJSON {
		show = newView(a.stdout, a.getenv, len(rows))
	}
	began := time.Now()
	results, err := demo.Run(ctx, at, rows, start, show)
	show.close()
	if err != nil {
		return demoFailed(err)
	}
	report := summarize(results, time.Since(began))
	report.LeftOut = out
	if asJSON {
		e := json.NewEncoder(a.stdout)
		e.SetIndent("", "  ")
		err = e.Encode(report)
	} else {
		err = show.table(report)
	}
	if err != nil {
		return failf(exitFailed, "%w", err)
	}
	if !report.Holds {
		return &exitError{code: exitFailed}
	}
	return nil
}

func demoFailed(err error) error {
	var i *interrupted
	if errors.As(err, &i) {
		return failf(128+int(i.sig), "%w", i)
	}
	return failf(exitFailed, "%w", err)
}

// summarize makes the report. Without a row there is nothing that holds.
func summarize(results []demo.Result, took time.Duration) demoReport {
	r := demoReport{Holds: len(results) > 0, Seconds: took.Seconds(), Rows: results}
	for _, row := range results {
		r.Holds = r.Holds && row.Holds
		r.Processes += row.Processes
	}
	return r
}
