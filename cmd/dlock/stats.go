package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/distributed-go/distributed/locker"
	"github.com/spf13/cobra"
)

// statsTimeout is how long servers may take to say who holds.
const statsTimeout = 10 * time.Second

func (a *app) statsCommand() *cobra.Command {
	var (
		conn   connection
		asJSON bool
	)
	cmd := &cobra.Command{
		Use:   "stats",
		Short: "Show who holds and who waits",
		Long: `Stats shows every key that the servers know, who holds it and who waits for it.
OWNER is what a lock's holder calls itself, which is host/pid/program unless it
chose otherwise, else the number of its connection at its server. HELD is for how
long it has had the lock, LEFT what is left of the lease unless it is renewed,
and IDLE the time since the last holder. VALUE is the size of what a holder put
under the key, such as the mark of dlock once, and AGE the time since: such a key
is listed for as long as it has its value. Below it says which servers are not ready:
those that were restarted and grant nothing yet, and those whose disk has failed.

An etcd knows neither LEFT, IDLE, SERVER nor how many are connected, and counts HELD
from the request. It shows what is below the URL's prefix.

Exit code: 0, or 125 on bad usage or if a server could not be reached; what the
others know is printed all the same.`,
		Example: examples("dlock stats", "dlock stats --json | jq '.keys[] | select(.waiters > 0)'"),
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			report, err := a.inspect(cmd.Context(), &conn)
			if err != nil && len(report.Keys)+len(report.Servers) == 0 {
				return err
			}
			return cmp.Or(printReport(a.stdout, report, asJSON), err)
		},
	}
	conn.addFlags(a, cmd.Flags())
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object; its durations are in nanoseconds")
	return cmd
}

// inspect returns what the servers report. With an error it is what those
// report that could be reached.
func (a *app) inspect(ctx context.Context, conn *connection) (locker.Report, error) {
	client, err := conn.open(a)
	if err != nil {
		return locker.Report{}, err
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(ctx, statsTimeout)
	defer cancel()
	inspector, ok := client.Backend().(locker.Inspector)
	if !ok {
		return locker.Report{}, failf(exitUsage, "%s: %w", client.Backend(), errors.ErrUnsupported)
	}
	report, err := inspector.Inspect(ctx) // Client.Inspect returns all or nothing
	if err != nil {
		return report, failf(exitUsage, "inspect %s: %w", client.Backend(), err)
	}
	return report, nil
}

func printReport(w *os.File, r locker.Report, asJSON bool) error {
	var err error
	if asJSON {
		if r.Keys == nil {
			r.Keys = []locker.KeyReport{} // a list that is empty, not null
		}
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		err = e.Encode(r)
	} else {
		err = printTable(w, r)
	}
	if err != nil {
		return failf(exitUsage, "%w", err)
	}
	return nil
}

// states says what those servers do that are not simply ready.
func states(r locker.Report) []string {
	var all []string
	for _, s := range r.Servers {
		switch s.State {
		case "ready":
		case "grace":
			all = append(all, fmt.Sprintf("%s was restarted: nothing is granted for another %s, so that those who held can come back",
				s.Server, span(s.GraceEnds)))
		case "stalled":
			all = append(all, s.Server+" waits for its disk, which does not answer")
		case "failed":
			all = append(all, s.Server+" has failed: its disk takes nothing more")
		default:
			all = append(all, s.Server+" is "+s.State)
		}
	}
	return all
}

// graceOf says how long nobody is granted a key that nobody holds, because a server
// was restarted; 0 is not at all.
func graceOf(r locker.Report, kind, key string) time.Duration {
	var longest time.Duration
	for _, s := range r.Servers {
		longest = max(longest, s.GraceEnds)
	}
	for _, k := range r.Keys {
		if k.Kind == kind && k.Key == key && k.Holders > 0 {
			return 0
		}
	}
	return longest
}

func printTable(w io.Writer, r locker.Report) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "KIND\tKEY\tHOLDERS\tLIMIT\tWAITERS\tOWNER\tHELD\tLEFT\tIDLE\tVALUE\tAGE\tSERVER")
	for _, k := range r.Keys {
		size, age := value(k.Value)
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", k.Kind, k.Key, k.Holders, count(k.Limit), k.Waiters,
			orDash(owner(&k)), orDash(span(k.HeldFor)), orDash(span(k.ExpiresIn)), orDash(span(k.Idle)), size, age, orDash(k.Server))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, s := range states(r) {
		if _, err := fmt.Fprintln(w, s); err != nil {
			return err
		}
	}
	connections := ""
	if r.Connections > 0 { // ours, at least, where it is known at all
		connections = fmt.Sprintf(", connections: %d", r.Connections)
	}
	_, err := fmt.Fprintf(w, "keys: %d%s\n", len(r.Keys), connections)
	return err
}

// owner shows who holds a key, or the first of those who do.
func owner(k *locker.KeyReport) string {
	name := cmp.Or(k.Name, k.Owner)
	if name != "" && k.Holders > 1 {
		return fmt.Sprintf("%s +%d", name, k.Holders-1)
	}
	return name
}

// value shows the size and the age of a value.
func value(v *locker.ValueReport) (size, age string) {
	if v == nil {
		return "-", "-"
	}
	return fmt.Sprintf("%dB", v.Bytes), cmp.Or(span(v.Age), "0s")
}

// count shows a limit; an idle semaphore has none.
func count(n int) string {
	if n == 0 {
		return "-"
	}
	return strconv.Itoa(n)
}

// span shows a duration to a tenth of a second, and "" for none.
func span(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.Round(100 * time.Millisecond).String()
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
